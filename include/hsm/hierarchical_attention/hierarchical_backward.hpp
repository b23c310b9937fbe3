// SPDX-License-Identifier: MIT
//
// The adjoint of hierarchical_forward.hpp for all queries of one segment and head, as tile_backward.hpp does it. The scores
// of a tile are computed again with those of the levels. Their gradients ds, summed two by two along and down from level to
// level and 0 where a level gives 0, are those of the small tiles, of which each level's are
//
//   dk^e_m = w_e sum_n ds^e q^e_n / sqrt(width)     dq^e_n = w_e u_n / sqrt(width),  u_n = sum_m ds^e k^e_m
//   dw_e   = sum_n q^e_n . u_n / sqrt(width)
//
// Cost per pair that is seen 10 width flop and one exp, and 6 width / 4^e of level e; scratch O(width count).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include <hsm/attention/tile_backward.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/hierarchical_attention/level_scores.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Where the gradients of a level above the tokens go: of the blocks that the segment completes (overwritten), block i from
/// i * stride on; of the query before (overwritten); of the keys of the document's blocks, from block 0 on and without
/// gaps, or null where nobody asks, as in HeadGradients.
template <class Scalar>
struct LevelGradients {
  Scalar* queries = nullptr;
  Scalar* keys = nullptr;
  Index stride = 0;
  Scalar* old_query = nullptr;
  Scalar* document_keys = nullptr;
};

/// Scratch of attend_hierarchy_backward(), divided up.
template <class Scalar>
struct HierarchyBackwardScratch {
  static_assert(kBackwardTile == kQueryTile);
  /// One level above the tokens: of a tile of queries [..][width][lane], [query][padded], of a tile of keys.
  struct Level {
    Scalar *query_strips, *d_query;  // [tile][strip][width][lane]
    Scalar* queries;                 // [tile][query][padded]
    Scalar *scores, *d_scores;       // [row][level_stride]
    Scalar* d_keys;                  // [row][padded]
  };

  BackwardScratch<Scalar> tokens;
  std::array<Level, kMostLevels> levels{};

  static std::ptrdiff_t size(Index width, Index lanes, Index level_count) {
    const std::ptrdiff_t tiles = BackwardScratch<Scalar>::room_for(lanes) / kBackwardTile;
    const Index padded = strips<Scalar>(width) * kLanes<Scalar>;
    std::ptrdiff_t all = BackwardScratch<Scalar>::size(width, lanes);
    for (Index e = 1; e < level_count; ++e) {
      all += tiles * (2 * level_stride<Scalar>(e) * width + level_lanes(e) * padded) +
             level_lanes(e) * (2 * level_stride<Scalar>(e) + padded);
    }
    return all;
  }
  HierarchyBackwardScratch(Index width, Index lanes, Index level_count, Scalar* memory)
      : tokens(width, lanes, memory) {
    memory += BackwardScratch<Scalar>::size(width, lanes);
    const auto next = [&](Index n) { return std::exchange(memory, memory + n); };
    const Index tiles = tokens.room / kBackwardTile;
    for (Index e = 1; e < level_count; ++e) {
      const Index strip_values = tiles * level_stride<Scalar>(e) * width;
      const Index tile = level_lanes(e) * level_stride<Scalar>(e);
      Level& own = levels[static_cast<std::size_t>(e)];
      own.query_strips = next(strip_values), own.d_query = next(strip_values);
      own.queries = next(tiles * level_lanes(e) * tokens.padded);
      own.scores = next(tile), own.d_scores = next(tile);
      own.d_keys = next(level_lanes(e) * tokens.padded);
    }
  }
  Level& level(Index e) { return levels[static_cast<std::size_t>(e)]; }
  const Level& level(Index e) const { return levels[static_cast<std::size_t>(e)]; }
  /// The tiles of scores, with the queries of tile t.
  LevelTiles<Scalar> tiles(Index width, Index t, Index level_count) const {
    LevelTiles<Scalar> all;
    for (Index e = 1; e < level_count; ++e) {
      const auto i = static_cast<std::size_t>(e);
      all.query_strips[i] = levels[i].query_strips + t * level_stride<Scalar>(e) * width;
      all.scores[i] = levels[i].scores;
    }
    return all;
  }
};

