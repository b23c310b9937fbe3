// SPDX-License-Identifier: MIT
//
// Scores so far apart that most weights of a softmax are next to nothing. What is 0 to every sum is 0: no product with it
// leaves the normal numbers, with which many processors are a hundred times as slow.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/softmax_local.hpp>

#include "attention/attention_cases.hpp"
#include "hierarchical_attention/hierarchical_attention_cases.hpp"

namespace hsm::test::large_scores_test {
namespace {

template <class Scalar>
class LargeScores : public ::testing::Test {};
TYPED_TEST_SUITE(LargeScores, Scalars);

template <class Scalar>
Index subnormal_count(const Scalar* values, Index n) {
  return std::count_if(values, values + n, [](Scalar v) { return std::fpclassify(v) == FP_SUBNORMAL; });
}

template <class AMixer>
void expect_normal_gradients(const AMixer& mixer, const std::string& name) {
  using Scalar = typename AMixer::Scalar;
  const Index C = mixer.channels(), T = 150;
  // Up to the edge of what exp gives, and far past it.
  for (const double size : {30.0, 300.0, 3000.0}) {
    Random random(5);
    Matrix<Scalar> x = random_matrix<Scalar>(C, T, random), dy = random_matrix<Scalar>(C, T, random), y(C, T),
                   dx(C, T);
    x *= static_cast<Scalar>(std::is_same_v<Scalar, float> ? size : 3 * size);
    dy *= Scalar(1e-3);
    Workspace workspace;
    auto saved = mixer.make_saved();
    auto gradients = mixer.make_gradients();
    mixer.forward(x, y, saved, workspace);
    mixer.backward(x, saved, dy, dx, gradients, workspace);
    const std::string label = name + ", tokens of size " + std::to_string(size);
    EXPECT_TRUE(y.allFinite() && dx.allFinite()) << label;
    EXPECT_EQ(subnormal_count(y.data(), y.size()), 0) << label;
    EXPECT_EQ(subnormal_count(dx.data(), dx.size()), 0) << label;
    AMixer::Parameters::visit(
        [&](std::string_view tensor, const auto& d) {
          EXPECT_EQ(subnormal_count(d.data(), d.size()), 0) << label << ", " << tensor;
        },
        gradients);
  }
}

TYPED_TEST(LargeScores, LeaveNoGradientThatIsNotNormal) {
  if (HSM_FAST_MATH) GTEST_SKIP() << "a program that g++ links with -ffast-math rounds such numbers to 0";
  Random random(2);
  const Index C = 32, H = 4;
  const auto attention = [&](AttentionOptions options) {
    return CausalAttention<TypeParam>(Attention<TypeParam>(C, H, random, options));
  };
  expect_normal_gradients(attention({}), "attention");
  expect_normal_gradients(attention({.window = 20}), "attention with a window");
  expect_normal_gradients(attention({.block = 16, .top = 2}), "attention with blocks");
  expect_normal_gradients(
      HierarchicalKernelAttention<TypeParam>(HierarchicalAttention<TypeParam>(C, H, random, 3)), "hkt");
  expect_normal_gradients(Mixer(SoftmaxLocal<TypeParam>(C, random, H, 3), 2), "softmax-local");
}

/// Attention of one head whose queries are all (size, 0), keys -x and values x of the second channel.
template <class Scalar>
CausalAttention<Scalar> pulling(Scalar size) {
  Random random(1);
  Attention<Scalar> parameters(2, 1, random);
  parameters.project.weight.setZero();
  parameters.project.bias.setZero();
  parameters.project.bias(0) = size;
  parameters.project.weight(2, 0) = Scalar(1);  // keys: x of the first channel
  parameters.project.weight(4, 1) = Scalar(1);  // values: x of the second
  parameters.output.weight.setIdentity();
  parameters.output.bias.setZero();
  return CausalAttention<Scalar>(std::move(parameters));
}

TYPED_TEST(LargeScores, OfTheFirstKeysMayOverflow) {
  if (HSM_FAST_MATH) GTEST_SKIP() << "nothing is promised of infinity under -ffast-math";
  const auto size =
      static_cast<TypeParam>(std::sqrt(static_cast<double>(std::numeric_limits<TypeParam>::max())) * 8);
  const auto attention = pulling(size);
  const Index T = 400, first = 300;  // several tiles of keys before the first that counts
  Matrix<TypeParam> x(2, T), y(2, T), steps(2, T);
  for (Index t = 0; t < T; ++t) x.col(t) << (t < first ? -size : TypeParam(0)), static_cast<TypeParam>(t);
  attention.forward(x, y);
  auto state = attention.make_state();
  Workspace workspace;
  for (Index t = 0; t < T; ++t) attention.step(x.col(t), state, steps.col(t), workspace);
  for (Index t = first; t < T; ++t) {
    const double mean = static_cast<double>(first + t) / 2;
    expect_close(y(0, t), mean, 0, 10 * Tolerance<TypeParam>::mode, "forward " + std::to_string(t));
    expect_close(steps(0, t), mean, 0, 10 * Tolerance<TypeParam>::mode, "step " + std::to_string(t));
  }
}

}  // namespace
}  // namespace hsm::test::large_scores_test
