// SPDX-License-Identifier: MIT
//
// What the levels above the tokens give to a tile of scores, queries along the lanes, keys along the rows. Row i / 2^e and
// lane j / 2^e of a small tile of level e stand for 2^e keys and 2^e queries, since tiles of queries begin where the
// queries of all levels change (levels.hpp) and tiles of keys with a whole block of each. From the top level down
//
//   tile_e[m][n] = w_e q^e_n . k^e_m + tile_{e+1}[m/2][n/2] for m <= n, else 0      pairs of blocks once each
//
// and tile_1, each value twice along and twice down, is what the products of tokens are added to. Its adjoint sums two by
// two. Nothing is read of blocks that a query does not see but to be multiplied and overwritten: NaN there changes no bit.
#pragma once

#include <algorithm>
#include <array>

#include <hsm/attention/tile_forward.hpp>
#include <hsm/attention/tile_product.hpp>
#include <hsm/attention/tile_softmax.hpp>
#include <hsm/core/types.hpp>
#include <hsm/hierarchical_attention/levels.hpp>

namespace hsm::inline HSM_ABI::detail {

/// A level above the tokens, of one head and the document of a segment: a block is `width` values.
template <class Scalar>
struct LevelTokens {
  const Scalar* queries = nullptr;    // of block `first` on
  const Scalar* old_query = nullptr;  // of the block before, where there is one
  const Scalar* keys = nullptr;       // of block 0 on
  Index first = 0;                    // the first block that the segment completes
  Index end = 0;                      // behind the last one

  /// The query of a block; null where no token of the segment asks with it.
  const Scalar* query(Index width, Index block) const {
    if (block < 0 || block < first - 1 || block >= end) return nullptr;
    return block >= first ? queries + (block - first) * width : old_query;
  }
};

/// One head of a segment.
template <class Scalar>
struct HierarchyHead {
  HeadTokens<Scalar> tokens;
  Index past, count;  // tokens before the segment, and its own
  Index level_count;
  std::array<Scalar, kMostLevels> weights;
  std::array<LevelTokens<Scalar>, kMostLevels> levels;  // from 1 on

  const LevelTokens<Scalar>& level(Index e) const { return levels[static_cast<std::size_t>(e)]; }
  Scalar weight(Index e) const { return weights[static_cast<std::size_t>(e)]; }
  /// Where its tiles begin.
  Index start() const { return aligned_start(past, level_count); }
};

/// Lanes of level e in a tile of queries.
constexpr Index level_lanes(Index e) { return kQueryTile >> e; }
/// The same in whole strips.
template <class Scalar>
constexpr Index level_stride(Index e) {
  return strips<Scalar>(level_lanes(e)) * kLanes<Scalar>;
}
/// Rows of level e for so many keys, blocks that are not complete counted.
constexpr Index level_rows(Index keys, Index e) { return (keys + (Index{1} << e) - 1) >> e; }
/// The block of level e whose query is that of lane 0 of a tile that begins at `start`.
constexpr Index level_query(Index start, Index e) { return blocks_of(start + 1, e) - 1; }

/// The small tiles, and the strips of queries that they are products of.
template <class Scalar>
struct LevelTiles {
  std::array<Scalar*, kMostLevels> query_strips{};  // [strip][width][lane]
  std::array<Scalar*, kMostLevels> scores{};        // [row][level_stride]