/// Lays the queries and do of a segment out as load_backward() does, from lane `lead` on. Other lanes are 0, with weights
/// that are as good as 0 whatever the levels give to their scores.
template <class Scalar>
void load_lanes(Index width, Index count, Index lead, Scalar weight, const Scalar* queries,
                const HeadForward<Scalar>& forward, BackwardScratch<Scalar>& s) {
  constexpr Index kStrip = kLanes<Scalar>;
  const Scalar scale = weight / std::sqrt(static_cast<Scalar>(width)),
               in_bits = bits_scale<Scalar>(width) * weight;
  for (Scalar* strips_of : {s.query_strips, s.d_out_strips, s.d_query})
    std::fill_n(strips_of, s.room * width, Scalar(0));
  std::fill_n(s.queries, s.room * s.padded, Scalar(0));
  std::fill_n(s.d_out, s.room * s.padded, Scalar(0));
  std::fill_n(s.log_sum, s.room, (std::numeric_limits<Scalar>::max)() / 4);
  std::fill_n(s.dots, s.room, Scalar(0));
  for (Index i = 0; i < count; ++i) {
    const Index lane = lead + i, place = lane / kStrip * kStrip * width + lane % kStrip;
    const Scalar* query = queries + i * width;
    const Scalar* d_out = forward.d_out + i * forward.stride;
    for (Index d = 0; d < width; ++d) {
      s.query_strips[place + d * kStrip] = in_bits * query[d];
      s.d_out_strips[place + d * kStrip] = d_out[d];
      s.queries[lane * s.padded + d] = scale * query[d];
    }
    std::copy_n(d_out, width, s.d_out + lane * s.padded);
    s.log_sum[lane] = forward.log_sum[i];
    s.dots[lane] = dot(width, d_out, forward.out + i * forward.stride);
  }
}

/// The same of the levels above the tokens.
template <class Scalar>
void load_levels(Index width, const HierarchyHead<Scalar>& head, HierarchyBackwardScratch<Scalar>& s) {
  const Scalar scale = Scalar(1) / std::sqrt(static_cast<Scalar>(width));
  const Index tiles = s.tokens.room / kBackwardTile, padded = s.tokens.padded;
  for (Index e = 1; e < head.level_count; ++e) {
    auto& own = s.level(e);
    const Index stride = level_stride<Scalar>(e), lanes = level_lanes(e);
    std::fill_n(own.d_query, tiles * stride * width, Scalar(0));
    std::fill_n(own.queries, tiles * lanes * padded, Scalar(0));
    std::fill_n(own.d_scores, lanes * stride, Scalar(0));
    for (Index t = 0; t < tiles; ++t) {
      const Index start = head.start() + t * kBackwardTile;
      load_level(width, e, start, head.weight(e) * bits_scale<Scalar>(width), head.level(e),
                 own.query_strips + t * stride * width);
      for (Index j = 0; j < lanes; ++j) {
        const Scalar* query = head.level(e).query(width, level_query(start, e) + j);
        Scalar* row = own.queries + (t * lanes + j) * padded;
        for (Index d = 0; query && d < width; ++d) row[d] = head.weight(e) * scale * query[d];
      }
    }
  }
}

/// to[r][c] = the sum of four values of `from`, rows 2r, 2r+1 and columns 2c, 2c+1.
template <class Scalar>
void sum_squares(Index rows, Index columns, const Scalar* from, Index from_stride, Scalar* to,
                 Index to_stride) {
  for (Index r = 0; r < rows; ++r) {
    const Scalar* upper = from + 2 * r * from_stride;
    const Scalar* lower = upper + from_stride;
    Scalar* out = to + r * to_stride;
    HSM_INDEPENDENT
    for (Index c = 0; c < columns; ++c)
      out[c] = (upper[2 * c] + lower[2 * c]) + (upper[2 * c + 1] + lower[2 * c + 1]);
  }
}

/// After backward_tile() of tile t of queries and a tile of keys: what the levels get of its gradients of scores. `wanted`
/// is whether the gradients of these keys are.
template <class Scalar>
void return_tile(Index width, Index key, Index keys, Index t, bool wanted, const HierarchyHead<Scalar>& head,
                 const HierarchyBackwardScratch<Scalar>& s) {
  constexpr Index kStrip = kLanes<Scalar>, kTile = kBackwardTile;
  const Index start = head.start() + t * kTile, padded = s.tokens.padded;
  for (Index query = 0; query < kTile; query += kStrip) {  // what no query of a strip sees was not computed
    const SeenKeys seen = seen_keys<Scalar>(key, keys, start + query, kWholeWindow);
    for (Index j = seen.count(); j < keys; ++j)
      std::fill_n(s.tokens.d_scores + j * kTile + query, kStrip, Scalar(0));
  }
  const Scalar* below = s.tokens.d_scores;
  Index below_stride = kTile;
  for (Index e = 1; e < head.level_count; ++e) {
    const auto& own = s.level(e);
    const Index rows = keys >> e, block = key >> e, stride = level_stride<Scalar>(e), lanes = level_lanes(e);
    sum_squares(rows, lanes, below, below_stride, own.d_scores, stride);
    const Scalar* keys_of = head.level(e).keys + block * width;
    for (Index strip = 0; strip < stride; strip += kStrip) {
      hide_later(rows, block, level_query(start, e) + strip, own.d_scores + strip, stride);
      strip_product<Write::kAdd>(width, rows, Left<Order::kColumns, Scalar>{keys_of, width},
                                 static_cast<const Scalar*>(own.d_scores + strip), stride,
                                 own.d_query + (t * stride + strip) * width, kStrip);
    }
    for (Index d = 0; wanted && d < padded; d += kStrip) {
      strip_product<Write::kAdd>(rows, lanes, Left<Order::kRows, Scalar>{own.d_scores, stride},
                                 static_cast<const Scalar*>(own.queries + t * lanes * padded + d), padded,
                                 own.d_keys + d, padded);
    }
    below = own.d_scores;
    below_stride = stride;
  }
}

