// SPDX-License-Identifier: MIT
//
// The cache of attention with a window: it holds what the next token sees and what was spared, however long the text
// is, gives the same as whole sequences however time is cut, can be taken back, forked and restored, and tells what a
// call that threw has left.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"
#include "support/failing_executor.hpp"

namespace hsm::test::window_state_test {
namespace {

template <class Scalar>
class AttentionWindowState : public testing::Test {};
TYPED_TEST_SUITE(AttentionWindowState, Scalars);

constexpr Index kWindows[] = {1, 2, 5, 16, 63, 64, 65, 97};

TYPED_TEST(AttentionWindowState, AnyCutOfTimeIsForward) {
  const Index C = 8, T = 400;
  Random random(91);
  const auto x = random_matrix<TypeParam>(C, T, random);
  for (const Index window : kWindows) {
    const auto attention = make_attention<TypeParam>(C, 2, {window % 2 == 0 ? 100 : 0, window});
    Matrix<TypeParam> y(C, T), cut(C, T);
    Workspace workspace;
    workspace.poison = true;
    attention.forward(x, y, workspace);
    constexpr Index kStep = 0, kRandom = -1;
    for (const Index spare : {0, 3}) {
      // Around the size of the stream, which tells what is attended to in place from what is not.
      for (const Index chunk : {kStep, Index{1}, Index{2}, window - 1, window, window + spare - 1,
                                window + spare, Index{150}, kRandom}) {
        auto state = attention.make_state({.streams = 1, .spare = spare}), filled = state;
        cut.setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
        for (Index t = 0; t < T;) {
          const Index wanted = chunk == kRandom
                                   ? static_cast<Index>(random.below(static_cast<std::uint64_t>(window) + 20))
                                   : chunk;
          const Index count = std::min(T - t, chunk == kRandom ? wanted : std::max<Index>(1, wanted));
          if (chunk == kStep) {
            attention.step(x.col(t), state, cut.col(t), workspace);
          } else {
            attention.extend(x.middleCols(t, count), state, cut.middleCols(t, count), workspace);
          }
          attention.fill(x.middleCols(t, count), filled, workspace);
          t += count;
          ASSERT_EQ(state.count(0), t);
          ASSERT_EQ(state.held(0), std::min(t, window - 1 + spare));
        }
        const std::string label = "window " + std::to_string(window) + " spare " + std::to_string(spare) +
                                  " chunks of " + std::to_string(chunk);
        ASSERT_TRUE(expect_close_to_scale(cut, y, Tolerance<TypeParam>::mode, label));
        ASSERT_TRUE(expect_same_state(filled, state, label + ", filled"));
      }
    }
  }
}

TYPED_TEST(AttentionWindowState, MemoryDoesNotGrowWithTheText) {
  const Index C = 4;
  Random random(92);
  const auto x = random_matrix<TypeParam>(C, 3000, random);
  Matrix<TypeParam> y(C, 3000);
  Workspace workspace;
  for (const Index window : {1, 2, 30, 500}) {
    for (const Index spare : {0, 8}) {
      const auto attention = make_attention<TypeParam>(C, 2, {0, window});
      auto state = attention.make_state({.streams = 1, .spare = spare});
      const auto most = static_cast<std::size_t>(2 * (window - 1 + spare) * 2 * C) * sizeof(TypeParam);
      for (const Index count : {1, 1, 1, 7, 40, 3000, 1, 600, 1, 1, 90, 2999}) {
        attention.extend(x.leftCols(count), state, y.leftCols(count), workspace);
        ASSERT_LE(state.bytes(), most) << window;
      }
      for (Index t = 0; t < 2000; ++t) attention.step(x.col(t), state, y.col(t), workspace);
      EXPECT_LE(state.bytes(), most) << window;
      EXPECT_EQ(state.count(0), 8742);
      EXPECT_EQ(state.held(0), window - 1 + spare);
    }
  }
}

TYPED_TEST(AttentionWindowState, HasNoCapacity) {
  const auto attention = make_attention<TypeParam>(8, 2, {0, 3});
  Random random(93);
  const auto x = random_matrix<TypeParam>(8, 20, random);
  Matrix<TypeParam> y(8, 20);
  Workspace workspace;
  auto state = attention.make_state({.streams = 1, .capacity = 4});
  EXPECT_EQ(state.capacity(), 0);
  attention.extend(x, state, y, workspace);
  EXPECT_EQ(state.room(0), state.kMostTokens - 20);
  state.resize(0, Index{1} << 24);
  EXPECT_EQ(state.held(0), 2);
  EXPECT_THROW(state.resize(0, -1), std::out_of_range);
}

// Up to `spare` tokens go, in several calls with others read in between; then the right ones come.
TYPED_TEST(AttentionWindowState, RewindAndReplayIsNeverHavingRun) {
  const Index C = 8, T = 260;
  Random random(94);
  const auto x = random_matrix<TypeParam>(C, T, random), wrong = random_matrix<TypeParam>(C, T, random);
  for (const Index window : {1, 2, 5, 33, 64}) {
    for (const Index spare : {1, 3, 10}) {
      const auto attention = make_attention<TypeParam>(C, 2, {window % 2 == 0 ? 100 : 0, window});
      Workspace workspace;
      auto state = attention.make_state({.streams = 2, .spare = spare}), twin = state;
      const std::vector<Index> stream = {1};
      Matrix<TypeParam> y(C, T), expected(C, T), scratch(C, T);
      for (Index t = 0; t < T; ++t) {
        Index ahead = 0;
        for (int turn = 0; turn < 3; ++turn) {
          const auto more = static_cast<Index>(random.below(static_cast<std::uint64_t>(spare - ahead) + 1));
          const std::vector<Index> offsets = {0, more};
          attention.extend(wrong.leftCols(more), offsets, stream, state, scratch.leftCols(more), workspace);
          ahead += more;
          const auto back = static_cast<Index>(random.below(static_cast<std::uint64_t>(ahead) + 1));
          ASSERT_TRUE(state.can_rewind(1, back));
          state.rewind(1, back);
          ahead -= back;
        }
        state.rewind(1, ahead);
        attention.step(x.col(t), stream, state, y.col(t), workspace);
        attention.step(x.col(t), stream, twin, expected.col(t), workspace);
      }
      expect_same_bits(y, expected, "window " + std::to_string(window) + " spare " + std::to_string(spare));
      EXPECT_EQ(state.count(1), T);
      EXPECT_EQ(state.count(0), 0);
    }
  }
}

TYPED_TEST(AttentionWindowState, OnlyWhatIsStillHeldCanBeTakenBack) {
  const Index C = 4, window = 6, reach = window - 1;
  const auto attention = make_attention<TypeParam>(C, 2, {0, window});
  Random random(95);
  const auto x = random_matrix<TypeParam>(C, 40, random);
  Matrix<TypeParam> y(C, 40);
  Workspace workspace;
  for (const Index spare : {0, 2}) {
    auto state = attention.make_state({.streams = 1, .spare = spare});
    attention.extend(x.leftCols(reach + spare), state, y.leftCols(reach + spare), workspace);
    for (Index k = 0; k <= reach + spare; ++k) EXPECT_TRUE(state.can_rewind(0, k)) << "nothing is gone yet";
    EXPECT_FALSE(state.can_rewind(0, reach + spare + 1));
    const Index n = 30;
    attention.extend(x.leftCols(n - reach - spare), state, y.leftCols(n - reach - spare), workspace);
    for (Index k = -1; k <= n + 1; ++k)
      EXPECT_EQ(state.can_rewind(0, k), (k >= 0 && k <= spare) || k == n) << k;
    const auto before = state;
    EXPECT_THROW(state.rewind(0, spare + 1), std::out_of_range);
    EXPECT_EQ(
        message_of([&] { state.rewind(0, 4); }),
        "AttentionState::rewind: stream 0 holds 30 tokens, cannot take back 4: with a window of 6 and " +
            std::string(spare == 0 ? "0 spare tokens" : "2 spare tokens") +
            " it no longer holds what the next token would see");
    EXPECT_EQ(message_of([&] { state.rewind(0, 31); }),
              "AttentionState::rewind: stream 0 holds 30 tokens, cannot take back 31");
    expect_same_state(state, before, "after refusals");
    state.rewind(0, spare);
    EXPECT_EQ(state.can_rewind(0, 1), false) << "rewinds add up";
    attention.extend(x.leftCols(spare), state, y.leftCols(spare), workspace);
    EXPECT_TRUE(state.can_rewind(0, spare)) << "what was replayed can be taken back again";
    state.rewind(0, n);
    EXPECT_EQ(state.held(0), 0);
    attention.extend(x.leftCols(20), state, y.leftCols(20), workspace);
    auto fresh = attention.make_state({.streams = 1, .spare = spare});
    Matrix<TypeParam> again(C, 20);
    attention.extend(x.leftCols(20), fresh, again, workspace);
    expect_same_bits(Matrix<TypeParam>(y.leftCols(20)), again, "all were taken back");
  }
}

TYPED_TEST(AttentionWindowState, ForksAndCopiesGoOnByThemselves) {
  const Index C = 8, T = 150;
  Random random(96);
  const auto x = random_matrix<TypeParam>(C, T, random);
  for (const Index window : {1, 3, 40}) {
    const auto attention = make_attention<TypeParam>(C, 2, {100, window});
    const std::vector<Index> parent = {1}, child = {2};
    Workspace workspace;
    Matrix<TypeParam> y(C, T), forked(C, T), copied(C, T);
    auto state = attention.make_state({.streams = 3, .spare = 2});
    const std::vector<Index> offsets = {0, 90, 100}, both = {1, 2};
    attention.extend(x.leftCols(100), offsets, both, state, y.leftCols(100), workspace);
    state.copy_stream(1, 2);  // over another past
    expect_same_stream(state, 2, state, 1, "the fork");
    EXPECT_EQ(state.count(2), 90);
    auto copy = state;
    for (Index t = 90; t < T; ++t) {
      attention.step(x.col(t), parent, state, y.col(t), workspace);
      attention.step(x.col(t), child, state, forked.col(t), workspace);
      attention.step(x.col(t), parent, copy, copied.col(t), workspace);
    }
    expect_same_bits(Matrix<TypeParam>(forked.rightCols(T - 90)), Matrix<TypeParam>(y.rightCols(T - 90)),
                     "the fork");
    expect_same_bits(Matrix<TypeParam>(copied.rightCols(T - 90)), Matrix<TypeParam>(y.rightCols(T - 90)),
                     "the copy");
    state.copy_stream(0, 1);  // a fresh one
    EXPECT_EQ(state.count(1), 0);
    attention.step(x.col(0), parent, state, y.col(0), workspace);
    Matrix<TypeParam> first(C, 1);
    auto fresh = attention.make_state();
    attention.step(x.col(0), fresh, first, workspace);
    expect_close_to_scale(Matrix<TypeParam>(y.leftCols(1)), first, Tolerance<TypeParam>::mode, "fresh again");
  }
}

/// Fails at one loop after another of a call of so many tokens; returns how often the stream was not whole then.
template <class Scalar>
int fail_everywhere(Index window, Index spare, Index more) {
  const Index C = 4, before = 50;
  const auto attention = make_attention<Scalar>(C, 2, {100, window});
  Random random(97);
  const auto x = random_matrix<Scalar>(C, before + more, random);
  Matrix<Scalar> y(C, before + more), expected(C, before + more);
  FailingExecutor executor;
  Workspace workspace, failing(executor);
  auto start = attention.make_state({.streams = 1, .spare = spare});
  attention.extend(x.leftCols(before), start, expected.leftCols(before), workspace);
  auto after = start;
  attention.extend(x.rightCols(more), after, expected.rightCols(more), workspace);
  int refused = 0, failures = 0;
  for (executor.fails_at = 0;; ++executor.fails_at, ++failures) {
    SCOPED_TRACE(executor.fails_at);
    auto state = start;
    executor.loops = 0;
    try {
      attention.extend(x.rightCols(more), state, y.rightCols(more), failing);
      break;
    } catch (const std::bad_alloc&) {
    }
    EXPECT_EQ(state.count(0), before);
    if (state.is_whole(0)) {
      expect_same_state(state, start, "as it was");
    } else {
      ++refused;
      EXPECT_EQ(message_of([&] { attention.step(x.col(0), state, y.col(0), workspace); }),
                "CausalAttention::step: stream 0 of the state must be whole, got one that a call which threw "
                "has left in part; reset it");
      EXPECT_FALSE(state.can_rewind(0, 0));
      state.reset(0);
      EXPECT_TRUE(state.is_whole(0));
      attention.extend(x.leftCols(before), state, y.leftCols(before), workspace);
    }
    y.setConstant(std::numeric_limits<Scalar>::quiet_NaN());
    attention.extend(x.rightCols(more), state, y.rightCols(more), workspace);
    expect_same_bits(Matrix<Scalar>(y.rightCols(more)), Matrix<Scalar>(expected.rightCols(more)), "after it");
  }
  EXPECT_GT(failures, more > 64 ? 2 : 0);  // few tokens make one loop
  return refused;
}

TYPED_TEST(AttentionWindowState, ACallThatThrowsLeavesAStreamAsItWasOrNotWhole) {
  for (const Index window : {1, 2, 20, 200}) {
    for (const Index more : {1, 10, 70})
      EXPECT_EQ(fail_everywhere<TypeParam>(window, 0, more), 0) << "of one pass";
  }
  // Two passes: after the first, what the stream held is gone, unless it was spared.
  EXPECT_GT(fail_everywhere<TypeParam>(20, 0, 2100), 0);
  EXPECT_EQ(fail_everywhere<TypeParam>(20, 2100, 2100), 0);
}

}  // namespace
}  // namespace hsm::test::window_state_test
