// SPDX-License-Identifier: MIT
//
// Attention of many queries of one head over the blocks that they choose (block_choice.hpp). Blocks are the outer loop:
// the queries that chose a block are gathered, a strip of kLanes at a time, and attend to all of its keys, so that no
// pair is computed that nobody asked for; behind them come the queries of the block itself, whose last block it is. Each
// query takes its sums, the running softmax of tile_softmax.hpp, along from block to block, in the order of its blocks
// whatever other queries there are.
//
// Cost 4 width flop and one exp per pair, and 3 width copies per query and block. Scratch O(width + top) per query.
// One or two queries read their keys one after another as in dense attention.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include <hsm/attention/block_choice.hpp>
#include <hsm/attention/tile_forward.hpp>
#include <hsm/attention/tile_product.hpp>
#include <hsm/attention/tile_softmax.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>

namespace hsm::inline HSM_ABI::detail {

/// How many queries choose and are gathered from at once: of few of them some strips would hold few.
inline Index block_queries(Index top) {
  constexpr Index kMost = 8192, kMostChosen = Index{1} << 20;
  return std::clamp(kMostChosen / top, Index{64}, kMost);
}

/// Scratch of a worker for `queries` queries before whose blocks lie at most `blocks` others.
template <class Scalar>
struct BlockScratch {
  Scalar *query_strip, *sum_strip, *rows;  // [width][lane], [width][lane], [lane][width]
  Scalar* scores;                          // [kKeyTile][lane]
  Scalar *largest, *sums;                  // [query]
  Scalar* results;                         // [query][width]
  ChoiceScratch<Scalar> choice;
  Index *chosen, *listed;  // [query][top]
  Index* ends;             // [blocks + 1]
  KeyRun* runs;            // [top + 1]

  /// Takes it from `frame`.
  BlockScratch(Index width, Index top, Index queries, Index blocks, Workspace::Frame& frame)
      : query_strip(frame.take<Scalar>(width * kLanes<Scalar>)),
        sum_strip(frame.take<Scalar>(width * kLanes<Scalar>)),
        rows(frame.take<Scalar>(width * kLanes<Scalar>)),
        scores(frame.take<Scalar>((kKeyTile + 1) * kLanes<Scalar> + width)),  // also scratch of attend_one()
        largest(frame.take<Scalar>(queries)),
        sums(frame.take<Scalar>(queries)),
        results(frame.take<Scalar>(queries * width)),
        choice{frame.take<Scalar>(kChoosingQueries * kLanes<Scalar>),
               frame.take<Candidate<Scalar>>(kChoosingQueries * top)},
        chosen(frame.take<Index>(queries * top)),
        listed(frame.take<Index>(queries * top)),
        ends(frame.take<Index>(blocks + 1)),
        runs(frame.take<KeyRun>(top + 1)) {}

