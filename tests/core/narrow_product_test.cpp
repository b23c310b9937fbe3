// SPDX-License-Identifier: MIT
//
// Matrices in fewer bytes: what is stored of a number, against the definition, and products with them against plain
// loops in double over what the weights are worth.
#include <gtest/gtest.h>

#include <array>
#include <cfenv>
#include <cmath>
#include <hsm/core/linear.hpp>
#include <hsm/core/narrow_product.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/matchers.hpp"
#include "support/message_of.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::narrow_product_test {
namespace {

using Limits = std::numeric_limits<float>;

/// The bfloat16 next to a finite x by its definition, 8 digits in base 2: of two equally near ones the even.
double nearest_bfloat16(float x) {
  if (x == 0) return 0;
  const int exponent = (std::max)(std::ilogb(x) - 7, -133);  // of the last digit
  const double digits = std::ldexp(static_cast<double>(x), -exponent), below = std::floor(digits);
  const double rest = digits - below;
  const bool up = rest > 0.5 || (rest == 0.5 && std::fmod(below, 2.0) != 0);
  const double value = std::ldexp(below + (up ? 1 : 0), exponent);
  return std::abs(value) < std::ldexp(1.0, 128) ? value : std::copysign(Limits::infinity(), value);
}

TEST(Bfloat16, IsTheNextOneAndEvenBetweenTwo) {
  Random random(1);
  std::vector<float> numbers{0.0F,          1.0F,       1.00390625F, 1.01171875F,  -1.00390625F,
                             Limits::max(), 3.3895e38F, 3.39618e38F, Limits::min()};
  for (int i = 0; i < 20000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random.below(0x7F800000u)) |
                      static_cast<std::uint32_t>(random.below(2)) << 31;
    numbers.push_back(hsm::detail::bit_cast<float>(bits));
    numbers.push_back(hsm::detail::bit_cast<float>((bits & 0xFFFF0000u) | 0x8000u));  // half way
  }
  for (const float x : numbers) {
    if (std::abs(x) < Limits::min() && x != 0) continue;  // 0 where the processor is told so
    ASSERT_EQ(static_cast<double>(bfloat16_to_float(float_to_bfloat16(x))), nearest_bfloat16(x)) << x;
  }
}

TEST(Bfloat16, KeepsZerosInfinityAndNan) {
  const auto kept = [](std::uint32_t bits) {
    return static_cast<std::uint32_t>(float_to_bfloat16(hsm::detail::bit_cast<float>(bits))) << 16;
  };
  EXPECT_EQ(kept(0x00000000u), 0x00000000u);
  EXPECT_EQ(kept(0x80000000u), 0x80000000u);
  EXPECT_EQ(kept(0x7F800000u), 0x7F800000u);
  EXPECT_EQ(kept(0xFF800000u), 0xFF800000u);
  for (const std::uint32_t nan :
       {0x7FC00000u, 0xFFC00000u, 0x7FC12345u, 0x7FFFFFFFu, 0xFFFFFFFFu, 0x7F800001u})
    EXPECT_TRUE(hsm::detail::is_nan(hsm::detail::bit_cast<float>(kept(nan)))) << std::hex << nan;
}

Weights<float> random_weights(Index rows, Index columns, std::uint64_t seed) {
  Random random(seed);
  Weights<float> w(rows, columns);
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<float>(random.normal(0.05));
  return w;
}

TEST(NarrowMatrix, OfBfloat16HoldsTheNextOfEachValue) {
  const Weights<float> w = random_weights(5, 37, 2);
  const NarrowMatrix narrow(Storage::kBfloat16, w);
  EXPECT_EQ(narrow.bytes(), 2u * 5 * 37);
  for (Index i = 0; i < 5; ++i)
    for (Index j = 0; j < 37; ++j)
      ASSERT_EQ(static_cast<double>(narrow.at(i, j)), nearest_bfloat16(w(i, j))) << i << "," << j;
}

