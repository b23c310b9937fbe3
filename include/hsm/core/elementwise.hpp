// SPDX-License-Identifier: MIT
//
// The element functions of the library and the loops that apply them, so that each element gets the same bits
// whatever its address, its place in the array and the mode it is computed in.
//
//   multiply_add(a, x, y) = a x + y                core/types.hpp; one rounding where the target fuses it, else two
//   sigmoid(x)            = 1 / (1 + exp(-x))
//   gelu(x)               = x sigmoid(2 u),        u = sqrt(2/pi) (x + 0.044715 x^3): 0.5 x (1 + tanh u)
//
// exp, sigmoid and gelu run over fixed blocks of kBlock elements in one function that is never inlined; a
// shorter rest is padded to a whole block, so an element meets the same instructions always. NaN stays NaN;
// exp(-infinity) = 0 exactly. Accuracy: exp and sigmoid 4 epsilon relative where the result is a normal
// number, gelu and its slope 8 epsilon of |x| + 1. Under -ffast-math (-Ofast) too: the flag is off for these
// functions. A program that g++ links with it rounds results that are not normal to 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <utility>

#include <hsm/core/bit_cast.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

HSM_EXACT_BEGIN

namespace detail {

inline constexpr Index kBlock = 32;

/// exp by reduction to |r| <= ln(2)/2 and the Taylor sum: exp(x) = 2^n exp(r), n = round(x / ln 2), r = x - n
/// ln 2, with ln 2 in two parts. Beyond kLowest and kHighest the result has rounded to 0 and to infinity.
template <class Scalar>
struct Exponential;

template <>
struct Exponential<float> {
  using Bits = std::int32_t;
  static constexpr int kTerms = 7, kMantissa = 23, kBias = 127;
  static constexpr float kLowest = -104.0f, kHighest = 89.0f;
  static constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  static constexpr float kMinusHigh = -0.693359375f, kMinusLow = 2.12194440e-4f;
};

template <>
struct Exponential<double> {
  using Bits = std::int64_t;
  static constexpr int kTerms = 13, kMantissa = 52, kBias = 1023;
  static constexpr double kLowest = -746.0, kHighest = 710.0;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kMinusHigh = -0.693145751953125, kMinusLow = -1.42860682030941723212e-6;
};

/// 1 / k!, exact to double.
constexpr double inverse_factorial(int k) {
  double product = 1;
  for (int i = 2; i <= k; ++i) product *= i;
  return 1 / product;
}

/// sum_{k >= K} r^(k-K) / k! by Horner's rule; recursion and not a loop, so that the loop over elements is
/// the innermost.
template <int K, class Scalar>
inline Scalar exp_sum(Scalar r) {
  constexpr Scalar kCoefficient = Scalar(inverse_factorial(K));
  if constexpr (K == Exponential<Scalar>::kTerms) {
    return kCoefficient;
  } else {
    return multiply_add(exp_sum<K + 1>(r), r, kCoefficient);
  }
}

/// 2^n for a normal result.
template <class Scalar>
inline Scalar power_of_two(typename Exponential<Scalar>::Bits n) {
  using Unsigned = std::make_unsigned_t<typename Exponential<Scalar>::Bits>;
  const auto biased = static_cast<Unsigned>(n + Exponential<Scalar>::kBias);
  return bit_cast<Scalar>(static_cast<Unsigned>(biased << Exponential<Scalar>::kMantissa));
}

/// exp for an argument within the bounds. 2^n is applied as 2^(n/2) 2^(n - n/2): each factor is a normal
/// number for every n that the bounds let through, and the product overflows to infinity or underflows to 0
/// by itself, without a branch.
template <class Scalar>
inline Scalar exp_bounded(Scalar x) {
  using E = Exponential<Scalar>;
  using Bits = typename E::Bits;
  const Scalar shifted = multiply_add(x, Scalar(std::numbers::log2e), E::kRound);
  const Scalar n = shifted - E::kRound;
  const Scalar r = multiply_add(n, E::kMinusLow, multiply_add(n, E::kMinusHigh, x));
  const Bits exponent = bit_cast<Bits>(shifted) - bit_cast<Bits>(E::kRound);
  const Bits half = exponent >> 1;
  return exp_sum<0>(r) * power_of_two<Scalar>(half) * power_of_two<Scalar>(exponent - half);
}

// The functions of one block. Each loop is one the compiler turns into vector code; the bounds have a loop of
// their own, since a comparison inside the long loop would become a jump.

template <class Scalar>
inline void exp_block(const Scalar (&x)[kBlock], Scalar (&result)[kBlock]) {
  using E = Exponential<Scalar>;
  Scalar bounded[kBlock];
  for (Index i = 0; i < kBlock; ++i) bounded[i] = x[i] < E::kLowest ? E::kLowest : x[i];
  for (Index i = 0; i < kBlock; ++i) bounded[i] = bounded[i] > E::kHighest ? E::kHighest : bounded[i];
  for (Index i = 0; i < kBlock; ++i) result[i] = exp_bounded(bounded[i]);
}

template <class Scalar>
inline void sigmoid_block(const Scalar (&x)[kBlock], Scalar (&result)[kBlock]) {
  Scalar negated[kBlock];
  for (Index i = 0; i < kBlock; ++i) negated[i] = Scalar(-1) * x[i];
  exp_block(negated, result);
  for (Index i = 0; i < kBlock; ++i) result[i] = Scalar(1) / (Scalar(1) + result[i]);
}

/// 2 sqrt(2/pi) and the cubic coefficient of GELU's tanh form.
inline constexpr double kGeluSlope = 2 * 0.79788456080286535588;
inline constexpr double kGeluCubic = 0.044715;

/// sigmoid(2u), the share of x that GELU lets through.
template <class Scalar>
inline void gelu_gate_block(const Scalar (&x)[kBlock], Scalar (&gate)[kBlock]) {
  Scalar argument[kBlock];
  for (Index i = 0; i < kBlock; ++i) {
    argument[i] = Scalar(kGeluSlope) * x[i] * multiply_add(Scalar(kGeluCubic) * x[i], x[i], Scalar(1));
  }
  sigmoid_block(argument, gate);
}

struct ExpFunction {
  template <class Scalar>
  static void apply(const Scalar (&x)[kBlock], Scalar (&result)[kBlock]) {
    exp_block(x, result);
  }
};

/// A weight of a softmax that is below 2^-kWeightBits of the largest counts as 0. It changes no sum, and what it is
/// multiplied with in backward would not be a normal number: many processors are some hundred times slower with those.
template <class Scalar>
inline constexpr int kWeightBits = Exponential<Scalar>::kBias / 2 + 1;

/// exp of a score less the largest one.
struct SoftmaxFunction {
  template <class Scalar>
  static void apply(const Scalar (&x)[kBlock], Scalar (&result)[kBlock]) {
    constexpr Scalar kLeast = Scalar(-kWeightBits<Scalar> * std::numbers::ln2);
    exp_block(x, result);
    for (Index i = 0; i < kBlock; ++i) result[i] = x[i] < kLeast ? Scalar(0) : result[i];
  }
};

struct SigmoidFunction {
  template <class Scalar>
  static void apply(const Scalar (&x)[kBlock], Scalar (&result)[kBlock]) {
    sigmoid_block(x, result);
  }
};

struct GeluFunction {
  template <class Scalar>
  static void apply(const Scalar (&x)[kBlock], Scalar (&result)[kBlock]) {
    gelu_gate_block(x, result);
    for (Index i = 0; i < kBlock; ++i) result[i] *= x[i];
  }
};

struct GeluSlopeFunction {
  template <class Scalar>
  static void apply(const Scalar (&x)[kBlock], Scalar (&result)[kBlock]) {
    // d/dx [x g] = g + x g (1 - g) (2u)'
    gelu_gate_block(x, result);
    for (Index i = 0; i < kBlock; ++i) {
      const Scalar slope = Scalar(kGeluSlope) * multiply_add(Scalar(3 * kGeluCubic) * x[i], x[i], Scalar(1));
      result[i] = multiply_add(x[i] * (result[i] * (Scalar(1) - result[i])), slope, result[i]);
    }
  }
};

/// One whole block; the only place where these functions become instructions. The copies rule out aliasing.
template <class Function, class Scalar>
HSM_NOINLINE void apply_block(const Scalar* in, Scalar* out) {
  Scalar values[kBlock];
  Scalar results[kBlock];
  std::copy(in, in + kBlock, values);
  Function::apply(values, results);
  std::copy(results, results + kBlock, out);
}

template <class Function, class Scalar>
void apply_blocks(Index n, const Scalar* in, Scalar* out) {
  const Index whole = n - n % kBlock;
  for (Index i = 0; i < whole; i += kBlock) apply_block<Function>(in + i, out + i);
  if (whole < n) {
    Scalar rest[kBlock] = {};
    std::copy(in + whole, in + n, rest);
    apply_block<Function>(rest, rest);
    std::copy(rest, rest + (n - whole), out + whole);
  }
}

/// out[i] = exp(in[i]), the weight of a softmax for in[i] <= 0: 0 below 2^-kWeightBits; in == out is allowed.
template <ComputeScalar Scalar>
void softmax_weights(Index n, const Scalar* in, Scalar* out) {
  apply_blocks<SoftmaxFunction>(n, in, out);
}

}  // namespace detail

