// SPDX-License-Identifier: MIT
//
// The queries of a tile of one head over all their keys, as tile_forward.hpp does it; what the levels above the tokens give
// to their scores is computed once for a tile of keys and all queries (level_scores.hpp). One or two queries
// read the keys of each level one after another. Cost per pair that is seen 4 width flop and one exp, and 2 width / 4^e of
// level e, or of one or two queries 2 width / 2^e.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include <hsm/attention/tile_forward.hpp>
#include <hsm/hierarchical_attention/level_scores.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Scratch of attend_hierarchy(), in scalars.
template <class Scalar>
constexpr Index hierarchy_scratch(Index width, Index levels) {
  Index size = attend_scratch<Scalar>(width) + kKeyTile + 1 + (levels + 1) * width;
  for (Index e = 1; e < levels; ++e) size += level_stride<Scalar>(e) * (width + level_rows(kKeyTile, e));
  return size;
}

/// What the levels above the tokens give to the scores of one query at place `position`, for attend_one().
template <class Scalar>
struct LevelExtra {
  const HierarchyHead<Scalar>& head;
  Index width, position;
  Scalar* scaled;  // [width], scratch

  void operator()(Index first, Index count, Scalar* scores) const {
    const Scalar scale = Scalar(1) / std::sqrt(static_cast<Scalar>(width));
    for (Index e = 1; e < head.level_count; ++e) {
      const LevelTokens<Scalar>& level = head.level(e);
      const Index last = level_query(position, e), size = Index{1} << e;
      if (last < first >> e) continue;
      const Scalar* query = level.query(width, last);
      for (Index d = 0; d < width; ++d) scaled[d] = head.weight(e) * scale * query[d];
      for (Index block = first >> e; block <= (std::min)(last, (first + count - 1) >> e); ++block) {
        const Scalar product = packet_dot(width, scaled, level.keys + block * width);
        const Index from = (std::max)(block * size, first),
                    to = (std::min)((block + 1) * size, first + count);
        for (Index i = from; i < to; ++i) scores[i - first] += product;
      }
    }
  }
};

/// The queries of the lanes first ... first + lanes - 1 of a segment, counted from head.start() on, first a multiple of
/// kQueryTile and lanes no more; lanes before the segment's own tokens compute nothing that is kept.
template <class Scalar>
void attend_hierarchy(Index width, Index first, Index lanes, const HierarchyHead<Scalar>& head,
                      const HeadResults<Scalar>& results, Scalar* scratch) {
  constexpr Index kStrip = kLanes<Scalar>;
  const Index start = head.start() + first, end = start + lanes;  // places
  const Index own = (std::max)(start, head.past);                 // of the first query
  const auto query_at = [&](Index place) { return head.tokens.queries + (place - head.past) * width; };
  const auto out_at = [&](Index place) { return results.data + (place - head.past) * results.stride; };
  const bool few = end - own <= kFewQueries;
  for (Index t = own; few && t < end; ++t) {
    Scalar *query = scratch, *scaled = query + width;
    const KeyRun run[] = {{0, t + 1}};
    for (Index d = 0; d < width; ++d) query[d] = head.weight(0) * query_at(t)[d];
    attend_one(width, static_cast<const Scalar*>(query), std::span<const KeyRun>(run), head.tokens, out_at(t),
               scaled + width, LevelExtra<Scalar>{head, width, t, scaled});
  }
  if (few && !results.log_sum) return;

  OnlineSoftmax<Scalar> softmax[strips<Scalar>(kQueryTile)];
  const auto next = [&](Index n) { return std::exchange(scratch, scratch + n); };
  Scalar* query_strips = next(strips<Scalar>(kQueryTile) * width * kStrip);
  Scalar* sums = next(strips<Scalar>(kQueryTile) * width * kStrip);
  Scalar* scores = next(kKeyTile * kStrip);
  LevelTiles<Scalar> tiles;
  const Scalar scale = bits_scale<Scalar>(width);
  for (Index e = 1; e < head.level_count; ++e) {
    const auto i = static_cast<std::size_t>(e);
    tiles.query_strips[i] = next(level_stride<Scalar>(e) * width);
    tiles.scores[i] = next(level_stride<Scalar>(e) * level_rows(kKeyTile, e));
    load_level(width, e, start, head.weight(e) * scale, head.level(e), tiles.query_strips[i]);
  }
  const Index first_strip = (own - start) / kStrip, strip_count = strips<Scalar>(lanes);
  for (Index s = first_strip; s < strip_count; ++s) {
    const Index place = start + s * kStrip, skipped = (std::max)(own - place, Index{0});
    const Index filled = (std::min)(kStrip, end - place) - skipped;
    Scalar* strip = query_strips + s * width * kStrip;
    load_strip(filled, width, query_at(place + skipped), width, scale * head.weight(0), strip);
    if (skipped > 0) {
      for (Index d = 0; d < width; ++d) {
        Scalar* row = strip + d * kStrip;
        std::copy_backward(row, row + filled, row + filled + skipped);
        std::fill_n(row, skipped, Scalar(0));
      }
    }
    std::fill_n(sums + s * width * kStrip, width * kStrip, Scalar(0));
    softmax[s].clear();
  }

  // Every strip begins in the first tile, and there each of its queries has a key that it sees; a lane before the start of
  // the document sees none, and comes to nothing.
  static_assert(kKeyTile >= kQueryTile && kKeyTile % (Index{1} << (kMostLevels - 1)) == 0);
  for (Index key = 0; key < end; key += kKeyTile) {
    const Index keys = (std::min)(kKeyTile, end - key);
    score_levels(width, key, keys, start, lanes, head, tiles);
    for (Index s = first_strip; s < strip_count; ++s) {
      const Index query = start + s * kStrip;  // of lane 0
      const SeenKeys seen = seen_keys<Scalar>(key, keys, query, kWholeWindow);
      if (seen.count() <= 0) continue;
      const auto attend_to = [&](const auto& from) {
        attend_strip(width, seen, query, head.tokens, query_strips + s * width * kStrip, softmax[s],
                     sums + s * width * kStrip, scores, from);
      };
      if (head.level_count > 1) {
        attend_to(SpreadScores<Scalar>{tiles, key, start});
      } else {
        attend_to(PlainScores{});
      }
    }
  }

  for (Index s = first_strip; s < strip_count; ++s) {
    const Index place = start + s * kStrip, skipped = (std::max)(own - place, Index{0});
    const Index filled = (std::min)(kStrip, end - place) - skipped;
    for (Index i = 0; results.log_sum && i < filled; ++i) {
      const Index lane = skipped + i;
      results.log_sum[place + lane - head.past] = softmax[s].largest[lane] + std::log2(softmax[s].sum[lane]);
    }
    if (few) continue;
    for (Scalar& sum : softmax[s].sum) sum = Scalar(1) / sum;
    store_strip(filled, width, sums + s * width * kStrip + skipped, softmax[s].sum + skipped,
                out_at(place + skipped), results.stride);
  }
}

}  // namespace hsm::inline HSM_ABI::detail
