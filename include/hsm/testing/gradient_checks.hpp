// SPDX-License-Identifier: MIT
//
// Gradients of sum(dy .* y) against central differences of forward, tensor by tensor and for x: value by value, up to
// kMostSlopes of each, and where a tensor has more, along a random direction through all of them. What is wrong with
// the gradient of x is followed to the output that gives it.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/testing/layer_trial.hpp>

namespace hsm::inline HSM_ABI::detail {

inline constexpr Index kMostSlopes = 64;

/// What backward gives for the whole sequences of a trial.
struct WholeGradients {
  TokenValues dx;
  TensorGradients tensors;
};

/// What is different about a gradient that has one of the usual faults.
inline std::string gradient_hint(double got, double expected, double tolerance) {
  const auto is = [&](double value) { return std::abs(got - value) <= tolerance; };
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
    const double h = trial_.step() * (std::max)(1.0, std::abs(value));
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
      const double apart = std::abs(got[i] - expected[i]);
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
    const double apart = std::abs(got - expected);
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
         gradient_hint(worst_got, worst_expected, slopes.tolerance(std::abs(worst_expected)));
}

/// The gradient of x.
inline std::string check_input_gradient(LayerTrial& trial, const Slopes& slopes, const TokenValues& dx) {
  const Index C = trial.x.channels, T = trial.tokens();
  SlopePairs pairs{sampled(trial, static_cast<Index>(dx.values.size())), {}, {}};
  for (const Index place : pairs.places) {
    const Index b = place / (T * C);
    TokenValues x = trial.x.sequence(b);
    double& value = x.values[static_cast<std::size_t>(place - b * T * C)];
    const TokenValues jacobian = slopes.of(
        value, [&](double v) { value = v; }, x);
    pairs.expected.push_back(Slopes::of_loss(jacobian, trial.dy.sequence(b)));
    pairs.got.push_back(dx.values[static_cast<std::size_t>(place)]);
  }
  const Index wrong = pairs.worst(slopes.tolerance(largest_of(pairs.expected)));
  if (wrong < 0) return {};
  const Index token = pairs.places[static_cast<std::size_t>(wrong)] / C;
  return follow_gradient(trial, slopes, token / T, token % T,
                         pairs.places[static_cast<std::size_t>(wrong)] % C);
}

/// The gradient of tensor k.
inline std::string check_tensor_gradient(LayerTrial& trial, const Slopes& slopes, std::size_t k,
                                         const std::vector<double>& gradient) {
  const TestedTensor& tensor = trial.layer.tensors()[k];
  SlopePairs pairs{sampled(trial, tensor.size), {}, {}};
  for (const Index i : pairs.places) {
    const TokenValues jacobian = slopes.of(
        trial.layer.value(k, i), [&](double v) { trial.layer.set_value(k, i, v); }, trial.x);
    pairs.expected.push_back(Slopes::of_loss(jacobian, trial.dy));
    pairs.got.push_back(gradient[static_cast<std::size_t>(i)]);
  }
  const double tolerance = slopes.tolerance(largest_of(pairs.expected));
  const Index wrong = pairs.worst(tolerance);
  if (wrong < 0) return {};
  if (largest_of(gradient) == 0)
    return "the gradient of " + tensor.name + " is 0, but the result depends on it, with slopes up to " +
           number_text(largest_of(pairs.expected)) + ": the adjoint forgets this tensor";
  const double got = pairs.got[static_cast<std::size_t>(wrong)];
  const double expected = pairs.expected[static_cast<std::size_t>(wrong)];
  return "the gradient of " + tensor.name + " is " + number_text(got) + " at value " +
         std::to_string(pairs.places[static_cast<std::size_t>(wrong)]) + ", central differences give " +
         number_text(expected) + gradient_hint(got, expected, tolerance);
}

/// The gradient along a random direction through all of `values`, which set(i, value) changes.
inline std::string check_direction(LayerTrial& trial, const Slopes& slopes, const std::string& name,
                                   std::vector<double> values, const std::vector<double>& gradient,
                                   const std::function<void(std::size_t, double)>& set,
                                   const TokenValues& x) {
  std::vector<double> direction(values.size());
  for (double& value : direction) value = trial.random.normal();
  const auto move = [&](double h) {
    for (std::size_t i = 0; i < values.size(); ++i) set(i, values[i] + h * direction[i]);
  };
  const TokenValues jacobian = slopes.of(0, move, x);
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  const double got = dot(gradient, direction), expected = Slopes::of_loss(jacobian, trial.dy);
  const double size = std::sqrt(dot(gradient, gradient) * dot(direction, direction));
  if (is_finite(got) && std::abs(got - expected) <= slopes.tolerance(size)) return {};
  return "the gradient of " + name + " along a random direction is " + number_text(got) +
         ", central differences give " + number_text(expected) +
         gradient_hint(got, expected, slopes.tolerance(size));
}

/// All gradients of whole sequences, which are left in `whole`; and that a second backward gives the same dx and adds
/// the gradients again. The record has served a longer call before.
inline std::string check_gradients(LayerTrial& trial, WholeGradients& whole) {
  TestedLayer& layer = trial.layer;
  const auto record = layer.make_record();
  layer.forward(trial.drawn(trial.tokens() + 3), record.get());
  layer.forward(trial.x, record.get());
  whole.tensors = layer.zero_gradients();
  whole.dx = layer.backward(trial.x, *record, trial.dy, whole.tensors);

  const Slopes slopes(trial);
  for (std::size_t k = 0; k < whole.tensors.size(); ++k) {
    const TestedTensor& tensor = layer.tensors()[k];
    std::string wrong = check_tensor_gradient(trial, slopes, k, whole.tensors[k]);
    if (wrong.empty() && tensor.size > kMostSlopes) {
      std::vector<double> values;
      for (Index i = 0; i < tensor.size; ++i) values.push_back(layer.value(k, i));
      wrong = check_direction(
          trial, slopes, tensor.name, values, whole.tensors[k],
          [&](std::size_t i, double v) { layer.set_value(k, static_cast<Index>(i), v); }, trial.x);
    }
    if (!wrong.empty()) return wrong;
  }
  std::string wrong = check_input_gradient(trial, slopes, whole.dx);
  if (wrong.empty()) {
    TokenValues x = trial.x;
    wrong = check_direction(
        trial, slopes, "x", x.values, whole.dx.values,
        [&](std::size_t i, double v) { x.values[i] = layer.rounded(v); }, x);
  }
  if (!wrong.empty()) return wrong;

  TensorGradients twice = whole.tensors;
  const TokenValues again = layer.backward(trial.x, *record, trial.dy, twice);
  wrong = compare("a second backward", again, whole.dx, trial.mode_bound(),
                  "dx is overwritten, and backward must leave its record as it is");
  for (std::size_t k = 0; wrong.empty() && k < twice.size(); ++k) {
    const double tolerance = trial.mode_bound() * largest_of(whole.tensors[k]);
    for (std::size_t i = 0; i < twice[k].size(); ++i) {
      const double expected = 2 * whole.tensors[k][i];
      if (is_finite(twice[k][i]) && std::abs(twice[k][i] - expected) <= 2 * tolerance) continue;
      return "a second backward leaves the gradient of " + layer.tensors()[k].name + " at " +
             number_text(twice[k][i]) + " at value " + std::to_string(i) + ", where twice the first is " +
             number_text(expected) + ": gradients must be added to";
    }
  }
  return wrong;
}

}  // namespace hsm::inline HSM_ABI::detail
