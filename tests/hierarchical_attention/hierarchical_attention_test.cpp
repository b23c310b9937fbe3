// SPDX-License-Identifier: MIT
//
// Attention over a hierarchy in every mode against its definition, and its modes against each other.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/io/state_file.hpp>

#include "hierarchical_attention/hierarchical_attention_cases.hpp"
#include "io/io_test_support.hpp"
#include "support/failing_executor.hpp"

namespace hsm {
extern template class AttentionLayer<float>;  // compiled in support/attention_instances.cpp
extern template class AttentionLayer<double>;
}  // namespace hsm

namespace hsm::test::hierarchical_attention_test {
namespace {

template <class Scalar>
class HierarchicalAttentionTest : public ::testing::Test {};
TYPED_TEST_SUITE(HierarchicalAttentionTest, Scalars);

TYPED_TEST(HierarchicalAttentionTest, IsItsDefinition) {
  struct Size {
    Index C, H, L;
  };
  for (const auto& [C, H, L] :
       {Size{1, 1, 2}, Size{6, 2, 3}, Size{4, 1, 1}, Size{33, 1, 4}, Size{8, 2, 6}, Size{34, 2, 3}}) {
    const auto mixer = make_hierarchy<TypeParam>(C, H, L);
    const HierarchicalAttentionReference reference(mixer.parameters());
    for (const Index T : {1, 2, 3, 4, 31, 63, 64, 65, 97, 150}) {
      Random random(1);
      const auto x = random_matrix<TypeParam>(C, T, random);
      Matrix<TypeParam> y = Matrix<TypeParam>::Constant(C, T, std::nanf(""));
      Workspace workspace;
      workspace.poison = true;
      mixer.forward(x, y, workspace);
      expect_close_to_scale(wide(y), reference.forward(wide(x)), Tolerance<TypeParam>::forward,
                            "C " + std::to_string(C) + ", H " + std::to_string(H) + ", L " +
                                std::to_string(L) + ", T " + std::to_string(T));
    }
  }
}

TYPED_TEST(HierarchicalAttentionTest, WithAllWeightOnTheTokensItIsAttention) {
  const Index C = 12, H = 3, T = 130;
  Random first(7), second(7), random(8);
  const CausalAttention<TypeParam> attention(Attention<TypeParam>(C, H, first));
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), z(C, T);
  attention.forward(x, y);
  HierarchicalAttention<TypeParam> parameters(C, H, second, 3);
  const auto run = [&] {
    HierarchicalKernelAttention<TypeParam>(HierarchicalAttentionLayer<TypeParam>(parameters)).forward(x, z);
  };
  run();
  EXPECT_GT((z - y).array().abs().maxCoeff(), 1e-3 * y.array().abs().maxCoeff()) << "levels count";
  parameters.lambda << 0, -1000, -1000;
  run();
  expect_close_to_scale(wide(z), wide(y), Tolerance<TypeParam>::mode, "weights (1, 0, 0)");
  parameters.levels.clear();
  parameters.lambda.resize(1);
  run();
  expect_same_bits(z, y, "one level");
}

TYPED_TEST(HierarchicalAttentionTest, ModesAgree) {
  const Index C = 12, T = 150;
  for (const Index L : {2, 3, 5}) {
    const auto mixer = make_hierarchy<TypeParam>(C, 3, L);
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
    for (const Index spare : {0, 9}) {
      auto state = mixer.make_state({.streams = 3, .spare = spare});
      mixer.extend(in.slice(0, 69), state, out.slice(0, 69), workspace);
      mixer.extend(in.slice(69, 0), state, out.slice(69, 0), workspace);
      for (Index t = 69; t < 80; ++t) mixer.step(in.slice(t, 1), state, out.slice(t, 1), workspace);
      auto filled = state;
      mixer.extend(in.slice(80, T - 80), state, out.slice(80, T - 80), workspace);
      expect_same("extend and step with spare " + std::to_string(spare));
      mixer.fill(in.slice(80, 41), filled, workspace);
      EXPECT_EQ(filled.count(1), 121);
      mixer.extend(in.slice(121, T - 121), filled, out.slice(121, T - 121), workspace);
      for (Index b = 0; b < 3; ++b) z.middleCols(b * T, 121) = y.middleCols(b * T, 121);
      expect_same("fill with spare " + std::to_string(spare));
      EXPECT_TRUE(filled.can_rewind(1, spare) && !filled.can_rewind(1, spare + 1));
    }
  }
}

TYPED_TEST(HierarchicalAttentionTest, ALongExtendTakesSeveralPasses) {
  const Index C = 2, T = hsm::detail::kExtendChunk + 37;
  const auto mixer = make_hierarchy<TypeParam>(C, 1, 3);
  Random random(3);
  const auto x = random_matrix<TypeParam>(C, T + 1, random);
  Matrix<TypeParam> y(C, T + 1), z(C, T + 1);
  mixer.forward(x, y);
  Workspace workspace;
  auto state = mixer.make_state();
  mixer.extend(x.leftCols(T), state, z.leftCols(T), workspace);
  mixer.step(x.col(T), state, z.col(T), workspace);
  expect_close_to_scale(wide(z), wide(y), Tolerance<TypeParam>::mode, "in passes");
}

TYPED_TEST(HierarchicalAttentionTest, RewindGoesBackToWhatWasThere) {
  const Index C = 6, T = 21;
  for (const Index L : {1, 3}) {
    const auto mixer = make_hierarchy<TypeParam>(C, 2, L);
    Random random(4);
    const auto x = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), z(C, T);
    Workspace workspace;
    mixer.forward(x, y, workspace);
    for (Index k = 0; k <= 5; ++k) {
      auto state = mixer.make_state({.streams = 1, .spare = 5});
      mixer.extend(x.leftCols(T - 6), state, z.leftCols(T - 6), workspace);
      mixer.fill(Matrix<TypeParam>::Constant(C, k, std::nanf("")).eval(), state, workspace);
      state.rewind(0, k);
      mixer.extend(x.rightCols(6), state, z.rightCols(6), workspace);
      expect_close_to_scale(wide(z), wide(y), Tolerance<TypeParam>::mode, "rewound " + std::to_string(k));
      state.rewind(0, k);  // tokens of one call
      mixer.extend(x.rightCols(k), state, z.rightCols(k), workspace);
      expect_close_to_scale(wide(z), wide(y), Tolerance<TypeParam>::mode, "again " + std::to_string(k));
      EXPECT_EQ(state.can_rewind(0, 6), L == 1);
      EXPECT_TRUE(state.can_rewind(0, T)) << "all of them";
    }
  }
}

