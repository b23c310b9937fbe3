// SPDX-License-Identifier: MIT
//
// The layer behind MovingAverage: the recurrence of recurrent/ema.hpp as a layer that mixes tokens
// (layer/mixing_layer.hpp). What it computes is in ema_pass.hpp.
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
#include <hsm/recurrent/ema.hpp>

namespace hsm::inline HSM_ABI {

/// What a forward of a moving average leaves for backward: the memories before every block of tokens, from which the
/// others follow again: n C values for each begun block of 32 tokens and one more for each segment.
template <ComputeScalar Scalar>
struct EmaSaved : RecordedCall {
  OwnedColumns<Scalar> before;  ///< [n C, blocks of all segments]

  /// Bytes held.
  std::size_t bytes() const { return static_cast<std::size_t>(before.size()) * sizeof(Scalar); }
};

/// The parameters of a moving average, and how tokens are mixed by them.
template <ComputeScalar ScalarType>
class EmaLayer {
 public:
  /// float or double.
  using Scalar = ScalarType;
  /// The tensors.
  using Parameters = Ema<Scalar>;
  /// One ring of the memories after each of the last tokens: n C values, and as many for each spare token.
  using State = RingState<Scalar>;
  /// The memories before every block.
  using Saved = EmaSaved<Scalar>;
  /// In messages.
  static constexpr std::string_view kType = "MovingAverage";
  /// In recipes.
  static constexpr std::string_view kName = "ema";
  /// What a recipe may say: the memories of a channel.
  static constexpr std::array kOptions{PolicyOption{
      .name = "ndim", .least = 1, .most = kMostEmaDimensions, .usual = [](Index) -> Index { return 4; }}};
  /// The layer that options describe.
  static EmaLayer make(Index channels, const OptionValues& options, Random& random) {
    return EmaLayer(Parameters(channels, options["ndim"], random));
  }
  /// Its tensors; none decays.
  static TensorSpecs describe(Index channels, const OptionValues& options) {
    TensorSpecs specs;
    for (const char* name : {"alpha", "beta", "delta", "eta"})
      specs.push_back(matrix_spec(name, options["ndim"], channels));
    return specs;
  }

  /// Throws std::invalid_argument unless the tensors of `parameters` have one shape.
  explicit EmaLayer(Parameters parameters) : parameters_(std::move(parameters)) { check("MovingAverage"); }

  /// C.
  Index channels() const { return parameters_.channels(); }
  /// n.
  Index dimensions() const { return parameters_.dimensions(); }
  /// What a token costs: p x, q h and eta h of n memories, which are kept.
  LayerFootprint footprint() const { return {.local = 2 * dimensions(), .kept = dimensions(), .reads = 1}; }
  /// The number of memories.
  std::string description() const { return "ema ndim " + std::to_string(dimensions()); }
  /// The tensors.
  const Parameters& parameters() const { return parameters_; }
  /// The tensors, to change.
  Parameters& parameters() { return parameters_; }

  /// Throws unless the tensors have one shape, and at least one row and column.
  void check(const char* who) const {
    const Shape<2> shape{dimensions(), channels()};
    detail::check_at_least(who, "ndim", shape[0], 1);
    detail::check_at_least(who, "channels", shape[1], 1);
    Parameters::visit(
        [&](std::string_view name, const auto& tensor) {
          const Shape<2> got{tensor.rows(), tensor.cols()};
          if (got != shape)
            detail::fail(who, std::string(name), detail::to_text(shape) + ", the shape of alpha",
                         detail::to_text(got));
        },
        parameters_);
  }
  /// The memories of fresh streams.
  State make_state(StateOptions options) const {
    const RingShape ring = ring_shape();
    return State("MovingAverage::make_state", options, std::span(&ring, 1));
  }
  /// Whether the state is one of a layer of these sizes.
  bool fits(const State& state) const {
    return state.ring_count() == 1 && state.ring_shape(0) == ring_shape();
  }
  /// Whether the record is one of this layer, for x.
  bool fits(const Saved& saved, const Tokens<const Scalar>& x) const {
    return x.count() == 0 || saved.before.rows() == dimensions() * channels();
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
  RingShape ring_shape() const { return {dimensions() * channels(), dimensions(), 1, kName}; }

  Parameters parameters_;
};

}  // namespace hsm::inline HSM_ABI

#include <hsm/recurrent/ema_pass.hpp>
