// SPDX-License-Identifier: MIT
//
// What attention does to a tile of scores between its two products. A tile is key by query: row j holds one
// key, a strip of kLanes queries lies along the lanes, so that the largest score and the sum of a query are
// reached without ever crossing lanes.
//
//   exp2_shifted   2^(score - shift) per query; error 4 epsilon (|score - shift| + 1), and 0 below 2^-64 (float)
//                  or 2^-512 (double), kWeightBits of core/elementwise.hpp
//   weights_again  the same for backward, at most 1
//   hide_unseen    puts a given value where the key is later than the query, or before its window
//   OnlineSoftmax  the running maximum and sum over tiles of keys (arXiv 1805.02867)
//
// Scores here are in bits: log2(e) is multiplied into the queries, which leaves of the argument reduction of
// exp one exact subtraction. The series is that of core/elementwise.hpp, in packets and for arguments <= 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

#include <hsm/attention/tile_product.hpp>
#include <hsm/attention/window.hpp>
#include <hsm/core/bit_cast.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Keeps the compiler from calculating with what it knows of a packet: under -ffast-math (x + c) - c would be x.
template <class PacketOfScalar>
HSM_INLINE void forget([[maybe_unused]] PacketOfScalar& value) {
#if HSM_MAYBE_FAST_MATH && defined(__AVX512F__)
  asm("" : "+v"(value));
#elif HSM_MAYBE_FAST_MATH && defined(__SSE2__)
  asm("" : "+x"(value));
#elif HSM_MAYBE_FAST_MATH && (defined(__aarch64__) || defined(__ARM_NEON))
  asm("" : "+w"(value));
#elif HSM_FAST_MATH
  asm("" : "+m"(value));
#endif
}

/// A score below all others; under -ffast-math there are no infinities, and it is far below what scores can be.
template <class Scalar>
inline constexpr Scalar kLeastScore = HSM_FAST_MATH ? std::numeric_limits<Scalar>::lowest() / 4
                                                    : -std::numeric_limits<Scalar>::infinity();

/// The largest score of none. Not kLeastScore: a first tile of scores that have overflowed to -infinity has weight 0.
template <class Scalar>
inline constexpr Scalar kNoScore = HSM_FAST_MATH ? kLeastScore<Scalar>
                                                 : std::numeric_limits<Scalar>::lowest();

/// ln(2)^k / k!, exact to double.
constexpr double exp2_coefficient(int k) {
  double product = 1;
  for (int i = 1; i <= k; ++i) product *= std::numbers::ln2 / i;
  return product;
}

/// sum_{k >= K} ln(2)^k r^(k-K) / k! by Horner's rule.
template <int K, class Scalar>
inline Packet<Scalar> exp2_series(const Packet<Scalar>& r) {
  const Packet<Scalar> coefficient = broadcast(Scalar(exp2_coefficient(K)));
  if constexpr (K == Exponential<Scalar>::kTerms) {
    return coefficient;
  } else {
    return Eigen::internal::pmadd(exp2_series<K + 1, Scalar>(r), r, coefficient);
  }
}

/// 2^x for x <= 0, and 0 for x that is rounded to less than -kWeightBits, -infinity too. NaN stays NaN.
template <class Scalar>
inline Packet<Scalar> exp2_nonpositive(const Packet<Scalar>& x) {
  using Eigen::internal::padd, Eigen::internal::pmax, Eigen::internal::pmul, Eigen::internal::psub;
  using E = Exponential<Scalar>;
  using Bits = typename E::Bits;
  using Unsigned = std::make_unsigned_t<Bits>;
  constexpr Index kSize = kPacket<Scalar>;
  const Packet<Scalar> bounded = pmax(x, broadcast(Scalar(1 - E::kBias)));  // in this order NaN is kept
  Packet<Scalar> shifted = padd(bounded, broadcast(Scalar(E::kRound)));
  forget(shifted);
  Packet<Scalar> n = psub(shifted, broadcast(Scalar(E::kRound)));
  forget(n);
  const Packet<Scalar> r = psub(bounded, n);
  // 2^n or 0: the low bits of `shifted` are n. Eigen has no packet of 64-bit integers, the compiler has.
  Scalar scale[kSize];
  store(scale, shifted);
  for (Index i = 0; i < kSize; ++i) {
    const Bits exponent = bit_cast<Bits>(scale[i]) - bit_cast<Bits>(Scalar(E::kRound));
    const Unsigned power = static_cast<Unsigned>(exponent + E::kBias) << E::kMantissa;
    scale[i] = bit_cast<Scalar>(exponent < -kWeightBits<Scalar> ? Unsigned{0} : power);
  }
  return pmul(exp2_series<0, Scalar>(r), load(scale));
}

/// What queries are multiplied by so that scores come in bits; forth and back by this one expression, so that whole tiles
/// compute the same scores again.
template <class Scalar>
Scalar bits_scale(Index width) {
  return Scalar(std::numbers::log2e) / std::sqrt(static_cast<Scalar>(width));
}

