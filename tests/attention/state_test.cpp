// SPDX-License-Identifier: MIT
//
// The key/value cache as a value: copied, forked, taken back, reset, restored, and bounded.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::state_test {
namespace {

template <class Scalar>
class AttentionStates : public testing::Test {};
TYPED_TEST_SUITE(AttentionStates, Scalars);

TYPED_TEST(AttentionStates, AStateCanBeCopiedResetAndRewound) {
  const Index C = 10, T = 90;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(15);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Workspace workspace;
  const auto steps = [&](auto& state, Index first, Index count) {
    Matrix<TypeParam> y(C, count);
    for (Index t = 0; t < count; ++t) attention.step(x.col(first + t), state, y.col(t), workspace);
    return y;
  };
  auto state = attention.make_state();
  const auto start = steps(state, 0, 50);
  auto copy = state;
  const auto end = steps(state, 50, 40);
  expect_same_bits(steps(copy, 50, 40), end, "copy");
  state.rewind(0, 40);
  EXPECT_EQ(state.count(0), 50);
  expect_same_bits(steps(state, 50, 40), end, "after rewind");
  state.reset(0);
  EXPECT_EQ(state.count(0), 0);
  expect_same_bits(steps(state, 0, 50), start, "after reset");
  EXPECT_THROW(state.rewind(0, 51), std::out_of_range);
  EXPECT_THROW(state.rewind(0, -1), std::out_of_range);
  EXPECT_THROW(state.rewind(1, 0), std::out_of_range);
  EXPECT_THROW(state.reset(-1), std::out_of_range);
  EXPECT_EQ(state.count(0), 50);
}

TYPED_TEST(AttentionStates, RewindAndReplayIsNeverHavingRun) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12, S = 3, T = 200;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    const std::vector<Index> streams = {2, 0};
    Random random(20);
    const auto x = random_matrix<TypeParam>(C, 2 * T, random);
    const auto wrong = random_matrix<TypeParam>(C, 2 * T, random);
    Workspace workspace;
    for (const Index taken : {1, 2, 63, 100}) {
      const Index kept = 70;  // tokens before, of each of the two streams
      const std::vector<Index> first = {0, kept, 2 * kept}, then = {0, taken, 2 * taken};
      Matrix<TypeParam> y(C, 2 * taken), replayed(C, 2 * taken), scratch(C, 2 * T);
      const auto start = [&](auto& state) {
        attention.extend(x.leftCols(2 * kept), first, streams, state, scratch.leftCols(2 * kept), workspace);
      };
      const auto go_on = [&](auto& state, auto& out) {
        attention.extend(x.rightCols(2 * taken), then, streams, state, out, workspace);
      };
      auto state = attention.make_state({.streams = S, .spare = taken}), never = state;
      start(never);
      go_on(never, y);
      start(state);
      attention.extend(wrong.leftCols(2 * taken), then, streams, state, scratch.leftCols(2 * taken),
                       workspace);
      for (const Index s : streams) state.rewind(s, taken);
      go_on(state, replayed);
      const std::string label = std::to_string(taken) + " tokens back";
      expect_same_bits(replayed, y, label);
      expect_same_state(state, never, label);
    }
  }
}

TYPED_TEST(AttentionStates, AForkGoesOnByItselfAndLeavesItsParentUnchanged) {
  const Index C = 10, T = 90, S = 3;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(21);
  const auto x = random_matrix<TypeParam>(C, T, random);
  const std::vector<Index> parent = {1}, child = {2}, offsets = {0, 50};
  Matrix<TypeParam> y(C, T), forked(C, T);
  Workspace workspace;
  for (const Index capacity : {Index{0}, T}) {
    auto state = attention.make_state({.streams = S, .capacity = capacity});
    attention.step(x.leftCols(S), state, y.leftCols(S), workspace);  // the child has another past
    state.reset(1);
    attention.extend(x.leftCols(50), offsets, parent, state, y.leftCols(50), workspace);
    const auto before = state;
    state.copy_stream(1, 2);
    EXPECT_EQ(state.count(2), 50);
    expect_same_stream(state, 2, before, 1, "the fork");
    for (Index t = 50; t < T; ++t) attention.step(x.col(t), child, state, forked.col(t), workspace);
    expect_same_stream(state, 1, before, 1, "the parent");
    expect_same_stream(state, 0, before, 0, "another stream");
    EXPECT_EQ(state.count(1), 50);
    auto value = before;  // a copy of the whole state is a fork of all streams
    for (Index t = 50; t < T; ++t) {
      attention.step(x.col(t), parent, state, y.col(t), workspace);
      ASSERT_TRUE(expect_same_bits(Matrix<TypeParam>(forked.col(t)), Matrix<TypeParam>(y.col(t)), "child"));
      attention.step(x.col(t), parent, value, forked.col(t), workspace);
      ASSERT_TRUE(expect_same_bits(Matrix<TypeParam>(forked.col(t)), Matrix<TypeParam>(y.col(t)), "copy"));
    }
    expect_same_stream(state, 1, state, 2, "both in the end");
    state.copy_stream(0, 2);  // to a shorter past
    EXPECT_EQ(state.count(2), 1);
    state.copy_stream(1, 1);
    expect_same_stream(state, 1, value, 1, "a copy onto itself");
    EXPECT_THROW(state.copy_stream(0, S), std::out_of_range);
    EXPECT_THROW(state.copy_stream(-1, 0), std::out_of_range);
  }
}

