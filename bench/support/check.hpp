// SPDX-License-Identifier: MIT
//
// The checks that come before a timing. Forward: against an oracle in double on 64 tokens, the first and the
// last included. Backward: the slope of sum(dy y) along a vector v of +1 and -1 on those tokens, by central
// differences of the forward that was just checked, against sum(dx v); a token whose gradient is missing is
// off by an eighth.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <hsm/core/types.hpp>

namespace hsm::bench {

inline std::vector<Index> sampled_tokens(Index T) {
  std::vector<Index> tokens;
  const Index n = std::min<Index>(64, T);
  for (Index i = 0; i < n; ++i) tokens.push_back(n == 1 ? 0 : i * (T - 1) / (n - 1));
  return tokens;
}

/// "" where column tokens[i] of y is column i of `expected`, else the worst token.
inline std::string check_columns(const Eigen::MatrixXf& y, const std::vector<Index>& tokens,
                                 const Eigen::MatrixXd& expected) {
  const double scale = 1 + expected.cwiseAbs().maxCoeff();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double error = (expected.col(static_cast<Index>(i)) - y.col(tokens[i]).cast<double>())
                             .cwiseAbs()
                             .maxCoeff<Eigen::PropagateNaN>();
    if (!(error <= 1e-4 * scale))
      return "token " + std::to_string(tokens[i]) + ": off by " + std::to_string(error);
  }
  return "";
}

/// "" where dx is the gradient of sum(dy y), y = forward(x), at the sampled tokens.
inline std::string check_gradient(
    const std::function<void(const Eigen::MatrixXf& x, Eigen::MatrixXf& y)>& forward,
    const Eigen::MatrixXf& x, const Eigen::MatrixXf& dy, const Eigen::MatrixXf& dx) {
  if (!dx.allFinite()) return "dx is not finite";
  constexpr float kStep = 0.01F;
  Eigen::MatrixXf moved = x, above(x.rows(), x.cols()), below(x.rows(), x.cols());
  double slope = 0, size = 0;
  const std::vector<Index> tokens = sampled_tokens(x.cols());
  const auto sign = [](Index c, Index t) { return (c * 7 + t * 13) % 5 < 2 ? -1.0F : 1.0F; };
  for (const float step : {kStep, -kStep}) {
    for (const Index t : tokens) {
      for (Index c = 0; c < x.rows(); ++c) moved(c, t) = x(c, t) + step * sign(c, t);
    }
    forward(moved, step > 0 ? above : below);
  }
  for (const Index t : tokens) {
    for (Index c = 0; c < x.rows(); ++c) {
      const auto d = static_cast<double>(dx(c, t));
      slope += d * static_cast<double>(sign(c, t));
      size += d * d;
    }
  }
  double change = 0;
  for (Index t = 0; t < x.cols(); ++t) {
    for (Index c = 0; c < x.rows(); ++c)
      change += static_cast<double>(dy(c, t)) *
                (static_cast<double>(above(c, t)) - static_cast<double>(below(c, t)));
  }
  const double measured = change / (2 * static_cast<double>(kStep)), error = std::abs(measured - slope);
  if (error <= 0.03 * std::sqrt(size)) return "";
  return "the slope along the sampled tokens is " + std::to_string(measured) + ", dx says " +
         std::to_string(slope);
}

}  // namespace hsm::bench
