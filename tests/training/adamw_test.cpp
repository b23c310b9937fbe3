// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/random.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/training/adamw.hpp>

#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::adamw_test {
namespace {

using test::expect_close;
using test::expect_close_to_scale;
using test::expect_same_bits;
using test::Tolerance;

/// Tensors that decay and tensors that do not, and a hyper-parameter that the visit skips.
template <class Scalar>
struct Small {
  Index layers = 3;
  Weights<Scalar> embedding, weight;
  Vector<Scalar> bias;

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("embedding.weight", self.embedding, more.embedding...);
    f(std::string("feed_forward.up.weight"), self.weight, more.weight...);
    f(std::string_view("feed_forward.up.bias"), self.bias, more.bias...);
  }
};

template <class Scalar>
Small<Scalar> random_small(Random& random, Index rows, Index columns) {
  Small<Scalar> small{.embedding = Weights<Scalar>(rows, columns),
                      .weight = Weights<Scalar>(columns, rows),
                      .bias = Vector<Scalar>(rows)};
  const auto draw = [&](const auto&, auto& tensor) {
    for (Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = static_cast<Scalar>(random.normal());
  };
  Small<Scalar>::visit(draw, small);
  return small;
}

template <class Scalar>
void expect_same(const Small<Scalar>& a, const Small<Scalar>& b, const std::string& label) {
  expect_same_bits(a.embedding, b.embedding, label + " embedding");
  expect_same_bits(a.weight, b.weight, label + " weight");
  expect_same_bits(a.bias, b.bias, label + " bias");
}

/// One tensor's AdamW as plain loops in double.
struct Oracle {
  std::vector<double> p, m, v;
  bool decays;

  template <class Tensor>
  Oracle(const Tensor& tensor, bool decay)
      : p(tensor.data(), tensor.data() + tensor.size()), m(p.size()), v(p.size()), decays(decay) {}

  template <class Tensor>
  void step(const Tensor& gradient, const AdamWConfig& config, double rate, int t) {
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double g = gradient.data()[i];
      m[i] = config.beta1 * m[i] + (1 - config.beta1) * g;
      v[i] = config.beta2 * v[i] + (1 - config.beta2) * g * g;
      const double mean = m[i] / (1 - std::pow(config.beta1, t));
      const double square = v[i] / (1 - std::pow(config.beta2, t));
      if (decays) p[i] -= rate * config.weight_decay * p[i];
      p[i] -= rate * mean / (std::sqrt(square) + config.epsilon);
    }
  }
};

template <class Tensor>
auto flat(const Tensor& tensor) {
  return Eigen::Map<const Vector<typename Tensor::Scalar>>(tensor.data(), tensor.size());
}

template <class Scalar>
class AdamWOf : public ::testing::Test {};

TYPED_TEST_SUITE(AdamWOf, test::Scalars);

TYPED_TEST(AdamWOf, FollowsThePlainLoopOverTenSteps) {
  for (const AdamWConfig config :
       {AdamWConfig{}, AdamWConfig{.beta1 = 0.8, .beta2 = 0.999, .epsilon = 1e-3, .weight_decay = 0.5},
        AdamWConfig{.beta1 = 0, .beta2 = 0, .epsilon = 1.0, .weight_decay = 0}}) {
    Random random(41);
    auto p = random_small<TypeParam>(random, 13, 37);  // 481 elements: a whole piece and a rest
    Oracle embedding(p.embedding, false), weight(p.weight, true), bias(p.bias, false);
    AdamW<Small<TypeParam>> optimizer(p, config);
    SerialExecutor serial;
    for (int t = 1; t <= 10; ++t) {
      const auto g = random_small<TypeParam>(random, 13, 37);
      const double rate = 0.01 * t;
      optimizer.step(p, g, rate, serial);
      embedding.step(g.embedding, config, rate, t);
      weight.step(g.weight, config, rate, t);
      bias.step(g.bias, config, rate, t);
      EXPECT_EQ(optimizer.steps(), t);
      // Up to ten steps of a few roundings each, of parameters of size 1 to 4.
      const double tolerance = 10 * Tolerance<TypeParam>::pointwise;
      const std::string label = "step " + std::to_string(t);
      expect_close_to_scale(flat(p.embedding), embedding.p, tolerance, label + " embedding");
      expect_close_to_scale(flat(p.weight), weight.p, tolerance, label + " weight");
      expect_close_to_scale(flat(p.bias), bias.p, tolerance, label + " bias");
      expect_close_to_scale(flat(optimizer.first_moment().weight), weight.m, tolerance, label + " m");
      expect_close_to_scale(flat(optimizer.second_moment().weight), weight.v, tolerance, label + " v");
    }
  }
}