  Scalar* strip(Index width, Index e, Index s) const {
    return query_strips[static_cast<std::size_t>(e)] + s * width * kLanes<Scalar>;
  }
  Scalar* row(Index e, Index r) const {
    return scores[static_cast<std::size_t>(e)] + r * level_stride<Scalar>(e);
  }
};

/// to[lane] = from[lane / 2] for a strip.
template <class Scalar>
HSM_INLINE void spread_row(const Scalar* from, Scalar* to) {
  constexpr Index kHalf = kPacket<Scalar>;
  if constexpr (kHalf == 1) {
    to[0] = to[1] = from[0];
  } else {
    store(to, Eigen::internal::ploaddup<Packet<Scalar>>(from));
    store(to + kHalf, Eigen::internal::ploaddup<Packet<Scalar>>(from + kHalf / 2));
  }
}

/// Puts 0 where the block key + j is later than the one of a lane, query + lane.
template <class Scalar>
void hide_later(Index rows, Index key, Index query, Scalar* values, Index stride) {
  for (Index j = std::max<Index>(0, query + 1 - key); j < rows; ++j)
    std::fill_n(values + j * stride, (std::min)(key + j - query, kLanes<Scalar>), Scalar(0));
}

/// Fills the tiles of all levels above the tokens for the keys key ... key + keys - 1 and `lanes` queries from the place
/// `start` on.
template <class Scalar>
void score_levels(Index width, Index key, Index keys, Index start, Index lanes,
                  const HierarchyHead<Scalar>& head, const LevelTiles<Scalar>& tiles) {
  constexpr Index kStrip = kLanes<Scalar>;
  for (Index e = head.level_count - 1; e > 0; --e) {
    const LevelTokens<Scalar>& level = head.level(e);
    const Index block = key >> e, all = level_rows(keys, e), stride = level_stride<Scalar>(e);
    const Index whole = (std::min)(all, level.end - block);
    for (Index s = 0; s < strips<Scalar>(level_rows(lanes, e)); ++s) {
      const Index query = level_query(start, e) + s * kStrip;  // of lane 0
      const Index rows = std::clamp(query + kStrip - block, Index{0}, whole);
      Scalar* out = tiles.row(e, 0) + s * kStrip;
      const Left<Order::kRows, Scalar> keys_of{level.keys + block * width, width};
      const Scalar* strip = tiles.strip(width, e, s);
      if (e + 1 == head.level_count) {
        strip_product<Write::kOverwrite>(rows, width, keys_of, strip, kStrip, out, stride);
      } else {
        for (Index j = 0; j < rows; ++j)
          spread_row(tiles.row(e + 1, j / 2) + s * kStrip / 2, out + j * stride);
        strip_product<Write::kAdd>(rows, width, keys_of, strip, kStrip, out, stride);
      }
      hide_later(rows, block, query, out, stride);
      for (Index j = rows; j < all; ++j) std::fill_n(out + j * stride, kStrip, Scalar(0));
    }
  }
}

/// The tile of level 1 as the start of the scores of tokens, for attend_strip() and backward_tile(): the tile's first key
/// and where its lanes begin.
template <class Scalar>
struct SpreadScores {
  const LevelTiles<Scalar>& tiles;
  Index key, start;

  void operator()(const SeenKeys& seen, Index query, Scalar* scores, Index stride) const {
    const Scalar* from = tiles.row(1, 0) + (query - start) / 2;
    for (Index j = 0; j < seen.count(); ++j)
      spread_row(from + (seen.first + j - key) / 2 * level_stride<Scalar>(1), scores + j * stride);
  }
};

/// The queries of level e for a tile that begins at `start`, times `scale`, as strips: 0 where no token asks.
template <class Scalar>
void load_level(Index width, Index e, Index start, Scalar scale, const LevelTokens<Scalar>& level,
                Scalar* strips_of) {
  constexpr Index kStrip = kLanes<Scalar>;
  std::fill_n(strips_of, level_stride<Scalar>(e) * width, Scalar(0));
  for (Index j = 0; j < level_lanes(e); ++j) {
    const Scalar* query = level.query(width, level_query(start, e) + j);
    Scalar* to = strips_of + j / kStrip * kStrip * width + j % kStrip;
    for (Index d = 0; query && d < width; ++d) to[d * kStrip] = scale * query[d];
  }
}

}  // namespace hsm::inline HSM_ABI::detail
