// SPDX-License-Identifier: MIT
//
// The layer behind HierarchicalKernelAttention (layer/mixing_layer.hpp). The formula is in
// hierarchical_kernel_attention.hpp, what it computes in hierarchical_pass.hpp.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/tensor_spec.hpp>
#include <hsm/hierarchical_attention/hierarchical_attention.hpp>
#include <hsm/hierarchical_attention/hierarchical_attention_state.hpp>
#include <hsm/layer/layer_options.hpp>
#include <hsm/layer/mixing_layer.hpp>
#include <hsm/layer/recorded_call.hpp>

namespace hsm::inline HSM_ABI {

/// What a forward leaves for backward: N (4 C + H) values for N tokens, and of each level e from 1 on 3 C N / 2^e. After
/// extend also a copy of the blocks of each document, since the state itself goes on, and of its tail at entry.
template <ComputeScalar Scalar>
struct HierarchicalAttentionSaved : RecordedCall {
  /// The blocks of a level that the tokens of the call completed, document after document.
  struct Level {
    Vector<Scalar> pooled;  ///< x^e: [M][C]
    Vector<Scalar> heads;   ///< queries, keys of each head: [2][H][M][C/H]
  };
  Vector<Scalar> heads;       ///< of level 0: queries, keys, values of each head, [3][H][N][C/H]
  Vector<Scalar> mixed;       ///< the concatenated head outputs: [N][C]
  Vector<Scalar> log_sums;    ///< log2 sum_j exp(score): [H][N]
  std::vector<Level> levels;  ///< from level 1 on
  /// After extend: stream i holds the blocks of the document of segment i, as the call left it.
  HierarchicalAttentionState<Scalar> documents;
  OwnedColumns<Scalar> tails;  ///< [2 E C, segments]: the tails at entry, where there was a state

  /// Bytes held.
  std::size_t bytes() const {
    Index values = heads.size() + mixed.size() + log_sums.size() + tails.size();
    for (const Level& level : levels) values += level.pooled.size() + level.heads.size();
    return static_cast<std::size_t>(values) * sizeof(Scalar) + documents.bytes();
  }
};

/// The parameters of attention over a hierarchy, and how tokens are mixed by them.
template <ComputeScalar ScalarType>
class HierarchicalAttentionLayer {
 public:
  /// float or double.
  using Scalar = ScalarType;
  /// The weights.
  using Parameters = HierarchicalAttention<Scalar>;
  /// Keys and values of each stream, keys of its blocks, and what pooling needs.
  using State = HierarchicalAttentionState<Scalar>;
  /// Queries, keys, values, blocks and what was mixed.
  using Saved = HierarchicalAttentionSaved<Scalar>;
  /// In messages.
  static constexpr std::string_view kType = "HierarchicalKernelAttention";
  /// In recipes.
  static constexpr std::string_view kName = "hkt";
  /// What a recipe may say: the heads, and the levels, tokens counted.
  static constexpr std::array kOptions{
      heads_option(default_heads),
      PolicyOption{
          .name = "levels", .least = 1, .most = kMostLevels, .usual = [](Index) -> Index { return 3; }}};
  /// The layer that options describe.
  static HierarchicalAttentionLayer make(Index channels, const OptionValues& options, Random& random) {
    return HierarchicalAttentionLayer(Parameters(channels, options["heads"], random, options["levels"]));
  }
  /// Its tensors.
  static TensorSpecs describe(Index channels, const OptionValues& options) {
    return Parameters::describe(channels, options["levels"]);
  }

  /// Throws std::invalid_argument unless the tensors of `parameters` fit together.
  explicit HierarchicalAttentionLayer(Parameters parameters) : parameters_(std::move(parameters)) {
    check("HierarchicalKernelAttention");
  }

  /// C.
  Index channels() const { return parameters_.channels(); }
  /// H.
  Index heads() const { return parameters_.heads; }
  /// E + 1: tokens counted.
  Index levels() const { return parameters_.level_count(); }
  /// What a token costs: that of attention, and of level e that of 1 / 2^e blocks.
  LayerFootprint footprint() const {
    return {.products = 4, .local = 1, .kept = 2, .reads = 1, .unbounded = true, .levels = levels()};
  }
  /// Heads and levels.
  std::string description() const {
    return "hkt heads " + std::to_string(heads()) + " levels " + std::to_string(levels());
  }
  /// The weights.
  const Parameters& parameters() const { return parameters_; }
  /// The weights, to change.
  Parameters& parameters() { return parameters_; }

  /// Throws unless the tensors fit together.
  void check(const char* who) const;
  /// Empty streams, which options.capacity limits; options.spare tokens can be taken back.
  State make_state(StateOptions options) const { return State(channels(), heads(), levels(), options); }
  /// Whether the state is one of a layer of these sizes.
  bool fits(const State& state) const {
    return state.channels() == channels() && state.heads() == heads() && state.levels() == levels();
  }
  /// Whether the record is one of this layer, for x.
  bool fits(const Saved& saved, const Tokens<const Scalar>& x) const {
    return saved.mixed.size() == channels() * x.count() && saved.log_sums.size() == heads() * x.count() &&
           saved.levels.size() == parameters_.levels.size() &&
           (saved.streams == Segment::kFresh || fits(saved.documents));
  }
  /// Throws unless d is a gradient of what the call left: of its streams, fresh or of as many tokens each.
  void check_state_gradient(const char* who, const Saved& saved, const State& d) const {
    saved.check_tokens(who, "0, or ", d, [](Index count, Index left) { return count == 0 || count == left; });
  }

  /// See layer/mixing_layer.hpp. Past a state and without a record, chunk after chunk: scratch does not grow with T.
  void run(const Tokens<const Scalar>& x, std::span<const Segment> segments, const Tokens<Scalar>& y,
           State* state, Saved* saved, Workspace& workspace) const;
  /// See layer/mixing_layer.hpp.
  void run_adjoint(const Tokens<const Scalar>& x, const Saved& saved, const Tokens<const Scalar>& dy,
                   const Tokens<Scalar>& dx, Parameters& gradients, State* state_gradient,
                   Workspace& workspace) const;

 private:
  Parameters parameters_;
};

template <ComputeScalar Scalar>
void HierarchicalAttentionLayer<Scalar>::check(const char* who) const {
  const Index C = channels();
  detail::check_at_least(who, "channels", C, 1);
  detail::check_heads(who, heads(), C);
  detail::check_levels(who, levels());
  detail::check_linear(who, "project", parameters_.project, 3 * C, C, 3 * C);
  detail::check_linear(who, "output", parameters_.output, C, C, C);
  detail::check_equal(who, "the size of lambda", parameters_.lambda.size(), levels());
  for (const AttentionLevel<Scalar>& level : parameters_.levels) {
    detail::check_equal(who, "the size of a of a level", level.a.size(), C);
    detail::check_equal(who, "the size of b of a level", level.b.size(), C);
    detail::check_linear(who, "project of a level", level.project, 2 * C, C, 2 * C);
  }
}

}  // namespace hsm::inline HSM_ABI

#include <hsm/hierarchical_attention/hierarchical_pass.hpp>
