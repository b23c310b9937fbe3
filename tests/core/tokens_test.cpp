// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <hsm/core/tokens.hpp>

#include <numeric>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

namespace hsm {
namespace {

using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

std::vector<float> counted(std::size_t size) {
  std::vector<float> values(size);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

TEST(Tokens, OfADenseBufferLieOneAfterAnother) {
  std::vector<float> values = counted(2 * 3 * 4);
  const Tokens<float> tokens(values.data(), 2, 3, 4);
  EXPECT_EQ(tokens.count(), 6);
  EXPECT_EQ(tokens.shape(), (Shape<3>{2, 3, 4}));
  EXPECT_TRUE(tokens.is_flat());
  for (Index b = 0; b < 2; ++b) {
    for (Index t = 0; t < 3; ++t) {
      EXPECT_EQ(*tokens.at(b, t), static_cast<float>((b * 3 + t) * 4));
      EXPECT_EQ(tokens.at(b * 3 + t), tokens.at(b, t));
    }
  }
}

TEST(Tokens, OfAStridedBufferAreFoundByBothStrides) {
  std::vector<float> values = counted(100);
  const Tokens<float> tokens(values.data() + 3, 2, 3, 4, 6, 40);
  EXPECT_FALSE(tokens.is_flat());
  EXPECT_EQ(*tokens.at(1, 2), 3 + 40 + 12);
  EXPECT_EQ(tokens.at(4), tokens.at(1, 1));
  EXPECT_EQ(tokens.sequence(1).at(0, 2), tokens.at(1, 2));
  EXPECT_EQ(tokens.sequence(1).shape(), (Shape<3>{1, 3, 4}));
  EXPECT_EQ(tokens.slice(1, 2).at(1, 1), tokens.at(1, 2));
  EXPECT_EQ(tokens.slice(1, 2).shape(), (Shape<3>{2, 2, 4}));
  EXPECT_TRUE(Tokens<float>(values.data(), 2, 3, 4, 6, 18).is_flat());
  EXPECT_TRUE(Tokens<float>(values.data(), 1, 3, 4, 6, 40).is_flat());
}

TEST(Tokens, GiveColumnsAndRows) {
  std::vector<float> values = counted(100);
  const Tokens<float> tokens(values.data(), 2, 3, 4, 6, 40);
  const auto columns = tokens.columns(3, 3);
  ASSERT_EQ(columns.rows(), 4);
  ASSERT_EQ(columns.cols(), 3);
  EXPECT_EQ(columns(2, 1), 40 + 6 + 2);
  const auto rows = tokens.rows(0, 2, 1, 2);
  ASSERT_EQ(rows.rows(), 2);
  EXPECT_EQ(rows(1, 1), 6 + 1 + 1);
  EXPECT_EQ(Tokens<float>(values.data(), 2, 0, 4).columns(0, 0).cols(), 0);
}

TEST(TokensView, OfTensors) {
  Tensor tensor(2, 3, 4);
  const Tensor& constant = tensor;
  const auto view = detail::view<float>(tensor, "x");
  EXPECT_EQ(view.shape(), (Shape<3>{2, 3, 4}));
  EXPECT_EQ(view.at(1, 2), &tensor(1, 2, 0));
  EXPECT_EQ(detail::view<const float>(constant, "x").at(1, 2), &tensor(1, 2, 0));
  Eigen::TensorMap<Tensor> map(tensor.data(), 3, 2, 4);
  EXPECT_EQ(detail::view<float>(map, "x").shape(), (Shape<3>{3, 2, 4}));
}

TEST(TokensView, OfMatricesIsOneSequence) {
  Eigen::MatrixXf columns(4, 3);
  const auto by_column = detail::view<float>(columns, "x");
  EXPECT_EQ(by_column.shape(), (Shape<3>{1, 3, 4}));
  EXPECT_EQ(by_column.at(0, 2), &columns(0, 2));
  RowMajor rows(3, 4);
  const auto by_row = detail::view<float>(rows, "x");
  EXPECT_EQ(by_row.shape(), (Shape<3>{1, 3, 4}));
  EXPECT_EQ(by_row.at(0, 2), &rows(2, 0));
  auto block = columns.block(1, 1, 2, 2);
  const auto of_block = detail::view<float>(block, "x");
  EXPECT_EQ(of_block.shape(), (Shape<3>{1, 2, 2}));
  EXPECT_EQ(of_block.at(0, 1), &columns(1, 2));
  EXPECT_TRUE(of_block.is_flat());
}

TEST(TokensView, OfAVectorIsOneToken) {
  Eigen::VectorXf column(5);
  Eigen::RowVectorXf row(5);
  EXPECT_EQ(detail::view<float>(column, "x").shape(), (Shape<3>{1, 1, 5}));
  EXPECT_EQ(detail::view<float>(row, "x").shape(), (Shape<3>{1, 1, 5}));
  Eigen::MatrixXf matrix(5, 4);
  auto one = matrix.col(2);
  EXPECT_EQ(detail::view<float>(one, "x").at(0, 0), &matrix(0, 2));
}

TEST(TokensView, OfChannelsThatAreNotContiguousIsRefused) {
  Eigen::MatrixXf matrix(5, 4);
  auto row = matrix.row(1);
  EXPECT_THROW(detail::view<float>(row, "x"), std::invalid_argument);
  auto single = matrix.block(1, 0, 1, 4);  // one channel: every distance is a token stride
  EXPECT_EQ(detail::view<float>(single, "x").shape(), (Shape<3>{1, 4, 1}));
}

TEST(TokensView, RefusesSizesAndStridesThatMakeNoSense) {
  std::vector<float> values(100);
  const auto check = [](Tokens<float> tokens) { return detail::view<const float>(tokens, "x").count(); };
  EXPECT_EQ(check({values.data(), 2, 3, 4, 4, 0}), 6);  // the same sequence twice, to read
  EXPECT_THROW(check({values.data(), -1, 3, 4}), std::invalid_argument);
  EXPECT_THROW(check({values.data(), 2, -3, 4}), std::invalid_argument);
  EXPECT_THROW(check({values.data(), 2, 3, -4}), std::invalid_argument);
  EXPECT_THROW(check({values.data(), 2, 3, 4, 3, 12}), std::invalid_argument);
  EXPECT_THROW(check({values.data(), 2, 3, 4, 4, -12}), std::invalid_argument);
}

TEST(TokensSlice, OfAnythingThatCanBeViewedIsWithinItsTokens) {
  Eigen::MatrixXf columns(4, 9);
  const Eigen::MatrixXf& constant = columns;
  EXPECT_EQ(slice(columns, 2, 3).shape(), (Shape<3>{1, 3, 4}));
  EXPECT_EQ(slice(constant, 2, 3).at(0, 1), &constant(0, 3));
  EXPECT_EQ(slice(columns, 9, 0).count(), 0);
  EXPECT_THROW(slice(columns, 7, 3), std::invalid_argument);
  EXPECT_THROW(slice(columns, -1, 3), std::invalid_argument);
  EXPECT_THROW(slice(columns, 3, -1), std::invalid_argument);
  EXPECT_THROW(slice(columns, std::numeric_limits<Index>::max(), 1), std::invalid_argument);
}

}  // namespace
}  // namespace hsm