/// Lengths around a group, and the groups that they have.
constexpr std::array<std::array<Index, 2>, 9> kLengths{
    {{1, 1}, {31, 1}, {32, 1}, {33, 2}, {63, 2}, {64, 2}, {65, 3}, {96, 3}, {100, 4}}};

TEST(NarrowMatrix, OfInt8HoldsWholeNumbersOfAScaleForEachGroup) {
  for (const auto& [length, groups] : kLengths) {
    SCOPED_TRACE(length);
    Weights<float> w = random_weights(4, length, 3);
    w.row(2).setZero();
    w(3, length - 1) = -2;  // alone the largest of the last group
    const NarrowMatrix narrow(Storage::kInt8, w);
    ASSERT_EQ(narrow.groups(), groups);
    EXPECT_EQ(narrow.bytes(), static_cast<std::size_t>(4 * length + 4 * groups * 4));
    for (Index i = 0; i < 4; ++i) {
      for (Index g = 0; g < groups; ++g) {
        double largest = 0;
        int largest_stored = 0;
        const float scale = narrow.scales()(i * groups + g);
        for (Index j = 32 * g; j < (std::min)(32 * g + 32, length); ++j) {
          const double value = static_cast<double>(w(i, j));
          const int q = narrow.int8s()(i * length + j);
          largest = (std::max)(largest, std::abs(value));
          largest_stored = (std::max)(largest_stored, std::abs(q));
          EXPECT_LE(std::abs(q * static_cast<double>(scale) - value),
                    (0.5 + 1e-4) * static_cast<double>(scale))
              << i << "," << j;
          EXPECT_EQ(narrow.at(i, j), static_cast<float>(q) * scale);
        }
        EXPECT_NEAR(static_cast<double>(scale), largest / 127, largest / 127 * 1.2e-7);
        EXPECT_LE(static_cast<double>(scale) * 127, largest);
        EXPECT_EQ(largest_stored, i == 2 ? 0 : 127);
      }
    }
    EXPECT_EQ(narrow.int8s()(4 * length - 1), -127);
  }
}

TEST(NarrowMatrix, OfInt8RoundsToEvenBetweenTwo) {
  Weights<float> w(1, 6);
  w << 127, 0.5F, 1.5F, -2.5F, 126.5F, -0.5F;
  const NarrowMatrix narrow(Storage::kInt8, w);
  EXPECT_EQ(narrow.scales()(0), 1.0F);
  const std::array<int, 6> expected{127, 0, 2, -2, 126, 0};
  for (Index j = 0; j < 6; ++j) EXPECT_EQ(narrow.int8s()(j), expected[static_cast<std::size_t>(j)]) << j;
}

TEST(NarrowMatrix, OfInt8TakesTheLargestAndSmallestNumbers) {
  Weights<float> w(3, 2);
  w << Limits::max(), -Limits::max(), 1e-37F, -1e-37F, 200 * Limits::min(), -Limits::min();
  const NarrowMatrix narrow(Storage::kInt8, w);
  EXPECT_TRUE(hsm::detail::is_finite(narrow.at(0, 0)));
  EXPECT_EQ(narrow.at(0, 0), -narrow.at(0, 1));
  EXPECT_EQ(narrow.scales()(1), 0.0F);  // 1e-37 / 127 is no normal number
  EXPECT_EQ(narrow.at(1, 0), 0.0F);
  EXPECT_EQ(narrow.int8s()(4), 127);
  EXPECT_EQ(narrow.int8s()(5), -1);
}

TEST(NarrowMatrix, RefusesWhatItCannotHold) {
  const auto message = [](Storage storage, float value) {
    Weights<float> w = Weights<float>::Ones(2, 40);
    w(1, 35) = value;
    return message_of<std::invalid_argument>([&] { NarrowMatrix(storage, w); });
  };
  EXPECT_EQ(message(Storage::kInt8, Limits::infinity()),
            "NarrowMatrix: weights that are stored as int8 must be finite, got inf");
  EXPECT_NE(message(Storage::kInt8, Limits::quiet_NaN()).find("got nan"), std::string::npos);
  EXPECT_NE(message(Storage::kBfloat16, Limits::max()).find("below 3.39e38"), std::string::npos);
}

