// SPDX-License-Identifier: MIT
//
// Gradients of sum(dy .* y) against central differences of forward, tensor by tensor and for x: value by value, up to
// kMostSlopes of each, and where a tensor has more, along a random direction through all of them. What is wrong with
// the gradient of x is followed to the output that gives it.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include <hsm/testing/layer_trial.hpp>
#include <hsm/testing/slopes.hpp>

namespace hsm::inline HSM_ABI::detail {

/// What backward gives for the whole sequences of a trial.
struct WholeGradients {
  TokenValues dx;
  TensorGradients tensors;
};

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
  if (is_finite(got) && (std::abs)(got - expected) <= slopes.tolerance(size)) return {};
  return "the gradient of " + name + " along a random direction is " + number_text(got) +
         ", central differences give " + number_text(expected) +
         gradient_hint(got, expected, slopes.tolerance(size));
}

/// All that backward gives is finite.
inline std::string check_finite(const TestedLayer& layer, const WholeGradients& whole) {
  const Index C = whole.dx.channels, T = whole.dx.time;
  const auto place = [](const std::vector<double>& values) {
    return static_cast<Index>(std::find_if_not(values.begin(), values.end(), is_finite<double>) -
                              values.begin());
  };
  const Index wrong = place(whole.dx.values), token = wrong / C;
  if (token < whole.dx.count())
    return "backward gives dx " + number_text(whole.dx.at(token / T, token % T)[wrong % C]) + " at " +
           token_text(whole.dx, token / T, token % T) + ", channel " + std::to_string(wrong % C) +
           ": it must write every value, and read no scratch that it has not written";
  for (std::size_t k = 0; k < whole.tensors.size(); ++k) {
    const Index i = place(whole.tensors[k]);
    if (i < layer.tensors()[k].size)
      return "backward gives " + layer.tensors()[k].name + " the gradient " +
             number_text(whole.tensors[k][static_cast<std::size_t>(i)]) + " at value " + std::to_string(i) +
             ": it must read no scratch that it has not written";
  }
  return {};
}

/// "" or where gradients differ from those of the whole sequences, which a call of forward gave.
inline std::string compare_gradients(const LayerTrial& trial, const std::string& what,
                                     const WholeGradients& got, const WholeGradients& whole,
                                     const std::string& hint) {
  const double bound = 10 * trial.mode_bound();
  const Difference worst = difference(got.dx, whole.dx, bound);
  if (worst) return difference_text(what + " gives dx", worst, whole.dx, "the whole sequence") + ": " + hint;
  double all = largest_of(whole.dx.values);
  for (const auto& tensor : whole.tensors) all = (std::max)(all, largest_of(tensor));
  for (std::size_t k = 0; k < got.tensors.size(); ++k) {
    // Of the largest of a tensor; a tensor whose gradient is 0 but for rounding has that of the others.
    const double tolerance = bound * (largest_of(whole.tensors[k]) + 1e-3 * all);
    for (std::size_t i = 0; i < got.tensors[k].size(); ++i) {
      const double value = got.tensors[k][i], expected = whole.tensors[k][i];
      if (is_finite(value) && (std::abs)(value - expected) <= tolerance) continue;
      return what + " gives " + trial.layer.tensors()[k].name + " the gradient " + number_text(value) +
             " at value " + std::to_string(i) + ", which must be " + number_text(expected) + ": " + hint;
    }
  }
  return {};
}

/// All gradients of whole sequences, which are left in `whole`, against central differences.
inline std::string check_gradients(LayerTrial& trial, WholeGradients& whole) {
  TestedLayer& layer = trial.layer;
  const auto record = layer.make_record();
  layer.forward(trial.x, record.get());
  whole.tensors = layer.zero_gradients();
  whole.dx = layer.backward(trial.x, *record, trial.dy, whole.tensors);

  std::string wrong = check_finite(layer, whole);
  if (!wrong.empty()) return wrong;
  const Slopes slopes(trial);
  for (std::size_t k = 0; k < whole.tensors.size(); ++k) {
    const TestedTensor& tensor = layer.tensors()[k];
    wrong = check_tensor_gradient(trial, slopes, k, whole.tensors[k]);
    if (wrong.empty() && tensor.size > kMostSlopes) {
      std::vector<double> values;
      for (Index i = 0; i < tensor.size; ++i) values.push_back(layer.value(k, i));
      wrong = check_direction(
          trial, slopes, tensor.name, values, whole.tensors[k],
          [&](std::size_t i, double v) { layer.set_value(k, static_cast<Index>(i), v); }, trial.x);
    }
    if (!wrong.empty()) return wrong;
  }
  wrong = check_input_gradient(trial, slopes, whole.dx);
  if (!wrong.empty()) return wrong;
  TokenValues x = trial.x;
  return check_direction(
      trial, slopes, "x", x.values, whole.dx.values,
      [&](std::size_t i, double v) { x.values[i] = layer.rounded(v); }, x);
}

/// A record that has served a longer call gives the same gradients, and so does a second backward, which adds them.
inline std::string check_again(LayerTrial& trial, const WholeGradients& whole) {
  TestedLayer& layer = trial.layer;
  const auto record = layer.make_record();
  layer.forward(trial.drawn(trial.tokens() + 3), record.get());
  layer.forward(trial.x, record.get());
  WholeGradients got{{}, layer.zero_gradients()}, twice = whole;
  got.dx = layer.backward(trial.x, *record, trial.dy, got.tensors);
  std::string wrong = compare_gradients(trial, "backward with a record that served a longer call", got, whole,
                                        "a record must hold its last call alone");
  if (!wrong.empty()) return wrong;
  got.dx = layer.backward(trial.x, *record, trial.dy, got.tensors);
  for (auto& tensor : twice.tensors) {
    for (double& value : tensor) value *= 2;
  }
  return compare_gradients(trial, "a second backward", got, twice,
                           "dx is overwritten, gradients of tensors are added to, and the record stays");
}

}  // namespace hsm::inline HSM_ABI::detail
