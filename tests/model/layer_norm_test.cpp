// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include <hsm/core/random.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/model/layer_norm.hpp>

#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::layer_norm_test {
namespace {

using test::expect_close;
using test::expect_close_to_scale;
using test::expect_same_bits;
using test::Tolerance;
using Values = std::vector<double>;

constexpr Index kSizes[] = {1, 3, 16, 17, 40};  // around the 16 lanes of the sums
constexpr Index kTokens = 71;                   // more than two tasks of 32

/// n tokens whose columns lie further apart than C; the gaps hold a canary.
template <class Scalar>
struct Padded {
  static constexpr Scalar kCanary = Scalar(-7777);

  Padded(Index C, Index n) : channels(C), tokens(n), values(static_cast<std::size_t>((C + 5) * n), kCanary) {}
  Padded(Index C, Index n, Random& random) : Padded(C, n) {
    for (Index j = 0; j < n; ++j) {
      for (Index i = 0; i < C; ++i) block()(i, j) = static_cast<Scalar>(random.normal(2) + 0.5);
    }
  }

  Columns<Scalar> block() { return {values.data(), channels, tokens, Eigen::OuterStride<>(channels + 5)}; }
  ConstColumns<Scalar> read() const {
    return {values.data(), channels, tokens, Eigen::OuterStride<>(channels + 5)};
  }
  /// The values without the gaps, token after token.
  Values wide() const {
    Values result;
    for (Index j = 0; j < tokens; ++j) {
      for (Index i = 0; i < channels; ++i) result.push_back(static_cast<double>(read()(i, j)));
    }
    return result;
  }
  void expect_canaries() const {
    for (Index j = 0; j < tokens; ++j) {
      for (Index i = channels; i < channels + 5; ++i) {
        EXPECT_EQ(values[static_cast<std::size_t>(j * (channels + 5) + i)], kCanary);
      }
    }
  }

  Index channels, tokens;
  std::vector<Scalar> values;
};

template <class Scalar>
LayerNorm<Scalar> random_norm(Index C, Random& random) {
  LayerNorm<Scalar> norm(C);
  for (Index i = 0; i < C; ++i) {
    norm.gain[i] = static_cast<Scalar>(1 + random.normal(0.5));
    norm.bias[i] = static_cast<Scalar>(random.normal());
  }
  return norm;
}

/// By the definition, one value at a time.
Values normalised(const Values& gain, const Values& bias, const Values& x) {
  const std::size_t C = gain.size();
  Values y;
  for (std::size_t start = 0; start < x.size(); start += C) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < C; ++i) mean += x[start + i];
    mean /= static_cast<double>(C);
    for (std::size_t i = 0; i < C; ++i) variance += (x[start + i] - mean) * (x[start + i] - mean);
    variance /= static_cast<double>(C);
    for (std::size_t i = 0; i < C; ++i) {
      y.push_back(gain[i] * (x[start + i] - mean) / std::sqrt(variance + 1e-5) + bias[i]);
    }
  }
  return y;
}

template <class Scalar>
Values wide(const Vector<Scalar>& vector) {
  return Values(vector.data(), vector.data() + vector.size());
}

/// d sum_i r[i] y[i] / d values, by central differences.
template <class Loss>
Values differences(Values& values, const Loss& loss) {
  Values result;
  for (double& value : values) {
    const double before = value;
    value = before + test::kDifferenceStep;
    const double above = loss();
    value = before - test::kDifferenceStep;
    result.push_back((above - loss()) / (2 * test::kDifferenceStep));
    value = before;
  }
  return result;
}

template <class Scalar>
class LayerNormOf : public ::testing::Test {};

TYPED_TEST_SUITE(LayerNormOf, test::Scalars);

TYPED_TEST(LayerNormOf, ForwardIsItsDefinition) {
  Random random(1);
  SerialExecutor serial;
  for (const Index C : kSizes) {
    const auto norm = random_norm<TypeParam>(C, random);
    const Padded<TypeParam> x(C, kTokens, random);
    Padded<TypeParam> y(C, kTokens);
    norm.forward(x.read(), y.block(), serial);
    expect_close_to_scale(y.wide(), normalised(wide(norm.gain), wide(norm.bias), x.wide()),
                          Tolerance<TypeParam>::forward, "y, C = " + std::to_string(C));
    y.expect_canaries();
  }
}

TYPED_TEST(LayerNormOf, AddForwardIsTheSumAndItsNorm) {
  Random random(2);
  SerialExecutor serial;
  for (const Index C : kSizes) {
    const auto norm = random_norm<TypeParam>(C, random);
    const Padded<TypeParam> x(C, kTokens, random), branch(C, kTokens, random);
    Padded<TypeParam> sum(C, kTokens), y(C, kTokens), again(C, kTokens);
    norm.add_forward(x.read(), branch.read(), sum.block(), y.block(), serial);
    Values expected = x.wide();
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += branch.wide()[i];
    expect_close(sum.wide(), expected, Tolerance<TypeParam>::epsilon, Tolerance<TypeParam>::epsilon, "sum");
    norm.forward(sum.read(), again.block(), serial);
    expect_same_bits(y.values, again.values, "y and the norm of the sum");

    Padded<TypeParam> in_place = x, y_in_place(C, kTokens);
    norm.add_forward(in_place.read(), branch.read(), in_place.block(), y_in_place.block(), serial);
    expect_same_bits(in_place.values, sum.values, "the sum in the place of x");
    expect_same_bits(y_in_place.values, y.values, "y where the sum is in the place of x");
    sum.expect_canaries();
    y.expect_canaries();
  }
}

