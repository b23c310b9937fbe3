// SPDX-License-Identifier: MIT
//
// The values of a state one after another, as a tensor holds them, and a state of these values again. Of each stream they
// are what its next tokens can depend on, and follow from how many tokens it has seen:
//
//   rings       of each ring the last columns, at most `reach`, the earliest first
//   attention   of each head the keys of all tokens, or with a window of the last W-1, then the values likewise
//   hkt         of each level and part its blocks, then of each level from 1 on the last query and the block that waits, where
//               there are such
//
// A gradient of a state is a state, so the same holds of gradients. No Torch is needed here. The state of a layer of one's
// own that is none of these joins by two functions in its namespace:
//
//   hold_tokens(state, s, n)      stream s, a fresh one, has then seen n tokens, whose values may be anything
//   visit_kept(state, s, n, f)    f(values, size) for each run of values that stream s keeps of n tokens; a gradient that
//                                 backward left is asked with the number of tokens of the state that the call started from
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include <hsm/attention/attention_state.hpp>
#include <hsm/hierarchical_attention/hierarchical_attention_state.hpp>
#include <hsm/layer/ring_state.hpp>

namespace hsm::inline HSM_ABI {

/// See the file comment.
template <class Scalar>
void hold_tokens(RingState<Scalar>& state, Index s, Index n) {
  state.make_room(n);
  state.advance(s, n);
}
/// See the file comment.
template <class Scalar, class F>
void visit_kept(RingState<Scalar>& state, Index s, Index n, F&& f) {
  for (std::size_t g = 0; g < state.ring_count(); ++g) {
    const auto ring = state.ring(g, s);
    for (Index t = std::max<Index>(0, n - state.ring_shape(g).reach); t < n; ++t) f(ring.slot(t), ring.rows);
  }
}

/// See the file comment.
template <class Scalar>
void hold_tokens(AttentionState<Scalar>& state, Index s, Index n) {
  state.hold(s, std::max<Index>(0, n - state.reach()), n);
}
/// See the file comment.
template <class Scalar, class F>
void visit_kept(AttentionState<Scalar>& state, Index s, Index n, F&& f) {
  const Index from = std::max<Index>(0, n - state.reach());
  if (from == n) return;
  const Index D = state.channels() / state.heads(), before = (from - state.first(s)) * D;
  for (Index h = 0; h < state.heads(); ++h) f(state.keys(s, h) + before, (n - from) * D);
  for (Index h = 0; h < state.heads(); ++h) f(state.values(s, h) + before, (n - from) * D);
}

/// See the file comment.
template <class Scalar>
void hold_tokens(HierarchicalAttentionState<Scalar>& state, Index s, Index n) {
  state.restart(s, n);
  state.clear_tails(s);
}
/// See the file comment.
template <class Scalar, class F>
void visit_kept(HierarchicalAttentionState<Scalar>& state, Index s, Index n, F&& f) {
  for (Index l = 0; l < state.levels(); ++l) {
    const Index size = detail::blocks_of(n, l) * state.width();
    for (Index b = 0; size > 0 && b < state.parts(l); ++b) f(state.part(s, l, b), size);
  }
  const Index C = state.channels(), waiting = (state.levels() - 1) * C;
  for (Index l = 1; l < state.levels(); ++l) {
    if (detail::blocks_of(n, l) > 0) f(state.tail(s, n - 1) + (l - 1) * C, C);
    if (detail::blocks_of(n, l - 1) % 2 == 1) f(state.tail(s, n - 1) + waiting + (l - 1) * C, C);
  }
}

/// A state whose values can be put one after another.
template <class State, class Scalar>
concept HasStateValues = requires(State& state, Index s, void (*f)(Scalar*, Index)) {
  hold_tokens(state, s, s);
  visit_kept(state, s, s, f);
};

namespace detail {

/// How many values a state keeps whose streams have seen so many tokens.
template <class Scalar, class State>
Index kept_size(State& state, std::span<const Index> counts) {
  Index size = 0;
  for (Index s = 0; s < static_cast<Index>(counts.size()); ++s)
    visit_kept(state, s, counts[static_cast<std::size_t>(s)], [&](Scalar*, Index n) { size += n; });
  return size;
}

/// Writes the values that it keeps to `to`.
template <class Scalar, class State>
void copy_kept(State& state, std::span<const Index> counts, Scalar* to) {
  for (Index s = 0; s < static_cast<Index>(counts.size()); ++s) {
    visit_kept(state, s, counts[static_cast<std::size_t>(s)],
               [&](const Scalar* values, Index n) { to = std::copy_n(values, n, to); });
  }
}

/// Reads the values that it keeps from `from`.
template <class Scalar, class State>
void fill_kept(State& state, std::span<const Index> counts, const Scalar* from) {
  for (Index s = 0; s < static_cast<Index>(counts.size()); ++s) {
    visit_kept(state, s, counts[static_cast<std::size_t>(s)], [&](Scalar* values, Index n) {
      std::copy_n(from, n, values);
      from += n;
    });
  }
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
