// SPDX-License-Identifier: MIT
//
// Linear attention in every mode against its quadratic form, and its modes against each other.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include <hsm/io/state_file.hpp>
#include <hsm/recurrent/causal_linear_attention.hpp>

#include "io/io_test_support.hpp"
#include "recurrent/linear_attention_cases.hpp"
#include "support/failing_executor.hpp"

namespace hsm::test::linear_attention_test {
namespace {

template <class Scalar>
class LinearAttentionTest : public ::testing::Test {};
TYPED_TEST_SUITE(LinearAttentionTest, Scalars);

TYPED_TEST(LinearAttentionTest, IsItsQuadraticForm) {
  struct Size {
    Index C, H;
  };
  for (const auto& [C, H] : {Size{1, 1}, Size{6, 2}, Size{24, 8}, Size{33, 1}, Size{66, 2}}) {
    for (const Index decay : {0, 1}) {
      const auto mixer = make_linear<TypeParam>(C, H, decay);
      for (const Index T : {1, 15, 63, 64, 65, 150}) {
        Random random(1);
        const auto x = random_matrix<TypeParam>(C, T, random);
        Matrix<TypeParam> y = Matrix<TypeParam>::Constant(C, T, std::nanf(""));
        Workspace workspace;
        workspace.poison = true;
        mixer.forward(x, y, workspace);
        expect_close_to_scale(wide(y), LinearAttentionReference(mixer.parameters()).forward(wide(x)),
                              Tolerance<TypeParam>::forward,
                              "C " + std::to_string(C) + ", H " + std::to_string(H) + ", T " +
                                  std::to_string(T) + ", decay " + std::to_string(decay));
      }
    }
  }
}

TYPED_TEST(LinearAttentionTest, ModesAgree) {
  const Index C = 12, T = 150;
  for (const Index decay : {0, 1}) {
    const auto mixer = make_linear<TypeParam>(C, 3, decay);
    Random random(2);
    Workspace workspace;
    workspace.poison = true;
    const auto x = random_matrix<TypeParam>(C, 3 * T, random);
    Matrix<TypeParam> y(C, 3 * T), z(C, 3 * T);
    const Tokens<const TypeParam> in(x.data(), 3, T, C);
    const Tokens<TypeParam> whole(y.data(), 3, T, C), out(z.data(), 3, T, C);
    mixer.forward(in, whole, workspace);
    const auto expect_same = [&](const std::string& call) {
      expect_close_to_scale(wide(z), wide(y), Tolerance<TypeParam>::mode, call);
      z.setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
    };
    const std::vector<Index> offsets{0, T, T, 2 * T, 3 * T};
    mixer.packed(x, offsets, z, workspace);
    expect_same("packed");
    for (const Index spare : {0, 1, 9, 200}) {
      auto state = mixer.make_state({.streams = 3, .spare = spare});
      mixer.extend(in.slice(0, 70), state, out.slice(0, 70), workspace);
      mixer.extend(in.slice(70, 0), state, out.slice(70, 0), workspace);
      for (Index t = 70; t < 80; ++t) mixer.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
      auto filled = state;
      mixer.extend(in.slice(80, T - 80), state, out.slice(80, T - 80), workspace);
      expect_same("extend and step with spare " + std::to_string(spare));
      mixer.fill(in.slice(80, 40), filled, workspace);
      EXPECT_EQ(filled.count(1), 120);
      mixer.extend(in.slice(120, T - 120), filled, out.slice(120, T - 120), workspace);
      z.leftCols(120) = y.leftCols(120);
      z.middleCols(T, 120) = y.middleCols(T, 120);
      z.middleCols(2 * T, 120) = y.middleCols(2 * T, 120);
      expect_same("fill with spare " + std::to_string(spare));
      EXPECT_TRUE(filled.can_rewind(1, spare < T ? spare : T));
    }
  }
}

TYPED_TEST(LinearAttentionTest, TextsOfManyStretchesAreTheirTokensOneByOne) {
  const Index C = 4, T = 2 * hsm::detail::kLinearStretch + 70;
  const auto mixer = make_linear<TypeParam>(C, 2, 0);
  Random random(3);
  const auto x = random_matrix<TypeParam>(C, 2 * T, random);
  Matrix<TypeParam> y(C, 2 * T), z(C, 2 * T);
  Workspace workspace;
  workspace.poison = true;
  auto state = mixer.make_state({.streams = 2});
  const Tokens<const TypeParam> in(x.data(), 2, T, C);
  const Tokens<TypeParam> out(y.data(), 2, T, C);
  for (Index t = 0; t < T; ++t) mixer.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
  const auto expect_same = [&](const std::string& call) {
    expect_close_to_scale(wide(z), wide(y), Tolerance<TypeParam>::mode, call);
    z.setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
  };
  mixer.forward(in, Tokens<TypeParam>(z.data(), 2, T, C), workspace);
  expect_same("forward");
  auto saved = mixer.make_saved();
  mixer.packed(x, std::vector<Index>{0, 0, T, T, 2 * T}, z, saved, workspace);
  expect_same("packed, recorded");
  for (const Index spare : {0, 100}) {  // the last tokens that can be taken back lie in two stretches
    auto extended = mixer.make_state({.streams = 2, .spare = spare});
    mixer.extend(in, extended, Tokens<TypeParam>(z.data(), 2, T, C), workspace);
    expect_same("extend");
    if (spare == 0) continue;
    extended.rewind(0, 90);
    mixer.extend(x.middleCols(T - 90, 90), std::vector<Index>{0, 90}, std::vector<Index>{0}, extended,
                 z.middleCols(T - 90, 90), workspace);
    expect_close_to_scale(wide(z.middleCols(T - 90, 90)), wide(y.middleCols(T - 90, 90)),
                          Tolerance<TypeParam>::mode, "rewound");
  }
}

TYPED_TEST(LinearAttentionTest, ScratchAndStateDoNotGrowWithTheText) {
  const Index C = 8;
  const auto mixer = make_linear<TypeParam>(C, 2, 0);
  const auto held = [&](Index T) {
    const Matrix<TypeParam> x = Matrix<TypeParam>::Constant(C, T, TypeParam(1));
    Matrix<TypeParam> y(C, T);
    Workspace workspace;
    auto state = mixer.make_state({});
    mixer.extend(x, state, y, workspace);
    mixer.forward(x, y, workspace);
    EXPECT_EQ(state.bytes(), static_cast<std::size_t>(C * (C / 2 + 1)) * sizeof(TypeParam));
    return workspace.bytes();
  };
  EXPECT_EQ(held(16 * hsm::detail::kLinearStretch), held(2 * hsm::detail::kLinearStretch));
}

TYPED_TEST(LinearAttentionTest, RewindGoesBackToWhatWasThere) {
  const Index C = 6, T = 90;
  const auto mixer = make_linear<TypeParam>(C, 2, 1);
  Random random(4);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), z(C, 5);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 1, .spare = 5});
  mixer.extend(x, state, y, workspace);
  const auto before = state;
  mixer.extend(Matrix<TypeParam>::Constant(C, 5, std::nanf("")).eval(), state, z, workspace);
  state.rewind(0, 5);
  mixer.extend(x.leftCols(5), state, z, workspace);
  auto other = before;
  Matrix<TypeParam> expected(C, 5);
  mixer.extend(x.leftCols(5), other, expected, workspace);
  expect_same_bits(z, expected, "as if they had never been there");
  EXPECT_FALSE(state.can_rewind(0, 6));
  auto whole = before;  // which holds what was remembered after each of the last six of one long call
  whole.rewind(0, 5);
  mixer.extend(x.rightCols(5), whole, z, workspace);
  expect_close_to_scale(wide(z), wide(y.rightCols(5)), Tolerance<TypeParam>::mode,
                        "all that can be taken back");
  EXPECT_THROW(state.rewind(0, 6), std::out_of_range);
  EXPECT_EQ(state.count(0), 95);
}

