// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <hsm/core/elementwise.hpp>
#include <hsm/core/random.hpp>

#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::elementwise_test {
namespace {

using test::expect_close;
using test::expect_same_bits;
using test::Tolerance;

// The references are in long double, so that they are exact beside a result in double.

long double sigmoid_reference(long double x) { return 1 / (1 + std::exp(-x)); }

long double gelu_reference(long double x) {
  const long double u = std::sqrt(2 / std::acos(-1.0L)) * (x + 0.044715L * x * x * x);
  return x / (1 + std::exp(-2 * u));
}

long double gelu_slope_reference(long double x) {
  const long double root = std::sqrt(2 / std::acos(-1.0L));
  const long double gate = sigmoid_reference(2 * root * (x + 0.044715L * x * x * x));
  return gate + x * gate * (1 - gate) * 2 * root * (1 + 3 * 0.044715L * x * x);
}

template <class Scalar>
using Function = void (*)(Index, const Scalar*, Scalar*);

template <class Scalar>
struct Named {
  std::string name;
  Function<Scalar> apply;
};

template <class Scalar>
std::vector<Named<Scalar>> functions() {
  return {{"exp", exp<Scalar>},
          {"sigmoid", sigmoid<Scalar>},
          {"gelu", gelu<Scalar>},
          {"gelu_slope", gelu_slope<Scalar>}};
}

template <class Scalar>
std::vector<Scalar> results_of(Function<Scalar> function, const std::vector<Scalar>& x) {
  std::vector<Scalar> result(x.size());
  function(static_cast<Index>(x.size()), x.data(), result.data());
  return result;
}

template <class Scalar>
Scalar result_of(Function<Scalar> function, double x) {
  return results_of(function, std::vector<Scalar>{static_cast<Scalar>(x)})[0];
}

/// An even grid over [low, high], random values in it, and values near 0 of all sizes and both signs.
template <class Scalar>
std::vector<Scalar> points(double low, double high) {
  std::vector<Scalar> x;
  constexpr int kGrid = 100000;
  Random random(21);
  for (int i = 0; i <= kGrid; ++i) {
    x.push_back(static_cast<Scalar>(low + (high - low) * i / kGrid));
    x.push_back(static_cast<Scalar>(random.uniform(low, high)));
  }
  for (int e = -60; e <= 0; ++e) {
    for (const double sign : {-1.0, 1.0}) x.push_back(static_cast<Scalar>(sign * std::ldexp(1.1, e)));
  }
  x.push_back(Scalar(0));
  x.push_back(-Scalar(0));
  return x;
}

/// Fails unless each result is within tolerance * scale(x, reference) of reference(x).
template <class Scalar, class Reference, class Scale>
void expect_accurate(Function<Scalar> function, const std::vector<Scalar>& x, Reference&& reference,
                     Scale&& scale, double tolerance) {
  const std::vector<Scalar> result = results_of(function, x);
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double expected = reference(static_cast<long double>(x[i]));
    const auto error = static_cast<double>(std::abs(static_cast<long double>(result[i]) - expected) /
                                           scale(static_cast<long double>(x[i]), expected));
    if (!(error <= worst)) {
      worst = error;
      at = i;
    }
    if (std::isnan(worst)) break;
  }
  EXPECT_LE(worst, tolerance) << "worst at x = " << x[at] << ": " << result[at] << ", "
                              << 100 * worst / tolerance << " % of the bound";
}

template <class Scalar>
class Elementwise : public ::testing::Test {
 protected:
  static constexpr bool kFloat = std::is_same_v<Scalar, float>;
  static constexpr Scalar kInfinity = std::numeric_limits<Scalar>::infinity();
  static constexpr Scalar kNaN = std::numeric_limits<Scalar>::quiet_NaN();
  /// Where exp is a normal number.
  static constexpr double kLow = kFloat ? -87.3 : -708.3;
  static constexpr double kHigh = kFloat ? 88.7 : 709.7;
};

TYPED_TEST_SUITE(Elementwise, test::Scalars);

TYPED_TEST(Elementwise, ExpIsWithinItsBoundWhereTheResultIsNormal) {
  expect_accurate(
      exp<TypeParam>, points<TypeParam>(this->kLow, this->kHigh), [](long double x) { return std::exp(x); },
      [](long double, long double y) { return y; }, Tolerance<TypeParam>::element);
}

