// SPDX-License-Identifier: MIT
//
// The adjoint of tile_forward.hpp for all queries of one segment and head. With weights w_ij recomputed tile
// by tile from the saved log-sums, and do_i the gradient of out_i:
//
//   dv_j = sum_i w_ij do_i        ds_ij = w_ij (do_i . v_j - do_i . out_i)
//   dk_j = sum_i ds_ij q_i / sqrt(width)        dq_i = sum_j ds_ij k_j / sqrt(width)
//
// Keys are the outer loop: the gradients of a tile of keys are finished before the next is begun, those of
// the queries grow from tile to tile. A tile of keys meets the queries from its first key to the end of its last
// one's window. Cost 10 width flop and one exp per pair that is seen; scratch O(width count).
// Source: arXiv 2205.14135, appendix; the loops are our own.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include <hsm/attention/tile_forward.hpp>
#include <hsm/attention/tile_product.hpp>
#include <hsm/attention/tile_softmax.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Keys and queries per tile of the backward pass; a tile of queries is a whole number of strips.
inline constexpr Index kBackwardTile = 64;

/// What the forward pass of one segment and head left, and the gradient of its result; token i of `out` and
/// `d_out` is `width` values from i * stride on.
template <class Scalar>
struct HeadForward {
  const Scalar* out;
  const Scalar* d_out;
  Index stride;
  const Scalar* log_sum;
};

/// Where the gradients go. Those of the segment (overwritten): token i is `width` values from i * stride on.
/// Those of its document, from its first token on and without gaps, or null where nobody asks: tokens before
/// the segment are added to; what comes in for tokens of the segment, from later uses of them, is added to
/// the segment's own.
template <class Scalar>
struct HeadGradients {
  Scalar* queries;
  Scalar* keys;
  Scalar* values;
  Index stride;
  Scalar* document_keys;
  Scalar* document_values;
};

/// Scratch of attend_backward(), divided up.
template <class Scalar>
struct BackwardScratch {
  static constexpr Index kStrip = kLanes<Scalar>;

  Index padded;                                   // width, a whole number of strips
  Index room;                                     // queries, a whole number of tiles
  Scalar *query_strips, *d_out_strips, *d_query;  // [strip][width][lane]
  Scalar *queries, *d_out;                        // [query][padded]
  Scalar *log_sum, *dots;                         // [query]
  Scalar *weights, *d_scores;                     // [key][query of the tile]
  Scalar *d_keys, *d_values;                      // [key][padded]

  static Index room_for(Index count) { return (count + kBackwardTile - 1) / kBackwardTile * kBackwardTile; }
  static std::ptrdiff_t size(Index width, Index count) {
    const std::ptrdiff_t wide = strips<Scalar>(width) * kStrip, many = room_for(count);
    return many * (3 * width + 2 * wide + 2) + 2 * kBackwardTile * (kBackwardTile + wide);
  }

  BackwardScratch(Index width, Index count, Scalar* memory)
      : padded(strips<Scalar>(width) * kStrip), room(room_for(count)) {
    const auto next = [&](Index n) { return std::exchange(memory, memory + n); };
    query_strips = next(room * width), d_out_strips = next(room * width), d_query = next(room * width);
    queries = next(room * padded), d_out = next(room * padded);
    log_sum = next(room), dots = next(room);
    weights = next(kBackwardTile * kBackwardTile), d_scores = next(kBackwardTile * kBackwardTile);
    d_keys = next(kBackwardTile * padded), d_values = next(kBackwardTile * padded);
  }
};