/// Two packets: one value per query of a strip.
template <class Scalar>
struct StripRow {
  Packet<Scalar> low, high;

  static StripRow zero() { return {broadcast(Scalar(0)), broadcast(Scalar(0))}; }
  static StripRow from(const Scalar* p) { return {load(p), load(p + kPacket<Scalar>)}; }
  void to(Scalar* p) const { store(p, low), store(p + kPacket<Scalar>, high); }
};

/// values[j][lane] = 2^(values[j][lane] - shift[lane]), j < rows, rows `stride` apart; returns the sum over
/// j.
template <class Scalar>
StripRow<Scalar> exp2_shifted(Index rows, Scalar* values, Index stride, const StripRow<Scalar>& shift) {
  using Eigen::internal::padd, Eigen::internal::psub;
  auto sum = StripRow<Scalar>::zero();
  for (Index j = 0; j < rows; ++j) {
    auto row = StripRow<Scalar>::from(values + j * stride);
    row.low = exp2_nonpositive<Scalar>(psub(row.low, shift.low));
    row.high = exp2_nonpositive<Scalar>(psub(row.high, shift.high));
    row.to(values + j * stride);
    sum.low = padd(sum.low, row.low);
    sum.high = padd(sum.high, row.high);
  }
  return sum;
}

/// values = 2^(values - log_sum), the weights of scores that are computed again. A score that then comes out above log_sum,
/// which for large ones it may by rounding, counts as equal to it. NaN stays NaN.
template <class Scalar>
void weights_again(Index rows, Scalar* values, Index stride, const StripRow<Scalar>& log_sum) {
  using Eigen::internal::pmin, Eigen::internal::psub;
  const Packet<Scalar> zero = broadcast(Scalar(0));
  for (Index j = 0; j < rows; ++j) {
    auto row = StripRow<Scalar>::from(values + j * stride);
    row.low = exp2_nonpositive<Scalar>(pmin(psub(row.low, log_sum.low), zero));  // in this order NaN is kept
    row.high = exp2_nonpositive<Scalar>(pmin(psub(row.high, log_sum.high), zero));
    row.to(values + j * stride);
  }
}

/// values[j][lane] = value for every key seen.first + j that the query at position query + lane does not see, being
/// later than it or `window` and more places before; the rows, `stride` apart, are the keys seen.first ... seen.end - 1.
template <class Scalar>
void hide_unseen(const SeenKeys& seen, Index query, Index window, Scalar* values, Index stride,
                 Scalar value) {
  const Index rows = seen.count();
  for (Index j = 0; j < (std::min)(rows, query + kLanes<Scalar> - window - seen.first); ++j) {
    const Index lanes =
        (std::min)(seen.first + j + window - query, kLanes<Scalar>);  // that see it, at least 1
    std::fill_n(values + j * stride + lanes, kLanes<Scalar> - lanes, value);
  }
  for (Index j = std::max<Index>(0, query + 1 - seen.first); j < rows; ++j) {
    const Index hidden = (std::min)(seen.first + j - query, kLanes<Scalar>);
    std::fill_n(values + j * stride, hidden, value);
  }
}

/// The softmax of a strip of queries so far: weights are 2^(score - largest), and `sum` adds them up.
template <class Scalar>
struct OnlineSoftmax {
  alignas(64) Scalar largest[kLanes<Scalar>];
  alignas(64) Scalar sum[kLanes<Scalar>];

  void clear() {
    std::fill_n(largest, kLanes<Scalar>, kNoScore<Scalar>);
    std::fill_n(sum, kLanes<Scalar>, Scalar(0));
  }

  /// Turns the scores of `rows` more keys into weights, and brings what was summed before, with `width` rows
  /// of results beside it, to the new largest score. Hidden scores are kLeastScore; some score of each query,
  /// here or before, is not.
  void add(Index rows, Scalar* scores, Index width, Scalar* results) {
    using Eigen::internal::padd, Eigen::internal::pmadd, Eigen::internal::pmax, Eigen::internal::pmul;
    using Eigen::internal::psub;
    using Row = StripRow<Scalar>;
    const Row before = Row::from(largest);
    Row now = before;
    for (Index j = 0; j < rows; ++j) {
      const Row row = Row::from(scores + j * kLanes<Scalar>);
      now = {pmax(now.low, row.low), pmax(now.high, row.high)};
    }
    now.to(largest);
    const Row factor{exp2_nonpositive<Scalar>(psub(before.low, now.low)),
                     exp2_nonpositive<Scalar>(psub(before.high, now.high))};
    const Row added = exp2_shifted(rows, scores, kLanes<Scalar>, now), old = Row::from(sum);
    Row{pmadd(old.low, factor.low, added.low), pmadd(old.high, factor.high, added.high)}.to(sum);
    for (Index d = 0; d < width; ++d) {
      const Row row = Row::from(results + d * kLanes<Scalar>);
      Row{pmul(row.low, factor.low), pmul(row.high, factor.high)}.to(results + d * kLanes<Scalar>);
    }
  }
};

}  // namespace hsm::inline HSM_ABI::detail