TYPED_TEST(AttentionStates, AStateIsRestoredFromItsCountsAndWhatVisitShows) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 10, S = 3;
    const auto attention = make_attention<TypeParam>(C, 5, form);
    const std::vector<Index> streams = {2, 0}, offsets = {0, 70, 75};
    Random random(22);
    const auto x = random_matrix<TypeParam>(C, 78, random);
    Matrix<TypeParam> y(C, 78), again(C, 3);
    Workspace workspace;
    auto state = attention.make_state({.streams = S});
    attention.extend(x.leftCols(75), offsets, streams, state, y.leftCols(75), workspace);

    struct Block {
      Index stream;
      CachePart part;
      Index head;
      std::vector<TypeParam> values;
    };
    std::vector<Block> saved;
    std::as_const(state).visit([&](Index s, CachePart part, Index h, std::span<const TypeParam> values) {
      EXPECT_EQ(static_cast<Index>(values.size()), state.held(s) * C / 5);
      saved.push_back({s, part, h, {values.begin(), values.end()}});
    });
    ASSERT_EQ(saved.size(), 2u * 5u * static_cast<std::size_t>(S));
    auto restored = attention.make_state({.streams = S, .capacity = 100});
    for (Index s = 0; s < S; ++s) restored.resize(s, state.count(s));
    auto block = saved.begin();
    restored.visit([&](Index s, CachePart part, Index h, std::span<TypeParam> values) {
      ASSERT_EQ(block->stream, s);
      ASSERT_EQ(block->part, part);
      ASSERT_EQ(block->head, h);
      ASSERT_EQ(block->values.size(), values.size());
      std::copy(block->values.begin(), block->values.end(), values.begin());
      ++block;
    });
    expect_same_state(restored, state, "restored");
    attention.step(x.rightCols(3), state, y.rightCols(3), workspace);
    attention.step(x.rightCols(3), restored, again, workspace);
    expect_same_bits(again, Matrix<TypeParam>(y.rightCols(3)), "what follows");
    expect_same_state(restored, state, "what follows");
  }
}

TYPED_TEST(AttentionStates, ResizingKeepsWhatIsThereAndAddsZeros) {
  const Index C = 6;
  const auto attention = make_attention<TypeParam>(C, 3);
  Random random(23);
  const auto x = random_matrix<TypeParam>(C, 4, random);
  Matrix<TypeParam> y(C, 4);
  Workspace workspace;
  auto state = attention.make_state({.streams = 2});
  attention.step(x.leftCols(2), state, y.leftCols(2), workspace);
  const auto before = state;
  state.resize(1, 100);
  EXPECT_EQ(state.count(1), 100);
  state.visit([&](Index s, CachePart, Index, std::span<TypeParam> values) {
    for (std::size_t i = 2; s == 1 && i < values.size(); ++i) ASSERT_EQ(values[i], TypeParam(0));
  });
  state.resize(1, 1);
  expect_same_state(state, before, "back to one token");
  state.resize(0, 0);
  EXPECT_EQ(state.count(0), 0);
  EXPECT_EQ(message_of([&] { state.resize(0, -1); }),
            "AttentionState::resize: the tokens of a stream must be at least 0, got -1");
  EXPECT_THROW(state.resize(0, std::numeric_limits<Index>::max()), std::length_error);
  EXPECT_THROW(state.resize(2, 0), std::out_of_range);
  auto bounded = attention.make_state({.capacity = 5});
  EXPECT_EQ(message_of([&] { bounded.resize(0, 6); }),
            "AttentionState::resize: the tokens of a stream must be 0 to 5, got 6");
  EXPECT_EQ(bounded.count(0), 0);
}

}  // namespace
}  // namespace hsm::test::state_test
