// SPDX-License-Identifier: MIT
//
// Attention of a few consecutive queries of one head over all their keys:
//
//   out_i = sum_{i - window < j <= i} w_ij v_j,   w_ij = 2^(s_ij - largest_i) / sum_i
//   s_ij  = log2(e) q_i . k_j / sqrt(width)
//
// Keys are taken kKeyTile at a time with a running softmax, so no row of scores ever exists as a whole. Tiles
// begin where the window of the first query does. A strip of queries begins at its own first key and stops at
// its last, and in the tiles at the edges a hidden key takes part in no sum: its weight is 0 and zero weights
// are skipped, so even NaN in a token that is not seen changes no bit. One or two queries take a
// form that reads each key once and multiplies nothing else. Cost 4 width flop and one exp per pair that is
// seen; scratch O(width (queries + kKeyTile)).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>

#include <hsm/attention/tile_product.hpp>
#include <hsm/attention/tile_softmax.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Keys per tile: with 16 lanes of float the scores of a strip are 6 KB and stay in the first-level cache.
inline constexpr Index kKeyTile = 96;
/// Queries per task; keys and values are read once for all of them from the second-level cache.
inline constexpr Index kQueryTile = 64;
/// Up to this many queries take that form. Where they are recorded their sums come from the tiles all the same: backward
/// computes scores as tiles do, and a large score that comes out an epsilon apart is another weight.
inline constexpr Index kFewQueries = 2;

/// One head: token j of each array is `width` values from j * width on.
template <class Scalar>
struct HeadTokens {
  const Scalar* queries;  // the first query of the segment
  const Scalar* keys;     // the first token of the document
  const Scalar* values;
  Index window;                // how many keys a query sees at most
  Index count = kWholeWindow;  // how many keys there are, where these are not all up to the last query
};

/// Where results go: result i is `width` values from data + i * stride on; log_sum may be null.
template <class Scalar>
struct HeadResults {
  Scalar* data;
  Index stride;
  Scalar* log_sum;  // largest_i + log2(sum_i)
};

/// Transposes `count` <= kLanes tokens into a strip [width][lane], times `scale`; unused lanes become 0.
template <class Scalar>
void load_strip(Index count, Index width, const Scalar* tokens, Index stride, Scalar scale, Scalar* strip) {
  for (Index d = 0; d < width; ++d) {
    Scalar* row = strip + d * kLanes<Scalar>;
    for (Index i = 0; i < count; ++i) row[i] = scale * tokens[i * stride + d];
    for (Index i = count; i < kLanes<Scalar>; ++i) row[i] = 0;
  }
}

/// One square of store_strip(): a packet of tokens, as many values of each. The type of the packet is deduced
/// (from `factor`, the factors of the tokens), since g++ warns wherever it is written as a template argument.
template <class Scalar, class PacketOfScalar>
void store_square(const Scalar* strip, const PacketOfScalar& factor, Scalar* tokens, Index stride) {
  constexpr int kSize = static_cast<int>(kPacket<Scalar>);
  Eigen::internal::PacketBlock<PacketOfScalar, kSize> block;
  for (Index r = 0; r < kSize; ++r)
    block.packet[r] = Eigen::internal::pmul(factor, load(strip + r * kLanes<Scalar>));
  Eigen::internal::ptranspose(block);
  for (Index r = 0; r < kSize; ++r) store(tokens + r * stride, block.packet[r]);
}

/// The way back: token i is column i of the strip times factor[i], i < count.
template <class Scalar>
void store_strip(Index count, Index width, const Scalar* strip, const Scalar* factor, Scalar* tokens,
                 Index stride) {
  constexpr Index kSize = kPacket<Scalar>;
  const Index whole = width - width % kSize;
  Index i = 0;
  for (; i + kSize <= count; i += kSize) {
    for (Index d = 0; d < whole; d += kSize)
      store_square(strip + d * kLanes<Scalar> + i, load(factor + i), tokens + i * stride + d, stride);
    for (Index r = i; r < i + kSize; ++r) {
      for (Index d = whole; d < width; ++d)
        tokens[r * stride + d] = factor[r] * strip[d * kLanes<Scalar> + r];
    }
  }
  for (; i < count; ++i) {
    for (Index d = 0; d < width; ++d) tokens[i * stride + d] = factor[i] * strip[d * kLanes<Scalar> + i];
  }
}

/// Scratch of attend(), in scalars.
template <class Scalar>
constexpr Index attend_scratch(Index width) {
  return kLanes<Scalar> * (2 * width * strips<Scalar>(kQueryTile) + kKeyTile) + width;
}

