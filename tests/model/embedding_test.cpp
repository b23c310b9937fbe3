// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include <hsm/core/parameters.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/model/embedding.hpp>

#include "support/matchers.hpp"
#include "support/scalars.hpp"

namespace hsm::embedding_test {
namespace {

using test::expect_same_bits;

constexpr Index kRows = 5, kChannels = 130;  // more than two tasks of 64 channels
constexpr std::array<Index, 7> kIds = {4, 0, 4, 2, 2, 2, 0};

template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

Index id(Index j) { return kIds[static_cast<std::size_t>(j)]; }

template <class Scalar>
class EmbeddingOf : public ::testing::Test {};

TYPED_TEST_SUITE(EmbeddingOf, test::Scalars);

TYPED_TEST(EmbeddingOf, LooksUpRowsAndOverwritesOrAdds) {
  Random random(1);
  const Embedding<TypeParam> table(kRows, kChannels, 1.0, random);
  const Index n = static_cast<Index>(kIds.size());
  Matrix<TypeParam> wide = Matrix<TypeParam>::Constant(kChannels + 2, n, TypeParam(3));
  const Columns<TypeParam> x(wide.data(), kChannels, n, Eigen::OuterStride<>(kChannels + 2));
  table.look_up(id, Write::kOverwrite, x);
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < kChannels; ++i) EXPECT_EQ(wide(i, j), table.weight(id(j), i));
    EXPECT_EQ(wide(kChannels, j), TypeParam(3));
    EXPECT_EQ(wide(kChannels + 1, j), TypeParam(3));
  }
  table.look_up(id, Write::kAdd, x);
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < kChannels; ++i) EXPECT_EQ(wide(i, j), 2 * table.weight(id(j), i));
    EXPECT_EQ(wide(kChannels, j), TypeParam(3));
  }
}

TYPED_TEST(EmbeddingOf, ScatterAddsEachTokenToItsRowInTheOrderOfTokens) {
  Random random(2);
  const Index n = static_cast<Index>(kIds.size());
  Matrix<TypeParam> dx(kChannels, n);
  for (Index i = 0; i < dx.size(); ++i) dx.data()[i] = static_cast<TypeParam>(random.normal());
  const Embedding<TypeParam> start(kRows, kChannels, 1.0, random);
  Weights<TypeParam> expected = start.weight;
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < kChannels; ++i) expected(id(j), i) += dx(i, j);
  }
  const ConstColumns<TypeParam> read(dx.data(), kChannels, n, Eigen::OuterStride<>(kChannels));
  SerialExecutor serial;
  ThreadedExecutor threads(2);
  for (Executor* executor : {static_cast<Executor*>(&serial), static_cast<Executor*>(&threads)}) {
    Embedding<TypeParam> gradients = start;
    Embedding<TypeParam>::scatter(id, read, gradients, *executor);
    expect_same_bits(gradients.weight, expected, "gradients");
  }
}

TEST(Embedding, HasTheSpreadAskedForAndIsEmptyByDefault) {
  Random random(3);
  const Embedding<double> table(200, 100, 0.02, random);
  EXPECT_NEAR(std::sqrt(table.weight.squaredNorm() / 20000), 0.02, 0.0005);
  EXPECT_EQ(table.rows(), 200);
  EXPECT_EQ(table.channels(), 100);
  EXPECT_EQ(count_parameters(table), 20000);
  const Embedding<double> none;
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(count_parameters(none), 0);
}

}  // namespace
}  // namespace hsm::embedding_test
