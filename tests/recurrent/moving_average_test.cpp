// SPDX-License-Identifier: MIT
//
// What is particular to the moving average; what holds for every layer is in layer/every_layer_test.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "recurrent/moving_average_cases.hpp"

namespace hsm::test::moving_average_test {
namespace {

TEST(MovingAverageErrors, SayWhatWasExpected) {
  Random random(1);
  expect_refused([&] { Ema<float>(4, 0, random); }, "Ema: ndim must be 1 to 256, got 0");
  expect_refused([&] { Ema<float>(0, 1, random); }, "Ema: channels must be at least 1, got 0");
  auto mixer = make_ema<float>(4, 2);
  Workspace workspace;
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(4, 3), y(4, 3);
  auto saved = mixer.make_saved();
  mixer.forward(x, y, saved, workspace);
  auto state = mixer.make_state();
  auto gradients = mixer.make_gradients();
  expect_refused([&] { mixer.backward(x, saved, x, y, gradients, workspace, &state); },
                 "MovingAverage::backward: state_gradient must be none, since the call that was recorded had "
                 "no state, got one");
  auto other = make_ema<float>(4, 3).make_state();
  expect_refused(
      [&] { mixer.step(x.col(0), other, y.col(0), workspace); },
      "MovingAverage::step: the state must be one of this layer, with rings of 8 x 1 values of ema in 2 "
      "parts, got one with rings of 12 x 1 values of ema in 3 parts");
  auto narrow = make_ema<float>(2, 4).make_state();  // as many values, of other channels
  expect_refused(
      [&] { mixer.step(x.col(0), narrow, y.col(0), workspace); },
      "MovingAverage::step: the state must be one of this layer, with rings of 8 x 1 values of ema in 2 "
      "parts, got one with rings of 8 x 1 values of ema in 4 parts");
  auto spare = mixer.make_state({.spare = 2}), none = mixer.make_state();
  mixer.extend(x, spare, y, saved, workspace);
  expect_refused([&] { mixer.backward(x, saved, x, y, gradients, workspace, &none); },
                 "MovingAverage::backward: the spare slots of state_gradient must be at least 2, got 0");
  mixer.parameters().beta.resize(2, 5);
  expect_refused([&] { mixer.forward(x, y); },
                 "MovingAverage::forward: beta must be [2,4], the shape of alpha, got [2,5]");
}

TEST(MovingAverage, GradientsOfSaturatedSharesAreThoseOfDoubles) {
  Random random(4);
  const Index C = 6, n = 2, T = 50;
  Ema<double> wide(C, n, random);
  for (Index i = 0; i < n; ++i) {
    for (Index c = 0; c < C; ++c) {
      wide.alpha(i, c) =
          (i == 0 ? 1 : -1) * (10 + 1.5 * static_cast<double>(c));  // up to 17.5, where a float is 1
      wide.delta(i, c) = 17.5 - 1.5 * static_cast<double>(c);
    }
  }
  Ema<float> narrow(C, n, random);
  wide.visit([](std::string_view, const auto& from, auto& to) { to = from.template cast<float>(); }, wide,
             narrow);
  const auto x = random_matrix<double>(C, T, random), dy = random_matrix<double>(C, T, random);
  const auto gradients_of = [&](const auto& mixer, const auto& own_x, const auto& own_dy) {
    auto y = own_x, dx = own_x;
    Workspace workspace;
    auto saved = mixer.make_saved();
    auto gradients = mixer.make_gradients();
    mixer.forward(own_x, y, saved, workspace);
    mixer.backward(own_x, saved, own_dy, dx, gradients, workspace);
    return gradients;
  };
  const Eigen::MatrixXf float_x = x.cast<float>(), float_dy = dy.cast<float>();
  const auto got = gradients_of(MovingAverage<float>(narrow), float_x, float_dy);
  const auto expected = gradients_of(MovingAverage<double>(wide), x, dy);
  // Each value by itself: the largest of a tensor says nothing of the smallest.
  for (Index i = 0; i < n; ++i) {
    for (Index c = 0; c < C; ++c) {
      const std::string place = std::to_string(i) + ", " + std::to_string(c);
      expect_close(got.alpha(i, c), expected.alpha(i, c), 0, 1e-3, "alpha " + place);
      expect_close(got.delta(i, c), expected.delta(i, c), 0, 1e-3, "delta " + place);
    }
  }
}

TEST(MovingAverage, FreshOnesRememberFewAndManyTokens) {
  Random random(1);
  const Ema<double> ema(64, 2, random);
  const auto q = [&](Index c) {
    return 1 - 1 / (1 + std::exp(-ema.alpha(0, c))) / (1 + std::exp(-ema.delta(0, c)));
  };
  EXPECT_LT(q(0), 0.6);
  EXPECT_GT(q(63), 0.98);
  EXPECT_LT(q(63), 1.0);
}

}  // namespace
}  // namespace hsm::test::moving_average_test