TEST(NarrowMatrix, ThatCannotBeStoredOtherwiseStaysAsItWas) {
  Random random(1);
  Linear<float> linear(2, 40, 2, 1.0, random);
  linear.weight.setConstant(3.4e38F);
  linear.store(Storage::kInt8);
  const NarrowMatrix before = linear.narrow;
  EXPECT_NE(
      message_of<std::invalid_argument>([&] { linear.store(Storage::kBfloat16); }).find("below 3.39e38"),
      std::string::npos);
  EXPECT_EQ(linear.narrow.storage(), Storage::kInt8);
  EXPECT_EQ(linear.weight.size(), 0);
  EXPECT_EQ(linear.narrow.widened<float>(), before.widened<float>());
}

TEST(NarrowMatrix, IsWidenedToWhatItIsWorth) {
  for (const Storage storage : {Storage::kBfloat16, Storage::kInt8}) {
    const NarrowMatrix narrow(storage, random_weights(3, 45, 4));
    const auto wide = narrow.widened<double>();
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j < 45; ++j) ASSERT_EQ(wide(i, j), static_cast<double>(narrow.at(i, j)));
    const NarrowMatrix again(storage, narrow.widened<float>());  // nothing more is lost
    EXPECT_EQ(again.bfloat16s(), narrow.bfloat16s());
  }
}

template <class Scalar>
class NarrowProduct : public ::testing::Test {};
TYPED_TEST_SUITE(NarrowProduct, Scalars);

struct Sizes {
  Index out, in, n;
};
/// Rows around a tile and a block, groups and their rests, columns around a tile and where tiles end, and more values of a
/// column than are rounded at once, of one and of all.
constexpr std::array<Sizes, 17> kSizes{{{1, 1, 1},
                                        {4, 32, 1},
                                        {5, 31, 1},
                                        {3, 33, 2},
                                        {7, 100, 3},
                                        {9, 64, 4},
                                        {67, 129, 5},
                                        {300, 260, 1},
                                        {130, 40, 15},
                                        {66, 65, 16},
                                        {66, 65, 17},
                                        {150, 37, 33},
                                        {300, 2100, 18},
                                        {5, 16384 + 40, 2},
                                        {3, 6000, 7},
                                        {2, 3 * 16384, 1},
                                        {3, 0, 2}}};

/// What rounding x to 16 bits may cost at most.
template <class Scalar>
double rounding_bound(const NarrowMatrix& w, Index row, const OwnedColumns<Scalar>& x, Index column) {
  double bound = 0;
  for (Index first = 0; first < w.cols(); first += 32) {
    double largest = 0, weights = 0;
    for (Index k = first; k < (std::min)(first + 32, w.cols()); ++k) {
      largest = (std::max)(largest, std::abs(static_cast<double>(x(k, column))));
      weights += std::abs(static_cast<double>(w.at(row, k)));
    }
    bound += largest / 32767 / 2 * weights;
  }
  return bound;
}

