// SPDX-License-Identifier: MIT
//
// The checks that come before a timing. Forward: against an oracle in double on 64 tokens, the first and the
// last included. Backward: the slope of sum(dy y) along a vector v of +1 and -1 on those tokens, by central
// differences of the forward that was just checked, against sum(dx v), and the slope along such a vector of the
// parameters against theirs. A sum is one number: what is missing in it is seen but for chance, so the unit tests look
// at each value.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <string_view>
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

/// +1 or -1.
inline float sign_at(Index row, Index column) { return (row * 7 + column * 13) % 5 < 2 ? -1.0F : 1.0F; }

/// (sum(dy above) - sum(dy below)) / (2 step).
inline double slope_of(const Eigen::MatrixXf& dy, const Eigen::MatrixXf& above, const Eigen::MatrixXf& below,
                       float step) {
  double change = 0;
  for (Index t = 0; t < dy.cols(); ++t) {
    for (Index c = 0; c < dy.rows(); ++c)
      change += static_cast<double>(dy(c, t)) *
                (static_cast<double>(above(c, t)) - static_cast<double>(below(c, t)));
  }
  return change / (2 * static_cast<double>(step));
}

/// "" where the slope is what gradients with this sum of squares say, but for rounding.
inline std::string check_slope(const char* what, double measured, double told, double squares) {
  if (std::abs(measured - told) <= 0.03 * std::sqrt(squares)) return "";
  return "the slope along " + std::string(what) + " is " + std::to_string(measured) + ", its gradients say " +
         std::to_string(told);
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
  for (const float step : {kStep, -kStep}) {
    for (const Index t : tokens) {
      for (Index c = 0; c < x.rows(); ++c) moved(c, t) = x(c, t) + step * sign_at(c, t);
    }
    forward(moved, step > 0 ? above : below);
  }
  for (const Index t : tokens) {
    for (Index c = 0; c < x.rows(); ++c) {
      const auto d = static_cast<double>(dx(c, t));
      slope += d * static_cast<double>(sign_at(c, t));
      size += d * d;
    }
  }
  return check_slope("the sampled tokens", slope_of(dy, above, below, kStep), slope, size);
}

/// "" where `gradients` are those of sum(dy y), y = forward() of a layer with these parameters, which are moved and put
/// back.
template <class Parameters>
std::string check_parameter_gradients(const std::function<void(Eigen::MatrixXf& y)>& forward,
                                      Parameters& parameters, Parameters& gradients,
                                      const Eigen::MatrixXf& dy) {
  constexpr float kStep = 1e-3F;
  Eigen::MatrixXf above(dy.rows(), dy.cols()), below(dy.rows(), dy.cols());
  const Parameters kept = parameters;
  for (const float step : {kStep, -kStep}) {
    Parameters::visit(
        [&](std::string_view, auto& tensor) {
          for (Index c = 0; c < tensor.cols(); ++c) {
            for (Index r = 0; r < tensor.rows(); ++r) tensor(r, c) += step * sign_at(r, c);
          }
        },
        parameters);
    forward(step > 0 ? above : below);
    parameters = kept;
  }
  double slope = 0, squares = 0;
  Parameters::visit(
      [&](std::string_view, const auto& gradient) {
        for (Index c = 0; c < gradient.cols(); ++c) {
          for (Index r = 0; r < gradient.rows(); ++r) {
            const auto g = static_cast<double>(gradient(r, c));
            slope += g * static_cast<double>(sign_at(r, c));
            squares += g * g;
          }
        }
      },
      gradients);
  return check_slope("the parameters", slope_of(dy, above, below, kStep), slope, squares);
}

}  // namespace hsm::bench