/// out[i] = exp(in[i]), i < n; in == out is allowed.
template <ComputeScalar Scalar>
void exp(Index n, const Scalar* in, Scalar* out) {
  detail::apply_blocks<detail::ExpFunction>(n, in, out);
}

/// out[i] = 1 / (1 + exp(-in[i])), i < n; in == out is allowed.
template <ComputeScalar Scalar>
void sigmoid(Index n, const Scalar* in, Scalar* out) {
  detail::apply_blocks<detail::SigmoidFunction>(n, in, out);
}

/// out[i] = gelu(in[i]), i < n, for finite in[i]; in == out is allowed.
template <ComputeScalar Scalar>
void gelu(Index n, const Scalar* in, Scalar* out) {
  detail::apply_blocks<detail::GeluFunction>(n, in, out);
}

/// out[i] = gelu'(in[i]), i < n, for |in[i]| < 1e6; in == out is allowed.
template <ComputeScalar Scalar>
void gelu_slope(Index n, const Scalar* in, Scalar* out) {
  detail::apply_blocks<detail::GeluSlopeFunction>(n, in, out);
}

HSM_EXACT_END

namespace detail {

/// f(i, lane) for i < n with lane = i mod Lanes: sums that are kept per lane become vector code without
/// changing their order.
template <Index Lanes, class F>
inline void in_lanes(Index n, F&& f) {
  const Index whole = n - n % Lanes;
  for (Index i = 0; i < whole; i += Lanes) {
    for (Index lane = 0; lane < Lanes; ++lane) f(i + lane, lane);
  }
  for (Index i = whole; i < n; ++i) f(i, i - whole);
}

/// The sum of all lanes, in halves.
template <class Scalar, std::size_t Lanes>
inline Scalar sum_lanes(Scalar (&lanes)[Lanes]) {
  for (std::size_t half = Lanes / 2; half > 0; half /= 2) {
    for (std::size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

}  // namespace detail

/// sum_i x[i] y[i] in a fixed order of 16 partial sums, the same bits at every address: never inlined, so
/// that there is one set of instructions.
template <ComputeScalar Scalar>
HSM_NOINLINE Scalar dot(Index n, const Scalar* x, const Scalar* y) {
  using Lanes = Eigen::Array<Scalar, 16, 1>;
  Lanes lanes = Lanes::Zero();
  const Index whole = n - n % 16;
  for (Index i = 0; i < whole; i += 16)
    lanes += Eigen::Map<const Lanes>(x + i) * Eigen::Map<const Lanes>(y + i);
  for (Index i = whole; i < n; ++i) lanes[i - whole] = multiply_add(x[i], y[i], lanes[i - whole]);
  Scalar sums[16];
  std::copy(lanes.data(), lanes.data() + 16, sums);
  return detail::sum_lanes(sums);
}

namespace detail {

/// f(first, n) for [0, count) in parts of kBlock, for what needs a small buffer of results.
template <class F>
inline void in_blocks(Index count, F&& f) {
  for (Index first = 0; first < count; first += kBlock) f(first, (std::min)(kBlock, count - first));
}

/// out[i] = x[i] + y[i]; out may be x or y.
template <class Scalar>
inline void add(Index n, const Scalar* x, const Scalar* y, Scalar* out) {
  HSM_UNROLLED
  for (Index i = 0; i < n; ++i) out[i] = x[i] + y[i];
}

/// out[i] = a x[i].
template <class Scalar>
inline void scaled(Index n, Scalar a, const Scalar* x, Scalar* out) {
  HSM_UNROLLED
  for (Index i = 0; i < n; ++i) out[i] = a * x[i];
}

/// out[i] += a x[i].
template <class Scalar>
inline void add_scaled(Index n, Scalar a, const Scalar* x, Scalar* out) {
  HSM_UNROLLED
  for (Index i = 0; i < n; ++i) out[i] = multiply_add(a, x[i], out[i]);
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