TYPED_TEST(AdamWOf, TheFirstStepMovesEachParameterByTheRate) {
  // m / sqrt(v) is the sign of the gradient, however large or small it is.
  Random random(42);
  auto p = random_small<TypeParam>(random, 3, 4);
  const auto start = p;
  auto g = random_small<TypeParam>(random, 3, 4);
  g.bias << TypeParam(1e-3), TypeParam(-1), TypeParam(1e6);
  AdamW<Small<TypeParam>> optimizer(p, {.weight_decay = 0});
  optimizer.step(p, g, 0.01);
  const Vector<double> expected = start.bias.template cast<double>() + Eigen::Vector3d(-0.01, 0.01, -0.01);
  expect_close(p.bias, expected, 2e-7, 0, "bias");  // epsilon = 1e-8 is 1e-5 of a gradient of 1e-3
}

TYPED_TEST(AdamWOf, WithoutGradientOnlyWeightsShrink) {
  Random random(43);
  auto p = random_small<TypeParam>(random, 5, 7);
  const auto start = p;
  auto g = p;
  g.embedding.setZero();
  g.weight.setZero();
  g.bias.setZero();
  AdamW<Small<TypeParam>> optimizer(p, {.weight_decay = 0.5});
  optimizer.step(p, g, 0.1);
  expect_same_bits(p.embedding, start.embedding, "embedding");
  expect_same_bits(p.bias, start.bias, "bias");
  const Eigen::MatrixXd expected = 0.95 * start.weight.template cast<double>();
  expect_close(p.weight, expected, 0, Tolerance<TypeParam>::pointwise, "weight");
}

TYPED_TEST(AdamWOf, AtRateZeroOnlyTheMomentsChange) {
  Random random(44);
  auto p = random_small<TypeParam>(random, 5, 7);
  const auto start = p;
  AdamW<Small<TypeParam>> optimizer(p);
  const auto g = random_small<TypeParam>(random, 5, 7);
  optimizer.step(p, g, 0.0);
  expect_same(p, start, "parameters");
  expect_close(optimizer.first_moment().bias, (0.1 * g.bias.template cast<double>()).eval(), 0,
               Tolerance<TypeParam>::pointwise, "m");
}

TYPED_TEST(AdamWOf, TheNumberOfThreadsChangesNoBit) {
  // 49,419 elements per matrix: four tasks, the last one shorter and not whole.
  Random random(45);
  const auto start = random_small<TypeParam>(random, 153, 323);
  const auto g1 = random_small<TypeParam>(random, 153, 323);
  const auto g2 = random_small<TypeParam>(random, 153, 323);
  auto serial = start;
  AdamW<Small<TypeParam>> reference(start);
  reference.step(serial, g1, 0.01);
  reference.step(serial, g2, 0.02);
  for (const int threads : {1, 2, 3, 8}) {
    ThreadedExecutor executor(threads);
    auto p = start;
    AdamW<Small<TypeParam>> optimizer(start);
    optimizer.step(p, g1, 0.01, executor);
    optimizer.step(p, g2, 0.02, executor);
    const std::string label = std::to_string(threads) + " threads:";
    expect_same(p, serial, label);
    expect_same(optimizer.first_moment(), reference.first_moment(), label + " m");
    expect_same(optimizer.second_moment(), reference.second_moment(), label + " v");
  }
}