TYPED_TEST(LinearAttentionTest, ThreadsChangeNoBit) {
  expect_threads_change_no_bit(make_linear<TypeParam>(36, 3, 1), 90);
}

TYPED_TEST(LinearAttentionTest, LaterTokensAndOtherDocumentsAreNotSeen) {
  expect_later_tokens_unseen(make_linear<TypeParam>(10, 2, 1), 140,
                             {0, 3, 15, 16, 47, 63, 64, 65, 127, 128, 139});
}

TYPED_TEST(LinearAttentionTest, AStateGoesToAFileAndBack) {
  const Index C = 6;
  const auto mixer = make_linear<TypeParam>(C, 2, 0);
  Random random(9);
  const auto x = random_matrix<TypeParam>(C, 8, random);
  Matrix<TypeParam> y(C, 8), z(C, 8);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 1, .spare = 1});
  mixer.extend(x.leftCols(5), state, y.leftCols(5), workspace);
  const TemporaryDirectory directory;
  save_state(directory / "state", mixer, state);
  auto loaded = load_state(directory / "state", mixer);
  EXPECT_TRUE(loaded == state);
  mixer.extend(x.rightCols(3), state, y.rightCols(3), workspace);
  mixer.extend(x.rightCols(3), loaded, z.rightCols(3), workspace);
  expect_same_bits(z.rightCols(3).eval(), y.rightCols(3).eval(), "goes on");
  EXPECT_THROW(load_state(directory / "state", make_linear<TypeParam>(C, 3, 0)), std::runtime_error);
  EXPECT_THROW(load_state(directory / "state", make_linear<TypeParam>(C, 2, 1)), std::runtime_error);
}

