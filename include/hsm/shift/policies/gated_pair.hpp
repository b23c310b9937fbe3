// SPDX-License-Identifier: MIT
//
// Gated pair: the gate is computed from both tokens, each through a product of its own.
//
//   g[t] = sigmoid(W x[t] + c + U x[t-s])
//   y[t] = g[t] .* x[t] + (1 - g[t]) .* x[t-s],   x[t] = 0 and U x[t] = 0 for t < 0
//
// One product [2C,C], rows first W then U: 4 C^2 flop per token; U x is computed once per token and kept.
// Parameters 2 C^2 + C. State: s columns of 2 C (x and U x). The framework is that of arXiv 2601.22852; the
// form of this gate is ours. Modes agree within 1e-5 (float) and 1e-12 (double) of the largest value, their
// gradients within 1e-4 and 1e-12. Initial values: W, U normal(1/sqrt(2 C)), c = 0: gates around 1/2.
#pragma once

#include <cmath>

#include <hsm/shift/mixing_policy.hpp>

namespace hsm::inline HSM_ABI {

/// The gated-pair mixer. Parameters project.weight [W; U] [2C,C], project.bias c [C].
template <ComputeScalar ScalarType>
struct GatedPair {
  /// float or double.
  using Scalar = ScalarType;
  /// The name in recipes and files.
  static constexpr std::string_view kName = "gated-pair";
  /// Which stages this policy has.
  static constexpr Stages kStages{.shifts_input = true, .local = 1, .shifted = 1};
  /// What a recipe may say.
  static constexpr std::array kOptions{heads_option()};

  /// The product of the project stage.
  Linear<Scalar> project;

  /// Throws std::invalid_argument for channels < 1 or heads that do not divide channels.
  GatedPair(Index channels, Random& random, Index heads = 1) : heads_(heads) {
    detail::check_at_least("GatedPair", "channels", channels, 1);
    detail::check_heads("GatedPair", heads, channels);
    project = Linear<Scalar>(2 * channels, channels, channels,
                             1 / std::sqrt(2.0 * static_cast<double>(channels)), random);
  }

  /// The policy of a recipe.
  static GatedPair make(Index channels, const OptionValues& options, Random& random) {
    return GatedPair(channels, random, options["heads"]);
  }
  /// Its tensors.
  static TensorSpecs describe(Index channels, const OptionValues&) {
    return Linear<Scalar>::describe("project", 2 * channels, channels, channels);
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

  /// z = g now + (1 - g) past, g = sigmoid(local + U past).
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    const auto now = run.tap(0), past = run.tap(1);
    for (Index j = 0; j < run.count; ++j) {
      const Scalar *x = at(now, 0, j), *p = at(past, 0, j);
      Scalar* out = at(z, 0, j);
      gates(run, j, out);
      HSM_INDEPENDENT
      for (Index i = 0; i < run.rows; ++i) out[i] = multiply_add(out[i], x[i] - p[i], p[i]);
    }
  }

  /// What the pairs (t, t-s) give to token t: local and tap 0 of d are overwritten, parameter sums added to.
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double>) const {
    const auto now = run.tap(0), past = run.tap(1);
    auto d_local = d.local(), d_now = d.tap(0);
    d.tap(0, 1).setZero();  // U x[t] is read as a past only
    for (Index j = 0; j < run.count; ++j) {
      const Scalar *x = at(now, 0, j), *p = at(past, 0, j), *g = at(dz, 0, j);
      Scalar *gate = at(d_local, 0, j), *dx = at(d_now, 0, j);
      gates(run, j, gate);
      HSM_INDEPENDENT
      for (Index i = 0; i < run.rows; ++i) {
        dx[i] = gate[i] * g[i];                                            // y = g x + ...
        gate[i] = g[i] * (x[i] - p[i]) * gate[i] * (Scalar(1) - gate[i]);  // g = sigmoid(local + U past)
      }
    }
  }

  /// What the pairs (t, t-s) give to token t-s: added to tap 1 of d.
  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    const auto local = run.local(), now = run.tap(0), past = run.tap(1), past_u = run.tap(1, 1);
    auto d_past = d.tap(1), d_past_u = d.tap(1, 1);
    for (Index j = 0; j < run.count; ++j) {
      detail::in_blocks(run.rows, [&](Index first, Index n) {
        const Scalar *x = at(now, first, j), *p = at(past, first, j), *g = at(dz, first, j);
        Scalar *dp = at(d_past, first, j), *du = at(d_past_u, first, j);
        Scalar gate[detail::kBlock] = {};
        for (Index i = 0; i < n; ++i) gate[i] = local(first + i, j) + past_u(first + i, j);
        sigmoid(n, gate, gate);
        for (Index i = 0; i < n; ++i) {
          dp[i] += (Scalar(1) - gate[i]) * g[i];                            // y = ... + (1 - g) past
          du[i] += g[i] * (x[i] - p[i]) * gate[i] * (Scalar(1) - gate[i]);  // g = sigmoid(local + U past)
        }
      });
    }
  }

 private:
  /// out = sigmoid(local + U past) of column j.
  static void gates(const Run<Scalar>& run, Index j, Scalar* out) {
    const auto local = run.local(), past_u = run.tap(1, 1);
    const Scalar *w = at(local, 0, j), *u = at(past_u, 0, j);
    HSM_INDEPENDENT
    for (Index i = 0; i < run.rows; ++i) out[i] = w[i] + u[i];
    sigmoid(run.rows, out, out);
  }

  Index heads_;
};

}  // namespace hsm::inline HSM_ABI