TYPED_TEST(AdamWOf, ARestoredOptimizerGoesOnWithTheSameBits) {
  Random random(46);
  auto p = random_small<TypeParam>(random, 6, 9);
  AdamW<Small<TypeParam>> optimizer(p);
  for (int t = 0; t < 5; ++t) optimizer.step(p, random_small<TypeParam>(random, 6, 9), 0.01);
  auto resumed_p = p;
  AdamW<Small<TypeParam>> resumed(p);
  resumed.restore(optimizer.first_moment(), optimizer.second_moment(), optimizer.steps());
  for (int t = 0; t < 5; ++t) {
    const auto g = random_small<TypeParam>(random, 6, 9);
    optimizer.step(p, g, 0.01);
    resumed.step(resumed_p, g, 0.01);
  }
  EXPECT_EQ(resumed.steps(), 10);
  expect_same(resumed_p, p, "resumed");
}

TYPED_TEST(AdamWOf, AnOptimizerFilledByNameGoesOnWithTheSameBits) {
  using Scalar = TypeParam;
  Random random(7);
  auto p = random_small<Scalar>(random, 3, 5);
  AdamW<Small<Scalar>> optimizer(p);
  for (int i = 0; i < 3; ++i) optimizer.step(p, random_small<Scalar>(random, 3, 5), 1e-2);
  auto q = p;
  AdamW<Small<Scalar>> other(q);
  std::vector<std::string> names;
  AdamW<Small<Scalar>>::visit(
      [&](std::string_view name, auto& to, const auto& from) {
        names.emplace_back(name);
        to = from;
      },
      other, optimizer);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "first_moment.embedding.weight", "first_moment.feed_forward.up.weight",
                       "first_moment.feed_forward.up.bias", "second_moment.embedding.weight",
                       "second_moment.feed_forward.up.weight", "second_moment.feed_forward.up.bias"}));
  EXPECT_THROW(other.set_steps(-1), std::invalid_argument);
  other.set_steps(optimizer.steps());
  const auto gradients = random_small<Scalar>(random, 3, 5);
  optimizer.step(p, gradients, 1e-2);
  other.step(q, gradients, 1e-2);
  expect_same(q, p, "parameters");
  expect_same(other.second_moment(), optimizer.second_moment(), "second moment");
}

TYPED_TEST(AdamWOf, ANewOptimizerHasZeroMomentsAndKeepsTheRest) {
  Random random(47);
  const auto p = random_small<TypeParam>(random, 2, 3);
  const AdamW<Small<TypeParam>> optimizer(p);
  EXPECT_EQ(optimizer.steps(), 0);
  for (const auto* moment : {&optimizer.first_moment(), &optimizer.second_moment()}) {
    EXPECT_EQ(moment->layers, 3);
    expect_same_bits(moment->embedding, Weights<TypeParam>::Zero(2, 3).eval(), "embedding");
    expect_same_bits(moment->weight, Weights<TypeParam>::Zero(3, 2).eval(), "weight");
    expect_same_bits(moment->bias, Vector<TypeParam>::Zero(2).eval(), "bias");
  }
}

TYPED_TEST(AdamWOf, EmptyTensorsAreLegal) {
  Random random(48);
  auto p = random_small<TypeParam>(random, 3, 0);
  AdamW<Small<TypeParam>> optimizer(p);
  EXPECT_NO_THROW(optimizer.step(p, random_small<TypeParam>(random, 3, 0), 0.1));
}