/// Lays out the queries (scaled, in the strips for scores in bits) and do of a segment both ways; what is
/// beyond `count` and `width` is 0.
template <class Scalar>
void load_backward(Index width, Index count, Scalar scale, const Scalar* queries,
                   const HeadForward<Scalar>& forward, BackwardScratch<Scalar>& s) {
  constexpr Index kStrip = kLanes<Scalar>;
  for (Index i = 0; i < s.room; i += kStrip) {
    const Index n = std::clamp(count - i, Index{0}, kStrip);
    load_strip(n, width, queries + i * width, width, bits_scale<Scalar>(width), s.query_strips + i * width);
    load_strip(n, width, forward.d_out + i * forward.stride, forward.stride, Scalar(1),
               s.d_out_strips + i * width);
  }
  std::fill_n(s.d_query, s.room * width, Scalar(0));
  std::fill_n(s.queries, s.room * s.padded, Scalar(0));
  std::fill_n(s.d_out, s.room * s.padded, Scalar(0));
  std::fill_n(s.log_sum, s.room, Scalar(0));
  std::fill_n(s.dots, s.room, Scalar(0));
  for (Index i = 0; i < count; ++i) {
    const Scalar* d_out = forward.d_out + i * forward.stride;
    for (Index d = 0; d < width; ++d) s.queries[i * s.padded + d] = scale * queries[i * width + d];
    std::copy_n(d_out, width, s.d_out + i * s.padded);
    s.log_sum[i] = forward.log_sum[i];
    s.dots[i] = dot(width, d_out, forward.out + i * forward.stride);
  }
}

/// d_scores[j][lane] = weights[j][lane] (d_scores[j][lane] - dots[lane]).
template <class Scalar>
void finish_scores(Index rows, const Scalar* weights, Scalar* d_scores, Index stride, const Scalar* dots) {
  using Eigen::internal::pmul, Eigen::internal::psub;
  constexpr Index kHalf = kPacket<Scalar>;
  const auto dot_row = StripRow<Scalar>::from(dots);
  for (Index j = 0; j < rows; ++j) {
    const Scalar* weight = weights + j * stride;
    Scalar* row = d_scores + j * stride;
    store(row, pmul(load(weight), psub(load(row), dot_row.low)));
    store(row + kHalf, pmul(load(weight + kHalf), psub(load(row + kHalf), dot_row.high)));
  }
}

/// Finishes the gradient of the keys (or values) of tokens key ... key + keys - 1 of a document; `sums` are
/// `padded` values per token, `own` and `document` as in HeadGradients.
template <class Scalar>
void store_key_gradients(Index width, Index key, Index keys, Index past, const Scalar* sums, Index padded,
                         Scalar* own, Index stride, Scalar* document) {
  for (Index j = 0; j < keys; ++j) {
    const Index token = key + j;
    const Scalar* sum = sums + j * padded;
    Scalar* cached = document ? document + token * width : nullptr;
    if (token >= past) {
      Scalar* out = own + (token - past) * stride;
      for (Index d = 0; d < width; ++d) out[d] = cached ? sum[d] + cached[d] : sum[d];
    } else if (cached) {
      for (Index d = 0; d < width; ++d) cached[d] += sum[d];
    }
  }
}

