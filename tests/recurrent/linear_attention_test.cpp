// SPDX-License-Identifier: MIT
//
// What is particular to linear attention; what holds for every layer is in layer/every_layer_test.cpp.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include <hsm/recurrent/causal_linear_attention.hpp>

#include "recurrent/linear_attention_cases.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::linear_attention_test {
namespace {

template <class Scalar>
class LinearAttentionTest : public ::testing::Test {};
TYPED_TEST_SUITE(LinearAttentionTest, Scalars);

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

TYPED_TEST(LinearAttentionTest, FeaturesThatRoundToZeroMakeNoNaN) {
  const Index C = 8, H = 2, T = 34;
  struct Shift {
    double queries, keys;
  };
  for (const auto& [queries, keys] : {Shift{-300, 0}, Shift{0, -50}, Shift{0, -300}, Shift{-300, -300},
                                      Shift{-2000, -2000}, Shift{40, 40}}) {
    const auto base = make_linear<TypeParam>(C, H, 0);
    LinearAttention<TypeParam> moved = base.parameters();
    moved.project.bias.head(C).array() += static_cast<TypeParam>(queries);
    moved.project.bias.segment(C, C).array() += static_cast<TypeParam>(keys);
    const CausalLinearAttention<TypeParam> mixer{LinearAttentionLayer<TypeParam>(moved)};
    const std::string label = " at queries " + std::to_string(queries) + ", keys " + std::to_string(keys);
    Random random(11);
    const auto x = random_matrix<TypeParam>(C, T, random), dy = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), z(C, T), dx(C, T);
    Workspace workspace;
    auto saved = mixer.make_saved();
    auto gradients = mixer.make_gradients();
    mixer.forward(x, y, saved, workspace);
    mixer.backward(x, saved, dy, dx, gradients, workspace);
    auto state = mixer.make_state({});
    for (Index t = 0; t < T; ++t) mixer.step(x.col(t), state, z.col(t), workspace);
    ASSERT_TRUE(y.allFinite() && z.allFinite() && dx.allFinite()) << label;
    // Where all is far below 0 a query is rounded by 300 epsilon, and its features by as much.
    const double factor = queries < 0 || keys < 0 ? 100 : 10;
    expect_close_to_scale(wide(z), wide(y), factor * Tolerance<TypeParam>::mode, "step" + label);
    LinearAttentionReference reference(mixer.parameters());
    Values values = wide(x);
    const Values weights = wide(dy);
    if (queries > -1000) {  // there the oracle's own features are 0 in double too
      expect_close_to_scale(wide(y), reference.forward(values), factor * Tolerance<TypeParam>::forward,
                            "forward" + label);
      const auto loss = [&] { return reference.loss(values, weights); };
      expect_close_to_scale(wide(dx), central_differences(values, kDifferenceStep, loss),
                            factor * Tolerance<TypeParam>::difference, "dx" + label);
    }
    if (keys < -100) {
      EXPECT_TRUE((gradients.project.bias.segment(C, C).array() == 0).all())
          << "keys have their least feature" << label;
      const Matrix<TypeParam> all =
          (moved.project.weight.bottomRows(C) * x).colwise() + moved.project.bias.tail(C);
      const Matrix<TypeParam> mean = all.rowwise().mean();  // all weigh the same
      const Matrix<TypeParam> expected = moved.output.weight * mean + moved.output.bias;
      expect_close_to_scale(wide(y.col(T - 1)), wide(expected), factor * Tolerance<TypeParam>::forward,
                            "mean" + label);
    }
  }
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
      "CausalLinearAttention::step: the state must be one of this layer, with rings of 12 x 1 values of "
      "linear-attention in 2 parts, got one with rings of 20 x 1 values of linear-attention");
  // Sums that do not fade are not those that do, be they as many.
  auto forgetting = make_linear<float>(4, 2, 1).make_state();
  expect_refused(
      [&] { mixer.step(x.col(0), forgetting, y.col(0), workspace); },
      "CausalLinearAttention::step: the state must be one of this layer, with rings of 12 x 1 values of "
      "linear-attention in 2 parts, got one with rings of 12 x 1 values of linear-attention with decay in 2 "
      "parts");
  auto spare = mixer.make_state({.spare = 2}), none = mixer.make_state();
  mixer.extend(x, spare, y, saved, workspace);
  expect_refused(
      [&] { mixer.backward(x, saved, x, y, gradients, workspace, &none); },
      "CausalLinearAttention::backward: the spare slots of state_gradient must be at least 2, got 0");
  const auto fading = make_linear<float>(4, 2, 1);
  fading.forward(x, y, saved, workspace);
  expect_refused([&] { mixer.backward(x, saved, x, y, gradients, workspace); },
                 "CausalLinearAttention::backward: saved must be the record of this layer, got another's");
  auto broken = mixer;
  broken.parameters().heads = 0;
  EXPECT_FALSE(broken.fits(spare));
  EXPECT_THROW(broken.make_state(), std::invalid_argument);
  mixer.parameters().decay = 5;
  expect_refused([&] { mixer.forward(x, y); },
                 "CausalLinearAttention::forward: decay must be 0, or 1 for heads that forget, got 5");
}

}  // namespace
}  // namespace hsm::test::linear_attention_test