/// Gradients of the queries of a segment, of the keys and values of its document, and of those of all levels; adds to
/// d_weights [E+1], those of the levels' weights.
template <class Scalar>
void attend_hierarchy_backward(Index width, const HierarchyHead<Scalar>& head,
                               const HeadForward<Scalar>& forward, const HeadGradients<Scalar>& gradients,
                               const std::array<LevelGradients<Scalar>, kMostLevels>& level_gradients,
                               double* d_weights, Scalar* memory) {
  constexpr Index kStrip = kLanes<Scalar>, kTile = kBackwardTile;
  const Index start = head.start(), lead = head.past - start, end = head.past + head.count,
              level_count = head.level_count;
  const Scalar scale = Scalar(1) / std::sqrt(static_cast<Scalar>(width));
  HierarchyBackwardScratch<Scalar> scratch(width, lead + head.count, level_count, memory);
  BackwardScratch<Scalar>& s = scratch.tokens;
  load_lanes(width, head.count, lead, head.weight(0), head.tokens.queries, forward, s);
  load_levels(width, head, scratch);
  for (Index key = 0; key < end; key += kTile) {
    const Index keys = (std::min)(kTile, end - key);
    const bool wanted = key + keys > head.past || gradients.document_keys;
    std::fill_n(s.d_keys, keys * s.padded, Scalar(0));
    std::fill_n(s.d_values, keys * s.padded, Scalar(0));
    for (Index e = 1; e < level_count; ++e)
      std::fill_n(scratch.level(e).d_keys, (keys >> e) * s.padded, Scalar(0));
    for (Index t = (std::max)(key - start, Index{0}) / kTile; t * kTile < lead + head.count; ++t) {
      const Index place = start + t * kTile;
      const LevelTiles<Scalar> tiles = scratch.tiles(width, t, level_count);
      const auto position = [&](Index query) { return start + query; };
      score_levels(width, key, keys, place, kTile, head, tiles);
      if (level_count > 1) {
        backward_tile(width, key, keys, head.tokens, t * kTile, kTile, position, s,
                      wanted ? s.d_keys : nullptr, s.d_values, SpreadScores<Scalar>{tiles, key, place});
        return_tile(width, key, keys, t, wanted, head, scratch);
      } else {
        backward_tile(width, key, keys, head.tokens, t * kTile, kTile, position, s,
                      wanted ? s.d_keys : nullptr, s.d_values);
      }
    }
    store_key_gradients(width, key, keys, head.past, static_cast<const Scalar*>(s.d_keys), s.padded,
                        gradients.keys, gradients.stride, gradients.document_keys);
    store_key_gradients(width, key, keys, head.past, static_cast<const Scalar*>(s.d_values), s.padded,
                        gradients.values, gradients.stride, gradients.document_values);
    for (Index e = 1; e < level_count; ++e) {
      const LevelGradients<Scalar>& own = level_gradients[static_cast<std::size_t>(e)];
      store_key_gradients(width, key >> e, keys >> e, head.level(e).first,
                          static_cast<const Scalar*>(scratch.level(e).d_keys), s.padded, own.keys, own.stride,
                          own.document_keys);
    }
  }
  // From u, in strips, to the gradient of a query and what it adds to that of the level's weight.
  const auto finish = [&](Index e, const Scalar* query, const Scalar* u, Scalar* out) {
    double sum = 0;
    for (Index d = 0; d < width; ++d) {
      sum += static_cast<double>(query[d]) * static_cast<double>(u[d * kStrip]);
      if (out) out[d] = head.weight(e) * scale * u[d * kStrip];
    }
    d_weights[e] += sum * static_cast<double>(scale);
  };
  for (Index i = 0; i < head.count; ++i) {
    const Index lane = lead + i;
    finish(0, head.tokens.queries + i * width, s.d_query + lane / kStrip * kStrip * width + lane % kStrip,
           gradients.queries + i * gradients.stride);
  }
  for (Index e = 1; e < level_count; ++e) {
    const LevelTokens<Scalar>& level = head.level(e);
    const LevelGradients<Scalar>& own = level_gradients[static_cast<std::size_t>(e)];
    const Index lanes = level_lanes(e), stride = level_stride<Scalar>(e);
    for (Index j = 0; j < s.room / kTile * lanes; ++j) {
      const Index block = level_query(start, e) + j, lane = j % lanes;
      const Scalar* query = level.query(width, block);
      if (!query) continue;
      const Scalar* u =
          scratch.level(e).d_query + (j / lanes * stride + lane / kStrip * kStrip) * width + lane % kStrip;
      finish(e, query, u,
             block >= level.first ? own.queries + (block - level.first) * own.stride : own.old_query);
    }
  }
}

}  // namespace hsm::inline HSM_ABI::detail