/// Adds what `queries` queries, a whole number of strips from the scratch's query `first` on, give to a tile of keys, in
/// d_keys and d_values [key][padded], unless these are null, and to s.d_query. Lane 0 of the strip at `query` is at
/// position(query). `start` is as in attend_strip(); the gradients of the scores are left in s.d_scores, but of keys that
/// no query of a strip sees.
template <class Scalar, class Position, class Start = PlainScores>
void backward_tile(Index width, Index key, Index keys, const HeadTokens<Scalar>& head, Index first,
                   Index queries, Position&& position, const BackwardScratch<Scalar>& s, Scalar* d_keys,
                   Scalar* d_values, [[maybe_unused]] const Start& start = {}) {
  constexpr Index kStrip = kLanes<Scalar>, kTile = kBackwardTile;
  bool whole = true;  // every strip sees all keys
  const auto seen_by = [&](Index query) {
    return seen_keys<Scalar>(key, keys, position(query), head.window);
  };
  for (Index query = first; query < first + queries; query += kStrip) {
    const SeenKeys seen = seen_by(query);
    const Index rows = seen.count(), place = (seen.first - key) * kTile + query - first;
    whole = whole && rows == keys;
    Scalar* weights = s.weights + place;
    Scalar* d_scores = s.d_scores + place;
    const Left<Order::kRows, Scalar> own_keys{head.keys + seen.first * width, width};
    const Left<Order::kRows, Scalar> own_values{head.values + seen.first * width, width};
    constexpr bool kPlain = std::is_same_v<Start, PlainScores>;
    if constexpr (!kPlain) start(seen, position(query), weights, kTile);
    strip_product<kPlain ? Write::kOverwrite : Write::kAdd>(
        rows, width, own_keys, s.query_strips + query * width, kStrip, weights, kTile);
    weights_again(rows, weights, kTile, StripRow<Scalar>::from(s.log_sum + query));
    hide_unseen(seen, position(query), head.window, weights, kTile, Scalar(0));
    strip_product<Write::kOverwrite>(rows, width, own_values, s.d_out_strips + query * width, kStrip,
                                     d_scores, kTile);
    finish_scores(rows, weights, d_scores, kTile, s.dots + query);
    strip_product<Write::kAdd>(width, rows, Left<Order::kColumns, Scalar>{own_keys.data, width}, d_scores,
                               kTile, s.d_query + query * width, kStrip);
  }
  if (!d_keys) return;
  const auto add = [&](Index from, Index rows, Index query, Index count) {
    const Index place = from * kTile + query - first;
    const Left<Order::kRows, Scalar> weights{s.weights + place, kTile};
    const Left<Order::kRows, Scalar> d_scores{s.d_scores + place, kTile};
    for (Index d = 0; d < s.padded; d += kStrip) {
      strip_product<Write::kAdd>(rows, count, weights, s.d_out + query * s.padded + d, s.padded,
                                 d_values + from * s.padded + d, s.padded);
      strip_product<Write::kAdd>(rows, count, d_scores, s.queries + query * s.padded + d, s.padded,
                                 d_keys + from * s.padded + d, s.padded);
    }
  };
  if (whole) return add(0, keys, first, queries);
  for (Index query = first; query < first + queries; query += kStrip) {
    const SeenKeys seen = seen_by(query);
    add(seen.first - key, seen.count(), query, kStrip);
  }
}

/// Gradients of the `count` queries of a segment, the first at position `past` of its document, and of the
/// keys and values of that document.
template <class Scalar>
void attend_backward(Index width, Index count, Index past, const HeadTokens<Scalar>& head,
                     const HeadForward<Scalar>& forward, const HeadGradients<Scalar>& gradients,
                     Scalar* memory) {
  constexpr Index kStrip = kLanes<Scalar>, kTile = kBackwardTile;
  static_assert(kTile % kStrip == 0);
  const Scalar scale = Scalar(1) / std::sqrt(static_cast<Scalar>(width));
  BackwardScratch<Scalar> s(width, count, memory);
  load_backward(width, count, scale, head.queries, forward, s);

  const Index end = (std::min)(past + count, head.count);
  for (Index key = 0; key < end; key += kTile) {
    const Index keys = (std::min)(kTile, end - key);
    const bool wanted = key + keys > past || gradients.document_keys;  // the gradients of these keys
    std::fill_n(s.d_keys, keys * s.padded, Scalar(0));
    std::fill_n(s.d_values, keys * s.padded, Scalar(0));

    const Index last =
        (std::min)(count, key + keys - 1 + head.window - past);  // the queries behind see none of them
    for (Index first = std::max<Index>(0, key - past) / kTile * kTile; first < last; first += kTile) {
      backward_tile(
          width, key, keys, head, first, kTile, [&](Index query) { return past + query; }, s,
          wanted ? s.d_keys : nullptr, s.d_values);
    }
    store_key_gradients(width, key, keys, past, s.d_keys, s.padded, gradients.keys, gradients.stride,
                        gradients.document_keys);
    store_key_gradients(width, key, keys, past, s.d_values, s.padded, gradients.values, gradients.stride,
                        gradients.document_values);
  }
  for (Index i = 0; i < count; ++i) {
    const Scalar* d_query = s.d_query + i / kStrip * kStrip * width + i % kStrip;
    for (Index d = 0; d < width; ++d)
      gradients.queries[i * gradients.stride + d] = scale * d_query[d * kStrip];
  }
}

}  // namespace hsm::inline HSM_ABI::detail
