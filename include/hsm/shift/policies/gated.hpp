// SPDX-License-Identifier: MIT
//
// Gated: a gate computed from the token itself decides, channel by channel, between the token and its
// partner.
//
//   g[t] = sigmoid(W x[t] + c)
//   y[t] = g[t] .* x[t] + (1 - g[t]) .* x[t-s],   x[t] = 0 for t < 0
//
// One product [C,C]: 2 C^2 flop per token. Parameters C^2 + C. State: s columns of C (x alone; the gate
// belongs to t). The framework is that of arXiv 2601.22852; the form of this gate is ours. Modes agree within
// 1e-5 (float) and 1e-12 (double) of the largest value, their gradients within 1e-4 and 1e-12. Initial values:
// W normal(1/sqrt(C)), c = 0: gates around 1/2.
#pragma once

#include <cmath>

#include <hsm/shift/mixing_policy.hpp>

namespace hsm::inline HSM_ABI {

/// The gated mixer. Parameters project.weight W [C,C], project.bias c [C].
template <ComputeScalar ScalarType>
struct Gated {
  /// float or double.
  using Scalar = ScalarType;
  /// The name in recipes and files.
  static constexpr std::string_view kName = "gated";
  /// Which stages this policy has.
  static constexpr Stages kStages{.shifts_input = true, .local = 1};
  /// What a recipe may say.
  static constexpr std::array kOptions{heads_option()};

  /// The product of the project stage.
  Linear<Scalar> project;

  /// Throws std::invalid_argument for channels < 1 or heads that do not divide channels.
  Gated(Index channels, Random& random, Index heads = 1) : heads_(heads) {
    detail::check_at_least("Gated", "channels", channels, 1);
    detail::check_heads("Gated", heads, channels);
    project =
        Linear<Scalar>(channels, channels, channels, 1 / std::sqrt(static_cast<double>(channels)), random);
  }

  /// The policy of a recipe.
  static Gated make(Index channels, const OptionValues& options, Random& random) {
    return Gated(channels, random, options["heads"]);
  }
  /// Its tensors.
  static TensorSpecs describe(Index channels, const OptionValues&) {
    return Linear<Scalar>::describe("project", channels, channels, channels);
  }

  /// C.
  Index channels() const { return project.in(); }
  /// H.
  Index heads() const { return heads_; }

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<Scalar>::visit(named("project", f), self.project, more.project...);
  }

  /// z = g now + (1 - g) past, g = sigmoid(local).
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    const auto local = run.local(), now = run.tap(0), past = run.tap(1);
    for (Index j = 0; j < run.count; ++j) {
      const Scalar *x = at(now, 0, j), *p = at(past, 0, j);
      Scalar* out = at(z, 0, j);
      sigmoid(run.rows, at(local, 0, j), out);
      HSM_INDEPENDENT
      for (Index i = 0; i < run.rows; ++i) out[i] = multiply_add(out[i], x[i] - p[i], p[i]);
    }
  }

  /// What the pairs (t, t-s) give to token t: local and tap 0 of d are overwritten, parameter sums added to.
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double>) const {
    const auto local = run.local(), now = run.tap(0), past = run.tap(1);
    auto d_local = d.local(), d_now = d.tap(0);
    for (Index j = 0; j < run.count; ++j) {
      const Scalar *x = at(now, 0, j), *p = at(past, 0, j), *g = at(dz, 0, j);
      Scalar *gate = at(d_local, 0, j), *dx = at(d_now, 0, j);
      sigmoid(run.rows, at(local, 0, j), gate);
      HSM_INDEPENDENT
      for (Index i = 0; i < run.rows; ++i) {
        dx[i] = gate[i] * g[i];                                            // y = g x + ...
        gate[i] = g[i] * (x[i] - p[i]) * gate[i] * (Scalar(1) - gate[i]);  // g = sigmoid(local)
      }
    }
  }

  /// What the pairs (t, t-s) give to token t-s: added to tap 1 of d.
  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    const auto local = run.local();
    auto d_past = d.tap(1);
    for (Index j = 0; j < run.count; ++j) {
      const Scalar *in = at(local, 0, j), *g = at(dz, 0, j);
      Scalar* dp = at(d_past, 0, j);
      detail::in_blocks(run.rows, [&](Index first, Index n) {
        Scalar gate[detail::kBlock] = {};
        sigmoid(n, in + first, gate);
        for (Index i = 0; i < n; ++i)
          dp[first + i] += (Scalar(1) - gate[i]) * g[first + i];  // y = ... + (1 - g) past
      });
    }
  }

 private:
  Index heads_;
};

}  // namespace hsm::inline HSM_ABI
