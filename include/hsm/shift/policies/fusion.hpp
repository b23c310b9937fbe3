// SPDX-License-Identifier: MIT
//
// Fusion: both tokens go through a small network of their own.
//
//   z[t] = gelu(U x[t] + c + V x[t-s]),   V x[t] = 0 for t < 0
//   y[t] = W z[t] + d
//
// Products [2C,C], rows first U then V, and [C,C]: 6 C^2 flop per token; V x is computed once per token and
// kept. Parameters 3 C^2 + 2 C. State: s columns of C (V x). The framework is that of arXiv 2601.22852; the
// form of this network is ours. Modes agree within 1e-5 (float) and 1e-12 (double) of the largest value,
// their gradients within 1e-4 and 1e-12. Initial values: U, V normal(1/sqrt(2 C)), W normal(1/sqrt(C)), c = d = 0.
#pragma once

#include <cmath>

#include <hsm/shift/mixing_policy.hpp>

namespace hsm::inline HSM_ABI {

/// The fusion mixer. Parameters project.weight [U; V] [2C,C], project.bias c [C], output.weight W [C,C],
/// output.bias d [C].
template <ComputeScalar ScalarType>
struct Fusion {
  /// float or double.
  using Scalar = ScalarType;
  /// The name in recipes and files.
  static constexpr std::string_view kName = "fusion";
  /// Which stages this policy has.
  static constexpr Stages kStages{.local = 1, .shifted = 1, .output = true};
  /// What a recipe may say.
  static constexpr std::array kOptions{heads_option()};

  /// The product of the project stage.
  Linear<Scalar> project;
  /// The product of the output stage.
  Linear<Scalar> output;

  /// Throws std::invalid_argument for channels < 1 or heads that do not divide channels.
  Fusion(Index channels, Random& random, Index heads = 1) : heads_(heads) {
    detail::check_at_least("Fusion", "channels", channels, 1);
    detail::check_heads("Fusion", heads, channels);
    const double width = static_cast<double>(channels);
    project = Linear<Scalar>(2 * channels, channels, channels, 1 / std::sqrt(2 * width), random);
    output = Linear<Scalar>(channels, channels, channels, 1 / std::sqrt(width), random);
  }

  /// The policy of a recipe.
  static Fusion make(Index channels, const OptionValues& options, Random& random) {
    return Fusion(channels, random, options["heads"]);
  }
  /// Its tensors.
  static TensorSpecs describe(Index channels, const OptionValues&) {
    return join({Linear<Scalar>::describe("project", 2 * channels, channels, channels),
                 Linear<Scalar>::describe("output", channels, channels, channels, true)});
  }

  /// C.
  Index channels() const { return project.in(); }
  /// H.
  Index heads() const { return heads_; }

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<Scalar>::visit(named("project", f), self.project, more.project...);
    Linear<Scalar>::visit(named("output", f), self.output, more.output...);
  }

  /// z = gelu(local + past).
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    const auto local = run.local(), past = run.tap(1);
    for (Index j = 0; j < run.count; ++j) {
      Scalar* out = at(z, 0, j);
      detail::add(run.rows, at(local, 0, j), at(past, 0, j), out);
      gelu(run.rows, out, out);
    }
  }

  /// What the pairs (t, t-s) give to token t: local and tap 0 of d are overwritten, parameter sums added to.
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double>) const {
    const auto local = run.local(), past = run.tap(1);
    auto d_local = d.local();
    d.tap(0).setZero();  // V x[t] is read as a past only
    for (Index j = 0; j < run.count; ++j) {
      const Scalar* g = at(dz, 0, j);
      Scalar* out = at(d_local, 0, j);
      detail::add(run.rows, at(local, 0, j), at(past, 0, j), out);
      gelu_slope(run.rows, out, out);
      HSM_INDEPENDENT
      for (Index i = 0; i < run.rows; ++i) out[i] *= g[i];  // z = gelu(local + past)
    }
  }

  /// What the pairs (t, t-s) give to token t-s: added to tap 1 of d.
  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    const auto local = run.local(), past = run.tap(1);
    auto d_past = d.tap(1);
    for (Index j = 0; j < run.count; ++j) {
      detail::in_blocks(run.rows, [&](Index first, Index n) {
        Scalar slope[detail::kBlock] = {};
        detail::add(n, at(local, first, j), at(past, first, j), slope);
        gelu_slope(n, slope, slope);
        const Scalar* g = at(dz, first, j);
        Scalar* out = at(d_past, first, j);
        for (Index i = 0; i < n; ++i)
          out[i] = multiply_add(slope[i], g[i], out[i]);  // z = gelu(local + past)
      });
    }
  }

 private:
  Index heads_;
};

}  // namespace hsm::inline HSM_ABI