/// sum_d a[d] b[d] in two packets. With dot() of core/ a step after 1024 tokens (C = 512, H = 8) takes 600
/// instead of 190 us, Zen 3, g++ 12.
template <class Scalar>
inline Scalar packet_dot(Index width, const Scalar* a, const Scalar* b) {
  using Eigen::internal::padd, Eigen::internal::pmadd, Eigen::internal::predux;
  const Index whole = width - width % kLanes<Scalar>;
  auto sum = StripRow<Scalar>::zero();
  for (Index d = 0; d < whole; d += kLanes<Scalar>) {
    const auto left = StripRow<Scalar>::from(a + d), right = StripRow<Scalar>::from(b + d);
    sum = {pmadd(left.low, right.low, sum.low), pmadd(left.high, right.high, sum.high)};
  }
  Scalar total = predux(padd(sum.low, sum.high));
  for (Index d = whole; d < width; ++d) total = multiply_add(a[d], b[d], total);
  return total;
}

/// The keys first ... end - 1.
struct KeyRun {
  Index first, end;
};

/// Scores that are the products of queries and keys, and nothing besides.
struct PlainScores {};

/// One query, which sees the keys of some runs, none of them empty. extra(first, count, scores), where it is not
/// PlainScores, adds to the scores of the keys first ... first + count - 1.
template <class Scalar, class Extra = PlainScores>
void attend_one(Index width, const Scalar* query, std::span<const KeyRun> runs,
                const HeadTokens<Scalar>& head, Scalar* out, Scalar* scratch,
                [[maybe_unused]] const Extra& extra = {}) {
  const Scalar scale = Scalar(1) / std::sqrt(static_cast<Scalar>(width));
  Scalar* scaled = scratch;
  Scalar* weights = scratch + width;
  for (Index d = 0; d < width; ++d) scaled[d] = scale * query[d], out[d] = 0;
  Scalar largest = kNoScore<Scalar>, sum = 0;
  const auto add = [&](Index first, Index count) {
    const Scalar before = largest;
    if constexpr (std::is_same_v<Extra, PlainScores>) {
      for (Index j = 0; j < count; ++j) {
        weights[j] = packet_dot(width, scaled, head.keys + (first + j) * width);
        if (weights[j] > largest) largest = weights[j];
      }
    } else {
      for (Index j = 0; j < count; ++j)
        weights[j] = packet_dot(width, scaled, head.keys + (first + j) * width);
      extra(first, count, weights);
      for (Index j = 0; j < count; ++j) {
        if (weights[j] > largest) largest = weights[j];
      }
    }
    for (Index j = 0; j < count; ++j) weights[j] -= largest;
    weights[count] = before - largest;
    softmax_weights(count + 1, weights, weights);
    const Scalar factor = weights[count];
    sum *= factor;
    for (Index j = 0; j < count; ++j) sum += weights[j];
    for (Index d = 0; d < width; ++d) out[d] *= factor;
    const Scalar* values = head.values + first * width;
    const Index whole = width - width % kLanes<Scalar>;
    for (Index d = 0; d < whole; d += kLanes<Scalar>) {
      strip_product<Write::kAdd>(1, count, Left<Order::kRows, Scalar>{weights, 0}, values + d, width, out + d,
                                 kLanes<Scalar>);
    }
    for (Index j = 0; whole < width && j < count; ++j) {
      for (Index d = whole; d < width; ++d) {
        out[d] = multiply_add(weights[j], values[j * width + d], out[d]);
      }
    }
  };
  for (const KeyRun& run : runs) {
    for (Index first = run.first; first < run.end; first += kKeyTile)
      add(first, (std::min)(kKeyTile, run.end - first));
  }
  const Scalar inverse = Scalar(1) / sum;
  for (Index d = 0; d < width; ++d) out[d] *= inverse;
}

