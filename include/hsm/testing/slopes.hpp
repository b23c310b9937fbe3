// SPDX-License-Identifier: MIT
//
// Central differences of sum(dy .* y), and what a gradient that differs from them is like.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include <hsm/testing/layer_trial.hpp>

namespace hsm::inline HSM_ABI::detail {

/// How many values of a tensor are tried one by one.
inline constexpr Index kMostSlopes = 64;

/// What is different about a gradient that has one of the usual faults.
inline std::string gradient_hint(double got, double expected, double tolerance) {
  const auto is = [&](double value) { return (std::abs)(got - value) <= tolerance; };
  if (is(expected)) return "";
  if (got == 0) return ": it is missing";
  if (is(0) || is(expected / 2)) return ": a part of it is missing";
  if (is(-expected)) return ": its sign is wrong";
  if (is(2 * expected)) return ": it is counted twice";
  return "";
}

/// Central differences of the trial's loss.
class Slopes {
 public:
  explicit Slopes(LayerTrial& trial) : trial_(trial) {
    double squares = 0;
    for (std::size_t i = 0; i < trial.y.values.size(); ++i)
      squares += std::pow(trial.dy.values[i] * trial.y.values[i], 2);
    noise_ = 10 * trial.layer.epsilon() * std::sqrt(squares) / trial.step();
  }

  /// What the rounding of y alone makes of a slope.
  double noise() const { return noise_; }
  double tolerance(double largest) const { return trial_.difference_bound() * largest + noise_; }

  /// dy/dv of all outputs where set(v) gives the layer, or the tokens x, a value beside `value`.
  TokenValues of(double value, const std::function<void(double)>& set, const TokenValues& x) const {
    const double h = trial_.step() * (std::max)(1.0, (std::abs)(value));
    const double above = trial_.layer.rounded(value + h), below = trial_.layer.rounded(value - h);
    set(above);
    TokenValues slopes = trial_.layer.forward(x);
    set(below);
    const TokenValues lower = trial_.layer.forward(x);
    set(value);
    for (std::size_t i = 0; i < slopes.values.size(); ++i)
      slopes.values[i] = (slopes.values[i] - lower.values[i]) / (above - below);
    return slopes;
  }
  /// The slope of the loss.
  static double of_loss(const TokenValues& slopes, const TokenValues& dy) {
    return std::inner_product(slopes.values.begin(), slopes.values.end(), dy.values.begin(), 0.0);
  }

 private:
  LayerTrial& trial_;
  double noise_ = 0;
};

/// Up to kMostSlopes of 0 ... size - 1, all where there are no more.
inline std::vector<Index> sampled(LayerTrial& trial, Index size) {
  const Index n = (std::min)(size, kMostSlopes);
  std::vector<Index> places;
  for (Index i = 0; i < n; ++i) {
    const Index first = i * (size / n) + (std::min)(i, size % n), room = size / n + (i < size % n ? 1 : 0);
    places.push_back(first + static_cast<Index>(trial.random.below(static_cast<std::uint64_t>(room))));
  }
  return places;
}

/// Some gradients of a tensor, or of x, beside the slopes that they must be.
struct SlopePairs {
  std::vector<Index> places;
  std::vector<double> got, expected;

  /// The place in `places` where they are farthest apart, NaN first; -1 where all are within the tolerance.
  Index worst(double tolerance) const {
    Index place = -1;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double apart = (std::abs)(got[i] - expected[i]);
      if (is_finite(got[i]) && apart <= tolerance) continue;
      place = static_cast<Index>(i);
      if (!is_finite(got[i])) break;
      tolerance = apart;
    }
    return place;
  }
};

/// Which output gives token t of sequence b a wrong gradient in channel c, and how wrong.
inline std::string follow_gradient(LayerTrial& trial, const Slopes& slopes, Index b, Index t, Index c) {
  TokenValues x = trial.x;
  const TokenValues jacobian = slopes
                                   .of(
                                       x.at(b, t)[c], [&](double value) { x.at(b, t)[c] = value; }, x)
                                   .sequence(b);
  const TokenValues alone = trial.x.sequence(b);
  const auto record = trial.layer.make_record();
  trial.layer.forward(alone, record.get());
  double worst = -1, worst_got = 0, worst_expected = 0;
  Index worst_output = t;
  for (Index output = 0; output < trial.tokens(); ++output) {
    TokenValues dy(1, trial.tokens(), x.channels);
    std::copy_n(trial.dy.at(b, output), x.channels, dy.at(0, output));
    TensorGradients unused = trial.layer.zero_gradients();
    const double got = trial.layer.backward(alone, *record, dy, unused).at(0, t)[c];
    const double expected = Slopes::of_loss(jacobian, dy);
    const double apart = (std::abs)(got - expected);
    if (apart <= worst) continue;
    worst = apart;
    worst_output = output;
    worst_got = got;
    worst_expected = expected;
  }
  const Index before = worst_output - t;
  return "the gradient that output " + std::to_string(worst_output) + " gives to token " + std::to_string(t) +
         (before == 0 ? " itself" : ", " + std::to_string(before) + " before it,") + " is " +
         number_text(worst_got) + " in channel " + std::to_string(c) + ", central differences give " +
         number_text(worst_expected) +
         gradient_hint(worst_got, worst_expected, slopes.tolerance((std::abs)(worst_expected)));
}

}  // namespace hsm::inline HSM_ABI::detail
