// SPDX-License-Identifier: MIT
//
// The products against plain loops in double, for columns with gaps, sizes around the blocks, and any number of
// threads.
#include <gtest/gtest.h>

#include <array>
#include <hsm/core/product.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::product_test {
namespace {

constexpr double kCanary = -77;

/// n columns with room between them, random, canaries in the gaps.
template <class Scalar>
struct Matrix {
  Index rows, cols, stride;
  std::vector<Scalar> values;

  Matrix(Index r, Index c, Index gap, Random& random)
      : rows(r), cols(c), stride(r + gap), values(static_cast<std::size_t>(stride * c), Scalar(kCanary)) {
    for (Index j = 0; j < c; ++j) {
      for (Index i = 0; i < r; ++i) (*this)(i, j) = static_cast<Scalar>(random.normal());
    }
  }
  Scalar& operator()(Index i, Index j) { return values[static_cast<std::size_t>(i + j * stride)]; }
  double at(Index i, Index j) const {
    return static_cast<double>(values[static_cast<std::size_t>(i + j * stride)]);
  }
  Columns<Scalar> view() { return {values.data(), rows, cols, Eigen::OuterStride<>(stride)}; }
  ConstColumns<Scalar> view() const { return {values.data(), rows, cols, Eigen::OuterStride<>(stride)}; }
  /// The values without the gaps; the gaps must hold canaries.
  std::vector<Scalar> dense() const {
    std::vector<Scalar> result;
    for (Index j = 0; j < cols; ++j) {
      for (Index i = 0; i < stride; ++i) {
        const Scalar value = values[static_cast<std::size_t>(i + j * stride)];
        if (i < rows)
          result.push_back(value);
        else
          EXPECT_EQ(value, Scalar(kCanary)) << "in the gap below column " << j;
      }
    }
    return result;
  }
};

template <class Scalar>
Weights<Scalar> random_weights(Index out, Index in, Random& random) {
  Weights<Scalar> w(out, in);
  for (Index i = 0; i < w.size(); ++i) w.data()[i] = static_cast<Scalar>(random.normal());
  return w;
}

struct Sizes {
  Index out, in, n;
};
/// One column, few, odd numbers, and both sides of the block sizes 128 and 256.
constexpr std::array<Sizes, 18> kSizes{{{1, 1, 1},
                                        {5, 3, 1},
                                        {300, 200, 1},
                                        {7, 1, 9},
                                        {1, 7, 9},
                                        {13, 17, 19},
                                        {128, 8, 256},
                                        {129, 8, 257},
                                        {257, 40, 300},
                                        {520, 5, 3},
                                        {3, 520, 700},
                                        {64, 64, 1030},
                                        {600, 70, 2},
                                        {70, 75, 3},
                                        {37, 2100, 4},
                                        {101, 96, 5},
                                        {66, 65, 8},
                                        {66, 65, 9}}};

template <class Scalar>
class Product : public ::testing::Test {};
TYPED_TEST_SUITE(Product, Scalars);

TYPED_TEST(Product, OfWeightsAndColumnsIsThatOfPlainLoops) {
  Random random(1);
  ThreadedExecutor executor(2);
  SerialExecutor serial;
  for (const auto& [out, in, n] : kSizes) {
    SCOPED_TRACE(::testing::Message() << out << " x " << in << " x " << n);
    const auto w = random_weights<TypeParam>(out, in, random);
    const Matrix<TypeParam> x(in, n, 3, random);
    Matrix<TypeParam> y(out, n, 2, random), threaded = y;
    std::vector<double> expected;
    for (Index j = 0; j < n; ++j) {
      for (Index i = 0; i < out; ++i) {
        double sum = 0;
        for (Index k = 0; k < in; ++k) sum += static_cast<double>(w(i, k)) * x.at(k, j);
        expected.push_back(sum);
      }
    }
    product(w, x.view(), y.view(), serial);
    expect_close_to_scale(y.dense(), expected, Tolerance<TypeParam>::forward, "Y");
    product(w, x.view(), threaded.view(), executor);
    expect_same_bits(threaded.dense(), y.dense(), "Y by two threads");
  }
}

TEST(Products, OfFewColumnsHaveTheBitsOfEachColumnAlone) {
  constexpr Index kFew = hsm::detail::kFewFloatColumns, kOut = 71, kIn = 75;
  if (kFew == 0) GTEST_SKIP() << "a product library multiplies few columns too";
  Random random(6);
  ThreadedExecutor executor(2);
  const auto w = random_weights<float>(kOut, kIn, random);
  const Matrix<float> x(kIn, kFew, 3, random);
  Matrix<float> alone(kOut, kFew, 2, random), together = alone;
  for (Index j = 0; j < kFew; ++j) {
    const auto column = [&](auto view) {
      return decltype(view)(view.data() + j * view.outerStride(), view.rows(), 1,
                            Eigen::OuterStride<>(view.outerStride()));
    };
    product(w, column(x.view()), column(alone.view()), executor);
  }
  for (Index n = 1; n <= kFew; ++n) {
    product(w, ConstColumns<float>(x.values.data(), kIn, n, Eigen::OuterStride<>(x.stride)),
            Columns<float>(together.values.data(), kOut, n, Eigen::OuterStride<>(together.stride)), executor);
    expect_same_bits(together.view().leftCols(n).eval(), alone.view().leftCols(n).eval(), "Y");
  }
}

TYPED_TEST(Product, OfTransposedWeightsReplacesOrAdds) {
  Random random(2);
  ThreadedExecutor executor(2);
  SerialExecutor serial;
  for (const auto& [out, in, n] : kSizes) {
    SCOPED_TRACE(::testing::Message() << out << " x " << in << " x " << n);
    const auto w = random_weights<TypeParam>(out, in, random);
    const Matrix<TypeParam> dy(out, n, 1, random);
    for (const Write write : {Write::kOverwrite, Write::kAdd}) {
      Matrix<TypeParam> dx(in, n, 2, random);
      std::vector<double> expected;
      for (Index j = 0; j < n; ++j) {
        for (Index k = 0; k < in; ++k) {
          double sum = write == Write::kAdd ? dx.at(k, j) : 0;
          for (Index i = 0; i < out; ++i) sum += static_cast<double>(w(i, k)) * dy.at(i, j);
          expected.push_back(sum);
        }
      }
      if (write == Write::kOverwrite) dx.view().setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
      Matrix<TypeParam> threaded = dx;
      product_transposed(w, dy.view(), write, dx.view(), serial);
      expect_close_to_scale(dx.dense(), expected, Tolerance<TypeParam>::forward, "dX");
      product_transposed(w, dy.view(), write, threaded.view(), executor);
      expect_same_bits(threaded.dense(), dx.dense(), "dX by two threads");
    }
  }
}

TYPED_TEST(Product, OfTwoSetsOfColumnsIsAddedToTheWeights) {
  Random random(3);
  ThreadedExecutor executor(2);
  SerialExecutor serial;
  for (const auto& [out, in, n] : kSizes) {
    const Matrix<TypeParam> dy(out, n, 1, random), x(in, n, 4, random);
    for (const Index biased : {Index{0}, out / 2, out}) {
      SCOPED_TRACE(::testing::Message() << out << " x " << in << " x " << n << ", bias of " << biased);
      Weights<TypeParam> dw = random_weights<TypeParam>(out, in, random), threaded = dw;
      Vector<TypeParam> db = Vector<TypeParam>::Constant(biased, 3), threaded_db = db;
      std::vector<double> expected, expected_bias;
      for (Index i = 0; i < out; ++i) {
        for (Index k = 0; k < in; ++k) {
          double sum = static_cast<double>(dw(i, k));
          for (Index j = 0; j < n; ++j) sum += dy.at(i, j) * x.at(k, j);
          expected.push_back(sum);
        }
        double sum = 3;
        for (Index j = 0; j < n; ++j) sum += dy.at(i, j);
        if (i < biased) expected_bias.push_back(sum);
      }
      product_outer(dy.view(), x.view(), dw, db, serial);
      expect_close_to_scale(std::vector<TypeParam>(dw.data(), dw.data() + dw.size()), expected,
                            Tolerance<TypeParam>::forward, "dW");
      expect_close_to_scale(std::vector<TypeParam>(db.data(), db.data() + db.size()), expected_bias,
                            Tolerance<TypeParam>::forward, "db");
      product_outer(dy.view(), x.view(), threaded, threaded_db, executor);
      expect_same_bits(threaded, dw, "dW by two threads");
      expect_same_bits(threaded_db, db, "db by two threads");
    }
  }
}

TYPED_TEST(Product, ShowsEachFinishedElementToTheEpilogueOnce) {
  Random random(4);
  ThreadedExecutor executor(2);
  for (const auto& [out, in, n] : kSizes) {
    const auto w = random_weights<TypeParam>(out, in, random);
    const Matrix<TypeParam> x(in, n, 0, random);
    Matrix<TypeParam> y(out, n, 2, random), plain = y;
    product(w, x.view(), plain.view(), executor);
    product(w, x.view(), y.view(), executor, [&](Index row, Index column, auto& block) {
      for (Index j = 0; j < block.cols(); ++j) {
        for (Index i = 0; i < block.rows(); ++i) block(i, j) += TypeParam(1000 * (row + i) + column + j);
      }
    });
    for (Index j = 0; j < n; ++j) {
      for (Index i = 0; i < out; ++i) plain(i, j) += TypeParam(1000 * i + j);
    }
    expect_same_bits(y.dense(), plain.dense(), "Y");
  }
}

TYPED_TEST(Product, OfNothingIsZeroOrNothing) {
  Random random(5);
  SerialExecutor serial;
  const Weights<TypeParam> no_input(4, 0), no_output(0, 4);
  for (const Index n : {1, 3}) {
    const Matrix<TypeParam> x(0, n, 1, random), full(4, n, 0, random);
    Matrix<TypeParam> y(4, n, 1, random), none(0, n, 1, random);
    product(no_input, x.view(), y.view(), serial);
    EXPECT_EQ(y.dense(), std::vector<TypeParam>(static_cast<std::size_t>(4 * n), 0)) << n;
    product(no_output, full.view(), none.view(), serial);
    Matrix<TypeParam> dx(4, n, 1, random);
    const auto before = dx.dense();
    product_transposed(no_output, std::as_const(none).view(), Write::kAdd, dx.view(), serial);
    EXPECT_EQ(dx.dense(), before);
    product_transposed(no_output, std::as_const(none).view(), Write::kOverwrite, dx.view(), serial);
    EXPECT_EQ(dx.dense(), std::vector<TypeParam>(static_cast<std::size_t>(4 * n), 0)) << n;
  }
  const auto w = random_weights<TypeParam>(4, 4, random);
  Matrix<TypeParam> empty(4, 0, 0, random);
  product(w, std::as_const(empty).view(), empty.view(), serial);
  Weights<TypeParam> dw = w;
  Vector<TypeParam> db = Vector<TypeParam>::Constant(4, 1);
  product_outer(std::as_const(empty).view(), std::as_const(empty).view(), dw, db, serial);
  expect_same_bits(dw, w, "dW of no tokens");
}

// Windows of a signal: columns that overlap (stride 1), or one column again and again (stride 0).
TYPED_TEST(Product, ReadsColumnsThatOverlapOrRepeat) {
  Random random(7);
  SerialExecutor serial;
  for (const auto& [out, in, columns] : kSizes) {
    const Index n = columns;  // clang 14 captures no structured binding
    for (const Index stride : {0, 1, 2}) {
      SCOPED_TRACE(::testing::Message() << out << " x " << in << " x " << n << ", stride " << stride);
      const auto windows = [&](Index rows, std::vector<TypeParam>& signal) {
        signal.resize(static_cast<std::size_t>(rows + stride * (n - 1)));
        for (TypeParam& value : signal) value = static_cast<TypeParam>(random.normal());
        return ConstColumns<TypeParam>(signal.data(), rows, n, Eigen::OuterStride<>(stride));
      };
      const auto w = random_weights<TypeParam>(out, in, random);
      std::vector<TypeParam> signal, other_signal;
      const auto x = windows(in, signal), dy = windows(out, other_signal);
      const OwnedColumns<TypeParam> x_copy = x, dy_copy = dy;
      const auto view = [](const OwnedColumns<TypeParam>& m) {
        return ConstColumns<TypeParam>(m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows()));
      };
      Matrix<TypeParam> y(out, n, 0, random), expected = y, dx(in, n, 0, random), expected_dx = dx;
      product(w, x, y.view(), serial);
      product(w, view(x_copy), expected.view(), serial);
      expect_same_bits(y.dense(), expected.dense(), "Y");
      product_transposed(w, dy, Write::kAdd, dx.view(), serial);
      product_transposed(w, view(dy_copy), Write::kAdd, expected_dx.view(), serial);
      expect_same_bits(dx.dense(), expected_dx.dense(), "dX");
      Weights<TypeParam> dw = w, expected_dw = w;
      Vector<TypeParam> db = Vector<TypeParam>::Zero(out), expected_db = db;
      product_outer(dy, x, dw, db, serial);
      product_outer(view(dy_copy), view(x_copy), expected_dw, expected_db, serial);
      expect_same_bits(dw, expected_dw, "dW");
      expect_same_bits(db, expected_db, "db");
    }
  }
}

