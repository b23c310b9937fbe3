// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <stdexcept>
#include <vector>

#include <hsm/core/threaded_executor.hpp>
#include <hsm/model/feed_forward.hpp>

#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::feed_forward_test {
namespace {

using test::expect_close_to_scale;
using test::expect_same_bits;
using test::Tolerance;
using Values = std::vector<double>;

constexpr Index C = 9, F = 21, kTokens = 37;

/// The tensors in double, W [out][in].
struct Reference {
  Values up, up_bias, down, down_bias;

  Values forward(const Values& x) const {
    Values y;
    const auto in = static_cast<std::size_t>(C), wide = static_cast<std::size_t>(F);
    for (std::size_t start = 0; start < x.size(); start += in) {
      Values hidden;
      for (std::size_t f = 0; f < wide; ++f) {
        double v = up_bias[f];
        for (std::size_t c = 0; c < in; ++c) v += up[f * in + c] * x[start + c];
        const double u = std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v);
        hidden.push_back(0.5 * v * (1 + std::tanh(u)));
      }
      for (std::size_t c = 0; c < in; ++c) {
        double sum = down_bias[c];
        for (std::size_t f = 0; f < wide; ++f) sum += down[c * wide + f] * hidden[f];
        y.push_back(sum);
      }
    }
    return y;
  }
};

template <class Tensor>
Values wide(const Tensor& tensor) {
  return Values(tensor.data(), tensor.data() + tensor.size());
}

template <class Scalar>
Reference reference_of(const FeedForward<Scalar>& layer) {
  return {wide(layer.up.weight), wide(layer.up.bias), wide(layer.down.weight), wide(layer.down.bias)};
}

template <class Scalar>
FeedForward<Scalar> random_layer(Random& random) {
  FeedForward<Scalar> layer(C, F, random);
  for (auto* bias : {&layer.up.bias, &layer.down.bias}) {
    for (Index i = 0; i < bias->size(); ++i) (*bias)[i] = static_cast<Scalar>(random.normal());
  }
  return layer;
}

template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

template <class Scalar>
Matrix<Scalar> random_tokens(Random& random) {
  Matrix<Scalar> x(C, kTokens);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<Scalar>(random.normal(2));
  return x;
}

template <class Scalar>
Columns<Scalar> block(Matrix<Scalar>& m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
}
template <class Scalar>
ConstColumns<Scalar> read(const Matrix<Scalar>& m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
}

template <class Scalar>
class FeedForwardOf : public ::testing::Test {};

TYPED_TEST_SUITE(FeedForwardOf, test::Scalars);

TYPED_TEST(FeedForwardOf, ForwardIsItsDefinitionWithAndWithoutARecord) {
  Random random(1);
  Workspace workspace;
  workspace.poison = true;
  const auto layer = random_layer<TypeParam>(random);
  const auto x = random_tokens<TypeParam>(random);
  Matrix<TypeParam> y(C, kTokens), recorded(C, kTokens);
  FeedForwardSaved<TypeParam> saved;
  layer.forward(read(x), block(y), workspace);
  layer.forward(read(x), block(recorded), saved, workspace);
  expect_close_to_scale(wide(y), reference_of(layer).forward(wide(x)), Tolerance<TypeParam>::forward, "y");
  expect_same_bits(recorded, y, "y with a record");
}