TYPED_TEST(Elementwise, ExpIsWithinItsBoundNearZero) {
  expect_accurate(
      exp<TypeParam>, points<TypeParam>(-1, 1), [](long double x) { return std::exp(x); },
      [](long double, long double y) { return y; }, Tolerance<TypeParam>::element);
}

TYPED_TEST(Elementwise, ExpBelowTheNormalNumbersIsOffByAtMostOneStep) {
  if (HSM_FAST_MATH) GTEST_SKIP() << "a program that g++ links with -ffast-math rounds such results to 0";
  using Limits = std::numeric_limits<TypeParam>;
  expect_accurate(
      exp<TypeParam>, points<TypeParam>(this->kLow - 20, this->kLow),
      [](long double x) { return std::exp(x); },
      [](long double, long double y) {
        return y * Tolerance<TypeParam>::element + static_cast<long double>(Limits::denorm_min());
      },
      1.0);
}

TYPED_TEST(Elementwise, SigmoidIsWithinItsBoundWhereTheResultIsNormal) {
  expect_accurate(
      sigmoid<TypeParam>, points<TypeParam>(this->kLow, 100), sigmoid_reference,
      [](long double, long double y) { return y; }, Tolerance<TypeParam>::element);
}

TYPED_TEST(Elementwise, GeluIsWithinItsBound) {
  for (const double bound : {1.0, 10.0, 1000.0}) {
    expect_accurate(
        gelu<TypeParam>, points<TypeParam>(-bound, bound), gelu_reference,
        [](long double x, long double) { return std::abs(x) + 1; }, Tolerance<TypeParam>::gelu);
  }
}

TYPED_TEST(Elementwise, GeluSlopeIsWithinItsBound) {
  for (const double bound : {1.0, 10.0, 1000.0}) {
    expect_accurate(
        gelu_slope<TypeParam>, points<TypeParam>(-bound, bound), gelu_slope_reference,
        [](long double x, long double) { return std::abs(x) + 1; }, Tolerance<TypeParam>::gelu);
  }
}

TYPED_TEST(Elementwise, GeluSlopeIsTheDerivativeOfGelu) {
  // Central differences in long double are good to about 1e-12: far within the bound of float.
  const auto difference = [](long double x) {
    const long double h = 1e-6L;
    return (gelu_reference(x + h) - gelu_reference(x - h)) / (2 * h);
  };
  expect_accurate(
      gelu_slope<TypeParam>, points<TypeParam>(-10, 10), difference,
      [](long double x, long double) { return std::abs(x) + 1; },
      std::max(Tolerance<TypeParam>::gelu, 2e-12));
}

TYPED_TEST(Elementwise, NaNStaysNaNAndLeavesItsNeighboursAlone) {
  if (HSM_FAST_MATH) GTEST_SKIP() << "nothing is promised of NaN under -ffast-math";
  for (const auto& [name, function] : functions<TypeParam>()) {
    for (std::size_t at = 0; at < 40; ++at) {
      std::vector<TypeParam> x(40, TypeParam(0.5));
      const std::vector<TypeParam> clean = results_of(function, x);
      x[at] = this->kNaN;
      std::vector<TypeParam> result = results_of(function, x);
      EXPECT_TRUE(std::isnan(result[at])) << name << " at " << at;
      result[at] = clean[at];
      expect_same_bits(result, clean, name + " beside a NaN");
    }
  }
}

TYPED_TEST(Elementwise, ExpHasExactLimits) {
  const auto e = [](double x) { return result_of(exp<TypeParam>, x); };
  expect_same_bits(std::vector{e(-INFINITY), e(-1000), e(-1e30)}, std::vector<TypeParam>(3), "exp towards 0");
  EXPECT_EQ(e(INFINITY), this->kInfinity);
  EXPECT_EQ(e(1000), this->kInfinity);
  EXPECT_EQ(e(1e30), this->kInfinity);
  EXPECT_EQ(e(std::numeric_limits<TypeParam>::lowest()), TypeParam(0));
  EXPECT_EQ(e(std::numeric_limits<TypeParam>::max()), this->kInfinity);
  EXPECT_EQ(e(0.0), TypeParam(1));
  EXPECT_EQ(e(-0.0), TypeParam(1));
  EXPECT_LT(e(this->kHigh), this->kInfinity);
}