TYPED_TEST(LayerNormOf, GradientsAreThoseOfCentralDifferences) {
  Random random(3);
  Workspace workspace;
  workspace.poison = true;
  for (const Index C : {Index{3}, Index{17}}) {
    const auto norm = random_norm<TypeParam>(C, random);
    const Padded<TypeParam> x(C, kTokens, random), dy(C, kTokens, random);
    Padded<TypeParam> dx(C, kTokens);
    dx.block().setZero();
    auto gradients = norm;
    gradients.gain.setZero();
    gradients.bias.setZero();
    norm.backward(x.read(), dy.read(), dx.block(), gradients, workspace);

    Values gain = wide(norm.gain), bias = wide(norm.bias), values = x.wide();
    const Values r = dy.wide();
    const auto loss = [&] {
      const Values y = normalised(gain, bias, values);
      double sum = 0;
      for (std::size_t i = 0; i < y.size(); ++i) sum += r[i] * y[i];
      return sum;
    };
    const double tolerance = Tolerance<TypeParam>::difference;
    expect_close_to_scale(dx.wide(), differences(values, loss), tolerance, "dx");
    expect_close_to_scale(wide(gradients.gain), differences(gain, loss), tolerance, "the gradient of gain");
    expect_close_to_scale(wide(gradients.bias), differences(bias, loss), tolerance, "the gradient of bias");
    dx.expect_canaries();
  }
}

TYPED_TEST(LayerNormOf, BackwardAddsToWhatIsThere) {
  Random random(4);
  Workspace workspace;
  const Index C = 17;
  const auto norm = random_norm<TypeParam>(C, random);
  const Padded<TypeParam> x(C, kTokens, random), dy(C, kTokens, random);
  Padded<TypeParam> once(C, kTokens), twice(C, kTokens);
  once.block().setZero();
  twice.block().setZero();
  auto gradients = norm, doubled = norm;
  for (auto* each : {&gradients, &doubled}) {
    each->gain.setZero();
    each->bias.setZero();
  }
  norm.backward(x.read(), dy.read(), once.block(), gradients, workspace);
  for (int i = 0; i < 2; ++i) norm.backward(x.read(), dy.read(), twice.block(), doubled, workspace);
  Values expected = once.wide();
  for (double& value : expected) value *= 2;
  expect_close_to_scale(twice.wide(), expected, Tolerance<TypeParam>::forward, "dx");
  expect_close_to_scale(wide(doubled.gain), wide(Vector<TypeParam>(2 * gradients.gain)),
                        Tolerance<TypeParam>::forward, "the gradient of gain");
  expect_close_to_scale(wide(doubled.bias), wide(Vector<TypeParam>(2 * gradients.bias)),
                        Tolerance<TypeParam>::forward, "the gradient of bias");
}

TYPED_TEST(LayerNormOf, ThreadsChangeNoBit) {
  Random random(5);
  const Index C = 40;
  const auto norm = random_norm<TypeParam>(C, random);
  const Padded<TypeParam> x(C, kTokens, random), dy(C, kTokens, random);
  ThreadedExecutor threads(2);
  Workspace serial, threaded(threads);
  Padded<TypeParam> dx(C, kTokens, random);
  auto dx_threaded = dx;
  auto gradients = norm, gradients_threaded = norm;
  norm.backward(x.read(), dy.read(), dx.block(), gradients, serial);
  norm.backward(x.read(), dy.read(), dx_threaded.block(), gradients_threaded, threaded);
  expect_same_bits(dx_threaded.values, dx.values, "dx");
  expect_same_bits(gradients_threaded.gain, gradients.gain, "the gradient of gain");
  expect_same_bits(gradients_threaded.bias, gradients.bias, "the gradient of bias");
}

TYPED_TEST(LayerNormOf, ConstantTokensGiveTheBiasAndNanStaysInItsToken) {
  Random random(6);
  SerialExecutor serial;
  const Index C = 17;
  const auto norm = random_norm<TypeParam>(C, random);
  Padded<TypeParam> x(C, 3, random), y(C, 3);
  x.block().col(0).setConstant(TypeParam(4));
  x.block()(5, 1) = std::numeric_limits<TypeParam>::quiet_NaN();
  norm.forward(x.read(), y.block(), serial);
  expect_same_bits(Vector<TypeParam>(y.block().col(0)), norm.bias, "a token without variance");
  EXPECT_TRUE(y.block().col(1).array().isNaN().all());
  EXPECT_FALSE(y.block().col(2).array().isNaN().any());
}

TEST(LayerNorm, StartsAsGainOneAndBiasZeroAndRefusesNoChannels) {
  const LayerNorm<float> norm(3);
  EXPECT_EQ(norm.channels(), 3);
  EXPECT_TRUE((norm.gain.array() == 1).all());
  EXPECT_TRUE((norm.bias.array() == 0).all());
  EXPECT_THROW(LayerNorm<float>(0), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::layer_norm_test
