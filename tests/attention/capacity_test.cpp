// SPDX-License-Identifier: MIT
//
// The bound of a key/value cache: what does not fit is refused by name before anything changes, and only the
// streams that a call names count; and how many bytes caches and records hold.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::capacity_test {
namespace {

template <class Scalar>
class AttentionCapacity : public testing::Test {};
TYPED_TEST_SUITE(AttentionCapacity, Scalars);

TYPED_TEST(AttentionCapacity, ARecordTellsWhatItHolds) {
  const Index C = 8, H = 2, N = 12;
  const auto attention = make_attention<TypeParam>(C, H);
  Random random(19);
  const auto x = random_matrix<TypeParam>(C, N, random);
  Workspace workspace;
  Matrix<TypeParam> y(C, N);
  auto saved = attention.make_saved();
  EXPECT_EQ(saved.bytes(), 0u);
  attention.forward(x, y, saved,
                    workspace);  // queries, keys, values, outputs of heads, and a sum for each head
  const std::size_t bytes = static_cast<std::size_t>((3 + 1) * C * N + H * N) * sizeof(TypeParam);
  EXPECT_EQ(saved.bytes(), bytes);
  auto state = attention.make_state({.streams = 1, .capacity = 20});
  attention.extend(x, state, y, saved, workspace);  // and the keys and values of the document
  EXPECT_GE(saved.documents.bytes(), 2 * C * N * sizeof(TypeParam));
  EXPECT_EQ(saved.bytes(), bytes + saved.documents.bytes());
}

TYPED_TEST(AttentionCapacity, TheCapacityIsRefusedBeforeAnythingChanges) {
  const Index C = 8;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(18);
  const auto x = random_matrix<TypeParam>(C, 12, random);
  Workspace workspace;
  auto state = attention.make_state({.streams = 1, .capacity = 10});
  const std::size_t bytes = state.bytes();
  EXPECT_EQ(bytes, 10 * 2 * C * sizeof(TypeParam));
  Matrix<TypeParam> y = Matrix<TypeParam>::Constant(C, 12, TypeParam(3));
  attention.extend(x.leftCols(7), state, y.leftCols(7), workspace);
  const Matrix<TypeParam> before = y;
  EXPECT_EQ(message_of([&] { attention.extend(x.leftCols(4), state, y.leftCols(4), workspace); }),
            "CausalAttention::extend: stream 0 holds 7 tokens and has room for 3 more, got 4");
  EXPECT_THROW(attention.extend(x.leftCols(4), state, y.leftCols(4), workspace), std::out_of_range);
  EXPECT_EQ(state.count(0), 7);
  expect_same_bits(y, before, "y after a refusal");
  attention.extend(x.middleCols(7, 3), state, y.middleCols(7, 3), workspace);
  EXPECT_EQ(message_of([&] { attention.step(x.col(10), state, y.col(10), workspace); }),
            "CausalAttention::step: stream 0 holds 10 tokens and has room for 0 more, got 1");
  EXPECT_EQ(state.bytes(), bytes);
  expect_close_to_scale(to_double(y.leftCols(10)),
                        reference_forward(attention, Matrix<TypeParam>(x.leftCols(10))),
                        Tolerance<TypeParam>::forward, "what fitted");
}

TYPED_TEST(AttentionCapacity, IsTheBoundOfWhatAStateIsResizedTo) {
  const auto attention = make_attention<TypeParam>(8, 2);
  for (const Index capacity : {1, 10}) {
    auto state = attention.make_state({.streams = 1, .capacity = capacity});
    state.resize(0, capacity);
    EXPECT_EQ(state.count(0), capacity);
    for (const Index count : {capacity + 1, Index{-1}}) {
      EXPECT_EQ(message_of([&] { state.resize(0, count); }),
                "AttentionState::resize: the tokens of a stream must be 0 to " + std::to_string(capacity) +
                    ", got " + std::to_string(count));
    }
  }
}

TYPED_TEST(AttentionCapacity, OnlyTheChosenStreamsCount) {
  const Index C = 8, S = 3;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(24);
  const auto x = random_matrix<TypeParam>(C, 12, random);
  Workspace workspace;
  auto state = attention.make_state({.streams = S, .capacity = 6});
  Matrix<TypeParam> y = Matrix<TypeParam>::Constant(C, 12, TypeParam(3));
  const std::vector<Index> full = {1}, free = {2, 0}, all = {0, 1, 2};
  const std::vector<Index> six = {0, 6}, twice = {0, 6, 12}, uneven = {0, 1, 1, 8};
  attention.extend(x.leftCols(6), six, full, state, y.leftCols(6), workspace);
  const auto before = state;
  const Matrix<TypeParam> y_before = y;
  EXPECT_EQ(message_of([&] { attention.step(x.leftCols(3), state, y.leftCols(3), workspace); }),
            "CausalAttention::step: stream 1 holds 6 tokens and has room for 0 more, got 1");
  EXPECT_EQ(message_of([&] { attention.step(x.col(0), full, state, y.col(0), workspace); }),
            "CausalAttention::step: stream 1 holds 6 tokens and has room for 0 more, got 1");
  EXPECT_EQ(
      message_of([&] { attention.extend(x.leftCols(8), uneven, all, state, y.leftCols(8), workspace); }),
      "CausalAttention::extend: stream 2 holds 0 tokens and has room for 6 more, got 7");
  expect_same_state(state, before, "after refusals");
  expect_same_bits(y, y_before, "y after refusals");
  attention.extend(x, twice, free, state, y, workspace);
  for (Index s = 0; s < S; ++s) EXPECT_EQ(state.count(s), 6);
  expect_same_stream(state, 1, before, 1, "the full one");
}

}  // namespace
}  // namespace hsm::test::capacity_test