TYPED_TEST(Elementwise, WeightsOfASoftmaxAreThoseOfExpOrZero) {
  const double least = hsm::detail::kWeightBits<TypeParam> * std::numbers::ln2;
  std::vector<TypeParam> x;
  for (int i = 0; i <= 1001; ++i)  // none at the least itself
    x.push_back(static_cast<TypeParam>(-2 * least * i / 1001));
  std::vector<TypeParam> weights(x.size());
  hsm::detail::softmax_weights(static_cast<Index>(x.size()), x.data(), weights.data());
  const std::vector<TypeParam> exact = results_of<TypeParam>(exp<TypeParam>, x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const TypeParam expected = static_cast<double>(-x[i]) > least ? TypeParam(0) : exact[i];
    EXPECT_EQ(weights[i], expected) << x[i];
  }
  EXPECT_EQ(weights.front(), TypeParam(1));
  EXPECT_EQ(weights.back(), TypeParam(0));
  if (HSM_FAST_MATH) return;  // nothing is promised of NaN and infinity
  x = {static_cast<TypeParam>(std::nan("")), -std::numeric_limits<TypeParam>::infinity()};
  hsm::detail::softmax_weights(2, x.data(), x.data());
  EXPECT_TRUE(std::isnan(x[0]));
  EXPECT_EQ(x[1], TypeParam(0));
}

TYPED_TEST(Elementwise, SigmoidHasExactLimits) {
  const auto s = [](double x) { return result_of(sigmoid<TypeParam>, x); };
  EXPECT_EQ(s(-INFINITY), TypeParam(0));
  EXPECT_EQ(s(INFINITY), TypeParam(1));
  EXPECT_EQ(s(-1000), TypeParam(0));
  EXPECT_EQ(s(1000), TypeParam(1));
  EXPECT_EQ(s(0), TypeParam(0.5));
}

TYPED_TEST(Elementwise, GeluAndItsSlopeHaveExactLimits) {
  const auto g = [](double x) { return result_of(gelu<TypeParam>, x); };
  const auto d = [](double x) { return result_of(gelu_slope<TypeParam>, x); };
  for (const double x : {50.0, 1e3, 9e5}) {
    EXPECT_EQ(g(x), static_cast<TypeParam>(x));
    EXPECT_EQ(g(-x), TypeParam(0));
    EXPECT_EQ(d(x), TypeParam(1));
    EXPECT_EQ(d(-x), TypeParam(0));
  }
  EXPECT_EQ(g(0), TypeParam(0));
  EXPECT_EQ(d(0), TypeParam(0.5));
}

TYPED_TEST(Elementwise, AnElementHasTheSameBitsAtEveryAddressAndLength) {
  constexpr std::size_t kLongest = 100, kOffsets = 16;
  Random random(22);
  std::vector<TypeParam> x(kLongest);
  for (TypeParam& value : x) value = static_cast<TypeParam>(random.normal(3));
  for (const auto& [name, function] : functions<TypeParam>()) {
    std::vector<TypeParam> alone(kLongest);
    for (std::size_t i = 0; i < kLongest; ++i) function(1, &x[i], &alone[i]);
    for (std::size_t n = 1; n <= kLongest; ++n) {
      for (std::size_t offset = 0; offset < kOffsets; ++offset) {
        std::vector<TypeParam> in(kLongest + kOffsets), out(kLongest + 2 * kOffsets, TypeParam(-7));
        std::copy_n(x.begin(), n, in.begin() + static_cast<std::ptrdiff_t>(offset));
        const std::size_t out_offset = 1 + (5 * offset + n) % kOffsets;
        function(static_cast<Index>(n), in.data() + offset, out.data() + out_offset);
        const std::string label = name + " of " + std::to_string(n) + " at offset " + std::to_string(offset);
        const std::vector<TypeParam> expected(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(n));
        const auto start = out.begin() + static_cast<std::ptrdiff_t>(out_offset);
        if (!expect_same_bits(std::vector<TypeParam>(start, start + static_cast<std::ptrdiff_t>(n)), expected,
                              label)) {
          return;
        }
        ASSERT_EQ(out[out_offset - 1], TypeParam(-7)) << label << " wrote before its result";
        ASSERT_EQ(out[out_offset + n], TypeParam(-7)) << label << " wrote past its result";
      }
    }
  }
}

