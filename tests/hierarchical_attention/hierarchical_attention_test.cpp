// SPDX-License-Identifier: MIT
//
// What is particular to attention over a hierarchy; what holds for every layer is in layer/every_layer_test.cpp.
#include <gtest/gtest.h>

#include <stdexcept>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/io/state_file.hpp>

#include "hierarchical_attention/hierarchical_attention_cases.hpp"
#include "io/io_test_support.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm {
extern template class AttentionLayer<float>;  // compiled in support/attention_instances.cpp
extern template class AttentionLayer<double>;
}  // namespace hsm

namespace hsm::test::hierarchical_attention_test {
namespace {

template <class Scalar>
class HierarchicalAttentionTest : public ::testing::Test {};
TYPED_TEST_SUITE(HierarchicalAttentionTest, Scalars);

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

TYPED_TEST(HierarchicalAttentionTest, AStateInAFileIsReadForACapacityAndDiffersByItsKeys) {
  const Index C = 6, T = 13;
  for (const Index L : {1, 3}) {
    const auto mixer = make_hierarchy<TypeParam>(C, 2, L);
    Random random(9);
    const auto x = random_matrix<TypeParam>(C, T, random);
    Workspace workspace;
    auto state = mixer.make_state();
    mixer.fill(x, state, workspace);
    const TemporaryDirectory directory;
    save_state(directory / "state", mixer, state);
    const auto loaded = load_state(directory / "state", mixer, 40);
    EXPECT_EQ(loaded.room(0), 40 - T);
    EXPECT_THROW(load_state(directory / "state", mixer, 12), std::runtime_error) << "13 tokens";
    auto other = loaded;
    EXPECT_TRUE(other == loaded);
    *other.part(0, L - 1, 1) += 1;
    EXPECT_FALSE(other == loaded) << "a key";
  }
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
  auto fewer_levels = make_hierarchy<float>(4, 2, 2).make_gradients();
  expect_refused([&] { mixer.backward(x, saved, x, y, fewer_levels, workspace); },
                 "HierarchicalAttention::visit: the levels must be 3, got 2");
  expect_refused([] { HierarchicalAttentionState<float>(0, 1, 1, {.capacity = 4}); },
                 "HierarchicalAttentionState: channels must be at least 1, got 0");
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
