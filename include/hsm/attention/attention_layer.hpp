// SPDX-License-Identifier: MIT
//
// The layer behind CausalAttention: softmax attention, dense, with a window or over chosen blocks, as a layer that mixes tokens
// (layer/mixing_layer.hpp). What it computes is in attention_pass.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/attention/attention.hpp>
#include <hsm/attention/attention_pass.hpp>
#include <hsm/attention/attention_saved.hpp>
#include <hsm/attention/attention_state.hpp>
#include <hsm/layer/layer_options.hpp>
#include <hsm/layer/mixing_layer.hpp>

namespace hsm::inline HSM_ABI {

/// The parameters of attention, and how tokens are mixed by them.
template <ComputeScalar ScalarType>
class AttentionLayer {
 public:
  /// float or double.
  using Scalar = ScalarType;
  /// The weights.
  using Parameters = Attention<Scalar>;
  /// Keys and values of each stream.
  using State = AttentionState<Scalar>;
  /// Queries, keys, values and what was mixed.
  using Saved = AttentionSaved<Scalar>;
  /// In messages.
  static constexpr std::string_view kType = "CausalAttention";
  /// In recipes.
  static constexpr std::string_view kName = "attention";
  /// What a recipe may say: the heads, the base of rotary positions (attention/rotary.hpp), 0 for none, the window
  /// (attention/window.hpp), 0 for all tokens, and the tokens of a block and how many blocks are chosen
  /// (attention/block_choice.hpp), both 0 for none. Of the values within the bounds the layer refuses a base of 1, which
  /// is none but somebody's "yes", one of block and top without the other, and blocks beside a window.
  static constexpr std::array kOptions{
      heads_option(default_heads),
      PolicyOption{
          .name = "rotary", .least = 0, .most = kMostOptionValue, .usual = [](Index) -> Index { return 0; }},
      PolicyOption{
          .name = "window", .least = 0, .most = kMostOptionValue, .usual = [](Index) -> Index { return 0; }},
      PolicyOption{
          .name = "block", .least = 0, .most = kMostOptionValue, .usual = [](Index) -> Index { return 0; }},
      PolicyOption{
          .name = "top", .least = 0, .most = kMostOptionValue, .usual = [](Index) -> Index { return 0; }}};
  /// The layer that options describe.
  static AttentionLayer make(Index channels, const OptionValues& options, Random& random) {
    return AttentionLayer(Parameters(channels, options["heads"], random, of(options)));
  }
  /// Its tensors, which do not depend on rotary positions. Throws std::invalid_argument for those that it cannot have.
  static TensorSpecs describe(Index channels, const OptionValues& options) {
    of(options).check("recipe: layer 'attention'", options["heads"], channels);
    return join({Linear<Scalar>::describe("project", 3 * channels, channels, 3 * channels),
                 Linear<Scalar>::describe("output", channels, channels, channels, true)});
  }

  /// Throws std::invalid_argument unless the tensors of `parameters` fit together.
  explicit AttentionLayer(Parameters parameters) : parameters_(std::move(parameters)) {
    check("CausalAttention");
  }

  /// C.
  Index channels() const { return parameters_.channels(); }
  /// H.
  Index heads() const { return parameters_.heads; }
  /// The base of rotary positions, 0 for none.
  Index rotary() const { return parameters_.rotary; }
  /// How many tokens each one sees, the last ones up to itself; 0 for all.
  Index window() const { return parameters_.window; }
  /// How many tokens a block has, of which each token sees its own and top() chosen ones; 0 for all tokens.
  Index block() const { return parameters_.block; }
  /// How many blocks are chosen.
  Index top() const { return parameters_.top; }
  /// What a token costs: keys and values are kept, and read by every later one, or by those in whose window, or chosen
  /// blocks, they are.
  LayerFootprint footprint() const {
    return {.products = 4,
            .local = 1,
            .kept = 2,
            .reads = 1,
            .unbounded = window() == 0,
            .window = window(),
            .block = block(),
            .top = top()};
  }
  /// Heads, and rotary positions, the window and blocks where it has them.
  std::string description() const {
    return "attention heads " + std::to_string(heads()) +
           (rotary() > 0 ? " rotary " + std::to_string(rotary()) : "") +
           (window() > 0 ? " window " + std::to_string(window()) : "") +
           (block() > 0 ? " block " + std::to_string(block()) + " top " + std::to_string(top()) : "");
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
    parameters_.options().check(who, heads(), C);
    detail::check_linear(who, "project", parameters_.project, 3 * C, C, 3 * C);
    detail::check_linear(who, "output", parameters_.output, C, C, C);
  }
  /// An empty cache for each stream, which options.capacity limits; with a window options.spare tokens can be taken
  /// back.
  State make_state(StateOptions options) const {
    return State(channels(), heads(), options, parameters_.options());
  }
  /// Whether the state is one of a layer of these sizes, rotary positions, window and blocks, however many of them are
  /// chosen.
  bool fits(const State& state) const {
    return fits_keys(state) && state.window() == window() && state.block() == block();
  }
  /// Whether the record is one of this layer, for x.
  bool fits(const Saved& saved, const Tokens<const Scalar>& x) const {
    return saved.mixed.size() == channels() * x.count() && saved.log_sums.size() == heads() * x.count() &&
           saved.options == parameters_.options() &&
           (saved.streams == Segment::kFresh || fits_keys(saved.documents));
  }
  /// Throws unless d is a gradient of keys and values that the call left.
  void check_state_gradient(const char* who, const Saved& saved, const State& d) const {
    saved.check_tokens(who, "at most ", d, [](Index count, Index left) { return count <= left; });
  }