TYPED_TEST(Elementwise, ResultsInPlaceHaveTheSameBits) {
  Random random(23);
  std::vector<TypeParam> x(1000);
  for (TypeParam& value : x) value = static_cast<TypeParam>(random.normal(3));
  for (const auto& [name, function] : functions<TypeParam>()) {
    std::vector<TypeParam> in_place = x;
    function(static_cast<Index>(x.size()), in_place.data(), in_place.data());
    expect_same_bits(in_place, results_of(function, x), name + " in place");
  }
}

TYPED_TEST(Elementwise, NothingIsDoneForNoElements) {
  TypeParam value(3);
  for (const auto& [name, function] : functions<TypeParam>()) {
    function(0, &value, &value);
    EXPECT_EQ(value, TypeParam(3)) << name;
  }
  EXPECT_EQ(dot(0, &value, &value), TypeParam(0));
}

TYPED_TEST(Elementwise, DotIsWithinItsBoundForEveryLength) {
  Random random(24);
  for (Index n = 1; n <= 200; ++n) {
    std::vector<TypeParam> x, y;
    long double sum = 0, sizes = 0;
    for (Index i = 0; i < n; ++i) {
      x.push_back(static_cast<TypeParam>(random.normal()));
      y.push_back(static_cast<TypeParam>(random.normal()));
      const long double term = static_cast<long double>(x.back()) * static_cast<long double>(y.back());
      sum += term;
      sizes += std::abs(term);
    }
    // n / 16 + 5 roundings of half an epsilon at most, of the sum of sizes.
    const double bound = (static_cast<double>(n) / 16 + 5) / 2 * Tolerance<TypeParam>::epsilon;
    expect_close(dot(n, x.data(), y.data()), static_cast<double>(sum), bound * static_cast<double>(sizes), 0,
                 "dot of " + std::to_string(n));
  }
}

TYPED_TEST(Elementwise, DotHasTheSameBitsAtEveryAddress) {
  Random random(25);
  for (const std::size_t n : {1u, 15u, 16u, 17u, 100u, 511u}) {
    std::vector<TypeParam> x(n), y(n);
    for (TypeParam& value : x) value = static_cast<TypeParam>(random.normal());
    for (TypeParam& value : y) value = static_cast<TypeParam>(random.normal());
    const TypeParam expected = dot(static_cast<Index>(n), x.data(), y.data());
    for (std::size_t offset = 0; offset < 16; ++offset) {
      std::vector<TypeParam> moved_x(n + 32), moved_y(n + 32);
      const std::size_t other = (3 * offset + 1) % 16;
      std::copy(x.begin(), x.end(), moved_x.begin() + static_cast<std::ptrdiff_t>(offset));
      std::copy(y.begin(), y.end(), moved_y.begin() + static_cast<std::ptrdiff_t>(other));
      const TypeParam got = dot(static_cast<Index>(n), moved_x.data() + offset, moved_y.data() + other);
      expect_same_bits(std::vector{got}, std::vector{expected}, "dot of " + std::to_string(n));
    }
  }
}

TYPED_TEST(Elementwise, MultiplyAddIsExactToOneRoundingOrTwo) {
  const TypeParam e = std::numeric_limits<TypeParam>::epsilon();
  EXPECT_EQ(multiply_add(TypeParam(2), TypeParam(3), TypeParam(4)), TypeParam(10));
  // (1 + e)(1 - e) - 1 = -e^2 with one rounding, 0 with two.
  const TypeParam result = multiply_add(1 + e, 1 - e, TypeParam(-1));
#if defined(__FMA__) || defined(__aarch64__)
  EXPECT_EQ(result, -e * e);
#else
  EXPECT_TRUE(result == TypeParam(0) || result == -e * e) << result;
#endif
}

}  // namespace
}  // namespace hsm::elementwise_test
