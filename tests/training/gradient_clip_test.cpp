// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include <hsm/core/random.hpp>
#include <hsm/training/gradient_clip.hpp>

#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::gradient_clip_test {
namespace {

using test::expect_close;
using test::expect_same_bits;
using test::Tolerance;

template <class Scalar>
struct Pair {
  Weights<Scalar> weight;
  Vector<Scalar> bias;

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("weight", self.weight, more.weight...);
    f("bias", self.bias, more.bias...);
  }
};

template <class Scalar>
Pair<Scalar> random_pair(Index rows, Index columns) {
  Random random(31);
  Pair<Scalar> pair{Weights<Scalar>(rows, columns), Vector<Scalar>(rows)};
  for (Index i = 0; i < pair.weight.size(); ++i) pair.weight.data()[i] = static_cast<Scalar>(random.normal());
  for (Index i = 0; i < rows; ++i) pair.bias[i] = static_cast<Scalar>(random.normal());
  return pair;
}

template <class Scalar>
std::vector<double> all_values(const Pair<Scalar>& pair) {
  std::vector<double> values(pair.weight.data(), pair.weight.data() + pair.weight.size());
  values.insert(values.end(), pair.bias.data(), pair.bias.data() + pair.bias.size());
  return values;
}

template <class Scalar>
double norm_reference(const Pair<Scalar>& pair) {
  long double sum = 0;
  for (const double value : all_values(pair)) sum += static_cast<long double>(value) * value;
  return static_cast<double>(std::sqrt(sum));
}

template <class Scalar>
class GradientClip : public ::testing::Test {};

TYPED_TEST_SUITE(GradientClip, test::Scalars);

TYPED_TEST(GradientClip, NormIsThatOfAllTensorsTogether) {
  for (const Index rows : {1, 3, 8, 13, 100}) {
    for (const Index columns : {0, 1, 7, 64}) {
      const auto pair = random_pair<TypeParam>(rows, columns);
      expect_close(global_norm(pair), norm_reference(pair), 0, 1e-14, "norm");
    }
  }
  const Pair<TypeParam> simple{Weights<TypeParam>::Constant(1, 1, TypeParam(3)),
                               Vector<TypeParam>::Constant(1, TypeParam(-4))};
  EXPECT_EQ(global_norm(simple), 5.0);
}

TYPED_TEST(GradientClip, NormKeepsSmallTermsBesideManyLargeOnes) {
  // Each square is 1 part in 1e8 of the sum: a sum in float would lose half of them.
  Pair<TypeParam> pair{Weights<TypeParam>::Constant(1000, 1000, TypeParam(1e-4)),
                       Vector<TypeParam>::Constant(1, TypeParam(1))};
  expect_close(global_norm(pair), norm_reference(pair), 0, 1e-12, "norm");
}

TYPED_TEST(GradientClip, ALargeNormIsScaledToTheBound) {
  auto gradients = random_pair<TypeParam>(20, 30);
  const double before = norm_reference(gradients);
  std::vector<double> expected = all_values(gradients);
  for (double& value : expected) value *= 0.5 / before;
  expect_close(clip_global_norm(gradients, 0.5), before, 0, 1e-14, "norm before");
  expect_close(all_values(gradients), expected, 0, Tolerance<TypeParam>::epsilon * 2, "clipped gradients");
  expect_close(norm_reference(gradients), 0.5, 0, Tolerance<TypeParam>::epsilon, "norm after");
}

TYPED_TEST(GradientClip, ASmallNormChangesNothing) {
  auto gradients = random_pair<TypeParam>(20, 30);
  const auto original = gradients;
  const double norm = global_norm(gradients);
  for (const double bound : {norm, 2 * norm, std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(clip_global_norm(gradients, bound), norm);
    expect_same_bits(gradients.weight, original.weight, "weight");
    expect_same_bits(gradients.bias, original.bias, "bias");
  }
}

TYPED_TEST(GradientClip, ZeroGradientsStayZero) {
  Pair<TypeParam> gradients{Weights<TypeParam>::Zero(4, 4), Vector<TypeParam>::Zero(4)};
  EXPECT_EQ(clip_global_norm(gradients, 1.0), 0.0);
  expect_same_bits(gradients.weight, Weights<TypeParam>::Zero(4, 4).eval(), "weight");
}

TYPED_TEST(GradientClip, ANormThatIsNotFiniteIsReturnedAndScalesNothing) {
  for (const TypeParam bad :
       {std::numeric_limits<TypeParam>::quiet_NaN(), std::numeric_limits<TypeParam>::infinity(),
        -std::numeric_limits<TypeParam>::infinity()}) {
    for (const Index at : {0, 57, 99}) {
      auto gradients = random_pair<TypeParam>(10, 10);
      gradients.weight.data()[at] = bad;
      const auto original = gradients;
      EXPECT_FALSE(std::isfinite(clip_global_norm(gradients, 0.1)));
      expect_same_bits(gradients.weight, original.weight, "weight");
      expect_same_bits(gradients.bias, original.bias, "bias");
    }
  }
}

TEST(GradientClipOfFloat, DoesNotOverflowWhereTheSquaresWould) {
  Pair<float> gradients{Weights<float>::Constant(2, 2, 3e38f), Vector<float>::Zero(1)};
  expect_close(clip_global_norm(gradients, 1.0), 6e38, 0, 1e-7, "norm");
  expect_close(gradients.weight, Eigen::MatrixXd::Constant(2, 2, 0.5), 0, 2e-7, "clipped gradients");
}

TYPED_TEST(GradientClip, RefusesABoundThatIsNotPositive) {
  auto gradients = random_pair<TypeParam>(2, 2);
  EXPECT_THROW(clip_global_norm(gradients, 0.0), std::invalid_argument);
  EXPECT_THROW(clip_global_norm(gradients, -1.0), std::invalid_argument);
  EXPECT_THROW(clip_global_norm(gradients, std::nan("")), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::gradient_clip_test