TYPED_TEST(HierarchicalAttentionTest, ThreadsChangeNoBit) {
  expect_threads_change_no_bit(make_hierarchy<TypeParam>(36, 3, 3), 90);
}

TYPED_TEST(HierarchicalAttentionTest, LaterTokensAndOtherDocumentsAreNotSeen) {
  expect_later_tokens_unseen(make_hierarchy<TypeParam>(10, 2, 3), 140,
                             {0, 1, 2, 3, 15, 16, 46, 47, 62, 63, 64, 95, 96, 127, 128, 139});
}

TYPED_TEST(HierarchicalAttentionTest, AStateGoesToAFileAndBack) {
  const Index C = 6, T = 13;
  for (const Index L : {1, 3}) {
    const auto mixer = make_hierarchy<TypeParam>(C, 2, L);
    Random random(9);
    const auto x = random_matrix<TypeParam>(C, 2 * T, random);
    Matrix<TypeParam> y(C, 6), z(C, 6);
    Workspace workspace;
    auto state = mixer.make_state({.streams = 2, .spare = 3});
    mixer.fill(x.leftCols(T + 3), std::vector<Index>{0, T, T + 3}, std::vector<Index>{1, 0}, state,
               workspace);
    const TemporaryDirectory directory;
    save_state(directory / "state", mixer, state);
    auto loaded = load_state(directory / "state", mixer, 40);
    EXPECT_TRUE(loaded == state);
    EXPECT_EQ(loaded.room(1), 40 - T);
    for (auto* of : {&state, &loaded}) {
      of->rewind(1, 3);
      mixer.extend(x.leftCols(6), std::vector<Index>{0, 2, 6}, std::vector<Index>{0, 1}, *of,
                   of == &state ? y : z, workspace);
    }
    expect_same_bits(z, y, "goes on");
    EXPECT_THROW(load_state(directory / "state", mixer, 12), std::runtime_error) << "13 tokens";
    EXPECT_THROW(load_state(directory / "state", make_hierarchy<TypeParam>(C, 3, L)), std::runtime_error);
    EXPECT_THROW(load_state(directory / "state", make_hierarchy<TypeParam>(C, 2, 2)), std::runtime_error);
    auto other = loaded;
    EXPECT_TRUE(other == loaded);
    *other.part(0, L - 1, 1) += 1;
    EXPECT_FALSE(other == loaded) << "a key";
  }
}

