// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/core/random.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/training/cross_entropy.hpp>

#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::cross_entropy_test {
namespace {

using test::expect_close;
using test::expect_close_to_scale;
using test::expect_same_bits;
using test::Tolerance;

using Ids = std::vector<std::int32_t>;

constexpr double kGap = -77;  // between columns: never read, never written

/// n columns of V random logits, `gap` values between them.
template <class Scalar>
struct Batch {
  Index V, n, stride;
  std::vector<Scalar> logits;
  Ids targets;

  Batch(Index vocabulary, Index count, Index gap = 0, double deviation = 3)
      : V(vocabulary),
        n(count),
        stride(vocabulary + gap),
        logits(static_cast<std::size_t>(stride * n), static_cast<Scalar>(kGap)),
        targets(static_cast<std::size_t>(n)) {
    Random random(51);
    for (Index t = 0; t < n; ++t) {
      for (Index v = 0; v < V; ++v) at(v, t) = static_cast<Scalar>(random.normal(deviation));
      targets[static_cast<std::size_t>(t)] =
          static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(V)));
    }
  }

  Scalar& at(Index v, Index t) { return logits[static_cast<std::size_t>(t * stride + v)]; }
  double value(Index v, Index t) const { return logits[static_cast<std::size_t>(t * stride + v)]; }
  std::int32_t target(Index t) const { return targets[static_cast<std::size_t>(t)]; }

  ConstColumns<Scalar> view() const { return {logits.data(), V, n, Eigen::OuterStride<>(stride)}; }
  Columns<Scalar> writable() { return {logits.data(), V, n, Eigen::OuterStride<>(stride)}; }
};

/// -log softmax of each token by plain loops.
template <class Scalar>
std::vector<double> losses_reference(const Batch<Scalar>& batch) {
  std::vector<double> losses;
  for (Index t = 0; t < batch.n; ++t) {
    double most = batch.value(0, t), sum = 0;
    for (Index v = 1; v < batch.V; ++v) most = std::fmax(most, batch.value(v, t));
    for (Index v = 0; v < batch.V; ++v) sum += std::exp(batch.value(v, t) - most);
    losses.push_back(batch.target(t) < 0 ? 0 : std::log(sum) + most - batch.value(batch.target(t), t));
  }
  return losses;
}

