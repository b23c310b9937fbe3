// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <hsm/core/linear.hpp>
#include <vector>

#include "support/matchers.hpp"
#include "support/message_of.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::linear_test {
namespace {

using Matrix = Eigen::MatrixXf;

Matrix random_matrix(Index rows, Index cols, Random& random) {
  Matrix matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = static_cast<float>(random.normal());
  return matrix;
}
Columns<float> view(Matrix& m) { return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())}; }
ConstColumns<float> view(const Matrix& m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
}

Linear<float> random_linear(Index out, Index in, Index biased, Random& random) {
  Linear<float> linear(out, in, biased, 1, random);
  for (Index i = 0; i < biased; ++i) linear.bias[i] = static_cast<float>(random.normal());
  return linear;
}

TEST(Linear, ForwardIsThatOfPlainLoops) {
  Random random(1);
  SerialExecutor executor;
  for (const Index out : {1, 9, 300}) {
    for (const Index biased : {Index{0}, out / 2, out}) {
      for (const Index n : {1, 5, 270}) {
        const Linear<float> linear = random_linear(out, 33, biased, random);
        const Matrix x = random_matrix(33, n, random);
        Matrix y = Matrix::Constant(out, n, std::numeric_limits<float>::quiet_NaN());
        Eigen::MatrixXd expected(out, n);
        for (Index i = 0; i < out; ++i) {
          for (Index j = 0; j < n; ++j) {
            double sum = i < biased ? static_cast<double>(linear.bias[i]) : 0;
            for (Index k = 0; k < 33; ++k) {
              sum += static_cast<double>(linear.weight(i, k)) * static_cast<double>(x(k, j));
            }
            expected(i, j) = sum;
          }
        }
        linear.forward(view(x), view(y), executor);
        expect_close_to_scale(y, expected, Tolerance<float>::forward, "y");
        Matrix negated = y;
        linear.forward(view(x), view(negated), executor,
                       [](Index, Index, Columns<float>& block) { block = -block; });
        expect_same_bits((-negated).eval(), y, "after an epilogue");
      }
    }
  }
}

// <dy, W x> = <W^T dy, x> and the derivative of <dy, W x + b> in W and b.
TEST(Linear, BackwardIsThatOfPlainLoops) {
  Random random(2);
  SerialExecutor executor;
  const Index out = 20, in = 7, n = 13;
  const Linear<float> linear = random_linear(out, in, 15, random);
  const Matrix x = random_matrix(in, n, random), dy = random_matrix(out, n, random);
  Matrix dx = Matrix::Ones(in, n);
  Linear<float> gradients = linear;
  gradients.weight.setConstant(2);
  gradients.bias.setConstant(3);
  linear.backward_input(view(dy), Write::kAdd, view(dx), executor);
  Linear<float>::backward_parameters(view(x), view(dy), gradients, executor);

  const auto wide = [](float value) { return static_cast<double>(value); };
  Eigen::MatrixXd expected_dx(in, n), expected_dw(out, in);
  Eigen::VectorXd expected_db(15);
  for (Index k = 0; k < in; ++k) {
    for (Index j = 0; j < n; ++j) {
      double sum = 1;
      for (Index i = 0; i < out; ++i) sum += wide(linear.weight(i, k)) * wide(dy(i, j));
      expected_dx(k, j) = sum;
    }
  }
  for (Index i = 0; i < out; ++i) {
    double bias = 3;
    for (Index j = 0; j < n; ++j) bias += wide(dy(i, j));
    if (i < 15) expected_db[i] = bias;
    for (Index k = 0; k < in; ++k) {
      double sum = 2;
      for (Index j = 0; j < n; ++j) sum += wide(dy(i, j)) * wide(x(k, j));
      expected_dw(i, k) = sum;
    }
  }
  expect_close_to_scale(dx, expected_dx, Tolerance<float>::forward, "dx");
  expect_close_to_scale(gradients.weight, expected_dw, Tolerance<float>::forward, "dW");
  expect_close_to_scale(gradients.bias, expected_db, Tolerance<float>::forward, "db");
}

TEST(Linear, StartsWithWeightsOfTheGivenDeviationAndNoBias) {
  Random random(3);
  const Linear<double> linear(200, 300, 100, 0.02, random);
  EXPECT_EQ(linear.out(), 200);
  EXPECT_EQ(linear.in(), 300);
  EXPECT_EQ(linear.bias.size(), 100);
  EXPECT_TRUE((linear.bias.array() == 0).all());
  const double mean = linear.weight.mean(), variance = (linear.weight.array() - mean).square().mean();
  EXPECT_NEAR(mean, 0, 4 * 0.02 / std::sqrt(60000.0));
  EXPECT_NEAR(std::sqrt(variance), 0.02, 0.02 * 0.015);
}

TEST(Linear, RefusesSizesThatMakeNoSense) {
  Random random(4);
  EXPECT_THROW(Linear<float>(-1, 2, 0, 1, random), std::invalid_argument);
  EXPECT_THROW(Linear<float>(2, -1, 0, 1, random), std::invalid_argument);
  EXPECT_THROW(Linear<float>(2, 2, 3, 1, random), std::invalid_argument);
  EXPECT_THROW(Linear<float>(2, 2, -1, 1, random), std::invalid_argument);
}

TEST(Linear, IsCheckedForItsSizesAndForHowMuchBiasItMayHave) {
  Random random(5);
  const auto refusal = [&](Index out, Index in, Index bias, Index least_bias) {
    Linear<float> linear(3, 4, 0, 1, random);
    linear.bias.setZero(bias);
    return message_of<std::invalid_argument>(
        [&] { hsm::detail::check_linear("A", "map", linear, out, in, least_bias); });
  };
  for (const Index bias : {0, 1, 3}) EXPECT_EQ(refusal(3, 4, bias, 0), "nothing") << bias;
  EXPECT_EQ(refusal(3, 4, 3, 3), "nothing");
  EXPECT_EQ(refusal(3, 4, 4, 0),
            "A: map must be [3,4] with a bias of at most 3 rows, got [3,4] with a bias of 4 rows");
  EXPECT_EQ(refusal(3, 4, 2, 3),
            "A: map must be [3,4] with a bias of 3 rows, got [3,4] with a bias of 2 rows");
  EXPECT_EQ(refusal(2, 4, 2, 0),
            "A: map must be [2,4] with a bias of at most 2 rows, got [3,4] with a bias of 2 rows");
  EXPECT_NE(refusal(3, 5, 3, 3), "nothing");
}

}  // namespace
}  // namespace hsm::test::linear_test