TYPED_TEST(AdamWOf, RefusesAnotherShapeAndChangesNothing) {
  Random random(49);
  auto p = random_small<TypeParam>(random, 4, 6);
  const auto start = p;
  AdamW<Small<TypeParam>> optimizer(p);
  auto g = random_small<TypeParam>(random, 4, 6);
  g.weight.resize(4, 6);  // [6,4] transposed: the same number of elements
  g.weight.setOnes();
  try {
    optimizer.step(p, g, 0.1);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "AdamW::step: feed_forward.up.weight must be [6,4], got [4,6]");
  }
  auto other = random_small<TypeParam>(random, 5, 6);
  EXPECT_THROW(optimizer.step(other, start, 0.1), std::invalid_argument);
  EXPECT_THROW(optimizer.restore(other, start, 1), std::invalid_argument);
  EXPECT_THROW(optimizer.restore(start, other, 1), std::invalid_argument);
  EXPECT_THROW(optimizer.restore(start, start, -1), std::invalid_argument);
  EXPECT_EQ(optimizer.steps(), 0);
  expect_same(p, start, "parameters");
  expect_same_bits(optimizer.first_moment().embedding, Weights<TypeParam>::Zero(4, 6).eval(), "m");
}

TYPED_TEST(AdamWOf, RefusesALearningRateThatIsNegativeOrNotFinite) {
  Random random(50);
  auto p = random_small<TypeParam>(random, 2, 2);
  AdamW<Small<TypeParam>> optimizer(p);
  const double too_large =
      0.5 * static_cast<double>(std::numeric_limits<TypeParam>::max());  // over 1 - beta1
  for (const double rate : {-1e-3, std::nan(""), std::numeric_limits<double>::infinity(), too_large}) {
    EXPECT_THROW(optimizer.step(p, p, rate), std::invalid_argument) << rate;
    EXPECT_EQ(optimizer.steps(), 0);
  }
  EXPECT_EQ(optimizer.steps(), 0);
}

TYPED_TEST(AdamWOf, RefusesAConfigOutsideItsBounds) {
  const Small<TypeParam> p;
  const auto make = [&p](AdamWConfig config) { AdamW<Small<TypeParam>> optimizer(p, config); };
  EXPECT_NO_THROW(make({}));
  EXPECT_THROW(make({.beta1 = 1}), std::invalid_argument);
  EXPECT_THROW(make({.beta1 = -0.1}), std::invalid_argument);
  EXPECT_THROW(make({.beta2 = 1}), std::invalid_argument);
  EXPECT_THROW(make({.beta2 = std::nan("")}), std::invalid_argument);
  EXPECT_THROW(make({.epsilon = 0}), std::invalid_argument);
  EXPECT_THROW(make({.epsilon = 1 / 0.0}), std::invalid_argument);
  // What rounds to the end of its bounds.
  const bool rounds = std::is_same_v<TypeParam, float>;
  for (const AdamWConfig& config :
       {AdamWConfig{.beta1 = 1 - 1e-9}, AdamWConfig{.beta2 = 1 - 1e-9}, AdamWConfig{.epsilon = 1e-46}}) {
    if (rounds) {
      EXPECT_THROW(make(config), std::invalid_argument);
    } else {
      EXPECT_NO_THROW(make(config));
    }
  }
  EXPECT_THROW(make({.weight_decay = -0.1}), std::invalid_argument);
  EXPECT_THROW(make({.weight_decay = std::nan("")}), std::invalid_argument);
}

TEST(WeightDecay, AppliesToWeightMatricesAndNothingElse) {
  for (const char* name :
       {"weight", "head.weight", "blocks.3.feed_forward.up.weight", "mixer.value.weight"}) {
    EXPECT_TRUE(decays(name)) << name;
  }
  for (const char* name : {"", "a", "b", "blocks.0.mixer.a", "head.bias", "blocks.3.norm.gain", "norm.weight",
                           "blocks.3.norm2.weight", "embedding.weight", "token_embedding.weight",
                           "positions.weight", "weight.a", "weights"}) {
    EXPECT_FALSE(decays(name)) << name;
  }
}

}  // namespace
}  // namespace hsm::adamw_test