TYPED_TEST(HierarchicalAttentionTest, ACallThatThrowsLeavesEveryStreamAsItWas) {
  const Index C = 8, T = 70;  // enough for several tasks of pooling
  const auto mixer = make_hierarchy<TypeParam>(C, 2, 3);
  Random random(10);
  const auto x = random_matrix<TypeParam>(C, 3 * T, random);
  Matrix<TypeParam> y(C, 3 * T), expected(C, 3 * T);
  Workspace workspace;
  const Tokens<const TypeParam> in(x.data(), 3, T, C);
  const Tokens<TypeParam> out(y.data(), 3, T, C), right(expected.data(), 3, T, C);
  auto state = mixer.make_state({.streams = 3});
  mixer.fill(in.slice(0, 5), state, workspace);
  auto other = state;
  const auto before = state;
  mixer.extend(in, other, right, workspace);
  Index failed = 0;
  for (bool threw = true; threw; ++failed) {
    FailingExecutor executor;
    executor.fails_at = failed;
    Workspace failing(executor);
    auto saved = mixer.make_saved();
    threw = false;
    try {
      mixer.extend(in, state, out, saved, failing);
    } catch (const std::bad_alloc&) {
      threw = true;
      EXPECT_TRUE(state == before) << "loop " << failed;
    }
  }
  EXPECT_GT(failed, 2) << "pooling and attention are loops of several tasks";
  expect_same_bits(y, expected, "goes on");
}

TEST(HierarchicalAttentionErrors, SayWhatWasExpected) {
  Random random(1);
  expect_refused([&] { HierarchicalAttention<float>(4, 3, random); },
                 "HierarchicalAttention: heads must be a divisor of 4 channels, got 3");
  expect_refused([&] { HierarchicalAttention<float>(4, 2, random, 7); },
                 "HierarchicalAttention: levels must be 1 to 6, got 7");
  auto mixer = make_hierarchy<float>(4, 2, 3);
  EXPECT_EQ(mixer.heads(), 2);
  EXPECT_EQ(mixer.layer().levels(), 3);
  Workspace workspace;
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(4, 3), y(4, 3);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  auto state = mixer.make_state({.capacity = 4}), d_state = mixer.make_state();
  mixer.forward(x, y, saved, workspace);
  expect_refused([&] { mixer.backward(x, saved, x, y, gradients, workspace, &state); },
                 "HierarchicalKernelAttention::backward: state_gradient must be absent unless saved is the "
                 "record of an extend, got one");
  mixer.extend(x, state, y, saved, workspace);
  d_state.hold(0, 2);
  expect_refused([&] { mixer.backward(x, saved, x, y, gradients, workspace, &d_state); },
                 "HierarchicalKernelAttention::backward: the tokens of stream 0 in state_gradient must be 0, "
                 "or 3, what the call left, got 2");
  EXPECT_EQ(state.room(0), 1);
  EXPECT_THROW(mixer.extend(x, state, y, workspace), std::out_of_range);
  auto other = make_hierarchy<float>(4, 2, 2).make_state();
  expect_refused([&] { mixer.step(x.col(0), other, y.col(0), workspace); },
                 "HierarchicalKernelAttention::step: the state must be one of this layer, with 4 channels, 2 "
                 "heads and 3 levels, got one with 4 channels, 2 heads and 2 levels");
  mixer.parameters().lambda.resize(2);
  expect_refused([&] { mixer.forward(x, y); },
                 "HierarchicalKernelAttention::forward: the size of lambda must be 3, got 2");
}

}  // namespace
}  // namespace hsm::test::hierarchical_attention_test