TYPED_TEST(NarrowProduct, IsThatOfPlainLoopsWithinTheBound) {
  Random random(5);
  SerialExecutor serial;
  ThreadedExecutor threads(2);
  for (const Storage storage : {Storage::kBfloat16, Storage::kInt8}) {
    for (const Sizes& sizes : kSizes) {
      const Index out = sizes.out, in = sizes.in, n = sizes.n;
      SCOPED_TRACE(::testing::Message() << storage_name(storage) << " " << out << " x " << in << " x " << n);
      const Weights<float> weights = random_weights(out, in, 6);
      const NarrowMatrix w(storage, weights);
      const Index gap = 3;
      OwnedColumns<TypeParam> x(in + gap, n), y(out + gap, n);
      for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<TypeParam>(random.normal(1.0));
      y.setConstant(-77);
      OwnedColumns<TypeParam> threaded = y;
      const ConstColumns<TypeParam> from(x.data(), in, n, Eigen::OuterStride<>(in + gap));
      const auto to = [&](OwnedColumns<TypeParam>& memory) {
        return Columns<TypeParam>(memory.data(), out, n, Eigen::OuterStride<>(out + gap));
      };
      Index seen = 0;
      product(w, from, to(y), serial, [&](Index row, Index column, auto& block) {
        seen += block.size();
        ASSERT_EQ(block.data(), y.data() + row + column * (out + gap));
      });
      product(w, from, to(threaded), threads);
      EXPECT_EQ(seen, out * n);
      expect_same_bits(threaded, y, "two threads");
      for (Index j = 0; j < n; ++j) {
        for (Index i = 0; i < out; ++i) {
          double sum = 0, magnitude = 0;
          for (Index k = 0; k < in; ++k) {
            const double term = static_cast<double>(w.at(i, k)) * static_cast<double>(x(k, j));
            sum += term;
            magnitude += std::abs(term);
          }
          double bound = static_cast<double>(in) * Tolerance<TypeParam>::epsilon * magnitude;
          if (std::is_same_v<TypeParam, float> && storage == Storage::kInt8 && n <= 16)
            bound += rounding_bound(w, i, x, j);
          ASSERT_LE(std::abs(static_cast<double>(y(i, j)) - sum), bound) << i << "," << j;
        }
        for (Index i = out; i < out + gap; ++i) ASSERT_EQ(y(i, j), TypeParam(-77)) << "in a gap";
      }
    }
  }
}

TEST(NarrowProducts, OfFewColumnsHaveTheBitsOfEachColumnAlone) {
  const Index out = 71, in = 75;
  SerialExecutor serial;
  Random random(7);
  OwnedColumns<float> x(in, 16), all(out, 16), one(out, 16);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(random.normal(1.0));
  for (const Storage storage : {Storage::kBfloat16, Storage::kInt8}) {
    const NarrowMatrix w(storage, random_weights(out, in, 8));
    for (Index n = 1; n <= 16; ++n) {
      product(w, ConstColumns<float>(x.data(), in, n, Eigen::OuterStride<>(in)),
              Columns<float>(all.data(), out, n, Eigen::OuterStride<>(out)), serial);
      if (n == 1) one = all;
      expect_same_bits(all.col(0), one.col(0), "the first column");
    }
    for (Index j = 0; j < 16; ++j)
      product(w, ConstColumns<float>(x.data() + j * in, in, 1, Eigen::OuterStride<>(in)),
              Columns<float>(one.data() + j * out, out, 1, Eigen::OuterStride<>(out)), serial);
    expect_same_bits(all, one, "column by column");
  }
}

TEST(NarrowProducts, OfInt8BearEveryRoundingMode) {
  const NarrowMatrix narrow(Storage::kInt8, random_weights(7, 64, 3));
  const Eigen::MatrixXd worth = narrow.widened<double>();
  const OwnedColumns<float> x = OwnedColumns<float>::Constant(64, 3, 3.0F);
  OwnedColumns<float> y(7, 3);
  SerialExecutor serial;
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST}) {
    std::fesetround(mode);
    product(narrow, ConstColumns<float>(x.data(), 64, 3, Eigen::OuterStride<>(64)),
            Columns<float>(y.data(), 7, 3, Eigen::OuterStride<>(7)), serial);
    std::fesetround(FE_TONEAREST);
    const Eigen::MatrixXd expected = worth * x.cast<double>();
    expect_close_to_scale(y, expected, 1e-3, "rounding mode " + std::to_string(mode));
  }
}

