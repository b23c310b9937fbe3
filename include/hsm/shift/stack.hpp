// SPDX-License-Identifier: MIT
//
// A stack of mixers, each reading what the one before left, run depth-first: chunk after chunk of the tokens
// goes through all layers while it is in cache. States make that exact, so a chunk continues the one before;
// memory does not grow with T, and what lies between the layers never leaves the cache.
//
//   layer by layer   2 N values between cache and memory per layer
//   depth-first      2 N in all
#pragma once

#include <iterator>
#include <vector>

#include <hsm/shift/mixer.hpp>
#include <hsm/shift/pair_stack.hpp>

namespace hsm::inline HSM_ABI {

/// Fresh states for all layers of a stack. `layers` is a contiguous range of one Mixer type.
template <class Layers>
auto make_states(const Layers& layers, StateOptions options = {}) {
  std::vector<decltype(std::data(layers)->make_state(options))> states;
  states.reserve(std::size(layers));
  for (const auto& layer : layers) states.push_back(layer.make_state(options));
  return states;
}

namespace detail {

/// Unless kept, each layer's streams hold as many tokens again as they did before, or are not whole.
template <class State>
struct StackUndo {
  StackUndo(State* first, Index count, Workspace::Frame& frame)
      : states(first), layers(count), streams(first->streams()), counts(frame.take<Index>(count * streams)) {
    for (Index i = 0; i < layers * streams; ++i) counts[i] = states[i / streams].count(i % streams);
  }
  StackUndo(const StackUndo&) = delete;
  StackUndo& operator=(const StackUndo&) = delete;
  ~StackUndo() {
    for (Index i = 0; !kept && i < layers * streams; ++i)
      states[i / streams].take_back(i % streams, counts[i]);
  }

  State* states;
  Index layers, streams;
  Index* counts;
  bool kept = false;
};

}  // namespace detail

/// The next tokens of every stream through all of `layers`: x, y [streams,T,C], states[l] the state of layer
/// l, from make_states or from earlier calls. The result and the states are those of calling extend layer by
/// layer ((a,b), channel: the same bits; else within the bound in the policy's header). O(L) times a layer's
/// cost per token. Layers that are a weight per channel, without products ((a,b), channel), with all heads at
/// one shift and no spare slots, go through pair_stack.hpp once T is the sum of the shifts or more: chunks of
/// 256 tokens, or as many as `workspace.chunk_bytes` hold; scratch: that and the states of one stream. All
/// others: as many tokens as chunk_bytes hold twice, for what one layer reads and what it writes; scratch
/// chunk_bytes. Throws std::invalid_argument, with nothing written, for no layers, another number of states
/// than layers, and what Mixer::extend throws for. Where it throws later, each stream of each state holds what it
/// held before or is refused until it is reset.
template <class Layers, class X, class States, class Y>
void extend(const Layers& layers, const X& x, States& states, Y&& y, Workspace& workspace) {
  constexpr const char* kWho = "extend of a stack";
  using Scalar = typename std::remove_cvref_t<decltype(*std::data(layers))>::Scalar;
  detail::check_kept<Y>();
  const auto in = detail::view<const Scalar>(x, "extend of a stack: x");
  const auto out = detail::view<Scalar>(y, "extend of a stack: y");
  const auto L = static_cast<Index>(std::size(layers));
  detail::check_at_least(kWho, "the number of layers", L, 1);
  detail::check_equal(kWho, "the number of states", static_cast<Index>(std::size(states)), L);
  detail::check_equal(kWho, "y", out.shape(), in.shape());
  detail::check_there(kWho, "x", "memory to read from", in);
  detail::check_there(kWho, "y", "memory to write to", out);
  detail::check_apart(kWho, "x and y", in, out);
  const auto* layer = std::data(layers);
  auto* state = std::data(states);
  for (Index l = 0; l < L; ++l) {  // checks, and reads and writes nothing
    layer[l].extend(in.slice(0, 0), state[l], out.slice(0, 0), workspace);
    for (Index b = 0; b < in.batch; ++b) {
      const Index room = state[l].room(b);
      if (in.time > room) detail::fail_room(kWho, {0, in.time, b}, state[l].count(b), room);
    }
  }

  const bool nontemporal = should_be_nontemporal(
      workspace.stores, static_cast<std::size_t>(out.count() * in.channels) * sizeof(Scalar));
  using Policy = typename std::remove_cvref_t<decltype(*layer)>::Parameters;
  Workspace::Frame frame(workspace);
  detail::StackUndo undo(state, L, frame);
  if constexpr (detail::HasChannelWeights<Policy>) {
    detail::PairStack<Policy> stack(layer, state, L);
    if (stack.takes(in.time)) {
      stack.run(in, out, nontemporal, workspace);
      undo.kept = true;
      return;
    }
  }
  const Index B = in.batch, T = in.time, C = in.channels;
  const Index values = workspace.chunk_bytes / static_cast<Index>(sizeof(Scalar));
  const Index fitting = values / std::max<Index>(1, 2 * B * C);
  const Index chunk = (std::min)(std::max<Index>(16, fitting / 16 * 16), std::max<Index>(1, T));
  Scalar* between[2] = {frame.template take<Scalar>(B * chunk * C),
                        frame.template take<Scalar>(B * chunk * C)};
  struct Restored {  // whatever happens
    Stores& place;
    const Stores value;
    ~Restored() { place = value; }
  } stores{workspace.stores, workspace.stores};
  for (Index first = 0; first < T; first += chunk) {
    const Index n = (std::min)(chunk, T - first);
    Tokens<const Scalar> from = in.slice(first, n);
    for (Index l = 0; l < L; ++l) {
      const bool last = l + 1 == L;
      const Tokens<Scalar> to = last ? out.slice(first, n) : Tokens<Scalar>(between[l % 2], B, n, C);
      workspace.stores = last && nontemporal ? Stores::kNontemporal : Stores::kCached;
      layer[l].extend(from, state[l], to, workspace);
      from = Tokens<const Scalar>(to.data, B, n, C, to.token_stride, to.batch_stride);
    }
  }
  undo.kept = true;
}

}  // namespace hsm::inline HSM_ABI
