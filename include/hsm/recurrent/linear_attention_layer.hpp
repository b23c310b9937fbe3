// SPDX-License-Identifier: MIT
//
// The layer behind CausalLinearAttention: linear attention as a layer that mixes tokens (layer/mixing_layer.hpp). The
// formula is in causal_linear_attention.hpp, what it computes in linear_attention_pass.hpp.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/core/check.hpp>
#include <hsm/core/tensor_spec.hpp>
#include <hsm/layer/layer_options.hpp>
#include <hsm/layer/mixing_layer.hpp>
#include <hsm/layer/recorded_call.hpp>
#include <hsm/layer/ring_state.hpp>
#include <hsm/recurrent/linear_attention.hpp>

namespace hsm::inline HSM_ABI {

/// What a forward of linear attention leaves for backward: 4 C + H values per token, and what a stream remembered before
/// the call.
template <ComputeScalar Scalar>
struct LinearAttentionSaved : RecordedCall {
  OwnedColumns<Scalar> joint;     ///< [3C, N]: queries, keys, values
  OwnedColumns<Scalar> mixed;     ///< [C, N]: the concatenated head outputs
  OwnedColumns<Scalar> divisors;  ///< [H, N]: phi(q)^T z
  OwnedColumns<Scalar> before;    ///< [C (C/H + 1), segments]: the state at entry, where there was one
  Index decay = 0;                ///< of the layer

  /// Bytes held.
  std::size_t bytes() const {
    return static_cast<std::size_t>(joint.size() + mixed.size() + divisors.size() + before.size()) *
           sizeof(Scalar);
  }
};

/// The parameters of linear attention, and how tokens are mixed by them.
template <ComputeScalar ScalarType>
class LinearAttentionLayer {
 public:
  /// float or double.
  using Scalar = ScalarType;
  /// The weights.
  using Parameters = LinearAttention<Scalar>;
  /// One ring of what is remembered after each of the last tokens: for each head S^T [C/H][C/H], then z [C/H].
  using State = RingState<Scalar>;
  /// Queries, keys, values and what was mixed.
  using Saved = LinearAttentionSaved<Scalar>;
  /// In messages.
  static constexpr std::string_view kType = "CausalLinearAttention";
  /// In recipes.
  static constexpr std::string_view kName = "linear-attention";
  /// What a recipe may say: the heads, and whether they forget.
  static constexpr std::array kOptions{
      heads_option(default_heads),
      PolicyOption{.name = "decay", .least = 0, .most = 1, .usual = [](Index) -> Index { return 0; }}};
  /// The layer that options describe.
  static LinearAttentionLayer make(Index channels, const OptionValues& options, Random& random) {
    return LinearAttentionLayer(Parameters(channels, options["heads"], random, options["decay"]));
  }
  /// Its tensors, those of attention.
  static TensorSpecs describe(Index channels, const OptionValues&) {
    return join({Linear<Scalar>::describe("project", 3 * channels, channels, 3 * channels),
                 Linear<Scalar>::describe("output", channels, channels, channels, true)});
  }

  /// Throws std::invalid_argument unless the tensors of `parameters` fit together.
  explicit LinearAttentionLayer(Parameters parameters) : parameters_(std::move(parameters)) {
    check("CausalLinearAttention");
  }

  /// C.
  Index channels() const { return parameters_.channels(); }
  /// H.
  Index heads() const { return parameters_.heads; }
  /// Whether heads forget.
  bool decays() const { return parameters_.decay != 0; }
  /// What a token costs: S and z, C/H + 1 planes of C values, are moved on and multiplied by the query.
  LayerFootprint footprint() const { return {.products = 4, .kept = 1, .reads = 2, .kept_by_width = 1}; }
  /// Heads, and that they forget.
  std::string description() const {
    return "linear-attention heads " + std::to_string(heads()) + (decays() ? " decay" : "");
  }
  /// The weights.
  const Parameters& parameters() const { return parameters_; }
  /// The weights, to change.
  Parameters& parameters() { return parameters_; }

  /// Throws unless the tensors fit together.
  void check(const char* who) const {
    const Index C = channels();
    detail::check_at_least(who, "channels", C, 1);
    detail::check_heads(who, heads(), C);
    detail::check_decay(who, parameters_.decay);
    detail::check_linear(who, "project", parameters_.project, 3 * C, C, 3 * C);
    detail::check_linear(who, "output", parameters_.output, C, C, C);
  }
  /// What fresh streams remember.
  State make_state(StateOptions options) const {
    const RingShape ring = ring_shape();
    return State("CausalLinearAttention::make_state", options, std::span(&ring, 1));
  }
  /// Whether the state is one of a layer of these sizes, and of as much decay.
  bool fits(const State& state) const {
    return state.ring_count() == 1 && state.ring_shape(0) == ring_shape();
  }
  /// Whether the record is one of this layer, for x.
  bool fits(const Saved& saved, const Tokens<const Scalar>& x) const {
    return saved.mixed.rows() == channels() && saved.mixed.cols() == x.count() &&
           saved.divisors.rows() == heads() && saved.decay == parameters_.decay;
  }
  /// Throws unless d has the streams of the state that was extended, and no fewer spare slots.
  void check_state_gradient(const char* who, const Saved& saved, const State& d) const {
    saved.check_rings(who, "none, since the call that was recorded had no state", d);
  }

  /// See layer/mixing_layer.hpp.
  void run(const Tokens<const Scalar>& x, std::span<const Segment> segments, const Tokens<Scalar>& y,
           State* state, Saved* saved, Workspace& workspace) const;
  /// See layer/mixing_layer.hpp.
  void run_adjoint(const Tokens<const Scalar>& x, const Saved& saved, const Tokens<const Scalar>& dy,
                   const Tokens<Scalar>& dx, Parameters& gradients, State* state_gradient,
                   Workspace& workspace) const;

 private:
  RingShape ring_shape() const {
    const Index width = channels() / (std::max)(heads(), Index{1});  // of heads that check refuses, too
    return {channels() * (width + 1), heads(), 1,
            parameters_.decay > 0 ? "linear-attention with decay" : kName};
  }

  Parameters parameters_;
};

}  // namespace hsm::inline HSM_ABI

#include <hsm/recurrent/linear_attention_pass.hpp>