TEST(NarrowProducts, OfInt8KeepTheSizeOfBoth) {
  const Index in = 70;
  SerialExecutor serial;
  const Weights<float> weights = random_weights(3, in, 10);
  const NarrowMatrix w(Storage::kInt8, weights);
  const auto product_with = [&](const NarrowMatrix& matrix, const OwnedColumns<float>& x) {
    OwnedColumns<float> y(3, 1);
    product(matrix, ConstColumns<float>(x.data(), in, 1, Eigen::OuterStride<>(in)),
            Columns<float>(y.data(), 3, 1, Eigen::OuterStride<>(3)), serial);
    return y;
  };
  const auto product_of = [&](const OwnedColumns<float>& x) { return product_with(w, x); };
  Random random(11);
  OwnedColumns<float> x(in, 1);
  for (Index i = 0; i < in; ++i) x(i) = static_cast<float>(random.normal(1.0));
  const OwnedColumns<float> y = product_of(x);
  for (const int power : {-80, -20, 20, 110}) {
    const float factor = std::ldexp(1.0F, power);
    expect_same_bits(product_of(x * factor), y * factor, "times a power of 2");
  }
  for (const int power : {-112, 100}) {  // the scales of w and x times each other are no normal number
    const float factor = std::ldexp(1.0F, power);
    const NarrowMatrix scaled(Storage::kInt8, Weights<float>(weights * factor));
    expect_same_bits(product_with(scaled, x), y * factor, "weights times a power of 2");
  }
  EXPECT_EQ(product_of(x * 0.0F), y * 0.0F);
  expect_close_to_scale(product_of(x * std::ldexp(1.0F, -100)), y * std::ldexp(1.0F, -100), 0.1F, "tiny x");
  const NarrowMatrix ones(Storage::kInt8,
                          Weights<float>(Weights<float>::Ones(1, 63)));  // a group, and 31 values
  const OwnedColumns<float> largest = OwnedColumns<float>::Constant(63, 1, 0x1p117F);
  OwnedColumns<float> sum(1, 1);
  product(ones, ConstColumns<float>(largest.data(), 63, 1, Eigen::OuterStride<>(63)),
          Columns<float>(sum.data(), 1, 1, Eigen::OuterStride<>(1)), serial);
  EXPECT_NEAR(static_cast<double>(sum(0)), 63 * 0x1p117, 0x1p117);
  for (const float value : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()}) {
    OwnedColumns<float> broken = x;
    broken(in - 1) = value;
    for (Index i = 0; i < 3; ++i) EXPECT_TRUE(hsm::detail::is_nan(product_of(broken)(i))) << value;
  }
}

TEST(NarrowLinear, RunsForwardAndRefusesTheRest) {
  Random random(9);
  SerialExecutor serial;
  Linear<float> linear(6, 40, 4, 0.2, random);
  linear.bias << 1, 2, 3, 4;
  Linear<float> narrow = linear;
  narrow.store(Storage::kBfloat16);
  EXPECT_EQ(narrow.weight.size(), 0);
  EXPECT_EQ(narrow.out(), 6);
  EXPECT_EQ(narrow.in(), 40);
  OwnedColumns<float> x(40, 3), y(6, 3), expected(6, 3);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(random.normal(1.0));
  const ConstColumns<float> from(x.data(), 40, 3, Eigen::OuterStride<>(40));
  const auto to = [](OwnedColumns<float>& memory) {
    return Columns<float>(memory.data(), 6, 3, Eigen::OuterStride<>(6));
  };
  narrow.forward(from, to(y), serial);
  Linear<float> wide = narrow;
  wide.store(Storage::kFloat);
  EXPECT_TRUE(wide.narrow.empty());
  wide.forward(from, to(expected), serial);
  expect_close_to_scale(y, expected, Tolerance<float>::mode, "y");
  EXPECT_EQ(
      message_of<std::invalid_argument>(
          [&] { narrow.backward_input(from, Write::kOverwrite, to(y), serial); }),
      "Linear::backward_input: the weights must be stored as float, to be trained or changed, got bf16");
  EXPECT_EQ(message_of<std::invalid_argument>([&] { set_zero(narrow); }),
            "visit: the weights must be stored as float, to be trained or changed, got bf16");
  EXPECT_EQ(count_parameters(narrow), 6 * 40 + 4);
}

}  // namespace
}  // namespace hsm::test::narrow_product_test