TYPED_TEST(FeedForwardOf, GradientsAreThoseOfCentralDifferences) {
  Random random(2);
  Workspace workspace;
  workspace.poison = true;
  const auto layer = random_layer<TypeParam>(random);
  const auto x = random_tokens<TypeParam>(random), dy = random_tokens<TypeParam>(random);
  Matrix<TypeParam> y(C, kTokens), dx(C, kTokens);
  FeedForwardSaved<TypeParam> saved;
  layer.forward(read(x), block(y), saved, workspace);
  auto gradients = zeros_like(layer);
  layer.backward(read(x), saved, read(dy), block(dx), gradients, workspace);

  Reference reference = reference_of(layer);
  Values values = wide(x);
  const Values r = wide(dy);
  const auto loss = [&] {
    const Values out = reference.forward(values);
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += r[i] * out[i];
    return sum;
  };
  const auto check = [&](const Values& got, Values& at, const char* what) {
    Values expected;
    for (double& value : at) {
      const double before = value;
      value = before + test::kDifferenceStep;
      const double above = loss();
      value = before - test::kDifferenceStep;
      expected.push_back((above - loss()) / (2 * test::kDifferenceStep));
      value = before;
    }
    expect_close_to_scale(got, expected, Tolerance<TypeParam>::difference, what);
  };
  check(wide(dx), values, "dx");
  check(wide(gradients.up.weight), reference.up, "the gradient of up.weight");
  check(wide(gradients.up.bias), reference.up_bias, "the gradient of up.bias");
  check(wide(gradients.down.weight), reference.down, "the gradient of down.weight");
  check(wide(gradients.down.bias), reference.down_bias, "the gradient of down.bias");
}

TYPED_TEST(FeedForwardOf, BackwardOverwritesDxAndAddsToGradients) {
  Random random(3);
  Workspace workspace;
  const auto layer = random_layer<TypeParam>(random);
  const auto x = random_tokens<TypeParam>(random), dy = random_tokens<TypeParam>(random);
  Matrix<TypeParam> y(C, kTokens), dx(C, kTokens), again(C, kTokens);
  again.setConstant(TypeParam(1e6));
  FeedForwardSaved<TypeParam> saved;
  layer.forward(read(x), block(y), saved, workspace);
  auto once = zeros_like(layer), twice = zeros_like(layer);
  layer.backward(read(x), saved, read(dy), block(dx), once, workspace);
  layer.backward(read(x), saved, read(dy), block(again), twice, workspace);
  expect_same_bits(again, dx, "dx over old values");
  layer.backward(read(x), saved, read(dy), block(again), twice, workspace);
  FeedForward<TypeParam>::visit(
      [](std::string_view name, const auto& sum, const auto& one) {
        Values doubled = wide(one);
        for (double& value : doubled) value *= 2;
        expect_close_to_scale(wide(sum), doubled, Tolerance<TypeParam>::forward, name);
      },
      twice, once);
}

TYPED_TEST(FeedForwardOf, ThreadsChangeNoBit) {
  Random random(4);
  const auto layer = random_layer<TypeParam>(random);
  const auto x = random_tokens<TypeParam>(random), dy = random_tokens<TypeParam>(random);
  ThreadedExecutor threads(2);
  Workspace serial, threaded(threads);
  const auto run = [&](Workspace& workspace, Matrix<TypeParam>& y, Matrix<TypeParam>& dx) {
    FeedForwardSaved<TypeParam> saved;
    auto gradients = zeros_like(layer);
    layer.forward(read(x), block(y), saved, workspace);
    layer.backward(read(x), saved, read(dy), block(dx), gradients, workspace);
    return gradients;
  };
  Matrix<TypeParam> y(C, kTokens), dx(C, kTokens), y_threaded(C, kTokens), dx_threaded(C, kTokens);
  const auto gradients = run(serial, y, dx);
  const auto gradients_threaded = run(threaded, y_threaded, dx_threaded);
  expect_same_bits(y_threaded, y, "y");
  expect_same_bits(dx_threaded, dx, "dx");
  FeedForward<TypeParam>::visit(
      [](std::string_view name, const auto& a, const auto& b) { expect_same_bits(a, b, name); },
      gradients_threaded, gradients);
}

TEST(FeedForward, HasTheParametersThatItsFileStates) {
  Random random(5);
  EXPECT_EQ(count_parameters(FeedForward<float>(C, F, random)), 2 * F * C + F + C);
  EXPECT_THROW(FeedForward<float>(0, F, random), std::invalid_argument);
  EXPECT_THROW(FeedForward<float>(C, 0, random), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::feed_forward_test