// A column's bits do not depend on which columns stand beside it where Eigen multiplies a multiple of 4
// columns.
TYPED_TEST(Product, OfAMultipleOfFourColumnsGivesEachColumnTheSameBits) {
  if (std::string_view(product_library()) != "Eigen") GTEST_SKIP() << "OpenBLAS promises nothing here";
  Random random(6);
  SerialExecutor serial;
  const auto w = random_weights<TypeParam>(96, 64, random);
  const Matrix<TypeParam> x(64, 320, 0, random);
  Matrix<TypeParam> y(96, 320, 0, random);
  product(w, x.view(), y.view(), serial);
  for (const Index first : {0, 4, 60, 256}) {
    for (const Index n : {12, 16, 64}) {
      Matrix<TypeParam> part(96, n, 0, random);
      product(w, ConstColumns<TypeParam>(x.values.data() + first * 64, 64, n, Eigen::OuterStride<>(64)),
              part.view(), serial);
      const auto* from = y.values.data() + first * 96;
      expect_same_bits(part.dense(), std::vector<TypeParam>(from, from + n * 96), "columns");
    }
  }
}

TEST(ProductGrid, IsOfFewEvenBlocks) {
  const auto cut = [](Index rows, Index cols, Index depth) {
    const hsm::detail::Grid grid(rows, cols, depth);
    return std::array<Index, 3>{grid.row_block, grid.col_block, grid.tasks()};
  };
  EXPECT_EQ(cut(8, 256, 8), (std::array<Index, 3>{8, 256, 1}));
  EXPECT_EQ(cut(8, 257, 8), (std::array<Index, 3>{8, 144, 2}));
  EXPECT_EQ(cut(512, 256, 64), (std::array<Index, 3>{256, 256, 2}));
  EXPECT_EQ(cut(512, 1000, 64), (std::array<Index, 3>{512, 256, 4}));
  EXPECT_EQ(cut(0, 0, 3), (std::array<Index, 3>{1, 16, 0}));
}

}  // namespace
}  // namespace hsm::test::product_test
