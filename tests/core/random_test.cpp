// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>

#include <hsm/core/random.hpp>

namespace hsm::random_test {
namespace {

TEST(Random, GivesTheKnownNumbersOfSplitMix64) {
  Random zero(0);
  EXPECT_EQ(zero.bits(), 0xE220A8397B1DCDAFull);
  EXPECT_EQ(zero.bits(), 0x6E789E6AA1B965F4ull);
  EXPECT_EQ(zero.bits(), 0x06C45D188009454Full);
  Random other(1234567);
  EXPECT_EQ(other.bits(), 6457827717110365317ull);
  EXPECT_EQ(other.bits(), 3203168211198807973ull);
}

TEST(Random, WorksInConstantExpressions) {
  constexpr std::uint64_t first = Random(0).bits();
  static_assert(first == 0xE220A8397B1DCDAFull);
  constexpr std::uint64_t below = Random(7).below(10);
  static_assert(below < 10);
}

TEST(Random, ContinuesFromItsState) {
  Random random(5);
  for (int i = 0; i < 17; ++i) random.normal();
  Random resumed(random.state());
  Random copy = random;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t bits = random.bits();
    EXPECT_EQ(resumed.bits(), bits);
    EXPECT_EQ(copy.bits(), bits);
  }
}

TEST(Random, SkipsWithoutDrawing) {
  for (const std::uint64_t n : {0u, 1u, 2u, 1000u}) {
    Random drawn(7), skipped(7);
    for (std::uint64_t i = 0; i < n; ++i) drawn.bits();
    skipped.skip(n);
    EXPECT_EQ(skipped.state(), drawn.state()) << n;
    EXPECT_EQ(skipped.bits(), drawn.bits()) << n;
  }
}

TEST(Random, DifferentSeedsGiveDifferentStreams) {
  Random a(1), b(2);
  int equal = 0;
  for (int i = 0; i < 1000; ++i) equal += a.bits() == b.bits();
  EXPECT_EQ(equal, 0);
}

TEST(Random, EveryBitIsSetHalfOfTheTime) {
  constexpr int kDraws = 40000;
  Random random(11);
  std::array<int, 64> set{};
  for (int i = 0; i < kDraws; ++i) {
    const std::uint64_t bits = random.bits();
    for (std::size_t j = 0; j < 64; ++j) set[j] += static_cast<int>(bits >> j & 1);
  }
  for (const int count : set) EXPECT_LE(std::abs(count - kDraws / 2), 500);  // 5 standard deviations
}

TEST(Random, UniformStaysInItsRangeWithTheMomentsOfAUniform) {
  constexpr int kDraws = 200000;
  Random random(3);
  double sum = 0, squares = 0, least = 1, most = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.uniform();
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    sum += x;
    squares += x * x;
    least = std::min(least, x);
    most = std::max(most, x);
  }
  // Five standard errors: sqrt(1/12) and sqrt(4/45) over sqrt(kDraws).
  EXPECT_NEAR(sum / kDraws, 0.5, 0.0033);
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 0.0034);
  EXPECT_LT(least, 1e-4);
  EXPECT_GT(most, 1 - 1e-4);
}

TEST(Random, UniformUsesTheUpper53Bits) {
  Random random(0);
  EXPECT_EQ(random.uniform(), static_cast<double>(0xE220A8397B1DCDAFull >> 11) / 9007199254740992.0);
}

TEST(Random, UniformBetweenBoundsCoversThem) {
  Random random(4);
  double least = 10, most = -10;
  for (int i = 0; i < 10000; ++i) {
    const double x = random.uniform(-3, 5);
    ASSERT_GE(x, -3.0);
    ASSERT_LT(x, 5.0);
    least = std::min(least, x);
    most = std::max(most, x);
  }
  EXPECT_LT(least, -2.98);
  EXPECT_GT(most, 4.98);
}

TEST(Random, BelowTakesEachValueEquallyOften) {
  constexpr std::size_t kValues = 7;
  constexpr int kDraws = 70000;
  Random random(9);
  std::array<int, kValues> counts{};
  for (int i = 0; i < kDraws; ++i) {
    const std::uint64_t value = random.below(kValues);
    ASSERT_LT(value, kValues);
    ++counts[value];
  }
  double chi_square = 0;
  for (const int count : counts) chi_square += std::pow(count - 10000.0, 2) / 10000.0;
  EXPECT_LT(chi_square, 27.9);  // 6 degrees of freedom, probability 1e-4
}

TEST(Random, BelowIsFairWhereThePlainRemainderIsNot) {
  // n = 3/4 of 2^64: bits() % n would land in the lowest third half of the time.
  constexpr std::uint64_t n = 3ull << 62;
  constexpr int kDraws = 30000;
  Random random(10);
  std::array<int, 3> thirds{};
  for (int i = 0; i < kDraws; ++i) {
    const std::uint64_t value = random.below(n);
    ASSERT_LT(value, n);
    ++thirds[value >> 62];
  }
  for (const int count : thirds) EXPECT_NEAR(count, kDraws / 3, 410);  // 5 standard deviations
}

TEST(Random, BelowOneIsZero) {
  Random random(1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.below(1), 0u);
}

TEST(Random, BelowZeroIsRefused) {
  Random random(1);
  EXPECT_THROW(random.below(0), std::invalid_argument);
  EXPECT_EQ(random.state(), 1u);
}

TEST(Random, NormalHasTheMomentsAndTheTailOfANormal) {
  constexpr int kDraws = 400000;
  Random random(12);
  std::array<double, 5> moments{};
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    double power = 1;
    for (double& moment : moments) moment += power / kDraws, power *= x;
    beyond_two += std::abs(x) > 2;
  }
  // Five standard errors: those of x, x^2, x^3 and x^4 are sqrt(1, 2, 15, 96) / sqrt(kDraws).
  EXPECT_NEAR(moments[1], 0, 0.0080);
  EXPECT_NEAR(moments[2], 1, 0.0112);
  EXPECT_NEAR(moments[3], 0, 0.0307);
  EXPECT_NEAR(moments[4], 3, 0.0775);
  EXPECT_NEAR(beyond_two / double(kDraws), 0.0455, 0.0017);
}

TEST(Random, NormalIsTheCosineHalfOfBoxMuller) {
  Random random(15), uniforms(15);
  for (int i = 0; i < 1000; ++i) {
    const double u = uniforms.uniform(), v = uniforms.uniform();
    const double expected = std::sqrt(-2 * std::log(1 - u)) * std::cos(2 * std::acos(-1.0) * v);
    ASSERT_NEAR(random.normal(), expected, 1e-14);
  }
  EXPECT_EQ(random.state(), uniforms.state());
}

TEST(Random, NeighbouringNormalsAreUncorrelated) {
  constexpr int kDraws = 200000;
  Random random(13);
  double sum = 0, previous = random.normal();
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    sum += x * previous;
    previous = x;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.0112);  // 5 standard errors
}

TEST(Random, NormalScalesWithItsDeviation) {
  Random a(14), b(14);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.normal(0.25), 0.25 * b.normal());
}

}  // namespace
}  // namespace hsm::random_test