  /// The queries that chose block b, ascending, after list_queries().
  std::span<const Index> choosing(Index b) const {
    const Index from = b > 0 ? ends[b - 1] : 0;
    return {listed + from, static_cast<std::size_t>(ends[b] - from)};
  }
};

/// Sorts what `count` queries from `position` on chose by blocks.
template <class Scalar>
void list_queries(Index count, Index position, const HeadBlocks<Scalar>& blocks, BlockScratch<Scalar>& s) {
  const Index last = earlier_blocks(blocks.size, position, count);
  std::fill_n(s.ends, last + 1, Index{0});
  const auto each = [&](const auto& f) {
    for (Index i = 0; i < count; ++i) {
      for (Index k = 0; k < chosen_blocks(position + i, blocks); ++k) f(s.chosen[i * blocks.top + k], i);
    }
  };
  each([&](Index b, Index) { ++s.ends[b + 1]; });
  for (Index b = 0; b < last; ++b) s.ends[b + 1] += s.ends[b];
  each([&](Index b, Index i) { s.listed[s.ends[b]++] = i; });  // begins become ends
}

/// Transposes `count` <= kLanes rows, row(i) the i-th, into a strip [width][lane], times `scale`; unused lanes become 0.
template <class Scalar, class Row>
void gather_strip(Index count, Index width, Row&& row, Scalar scale, Scalar* strip) {
  constexpr Index kStrip = kLanes<Scalar>;
  if (count < kStrip) std::fill_n(strip, width * kStrip, Scalar(0));
  for (Index i = 0; i < count; ++i) {
    const Scalar* from = row(i);
    for (Index d = 0; d < width; ++d) strip[d * kStrip + i] = scale * from[d];
  }
}

/// The query at `position` by itself, having chosen `chosen`: blocks side by side are one run, and where all are chosen
/// it is the run of dense attention.
template <class Scalar>
void attend_chosen(Index width, const Scalar* query, Index position, const Index* chosen,
                   const HeadTokens<Scalar>& head, const HeadBlocks<Scalar>& blocks, Scalar* out,
                   const BlockScratch<Scalar>& s) {
  std::size_t n = 0;
  const auto add = [&](Index first, Index end) {
    if (n > 0 && s.runs[n - 1].end == first) {
      s.runs[n - 1].end = end;
    } else {
      s.runs[n++] = {first, end};
    }
  };
  for (Index k = 0; k < chosen_blocks(position, blocks); ++k)
    add(chosen[k] * blocks.size, (chosen[k] + 1) * blocks.size);
  add(position / blocks.size * blocks.size, position + 1);
  attend_one(width, query, std::span<const KeyRun>(s.runs, n), head, out, s.scores);
}

/// Queries first ... first + count - 1 of a segment whose query i is at position past + i of its document; count <=
/// block_queries().
template <class Scalar>
void attend_blocks(Index width, Index first, Index count, Index past, const HeadTokens<Scalar>& head,
                   const HeadBlocks<Scalar>& blocks, const HeadResults<Scalar>& results,
                   BlockScratch<Scalar>& s) {
  constexpr Index kStrip = kLanes<Scalar>;
  const Index position = past + first, stride = results.stride, size = blocks.size;
  const Scalar* queries = head.queries + first * width;
  Scalar* out = results.data + first * stride;
  Scalar* log_sum = results.log_sum ? results.log_sum + first : nullptr;
  choose_blocks(width, count, position, queries, blocks, s.choice, s.chosen);
  const bool few = count <= kFewQueries;
  for (Index i = 0; few && i < count; ++i) {
    attend_chosen(width, queries + i * width, position + i, s.chosen + i * blocks.top, head, blocks,
                  out + i * stride, s);
  }
  if (few && !log_sum) return;
  list_queries(count, position, blocks, s);
  std::fill_n(s.results, count * width, Scalar(0));
  std::fill_n(s.largest, count, kNoScore<Scalar>);
  std::fill_n(s.sums, count, Scalar(0));

  const Scalar scale = bits_scale<Scalar>(width);
  alignas(64) Scalar factor[kStrip];
  // n queries, of which number(i) is the i-th, lane 0 at position `query`, against the keys key ... end - 1.
  const auto add_keys = [&](Index n, const auto& number, Index query, Index key, Index end, bool finish) {
    OnlineSoftmax<Scalar> softmax;
    softmax.clear();
    for (Index i = 0; i < n; ++i)
      softmax.largest[i] = s.largest[number(i)], softmax.sum[i] = s.sums[number(i)];
    gather_strip(
        n, width, [&](Index i) { return queries + number(i) * width; }, scale, s.query_strip);
    gather_strip(
        n, width, [&](Index i) { return s.results + number(i) * width; }, Scalar(1), s.sum_strip);
    for (; key < end; key += kKeyTile) {
      const SeenKeys seen = seen_keys<Scalar>(key, (std::min)(kKeyTile, end - key), query, head.window);
      if (seen.count() > 0)
        attend_strip(width, seen, query, head, s.query_strip, softmax, s.sum_strip, s.scores);
    }
    for (Index i = 0; i < n; ++i) {
      s.largest[number(i)] = softmax.largest[i], s.sums[number(i)] = softmax.sum[i];
      if (finish && log_sum) log_sum[number(i)] = softmax.largest[i] + std::log2(softmax.sum[i]);
    }
    for (Index i = 0; i < kStrip; ++i) factor[i] = finish && i < n ? Scalar(1) / softmax.sum[i] : Scalar(1);
    store_strip(n, width, s.sum_strip, factor, s.rows, width);
    for (Index i = 0; i < n && !(few && finish); ++i) {
      Scalar* to = finish ? out + number(i) * stride : s.results + number(i) * width;
      std::copy_n(s.rows + i * width, width, to);
    }
  };

  const Index last = earlier_blocks(size, position, count);
  // Queries lie far apart: those of the next strip are fetched while this one is worked on.
  const auto fetch = [&](Index from) {
    for (Index n = from; n < (std::min)(from + kStrip, s.ends[last - 1]); ++n) {
      const Index place = s.listed[n] * width;
      for (Index d = 0; d < width; d += 64 / static_cast<Index>(sizeof(Scalar))) {
        __builtin_prefetch(queries + place + d);
        __builtin_prefetch(s.results + place + d);
      }
    }
  };
  for (Index b = 0; b <= last; ++b) {
    const std::span<const Index> choosing = b < last ? s.choosing(b) : std::span<const Index>();
    const auto many = static_cast<Index>(choosing.size());
    for (Index i = 0; i < many; i += kStrip) {
      fetch(static_cast<Index>(choosing.data() - s.listed) + i + kStrip);
      add_keys((std::min)(kStrip, many - i),
               [&](Index n) { return choosing[static_cast<std::size_t>(i + n)]; }, (b + 1) * size, b * size,
               (b + 1) * size, false);
    }
    const Index own = std::clamp(b * size - position, Index{0}, count),
                end = (std::min)((b + 1) * size - position, count);
    for (Index i = own; i < end; i += kStrip) {
      add_keys((std::min)(kStrip, end - i), [&](Index n) { return i + n; }, position + i, b * size,
               position + end, true);
    }
  }
}

}  // namespace hsm::inline HSM_ABI::detail
