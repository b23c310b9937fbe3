// SPDX-License-Identifier: MIT
//
// One head of linear attention over a few consecutive tokens: its features, and the product that the way forth and the
// way back are made of. For tokens i of a chunk, with rows a_i (keys), b_i (queries), c_i (values) and the matrix M of
// what came before,
//
//   out_i = g^(i+e) M b_i + sum_{j <= i} g^(i-j) (a_j . b_i) c_j        mix_chunk
//   M <- g^n M + sum_i g^(n-1-i+1-e) c_i a_i^T                          absorb_chunk
//
// out is computed a strip of kLanes tokens at a time (attention/tile_product.hpp), for each the keys up to its last
// token. Scores of later keys become 0 and take part in no sum: NaN in a later token changes no bit.
//
// What is remembered has a row more than a head is wide, [C/H + 1][C/H]: S^T, then z. The values have a 1 behind them,
// so that one product makes the sums over values and the divisor.
#pragma once

#include <algorithm>
#include <cmath>

#include <hsm/attention/tile_forward.hpp>
#include <hsm/attention/tile_product.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// Tokens that linear attention works through together.
inline constexpr Index kLinearChunk = 64;

namespace detail {

/// The least feature of a key, 2^-90.
template <class Scalar>
inline constexpr Scalar kLeastFeature = Scalar(0x1p-90);

HSM_EXACT_BEGIN

/// out[i] = elu(x[i]) + 1, x apart from out. NaN stays NaN.
template <class Scalar>
void features(Index n, const Scalar* x, Scalar* out) {
  for (Index i = 0; i < n; ++i) out[i] = x[i] > 0 ? Scalar(0) : x[i];
  exp(n, out, out);
  for (Index i = 0; i < n; ++i) out[i] = x[i] > 0 ? x[i] + Scalar(1) : out[i];
}

/// The features of a query, divided by the largest where that is below 1. `scratch` has n values.
template <class Scalar>
void query_features(Index n, const Scalar* x, Scalar* out, Scalar* scratch) {
  Scalar largest = x[0];
  for (Index i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  const Scalar shift = largest < 0 ? largest : Scalar(0);
  for (Index i = 0; i < n; ++i) scratch[i] = x[i] - shift;
  features(n, scratch, out);
}

/// The features of a key, at least kLeastFeature.
template <class Scalar>
void key_features(Index n, const Scalar* x, Scalar* out) {
  features(n, x, out);
  for (Index i = 0; i < n; ++i) out[i] = out[i] < kLeastFeature<Scalar> ? kLeastFeature<Scalar> : out[i];
}

/// d[i] times the slope at the features phi[i]: of exp their value, of x + 1 one.
template <class Scalar>
void times_query_slope(Index n, const Scalar* phi, const Scalar* d, Scalar* out) {
  for (Index i = 0; i < n; ++i) out[i] = d[i] * (phi[i] > 1 ? Scalar(1) : phi[i]);
}
/// The same of a key, whose slope is 0 where it has its least feature.
template <class Scalar>
void times_key_slope(Index n, const Scalar* phi, const Scalar* d, Scalar* out) {
  for (Index i = 0; i < n; ++i)
    out[i] = phi[i] == kLeastFeature<Scalar> ? Scalar(0) : d[i] * (phi[i] > 1 ? Scalar(1) : phi[i]);
}

HSM_EXACT_END

/// Rows of values, `stride` apart.
template <class S>
struct RowsOf {
  S* data = nullptr;
  Index stride = 0;

  S* row(Index i) const { return data + i * stride; }
  operator RowsOf<const S>() const { return {data, stride}; }
};

/// g^0 ... g^kLinearChunk of one head.
template <class Scalar>
struct Powers {
  Scalar of[kLinearChunk + 1];
  bool fades;  // whether g is not 1

  explicit Powers(Scalar g) : fades(g != Scalar(1)) {
    double power = 1;
    for (Scalar& value : of) {
      value = static_cast<Scalar>(power);
      power *= static_cast<double>(g);
    }
  }
};

/// Which way a chunk is read: the first token is the earliest, or the last.
enum class Sweep { kForth, kBack };

/// The exponent e above.
constexpr Index entry_power(Sweep way) { return way == Sweep::kForth ? 1 : 0; }

/// Scores of `rows` keys for the strip that begins at token `first`: faded, and 0 for keys that are later.
template <class Scalar>
void weigh_scores(Index rows, Index first, const Powers<Scalar>& powers, Scalar* scores) {
  constexpr Index kStrip = kLanes<Scalar>;
  static_assert(kLinearChunk % kStrip == 0);  // the power first - j + lane is there
  for (Index j = 0; powers.fades && j < (std::min)(rows, first); ++j) {
    for (Index lane = 0; lane < kStrip; ++lane) scores[j * kStrip + lane] *= powers.of[first - j + lane];
  }
  for (Index j = first; j < rows; ++j) {
    Scalar* row = scores + j * kStrip;
    for (Index lane = 0; lane < j - first; ++lane) row[lane] = 0;
    for (Index lane = j - first; powers.fades && lane < kStrip; ++lane)
      row[lane] *= powers.of[lane - (j - first)];
  }
}

/// Scratch of mix_chunk() for rows of up to `width` values.
template <class Scalar>
constexpr Index mix_scratch(Index width) {
  return kLanes<Scalar> * (2 * width + kLinearChunk);
}

/// out of the file comment for n <= kLinearChunk tokens, keys and queries of `width` values, values of `value_width`;
/// M(r, k) is memory.at(r, k). Calls store(first, count, strip [value_width][kLanes]) for each strip.
template <Sweep kWay, Order kOrder, class Scalar, class Store>
void mix_chunk(Index n, Index width, Index value_width, RowsOf<const Scalar> keys,
               RowsOf<const Scalar> queries, RowsOf<const Scalar> values, Left<kOrder, Scalar> memory,
               const Powers<Scalar>& powers, Scalar* scratch, Store&& store) {
  constexpr Index kStrip = kLanes<Scalar>;
  Scalar* strip = scratch;
  Scalar* out = strip + width * kStrip;
  Scalar* scores = out + value_width * kStrip;
  for (Index first = 0; first < n; first += kStrip) {
    const Index count = (std::min)(kStrip, n - first), rows = first + count;
    load_strip(count, width, queries.row(first), queries.stride, Scalar(1), strip);
    strip_product<Write::kOverwrite>(value_width, width, memory, strip, kStrip, out, kStrip);
    if (powers.fades) {
      const Scalar* faded = powers.of + entry_power(kWay) + first;
      for (Index r = 0; r < value_width; ++r) {
        for (Index lane = 0; lane < count; ++lane) out[r * kStrip + lane] *= faded[lane];
      }
    }
    strip_product<Write::kOverwrite>(rows, width, Left<Order::kRows, Scalar>{keys.data, keys.stride}, strip,
                                     kStrip, scores, kStrip);
    weigh_scores(rows, first, powers, scores);
    const Left<Order::kColumns, Scalar> left{values.data, values.stride};
    if (first > 0) strip_product<Write::kAdd>(value_width, first, left, scores, kStrip, out, kStrip);
    strip_product<Write::kAdd, Zeros::kSkip>(value_width, count, left.depth_from(first),
                                             scores + first * kStrip, kStrip, out, kStrip);
    store(first, count, out);
  }
}

/// M of the file comment, `rows` rows that are as wide as keys are padded to, a whole number of strips. Fades values.
template <Sweep kWay, class Scalar>
void absorb_chunk(Index n, Index rows, Index padded, RowsOf<const Scalar> keys, RowsOf<Scalar> values,
                  const Powers<Scalar>& powers, Scalar* memory) {
  if (powers.fades) {
    for (Index i = 0; i < n; ++i) {
      const Scalar factor = powers.of[n - i - entry_power(kWay)];
      for (Index r = 0; r < rows; ++r) values.row(i)[r] *= factor;
    }
    for (Index k = 0; k < rows * padded; ++k) memory[k] *= powers.of[n];
  }
  for (Index k = 0; k < padded; k += kLanes<Scalar>) {
    strip_product<Write::kAdd>(rows, n, Left<Order::kColumns, Scalar>{values.data, values.stride},
                               keys.data + k, keys.stride, memory + k, padded);
  }
}

/// One token: `after` may be `before`. The query and what it makes, [rows] sums, may be null.
template <class Scalar>
void step_head(Index rows, Index width, Scalar g, RowsOf<const Scalar> before, RowsOf<Scalar> after,
               const Scalar* key, const Scalar* value, const Scalar* query, Scalar* sums) {
  for (Index r = 0; r < rows; ++r) {
    const Scalar* from = before.row(r);
    Scalar* to = after.row(r);
    const Scalar factor = value[r];
    HSM_INDEPENDENT
    for (Index k = 0; k < width; ++k) to[k] = multiply_add(factor, key[k], g * from[k]);
    if (query) sums[r] = packet_dot(width, static_cast<const Scalar*>(to), query);
  }
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
