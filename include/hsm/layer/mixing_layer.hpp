// SPDX-License-Identifier: MIT
//
// What a layer that mixes tokens states, and no more. TokenMixer<Layer> (layer/token_mixer.hpp) makes every way of
// running it from that: whole sequences, packed documents, one token at a time, chunks, chosen streams, backward.
//
//   Scalar, Parameters, State, Saved    its types: the tensors, with a static visit (core/parameters.hpp); what a stream
//                                       carries from call to call; what a forward leaves for backward, whose shape() is
//                                       [B,T,C] of the call (RecordedCall of layer/recorded_call.hpp may be its base)
//   kType                               what messages call it, such as "Mixer"
//   footprint()                         what a token costs
//   description()                       what tells it from other layers besides its tensors, for files
//   channels(), parameters()            C; the tensors, to read and to change in place
//   check(who)                          throws where the parameters, which anybody may change, do not fit together
//   make_state(options)                 fresh streams; it is also the gradient 0 of a state
//   fits(state), fits(saved, x)         whether a state or a record is one of this layer
//   check_state_gradient(who, saved, d) throws where d cannot be the gradient of the state that the call left
//   run(x, segments, y, state, saved, workspace)
//       the one call behind all modes: the tokens of each segment, mixed causally within its document. A segment starts
//       a document, or continues a stream of `state` (layer/segment.hpp). Writes y, moves the state on, leaves in `saved`
//       what the adjoint needs; state and saved may be null. Where y.data is null nobody wants the results: only the
//       state is brought past the tokens. Arguments are checked; what throws leaves each stream as it was or not whole,
//       and a record of nothing.
//   run_adjoint(x, saved, dy, dx, gradients, state_gradient, workspace)
//       overwrites dx, adds to gradients; state_gradient may be null, comes in as the gradient of the state that the
//       call left and goes out as that of the state it started from; what throws may leave anything in it
//
// A layer whose state is a RingState (layer/ring_state.hpp) can be run in parts of a sequence that other processes hold
// the rest of (distributed/): then one call has segments that continue streams beside others that start a document. Such
// a layer may state
//
//   state_reach()                       how many of the last tokens its state depends on, given the count; without it, on
//                                       all of them. Its rings must each have this reach or less. A record of a call
//                                       without results is then asked for the gradient of the state alone: dy is 0
//
// A state holds streams, each at its own number of tokens:
//
//   streams(), count(s), room(s)        how many; tokens seen; how many more it can take
//   reset(s), reset()                   fresh ones
//   can_rewind(s, k), rewind(s, k)      takes the last k tokens back, where the state can
//   copy_stream(from, to)               a fork
//   is_whole(s), take_back(s, count)    after a call that threw: whether the stream can go on; back to `count` tokens,
//                                       or not whole
//   spoil(s)                            the stream is not whole, until it is reset: a gradient that was added to in part
//   bytes(), shape_text()               held; "8 channels, 2 heads", what must be equal for a layer to take it
//
// check_layer of testing/check.hpp tries a layer and tells what it gets wrong.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>

#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI {

/// A list of layers and of mixing policies, each a template over the scalar; a type.
template <template <class> class... Entries>
struct LayerList {};

/// What a token costs in a layer of C channels.
struct LayerFootprint {
  Index products = 0;  ///< matrices C x C that it is multiplied by
  Index local = 0;     ///< planes of C values that mixing reads, besides what is kept
  Index kept = 0;      ///< planes of C values that the state keeps of it
  Index reads = 0;     ///< how many times mixing reads a kept plane for one token; K of a shift mixer
  bool unbounded =
      false;  ///< whether all that was kept stays, for every later token to read or, with blocks, to choose from
  Index window = 0;  ///< else how many tokens, itself the last, a token reads one by one; 0 of other layers
  Index block = 0;   ///< tokens of a block, where a token reads not all but its own block and chosen ones
  Index top = 0;     ///< how many blocks are chosen
  /// Further planes like `kept`, for each channel of a head: a matrix C/H x C/H of every head is one for each of C/H.
  Index kept_by_width = 0;
  /// Of a hierarchy its levels, tokens counted: level e > 0 has a block for 2^e tokens, two products C x C and a plane
  /// that is kept for each, and a pair of blocks is multiplied once. 0 of other layers.
  Index levels = 0;

  /// Whether all is equal.
  bool operator==(const LayerFootprint&) const = default;
};

/// What a stream carries from call to call; see the file comment.
template <class S>
concept StreamState = std::copyable<S> && std::default_initializable<S> &&
    requires(S& state, const S& read, Index s) {
  { read.streams() } -> std::same_as<Index>;
  { read.count(s) } -> std::same_as<Index>;
  { read.room(s) } -> std::same_as<Index>;
  { read.can_rewind(s, s) } -> std::same_as<bool>;
  { read.is_whole(s) } -> std::same_as<bool>;
  { read.bytes() } -> std::same_as<std::size_t>;
  { read.shape_text() } -> std::convertible_to<std::string_view>;
  state.reset(s);
  state.reset();
  state.rewind(s, s);
  state.copy_stream(s, s);
  state.take_back(s, s);
  state.spoil(s);
};

/// A layer that mixes tokens; see the file comment.
template <class L>
concept MixingLayer = std::copyable<L> && ComputeScalar<typename L::Scalar> &&
    StreamState<typename L::State> && std::copyable<typename L::Saved> &&
    std::copyable<typename L::Parameters> &&
    requires(const L& layer, L& own, Tokens<const typename L::Scalar> x, Tokens<typename L::Scalar> y,
             std::span<const Segment> segments, typename L::State* state, typename L::Saved* saved,
             typename L::Parameters& gradients, Workspace& workspace, StateOptions options, const char* who) {
  { L::kType } -> std::convertible_to<std::string_view>;
  { layer.footprint() } -> std::same_as<LayerFootprint>;
  { layer.description() } -> std::convertible_to<std::string_view>;
  { layer.channels() } -> std::same_as<Index>;
  { layer.parameters() } -> std::same_as<const typename L::Parameters&>;
  { own.parameters() } -> std::same_as<typename L::Parameters&>;
  layer.check(who);
  { layer.make_state(options) } -> std::same_as<typename L::State>;
  { layer.fits(*state) } -> std::same_as<bool>;
  { layer.fits(*saved, x) } -> std::same_as<bool>;
  { saved->shape() } -> std::same_as<Shape<3>>;
  layer.check_state_gradient(who, *saved, *state);
  layer.run(x, segments, y, state, saved, workspace);
  layer.run_adjoint(x, *saved, x, y, gradients, state, workspace);
};

}  // namespace hsm::inline HSM_ABI