double total(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

template <class Scalar>
class CrossEntropyOf : public ::testing::Test {
 protected:
  SerialExecutor serial;
};

TYPED_TEST_SUITE(CrossEntropyOf, test::Scalars);

TYPED_TEST(CrossEntropyOf, EqualsThePlainLoopForEverySize) {
  for (const Index V : {1, 2, 15, 16, 17, 31, 33, 100, 511, 512, 513, 4099}) {
    for (const Index n : {1, 2, 17}) {
      for (const Index gap : {0, 5}) {
        const Batch<TypeParam> batch(V, n, gap);
        std::vector<double> losses(static_cast<std::size_t>(n));
        const CrossEntropy result = cross_entropy(batch.view(), batch.targets, this->serial, losses);
        const std::vector<double> expected = losses_reference(batch);
        const std::string label = "V = " + std::to_string(V) + ", n = " + std::to_string(n);
        // exp and the difference to the maximum, of logits up to 12: 12 roundings and the bound of exp.
        const double tolerance = 16 * Tolerance<TypeParam>::epsilon;
        expect_close(losses, expected, tolerance, tolerance, label + " losses");
        expect_close(result.sum, total(expected), static_cast<double>(n) * tolerance, tolerance, label);
        EXPECT_EQ(result.count, n);
        expect_close(result.mean(), total(expected) / static_cast<double>(n), tolerance, tolerance, label);
        EXPECT_EQ(cross_entropy(batch.view(), batch.targets, this->serial).sum, result.sum);
      }
    }
  }
}

TYPED_TEST(CrossEntropyOf, EqualLogitsCostTheLogarithmOfTheVocabulary) {
  Batch<TypeParam> batch(256, 3);
  for (TypeParam& logit : batch.logits) logit = TypeParam(4.25);
  expect_close(cross_entropy(batch.view(), batch.targets, this->serial).mean(), std::log(256.0), 0, 1e-14,
               "mean");
}

TYPED_TEST(CrossEntropyOf, IsExactForLogitsOfAnySize) {
  Batch<TypeParam> batch(100, 4);
  for (const double size : {1e4, 1e30}) {
    for (Index t = 0; t < batch.n; ++t) {
      for (Index v = 0; v < batch.V; ++v) batch.at(v, t) = static_cast<TypeParam>(-size);
    }
    // The target alone on top, two tied on top, the target beside the top, and the target far below it.
    batch.targets = {7, 7, 7, 8};
    batch.at(7, 0) = static_cast<TypeParam>(size);
    batch.at(7, 1) = batch.at(8, 1) = static_cast<TypeParam>(size);
    batch.at(7, 2) = TypeParam(1);
    batch.at(8, 2) = TypeParam(0);
    batch.at(7, 3) = static_cast<TypeParam>(size);
    std::vector<double> losses(4);
    cross_entropy(batch.view(), batch.targets, this->serial, losses);
    EXPECT_EQ(losses[0], 0.0);
    expect_close(losses[1], std::log(2.0), 0, 1e-14, "a tie");
    expect_close(losses[2], std::log1p(std::exp(-1.0)), 0, Tolerance<TypeParam>::element, "one apart");
    expect_close(losses[3], 2 * size, 0, 1e-6, "far below");
    auto gradient = batch;
    cross_entropy_gradient(gradient.writable(), gradient.targets, 1.0, this->serial);
    for (const TypeParam value : gradient.logits) ASSERT_LE(std::abs(value), TypeParam(1));
    EXPECT_EQ(gradient.at(7, 3), TypeParam(1));
    EXPECT_EQ(gradient.at(8, 3), TypeParam(-1));
  }
}

TYPED_TEST(CrossEntropyOf, MinusInfinityBesideFiniteLogitsIsProbabilityZero) {
  Batch<TypeParam> batch(20, 1);
  batch.targets = {3};
  for (const Index v : {0, 5, 19}) batch.at(v, 0) = -std::numeric_limits<TypeParam>::infinity();
  const std::vector<double> expected = losses_reference(batch);
  expect_close(cross_entropy(batch.view(), batch.targets, this->serial).sum, expected[0], 1e-5, 0, "loss");
  cross_entropy_gradient(batch.writable(), batch.targets, 1.0, this->serial);
  for (const Index v : {0, 5, 19}) EXPECT_EQ(batch.at(v, 0), TypeParam(0));
  EXPECT_LT(batch.at(3, 0), TypeParam(0));
}

TYPED_TEST(CrossEntropyOf, ANaNSpoilsItsColumnAlone) {
  const Batch<TypeParam> clean(100, 3);
  std::vector<double> expected(3);
  cross_entropy(clean.view(), clean.targets, this->serial, expected);
  for (const Index v : {0, 50, 97, 99}) {
    Batch<TypeParam> batch = clean;
    batch.at(v, 1) = std::numeric_limits<TypeParam>::quiet_NaN();
    std::vector<double> losses(3);
    const CrossEntropy result = cross_entropy(batch.view(), batch.targets, this->serial, losses);
    EXPECT_TRUE(std::isnan(result.mean()));
    EXPECT_TRUE(std::isnan(losses[1]));
    EXPECT_EQ(losses[0], expected[0]);
    EXPECT_EQ(losses[2], expected[2]);
  }
}

TYPED_TEST(CrossEntropyOf, GradientEqualsCentralDifferences) {
  for (const Index V : {1, 2, 17, 40}) {
    const Index n = 5;
    Batch<TypeParam> batch(V, n, 3);
    batch.targets[2] = -1;
    const double scale = 0.25;
    Batch<double> moved(V, n);  // the same logits in double
    moved.targets = batch.targets;
    for (Index t = 0; t < n; ++t) {
      for (Index v = 0; v < V; ++v) moved.at(v, t) = batch.value(v, t);
    }
    Eigen::MatrixXd expected(V, n);
    for (Index t = 0; t < n; ++t) {
      for (Index v = 0; v < V; ++v) {
        const double centre = moved.at(v, t);
        moved.at(v, t) = centre + test::kDifferenceStep;
        const double above = total(losses_reference(moved));
        moved.at(v, t) = centre - test::kDifferenceStep;
        const double below = total(losses_reference(moved));
        moved.at(v, t) = centre;
        expected(v, t) = scale * (above - below) / (2 * test::kDifferenceStep);
      }
    }
    cross_entropy_gradient(batch.writable(), batch.targets, scale, this->serial);
    expect_close(batch.writable(), expected, Tolerance<TypeParam>::difference, 0, "V = " + std::to_string(V));
  }
}

TYPED_TEST(CrossEntropyOf, GradientIsSoftmaxMinusTheTarget) {
  for (const Index V : {3, 33, 512, 1025}) {
    Batch<TypeParam> batch(V, 6);
    Eigen::MatrixXd expected(V, batch.n);
    for (Index t = 0; t < batch.n; ++t) {
      double sum = 0;
      for (Index v = 0; v < V; ++v) sum += std::exp(batch.value(v, t));
      for (Index v = 0; v < V; ++v) {
        expected(v, t) = 0.125 * (std::exp(batch.value(v, t)) / sum - (v == batch.target(t) ? 1 : 0));
      }
    }
    cross_entropy_gradient(batch.writable(), batch.targets, 0.125, this->serial);
    expect_close_to_scale(batch.writable(), expected, 16 * Tolerance<TypeParam>::epsilon, "gradient");
  }
}

TYPED_TEST(CrossEntropyOf, TheGradientFormGivesTheSameLossAndKeepsTheGaps) {
  Batch<TypeParam> batch(513, 9, 7);
  batch.targets[4] = -1;
  std::vector<double> losses(9), other(9);
  const CrossEntropy expected = cross_entropy(batch.view(), batch.targets, this->serial, losses);
  const CrossEntropy result =
      cross_entropy_gradient(batch.writable(), batch.targets, 1.0, this->serial, other);
  EXPECT_EQ(result.sum, expected.sum);
  EXPECT_EQ(result.count, 8);
  expect_same_bits(other, losses, "losses");
  for (Index t = 0; t < batch.n; ++t) {
    for (Index v = batch.V; v < batch.stride; ++v)
      ASSERT_EQ(batch.at(v, t), TypeParam(kGap)) << v << " " << t;
  }
}

TYPED_TEST(CrossEntropyOf, IgnoredTargetsCostNothingAndHaveNoGradient) {
  Batch<TypeParam> batch(30, 4);
  batch.targets[1] = batch.targets[3] = -1;
  batch.at(0, 1) = std::numeric_limits<TypeParam>::quiet_NaN();  // what is ignored may hold anything
  const std::vector<double> expected = losses_reference(batch);
  std::vector<double> losses(4, -1);
  const CrossEntropy result =
      cross_entropy_gradient(batch.writable(), batch.targets, 0.5, this->serial, losses);
  EXPECT_EQ(result.count, 2);
  EXPECT_EQ(count_targets(batch.targets), 2);
  EXPECT_EQ(losses[1], 0.0);
  EXPECT_EQ(losses[3], 0.0);
  expect_close(result.mean(), (expected[0] + expected[2]) / 2, 0, 16 * Tolerance<TypeParam>::epsilon, "mean");
  for (Index v = 0; v < batch.V; ++v) {
    EXPECT_EQ(batch.at(v, 1), TypeParam(0));
    EXPECT_EQ(batch.at(v, 3), TypeParam(0));
    EXPECT_NE(batch.at(v, 0), TypeParam(0));
  }
}

TYPED_TEST(CrossEntropyOf, WithoutTargetsTheMeanIsZero) {
  Batch<TypeParam> batch(30, 2);
  batch.targets = {-1, -1};
  const CrossEntropy result = cross_entropy(batch.view(), batch.targets, this->serial);
  EXPECT_EQ(result.count, 0);
  EXPECT_EQ(result.mean(), 0.0);
  Batch<TypeParam> empty(30, 0);
  EXPECT_EQ(cross_entropy_gradient(empty.writable(), empty.targets, 1.0, this->serial).count, 0);
}

TYPED_TEST(CrossEntropyOf, PartsOfABatchAddUpToTheWhole) {
  const Batch<TypeParam> batch(40, 10);
  const CrossEntropy whole = cross_entropy(batch.view(), batch.targets, this->serial);
  CrossEntropy parts;
  for (const Index first : {0, 4}) {
    const Index count = first == 0 ? 4 : 6;
    const ConstColumns<TypeParam> view(batch.logits.data() + first * batch.stride, batch.V, count,
                                       Eigen::OuterStride<>(batch.stride));
    parts += cross_entropy(
        view,
        std::span(batch.targets).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
        this->serial);
  }
  EXPECT_EQ(parts.count, 10);
  expect_close(parts.sum, whole.sum, 0, 1e-15, "sum");
}

TYPED_TEST(CrossEntropyOf, TheNumberOfThreadsChangesNoBit) {
  for (const Index V : {300, 40000}) {  // 109 tokens per task, and one
    Batch<TypeParam> batch(V, V == 300 ? 1000 : 7);
    batch.targets[5] = -1;
    auto expected = batch;
    const CrossEntropy reference =
        cross_entropy_gradient(expected.writable(), expected.targets, 0.01, this->serial);
    for (const int threads : {1, 2, 3, 8}) {
      ThreadedExecutor executor(threads);
      EXPECT_EQ(cross_entropy(batch.view(), batch.targets, executor).sum, reference.sum);
      auto gradient = batch;
      EXPECT_EQ(cross_entropy_gradient(gradient.writable(), gradient.targets, 0.01, executor).sum,
                reference.sum);
      expect_same_bits(gradient.logits, expected.logits, std::to_string(threads) + " threads");
    }
  }
}

TYPED_TEST(CrossEntropyOf, AColumnHasTheSameBitsAtEveryAddress) {
  const Batch<TypeParam> batch(1000, 1);
  auto expected = batch;
  const double loss = cross_entropy_gradient(expected.writable(), expected.targets, 1.0, this->serial).sum;
  for (std::size_t offset = 0; offset < 16; ++offset) {
    std::vector<TypeParam> moved(1000 + 16);
    std::copy(batch.logits.begin(), batch.logits.end(), moved.begin() + static_cast<std::ptrdiff_t>(offset));
    Columns<TypeParam> view(moved.data() + offset, 1000, 1, Eigen::OuterStride<>(1000));
    EXPECT_EQ(cross_entropy(view, batch.targets, this->serial).sum, loss);
    EXPECT_EQ(cross_entropy_gradient(view, batch.targets, 1.0, this->serial).sum, loss);
    expect_same_bits(view.col(0).eval(), expected.writable().col(0).eval(), std::to_string(offset));
  }
}

TYPED_TEST(CrossEntropyOf, RefusesTargetsOutsideTheVocabularyAndWritesNothing) {
  Batch<TypeParam> batch(30, 5);
  const auto original = batch;
  for (const std::int32_t bad : {30, 31, -2, std::numeric_limits<std::int32_t>::min()}) {
    batch.targets[3] = bad;
    EXPECT_THROW(cross_entropy(batch.view(), batch.targets, this->serial), std::out_of_range);
    try {
      cross_entropy_gradient(batch.writable(), batch.targets, 1.0, this->serial);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::out_of_range& error) {
      EXPECT_EQ(std::string(error.what()), "cross_entropy_gradient: target " + std::to_string(bad) +
                                               " at position 3 must be -1 or in [0, V), V = 30");
    }
    expect_same_bits(batch.logits, original.logits, "logits");
  }
}

TYPED_TEST(CrossEntropyOf, RefusesBuffersOfAnotherSize) {
  Batch<TypeParam> batch(30, 5);
  const Ids four(4), six(6);
  std::vector<double> losses(4);
  EXPECT_THROW(cross_entropy(batch.view(), four, this->serial), std::invalid_argument);
  EXPECT_THROW(cross_entropy_gradient(batch.writable(), six, 1.0, this->serial), std::invalid_argument);
  EXPECT_THROW(cross_entropy(batch.view(), batch.targets, this->serial, losses), std::invalid_argument);
  const Columns<TypeParam> overlapping(batch.logits.data(), 30, 5, Eigen::OuterStride<>(29));
  EXPECT_THROW(cross_entropy_gradient(overlapping, batch.targets, 1.0, this->serial), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::cross_entropy_test
