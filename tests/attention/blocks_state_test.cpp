// SPDX-License-Identifier: MIT
//
// The sums of blocks that a state keeps beside its keys follow them whatever is done to it: taken back, forked, written
// to, left by a call that threw.
#include <gtest/gtest.h>

#include <new>
#include <span>
#include <string>

#include "attention/attention_cases.hpp"
#include "support/failing_executor.hpp"

namespace hsm::test::blocks_state_test {
namespace {

template <class Scalar>
class AttentionBlocksState : public testing::Test {};
TYPED_TEST_SUITE(AttentionBlocksState, Scalars);

constexpr Index kChannels = 8;
constexpr Form kForm{100, 0, 4, 2};

/// Steps through the tokens of x, one by one, and returns what came out.
template <class Scalar>
Matrix<Scalar> stepped(const CausalAttention<Scalar>& attention, const Matrix<Scalar>& x,
                       AttentionState<Scalar>& state) {
  Matrix<Scalar> y(x.rows(), x.cols());
  Workspace workspace;
  for (Index t = 0; t < x.cols(); ++t) attention.step(x.col(t), state, y.col(t), workspace);
  return y;
}

TYPED_TEST(AttentionBlocksState, GoesOnAfterItWasTakenBackAsIfTheTokensHadNeverBeenThere) {
  const auto attention = make_attention<TypeParam>(kChannels, 2, kForm);
  Random random(101);
  const auto x = random_matrix<TypeParam>(kChannels, 57, random);
  const auto other = random_matrix<TypeParam>(kChannels, 80, random);
  Workspace workspace;
  for (const Index back : {1, 2, 4, 5, 30, 57}) {
    const Matrix<TypeParam> kept = x.leftCols(57 - back);
    auto state = attention.make_state(), expected = state;
    stepped(attention, x, state);
    stepped(attention, kept, expected);
    state.rewind(0, back);
    auto many = state;
    const std::string label = "taken back " + std::to_string(back);
    expect_same_bits(stepped(attention, other, state), stepped(attention, other, expected), label);
    // By one call, which needs sums of blocks that are new in part or in whole.
    Matrix<TypeParam> y(kChannels, 80), clean(kChannels, 80);
    expected.rewind(0, 80);
    auto fresh = attention.make_state();
    stepped(attention, kept, fresh);
    attention.extend(other, fresh, clean, workspace);
    for (auto* taken_back : {&many, &expected}) {
      attention.extend(other, *taken_back, y, workspace);
      expect_same_bits(y, clean, label + ", by one call");
    }
  }
}

TYPED_TEST(AttentionBlocksState, SumsWhatWasWrittenToIt) {
  const auto attention = make_attention<TypeParam>(kChannels, 2, kForm);
  Random random(102);
  const auto x = random_matrix<TypeParam>(kChannels, 50, random),
             other = random_matrix<TypeParam>(kChannels, 50, random);
  const auto next = random_matrix<TypeParam>(kChannels, 9, random);
  auto state = attention.make_state(), source = state, resized = state;
  stepped(attention, x, state);
  stepped(attention, x, resized);
  stepped(attention, other, source);
  const auto copy_to = [&](AttentionState<TypeParam>& to) {
    std::size_t i = 0;
    const auto values = cache_of(source, 0);
    to.visit([&](Index, CachePart, Index, std::span<TypeParam> block) {
      for (TypeParam& value : block) value = values[i++];
    });
  };
  copy_to(state);
  resized.resize(0, 3);
  resized.resize(0, 50);
  copy_to(resized);
  const auto expected = stepped(attention, next, source);
  expect_same_bits(stepped(attention, next, state), expected, "written to");
  expect_same_bits(stepped(attention, next, resized), expected, "resized and written to");
}

TYPED_TEST(AttentionBlocksState, IsForkedWithItsBlocks) {
  const auto attention = make_attention<TypeParam>(kChannels, 2, kForm);
  Random random(103);
  const auto x = random_matrix<TypeParam>(kChannels, 60, random),
             next = random_matrix<TypeParam>(kChannels, 30, random);
  Workspace workspace;
  Matrix<TypeParam> both(kChannels, 2), y(kChannels, 2);
  auto state = attention.make_state({.streams = 2}), single = attention.make_state();
  for (Index t = 0; t < 60; ++t) {  // stream 1 sees other tokens first
    both << x.col(t), x.col(59 - t);
    attention.step(both, state, y, workspace);
  }
  state.copy_stream(0, 1);
  const auto copy = state;
  for (Index t = 0; t < 30; ++t) {
    both << next.col(t), next.col(t);
    attention.step(both, state, y, workspace);
    ASSERT_TRUE(expect_same_bits(Matrix<TypeParam>(y.col(1)), Matrix<TypeParam>(y.col(0)), "fork"));
  }
  auto again = copy;
  Matrix<TypeParam> repeated(kChannels, 2);
  for (Index t = 0; t < 30; ++t) {
    both << next.col(t), next.col(t);
    attention.step(both, again, repeated, workspace);
  }
  expect_same_bits(repeated, y, "copy");
}

// A call sums blocks of tokens that it then does not count.
TYPED_TEST(AttentionBlocksState, IsThatBeforeACallThatThrew) {
  const auto attention = make_attention<TypeParam>(kChannels, 2, kForm);
  Random random(104);
  const auto x = random_matrix<TypeParam>(kChannels, 30, random),
             lost = random_matrix<TypeParam>(kChannels, 40, random);
  const auto next = random_matrix<TypeParam>(kChannels, 45, random);
  Matrix<TypeParam> expected(kChannels, 45), got(kChannels, 45);
  Workspace clean;
  auto expected_state = attention.make_state();
  stepped(attention, x, expected_state);
  attention.extend(next, expected_state, expected, clean);
  bool threw = true;
  for (Index loop = 0; threw; ++loop) {
    FailingExecutor executor;
    Workspace workspace(executor);
    auto state = attention.make_state();
    stepped(attention, x, state);
    executor.fails_at = loop;
    Matrix<TypeParam> y(kChannels, 40);
    threw = false;
    try {
      attention.extend(lost, state, y, workspace);
    } catch (const std::bad_alloc&) {
      threw = true;
    }
    if (!threw) {
      EXPECT_GT(loop, 3);
      break;
    }
    ASSERT_EQ(state.count(0), 30);
    attention.extend(next, state, got, clean);
    expect_same_bits(got, expected, "loop " + std::to_string(loop));
  }
}

TYPED_TEST(AttentionBlocksState, CountsTheMemoryOfItsSums) {
  const auto attention = make_attention<TypeParam>(kChannels, 2, kForm),
             dense = make_attention<TypeParam>(kChannels, 2, {100});
  Random random(105);
  const auto x = random_matrix<TypeParam>(kChannels, 500, random);
  auto state = attention.make_state(), plain = dense.make_state();
  stepped(attention, x, state);
  stepped(dense, x, plain);
  EXPECT_GE(state.bytes(), plain.bytes() + 500 / 4 * kChannels * sizeof(TypeParam));
  EXPECT_LE(state.bytes(), plain.bytes() + plain.bytes() / 4);
}

}  // namespace
}  // namespace hsm::test::blocks_state_test