TYPED_TEST(LinearAttentionTest, ACallThatThrowsLeavesNoHalfState) {
  const Index C = 8, T = 12;
  const auto mixer = make_linear<TypeParam>(C, 2, 0);
  Random random(10);
  const auto x = random_matrix<TypeParam>(C, 3 * T, random);
  Matrix<TypeParam> y(C, 3 * T);
  FailingExecutor executor;
  executor.fails_at = 0;
  Workspace failing(executor), workspace;
  auto state = mixer.make_state({.streams = 3});
  const Tokens<const TypeParam> in(x.data(), 3, T, C);
  const Tokens<TypeParam> out(y.data(), 3, T, C);
  auto saved = mixer.make_saved();
  EXPECT_THROW(mixer.extend(in, state, out, saved, failing), std::bad_alloc);
  for (Index s = 0; s < 3; ++s) EXPECT_FALSE(state.is_whole(s));
  auto gradients = mixer.make_gradients();
  expect_refused(
      [&] { mixer.step(in.slice(0, 1), state, out.slice(0, 1), workspace); },
      "CausalLinearAttention::step: stream 0 of the state must be whole, got one that a call which "
      "threw has left in part; reset it");
  expect_refused(
      [&] { mixer.backward(in, saved, in, out, gradients, workspace); },
      "CausalLinearAttention::backward: saved must be the record of a forward, packed or extend, got "
      "one that nothing was saved in");
}

TEST(LinearAttentionErrors, SayWhatWasExpected) {
  Random random(1);
  expect_refused([&] { LinearAttention<float>(4, 3, random); },
                 "LinearAttention: heads must be a divisor of 4 channels, got 3");
  expect_refused([&] { LinearAttention<float>(4, 2, random, 2); },
                 "LinearAttention: decay must be 0, or 1 for heads that forget, got 2");
  auto mixer = make_linear<float>(4, 2, 0);
  EXPECT_EQ(mixer.heads(), 2);
  Workspace workspace;
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(4, 3), y(4, 3);
  auto saved = mixer.make_saved();
  mixer.forward(x, y, saved, workspace);
  auto state = mixer.make_state();
  auto gradients = mixer.make_gradients();
  expect_refused(
      [&] { mixer.backward(x, saved, x, y, gradients, workspace, &state); },
      "CausalLinearAttention::backward: state_gradient must be none, since the call that was recorded "
      "had no state, got one");
  auto other = make_linear<float>(4, 1, 0).make_state();
  expect_refused(
      [&] { mixer.step(x.col(0), other, y.col(0), workspace); },
      "CausalLinearAttention::step: the state must be one of this layer, with rings of 12 x 1 values, "
      "got one with rings of 20 x 1 values");
  mixer.parameters().decay = 5;
  expect_refused([&] { mixer.forward(x, y); },
                 "CausalLinearAttention::forward: decay must be 0, or 1 for heads that forget, got 5");
}

}  // namespace
}  // namespace hsm::test::linear_attention_test
