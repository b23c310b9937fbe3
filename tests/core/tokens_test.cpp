// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <hsm/core/tokens.hpp>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

namespace hsm::tokens_test {
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
  EXPECT_TRUE(Tokens<float>(values.data(), 2, 0, 4, 6, 40).is_flat());
  EXPECT_TRUE(Tokens<float>(values.data(), 2, 1, 4, 6, 6).is_flat());
  EXPECT_FALSE(Tokens<float>(values.data(), 2, 1, 4, 6, 40).is_flat());  // one token of each, far apart
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
  const auto read = [](Tokens<float> tokens) { return detail::view<const float>(tokens, "x").count(); };
  const auto write = [](Tokens<float> tokens) { return detail::view<float>(tokens, "y").count(); };
  EXPECT_EQ(read({values.data(), 2, 3, 4, 4, 0}), 6);  // the same sequence twice, to read
  EXPECT_EQ(read({values.data(), 2, 3, 4, 0, 4}), 6);  // the same token three times
  EXPECT_EQ(read({values.data(), 2, 3, 4, 1, 5}), 6);  // windows one scalar apart
  for (const Tokens<float>& bad : {Tokens<float>(values.data(), -1, 3, 4),
                                   {values.data(), 2, -3, 4},
                                   {values.data(), 2, 3, -4},
                                   {values.data(), 2, 3, 4, -4, 12},
                                   {values.data(), 2, 3, 4, 4, -12}}) {
    EXPECT_THROW(read(bad), std::invalid_argument);
    EXPECT_THROW(write(bad), std::invalid_argument);
  }
}

// Against marking every element, for all small sizes and strides.
TEST(TokensView, IsWrittenToOnlyWhereNoTwoTokensShareAnElement) {
  std::vector<float> values(400);
  int refused = 0, accepted = 0;
  for (Index B = 0; B <= 4; ++B) {
    for (Index T = 0; T <= 5; ++T) {
      for (Index C = 0; C <= 3; ++C) {
        for (Index token = 0; token <= 14; ++token) {
          for (Index batch = 0; batch <= 14; ++batch) {
            const Tokens<float> tokens(values.data(), B, T, C, token, batch);
            std::vector<int> marks(200);
            bool apart = true;
            for (Index b = 0; b < B; ++b) {
              for (Index t = 0; t < T; ++t) {
                for (Index c = 0; c < C; ++c)
                  apart = marks[static_cast<std::size_t>(b * batch + t * token + c)]++ == 0 && apart;
              }
            }
            ASSERT_EQ(detail::are_apart(tokens), apart)
                << B << " " << T << " " << C << ", strides " << token << " " << batch;
            ++(apart ? accepted : refused);
          }
        }
      }
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 1000);
  const auto message = [&](Tokens<float> tokens) -> std::string {
    try {
      detail::view<float>(tokens, "f: y");
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({values.data(), 2, 3, 4, 4, 0}),
            "f: y: the tokens of what is written must be apart in memory: each of 4 channels of its own, got "
            "[2,3,4] with token_stride 4 and batch_stride 0, where tokens overlap");
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> same(values.data(), 4, 3, Eigen::OuterStride<>(0));
  EXPECT_THROW(detail::view<float>(same, "y"), std::invalid_argument);
  EXPECT_EQ(detail::view<const float>(same, "x").count(), 3);
}

// Sizes near the end of Index: no arithmetic wraps around to a view that looks small.
TEST(TokensView, RefusesWhatCannotBeAddressed) {
  std::vector<float> values(8);
  constexpr Index kMost = std::numeric_limits<Index>::max();
  for (const Index big : {kMost, kMost / 2, kMost / 4, kMost / 8 + 1}) {
    for (const Tokens<float>& bad : {Tokens<float>(values.data(), big, 2, 2, 2, 4),
                                     {values.data(), 2, big, 2, 2, 4},
                                     {values.data(), 2, 2, big, big, 0},
                                     {values.data(), big, big, 1, 0, 0},
                                     {values.data(), 1, 3, 2, big, 0},
                                     {values.data(), 3, 1, 2, 2, big},
                                     {values.data(), 3, 3, 2, big / 2, big / 2},
                                     {values.data(), 1, big, big},
                                     {values.data(), 2, big, 8}}) {
      EXPECT_THROW(detail::view<const float>(bad, "x"), std::invalid_argument) << big;
      EXPECT_THROW(detail::view<float>(bad, "x"), std::invalid_argument) << big;
    }
  }
  const Tokens<float> one(values.data(), 1, 1, 8, kMost, kMost);  // strides to nowhere are not used
  EXPECT_EQ(detail::view<float>(one, "x").count(), 1);
}

TEST(TokensSlice, OfAnythingThatCanBeViewedIsWithinItsTokens) {
  Eigen::MatrixXf columns(4, 9);
  const Eigen::MatrixXf& constant = columns;
  EXPECT_EQ(slice(columns, 2, 3).shape(), (Shape<3>{1, 3, 4}));
  EXPECT_EQ(slice(constant, 2, 3).at(0, 1), &constant(0, 3));
  EXPECT_EQ(slice(columns, 9, 0).count(), 0);
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> windows(columns.data(), 4, 30,
                                                               Eigen::OuterStride<>(1));
  EXPECT_EQ(slice(windows, 5, 2).at(0, 1), columns.data() + 6);
  const Tokens<const float> view = slice(constant, 2, 3);
  EXPECT_EQ(slice(view, 1, 2).at(0, 1), &constant(0, 4));
  EXPECT_THROW(slice(view, 2, 2), std::invalid_argument);
  EXPECT_THROW(slice(columns, 7, 3), std::invalid_argument);
  EXPECT_THROW(slice(columns, -1, 3), std::invalid_argument);
  EXPECT_THROW(slice(columns, 3, -1), std::invalid_argument);
  EXPECT_THROW(slice(columns, std::numeric_limits<Index>::max(), 1), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::tokens_test
