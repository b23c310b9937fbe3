// SPDX-License-Identifier: MIT
//
// The damped multi-dimensional moving average (arXiv 2209.10655) as the convolution that it is, in double and plain
// loops:
//
//   y[t] = sum_{j <= t} k_j x[t-j],   k_j = sum_i eta_i q_i^j p_i,   p = a beta,   q = 1 - a d
//
// with a = 1/(1 + exp(-alpha)) and d = 1/(1 + exp(-delta)), for each channel by itself. Parameters are read value by
// value, so it shares no arithmetic with the code under test.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "reference/plain_loops.hpp"

namespace hsm::test {

/// The parameters, copied into double: [n][C] each.
struct EmaReference {
  std::size_t C = 0, n = 0;
  std::vector<double> alpha, beta, delta, eta;

  template <class Ema>
  explicit EmaReference(const Ema& ema)
      : C(static_cast<std::size_t>(ema.channels())),
        n(static_cast<std::size_t>(ema.dimensions())),
        alpha(values_by_row(ema.alpha)),
        beta(values_by_row(ema.beta)),
        delta(values_by_row(ema.delta)),
        eta(values_by_row(ema.eta)) {}

  /// k_j of channel c.
  double kernel(std::size_t j, std::size_t c) const {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = i * C + c;
      const double a = 1 / (1 + std::exp(-alpha[at])), d = 1 / (1 + std::exp(-delta[at]));
      sum += eta[at] * std::pow(1 - a * d, static_cast<double>(j)) * a * beta[at];
    }
    return sum;
  }

  /// y [T][C] of one document x [T][C].
  std::vector<double> forward(const std::vector<double>& x) const {
    const std::size_t T = x.size() / C;
    std::vector<double> y(x.size(), 0);
    for (std::size_t c = 0; c < C; ++c) {
      for (std::size_t j = 0; j < T; ++j) {
        const double k = kernel(j, c);
        for (std::size_t t = j; t < T; ++t) y[t * C + c] += k * x[(t - j) * C + c];
      }
    }
    return y;
  }

  /// sum of y times dy: the scalar whose gradients backward computes.
  double loss(const Values& x, const Values& dy) const { return weighted_sum(forward(x), dy); }
};

}  // namespace hsm::test
