// SPDX-License-Identifier: MIT
//
// The parameters of the damped multi-dimensional moving average of Mega (arXiv 2209.10655). Each channel has n memories
// h_i, each of which fades at a rate of its own:
//
//   h_i[t] = q_i h_i[t-1] + p_i x[t],   y[t] = sum_i eta_i h_i[t]
//   p = sigmoid(alpha) beta,   q = 1 - sigmoid(alpha) sigmoid(delta)
//
// so that y[t] = sum_{j >= 0} k_j x[t-j] with the kernel k_j = sum_i eta_i q_i^j p_i, which no token limits: one layer
// reaches the whole past. sigmoid(alpha) is how much a new token counts, sigmoid(delta) damps how much of the old is
// taken away for it; both and so q are trained within (0, 1), where the average neither grows nor turns its sign.
//
// The formulas are those of the paper. Ours are that the tensors are [n,C], a memory after another, and the initial
// values: beta = +1, -1, +1, ... along i plus normal(0.02), so that the memories differ, as in the paper; eta
// normal(1/sqrt(n)); sigmoid(alpha) from 1/2 to 1/64 over the channels, so that some remember a few tokens
// and some hundreds, and sigmoid(delta) = 0.88.
#pragma once

#include <cmath>

#include <hsm/core/check.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// The most memories of a channel.
inline constexpr Index kMostEmaDimensions = 256;

/// alpha, beta, delta, eta [n,C].
template <ComputeScalar Scalar>
struct Ema {
  Weights<Scalar> alpha;  ///< [n,C]: sigmoid(alpha) is the share of a new token
  Weights<Scalar> beta;   ///< [n,C]: how x is spread over the memories
  Weights<Scalar> delta;  ///< [n,C]: sigmoid(delta) damps what is forgotten
  Weights<Scalar> eta;    ///< [n,C]: how the memories become y

  Ema() = default;

  /// Fresh values, drawn memory by memory: beta normal(0.02) about its sign, then eta. Throws std::invalid_argument
  /// for channels < 1 and for n outside 1 ... kMostEmaDimensions.
  Ema(Index channels, Index n, Random& random) {
    detail::check_at_least("Ema", "channels", channels, 1);
    if (n < 1 || n > kMostEmaDimensions)
      detail::fail("Ema", "ndim", "1 to " + std::to_string(kMostEmaDimensions), std::to_string(n));
    for (Weights<Scalar>* tensor : {&alpha, &beta, &delta, &eta}) tensor->resize(n, channels);
    const double spread = 1 / std::sqrt(static_cast<double>(n));
    for (Index i = 0; i < n; ++i) {
      for (Index c = 0; c < channels; ++c) {
        const double place = (static_cast<double>(c) + 0.5) / static_cast<double>(channels);
        const double share = std::exp2(-1 - 5 * place);
        alpha(i, c) = static_cast<Scalar>(std::log(share / (1 - share)));
        delta(i, c) = Scalar(2);
        beta(i, c) = static_cast<Scalar>((i % 2 == 0 ? 1 : -1) + random.normal(0.02));
        eta(i, c) = static_cast<Scalar>(random.normal(spread));
      }
    }
  }

  /// C.
  Index channels() const { return alpha.cols(); }
  /// n.
  Index dimensions() const { return alpha.rows(); }

  /// Calls f(name, tensor, more...) for alpha, beta, delta, eta.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("alpha", self.alpha, more.alpha...);
    f("beta", self.beta, more.beta...);
    f("delta", self.delta, more.delta...);
    f("eta", self.eta, more.eta...);
  }
};

}  // namespace hsm::inline HSM_ABI