/// A strip of queries, whose lane 0 is at position `query`, against a tile of keys: what it has seen so far is in
/// `softmax` and `sum` [width][lane]. `scores` is scratch of kKeyTile rows. start(seen, query, scores, stride), where it
/// is not PlainScores, writes what the products are added to.
template <class Scalar, class Start = PlainScores>
void attend_strip(Index width, const SeenKeys& seen, Index query, const HeadTokens<Scalar>& head,
                  const Scalar* query_strip, OnlineSoftmax<Scalar>& softmax, Scalar* sum, Scalar* scores,
                  [[maybe_unused]] const Start& start = {}) {
  constexpr Index kStrip = kLanes<Scalar>;
  constexpr bool kPlain = std::is_same_v<Start, PlainScores>;
  const Index rows = seen.count();
  if constexpr (!kPlain) start(seen, query, scores, kStrip);
  strip_product<kPlain ? Write::kOverwrite : Write::kAdd>(
      rows, width, Left<Order::kRows, Scalar>{head.keys + seen.first * width, width}, query_strip, kStrip,
      scores, kStrip);
  hide_unseen(seen, query, head.window, scores, kStrip, kLeastScore<Scalar>);
  softmax.add(rows, scores, width, sum);
  if (!seen.by_all()) hide_unseen(seen, query, head.window, scores, kStrip, Scalar(0));
  const auto add = [&](auto zeros, Index from, Index to) {
    strip_product<Write::kAdd, decltype(zeros)::value>(
        width, to - from, Left<Order::kColumns, Scalar>{head.values + from * width, width},
        scores + (from - seen.first) * kStrip, kStrip, sum, kStrip);
  };
  using Multiply = std::integral_constant<Zeros, Zeros::kMultiply>;
  using Skip = std::integral_constant<Zeros, Zeros::kSkip>;
  if (seen.first < seen.all_first) add(Skip(), seen.first, seen.all_first);
  if (seen.all_first < seen.all_end) add(Multiply(), seen.all_first, seen.all_end);
  if (seen.all_end < seen.end) add(Skip(), seen.all_end, seen.end);
}

/// Queries first ... first + count - 1 of a segment whose query i is at position past + i of its document;
/// count <= kQueryTile. Each sees a key.
template <class Scalar>
void attend(Index width, Index first, Index count, Index past, const HeadTokens<Scalar>& head,
            const HeadResults<Scalar>& results, Scalar* scratch) {
  constexpr Index kStrip = kLanes<Scalar>;
  const Scalar* queries = head.queries + first * width;
  Scalar* out = results.data + first * results.stride;
  Scalar* log_sum = results.log_sum ? results.log_sum + first : nullptr;
  const Index position = past + first;
  const bool few = count <= kFewQueries;
  for (Index i = 0; few && i < count; ++i) {
    const KeyRun run[] = {
        {std::max<Index>(0, position + i + 1 - head.window), (std::min)(position + i + 1, head.count)}};
    attend_one(width, queries + i * width, std::span<const KeyRun>(run), head, out + i * results.stride,
               scratch);
  }
  if (few && !log_sum) return;

  OnlineSoftmax<Scalar> softmax[strips<Scalar>(kQueryTile)];
  Scalar* query_strips = scratch;
  Scalar* sums = query_strips + strips<Scalar>(kQueryTile) * width * kStrip;
  Scalar* scores = sums + strips<Scalar>(kQueryTile) * width * kStrip;
  const Scalar scale = bits_scale<Scalar>(width);
  for (Index s = 0; s * kStrip < count; ++s) {
    load_strip((std::min)(kStrip, count - s * kStrip), width, queries + s * kStrip * width, width, scale,
               query_strips + s * width * kStrip);
    std::fill_n(sums + s * width * kStrip, width * kStrip, Scalar(0));
    softmax[s].clear();
  }

  // Every strip begins in the first tile, and there each of its queries has a key that it sees.
  static_assert(kKeyTile >= kQueryTile);
  const Index end = (std::min)(position + count, head.count);
  for (Index key = std::max<Index>(0, position + 1 - head.window); key < end; key += kKeyTile) {
    for (Index s = 0; s * kStrip < count; ++s) {
      const Index query = position + s * kStrip;  // of lane 0
      const SeenKeys seen = seen_keys<Scalar>(key, (std::min)(kKeyTile, end - key), query, head.window);
      if (seen.count() <= 0) continue;
      attend_strip(width, seen, query, head, query_strips + s * width * kStrip, softmax[s],
                   sums + s * width * kStrip, scores);
    }
  }

  for (Index s = 0; s * kStrip < count; ++s) {
    const Index first_lane = s * kStrip, lanes = (std::min)(kStrip, count - first_lane);
    for (Index i = 0; log_sum && i < lanes; ++i) {
      log_sum[first_lane + i] = softmax[s].largest[i] + std::log2(softmax[s].sum[i]);
    }
    if (few) continue;
    for (Scalar& sum : softmax[s].sum) sum = Scalar(1) / sum;
    store_strip(lanes, width, sums + s * width * kStrip, softmax[s].sum, out + first_lane * results.stride,
                results.stride);
  }
}

}  // namespace hsm::inline HSM_ABI::detail