  /// See layer/mixing_layer.hpp. Past a state and without a record, chunk after chunk: scratch does not grow with T.
  void run(const Tokens<const Scalar>& x, std::span<const Segment> segments, const Tokens<Scalar>& y,
           State* state, Saved* saved, Workspace& workspace) const;
  /// See layer/mixing_layer.hpp.
  void run_adjoint(const Tokens<const Scalar>& x, const Saved& saved, const Tokens<const Scalar>& dy,
                   const Tokens<Scalar>& dx, Parameters& gradients, State* state_gradient,
                   Workspace& workspace) const {
    detail::attention_backward<Scalar>(parameters_, x, saved, dy, dx, gradients, state_gradient, workspace);
  }

 private:
  static AttentionOptions of(const OptionValues& options) {
    return {options["rotary"], options["window"], options["block"], options["top"]};
  }
  bool fits_keys(const State& state) const {
    return state.channels() == channels() && state.heads() == heads() && state.rotary() == rotary();
  }

  Parameters parameters_;
};

namespace detail {

/// Tokens per stream and pass of extend, which bounds its scratch.
inline constexpr Index kExtendChunk = 2048;

/// What segments have of tokens first ... first + count - 1 of each sequence, as segments of these tokens.
inline std::span<const Segment> cut_segments(std::span<const Segment> segments, Index batch, Index first,
                                             Index count, std::span<Segment> parts) {
  std::size_t n = 0;
  for (const Segment& segment : segments) {
    if (batch > 1) {  // a segment is a sequence
      parts[n] = {static_cast<Index>(n) * count, count, segment.stream};
      ++n;
      continue;
    }
    const Index from = (std::max)(first, segment.first);
    const Index to = (std::min)(first + count, segment.first + segment.count);
    if (from < to) parts[n++] = {from - first, to - from, segment.stream};
  }
  return parts.first(n);
}

/// A call of a layer that holds all tokens: pass(x, y, segments), past a state and without a record chunk after chunk.
template <class Scalar, class State, class Saved, class Pass>
void run_chunks(const Tokens<const Scalar>& x, std::span<const Segment> segments, const Tokens<Scalar>& y,
                State* state, Saved* saved, Workspace& workspace, const Pass& pass) {
  if (saved) saved->sizes = RecordedCall::kNothing;  // whatever throws
  if (state) {
    for (const Segment& segment : segments) state->reserve(segment.stream, segment.count);
  }
  if (!state || saved || x.time <= kExtendChunk || x.batch == 0) return pass(x, y, segments);
  Workspace::Frame frame(workspace);
  const std::span<Segment> parts(frame.take<Segment>(static_cast<Index>(segments.size())), segments.size());
  StreamUndo undo(state, segments, frame);
  for (Index first = 0; first < x.time; first += kExtendChunk) {
    const Index count = (std::min)(kExtendChunk, x.time - first);
    pass(x.slice(first, count), y.data ? y.slice(first, count) : y,
         cut_segments(segments, x.batch, first, count, parts));
  }
  undo.kept = true;
}

}  // namespace detail

template <ComputeScalar Scalar>
void AttentionLayer<Scalar>::run(const Tokens<const Scalar>& x, std::span<const Segment> segments,
                                 const Tokens<Scalar>& y, State* state, Saved* saved,
                                 Workspace& workspace) const {
  detail::run_chunks(x, segments, y, state, saved, workspace,
                     [&](const auto& own_x, const auto& own_y, std::span<const Segment> own) {
                       detail::attention_forward(parameters_, own_x, own_y, own, state, saved, workspace);
                     });
}

}  // namespace hsm::inline HSM_ABI
