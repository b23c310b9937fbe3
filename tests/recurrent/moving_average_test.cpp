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
