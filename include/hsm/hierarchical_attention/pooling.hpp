// SPDX-License-Identifier: MIT
//
// Blocks of tokens as one: x^e_j = a^e x^{e-1}_{2j} + b^e x^{e-1}_{2j+1}, value by value, for the blocks that the tokens of
// a call complete, and the adjoint. Blocks of a level lie one after another, document after document; the first half of the
// first block of a document may come from before the call.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include <hsm/core/executor.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/hierarchical_attention/hierarchical_attention.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Which blocks of which level each segment of a call completes.
struct BlockPlaces {
  std::span<const Segment> segments;
  const Index* past;  // [segments]: tokens of the document before it
  Index level_count;
  std::array<Index*, kMostLevels>
      offsets{};  // from level 1 on [segments + 1]: where a segment's blocks begin

  /// Counts them, in memory of `frame`.
  BlockPlaces(std::span<const Segment> list, const Index* before, Index levels, Workspace::Frame& frame)
      : segments(list), past(before), level_count(levels) {
    for (Index e = 1; e < levels; ++e) {
      Index* at = offsets[static_cast<std::size_t>(e)] =
          frame.take<Index>(static_cast<Index>(list.size()) + 1);
      at[0] = 0;
      for (std::size_t i = 0; i < list.size(); ++i) at[i + 1] = at[i] + end(i, e) - first(i, e);
    }
  }
  /// The first block of its document that segment i completes.
  Index first(std::size_t i, Index e) const { return blocks_of(past[i], e); }
  /// Behind the last one.
  Index end(std::size_t i, Index e) const { return blocks_of(past[i] + segments[i].count, e); }
  /// The place of the first one among all of the level; of level 0 that of the first token.
  Index offset(std::size_t i, Index e) const {
    return e == 0 ? segments[i].first : offsets[static_cast<std::size_t>(e)][i];
  }
  /// How many blocks of level e there are.
  Index blocks(Index e) const { return offset(segments.size(), e); }

  /// Calls f(place, left, right) for the blocks from ... to - 1 of level e > 0: their two halves' places in level e-1, the
  /// left one -1 - i where it comes from before segment i.
  template <class F>
  void for_each_block(Index e, Index from, Index to, F&& f) const {
    const Index* at = offsets[static_cast<std::size_t>(e)];
    auto i = static_cast<std::size_t>(std::upper_bound(at, at + segments.size() + 1, from) - at) - 1;
    for (Index place = from; place < to; ++place) {
      while (place >= at[i + 1]) ++i;
      const Index left = 2 * (first(i, e) + place - at[i]) - first(i, e - 1);  // of those of the segment
      f(place, left < 0 ? -1 - static_cast<Index>(i) : offset(i, e - 1) + left, offset(i, e - 1) + left + 1);
    }
  }
};

/// Blocks per task.
inline constexpr Index kPoolBlock = 64;

/// Writes x^e of all blocks, [blocks][C]; below(place) is x^{e-1} and waiting(i) what segment i has from before.
template <class Scalar, class Finer, class Waiting>
void pool_blocks(const BlockPlaces& places, Index e, const AttentionLevel<Scalar>& level, const Finer& below,
                 const Waiting& waiting, Scalar* pooled, Executor& executor) {
  const Index C = level.a.size();
  parallel_blocks(executor, places.blocks(e), kPoolBlock, [&](Index from, Index count, int) {
    places.for_each_block(e, from, from + count, [&](Index place, Index left, Index right) {
      const Scalar* u = left < 0 ? waiting(-1 - left) : below(left);
      const Scalar* v = below(right);
      const Scalar *a = level.a.data(), *b = level.b.data();
      Scalar* out = pooled + place * C;
      HSM_INDEPENDENT
      for (Index c = 0; c < C; ++c) out[c] = multiply_add(b[c], v[c], a[c] * u[c]);
    });
  });
}

/// Channels per task of the adjoint, each of which goes through all blocks: sums over them have one order.
inline constexpr Index kPoolChannels = 64;

/// The adjoint, given d [blocks][C] of x^e: adds to that of x^{e-1}, d_below(place), to d_waiting(i), and to the
/// gradients of a and b.
template <class Scalar, class Finer, class Waiting, class DBelow, class DWaiting>
void pool_backward(const BlockPlaces& places, Index e, const AttentionLevel<Scalar>& level,
                   const Finer& below, const Waiting& waiting, const Scalar* d, const DBelow& d_below,
                   const DWaiting& d_waiting, AttentionLevel<Scalar>& gradients, Executor& executor) {
  const Index C = level.a.size();
  parallel_blocks(executor, C, kPoolChannels, [&](Index first, Index channels, int) {
    const Scalar *a = level.a.data() + first, *b = level.b.data() + first;
    Scalar *d_a = gradients.a.data() + first, *d_b = gradients.b.data() + first;
    places.for_each_block(e, 0, places.blocks(e), [&](Index place, Index left, Index right) {
      const Scalar* d_own = d + place * C + first;
      const Scalar* u = (left < 0 ? waiting(-1 - left) : below(left)) + first;
      const Scalar* v = below(right) + first;
      Scalar* d_v = d_below(right) + first;
      Scalar* d_u = (left < 0 ? d_waiting(-1 - left) : d_below(left)) + first;
      HSM_INDEPENDENT
      for (Index c = 0; c < channels; ++c) {
        d_a[c] = multiply_add(u[c], d_own[c], d_a[c]);
        d_b[c] = multiply_add(v[c], d_own[c], d_b[c]);
        d_v[c] = multiply_add(b[c], d_own[c], d_v[c]);
        d_u[c] = multiply_add(a[c], d_own[c], d_u[c]);
      }
    });
  });
}

}  // namespace hsm::inline HSM_ABI::detail
