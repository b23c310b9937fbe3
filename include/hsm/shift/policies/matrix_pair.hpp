// SPDX-License-Identifier: MIT
//
// (A,B): a matrix for the token and one for its partner.
//
//   y[t] = A x[t] + B x[t-s],   B x[t] = 0 for t < 0
//
// One product [2C,C], rows first A then B: 4 C^2 flop per token; B x is computed once per token and kept.
// Parameters 2 C^2. State: s columns of C (B x). The framework is that of arXiv 2601.22852. Modes agree
// within 1e-5 (float) and 1e-12 (double) of the largest value, their gradients within 1e-4 and 1e-12. Initial
// values: A, B normal(1/sqrt(2 C)).
#pragma once

#include <cmath>

#include <hsm/shift/mixing_policy.hpp>

namespace hsm::inline HSM_ABI {

/// The (A,B) mixer. Parameters project.weight [A; B] [2C,C].
template <ComputeScalar ScalarType>
struct MatrixPair {
  /// float or double.
  using Scalar = ScalarType;
  /// The name in recipes and files.
  static constexpr std::string_view kName = "matrix";
  /// Which stages this policy has.
  static constexpr Stages kStages{.local = 1, .shifted = 1};
  /// What a recipe may say.
  static constexpr std::array kOptions{heads_option()};

  /// The product of the project stage.
  Linear<Scalar> project;

  /// Throws std::invalid_argument for channels < 1 or heads that do not divide channels.
  MatrixPair(Index channels, Random& random, Index heads = 1) : heads_(heads) {
    detail::check_at_least("MatrixPair", "channels", channels, 1);
    detail::check_heads("MatrixPair", heads, channels);
    project =
        Linear<Scalar>(2 * channels, channels, 0, 1 / std::sqrt(2.0 * static_cast<double>(channels)), random);
  }

  /// The policy of a recipe.
  static MatrixPair make(Index channels, const OptionValues& options, Random& random) {
    return MatrixPair(channels, random, options["heads"]);
  }
  /// Its tensors.
  static TensorSpecs describe(Index channels, const OptionValues&) {
    return Linear<Scalar>::describe("project", 2 * channels, channels, 0, true);
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

  /// z = local + past.
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    const auto local = run.local(), past = run.tap(1);
    for (Index j = 0; j < run.count; ++j) detail::add(run.rows, at(local, 0, j), at(past, 0, j), at(z, 0, j));
  }

  /// What the pairs (t, t-s) give to token t: local and tap 0 of d are overwritten, parameter sums added to.
  void adjoint_now(const Run<Scalar>&, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double>) const {
    d.local() = dz;      // z = local + past
    d.tap(0).setZero();  // B x[t] is read as a past only
  }

  /// What the pairs (t, t-s) give to token t-s: added to tap 1 of d.
  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    auto d_past = d.tap(1);
    for (Index j = 0; j < run.count; ++j)
      detail::add(run.rows, at(dz, 0, j), at(d_past, 0, j), at(d_past, 0, j));
  }

 private:
  Index heads_;
};

}  // namespace hsm::inline HSM_ABI
