// SPDX-License-Identifier: MIT
//
// (a,b): the simplest mixer of Hierarchical Shift Mixing (arXiv 2601.22852).
//
//   y[t] = a_h x[t] + b_h x[t-s],   x[t] = 0 for t < 0,   one a and one b per head of C/H channels
//
// No product, no projection: 2 H parameters, O(C) per token, bound by memory. State: s columns of C.
// The forward is the same bits in every mode; gradients of a and b within 1e-5 (float) relative to their
// largest term sum. Initial values: a = 1 and b = 1 - h/H, so that some heads carry the past fully and some
// only in part, which lets the layers that follow tell the two tokens apart; with one head a = b = 1.
#pragma once

#include <hsm/mixing/mixing_policy.hpp>

namespace hsm {

/// The (a,b) mixer. Parameters a [H], b [H].
template <ComputeScalar ScalarType>
struct ScalarPair {
  using Scalar = ScalarType;
  static constexpr std::string_view kName = "ab";
  static constexpr Stages kStages{.keeps_input = true};

  Vector<Scalar> a;  // [H]
  Vector<Scalar> b;  // [H]

  /// Throws std::invalid_argument for channels < 1 or heads that do not divide channels.
  explicit ScalarPair(Index channels, Index heads = 1) : channels_(channels) {
    detail::check_at_least("ScalarPair", "channels", channels, 1);
    detail::check_heads("ScalarPair", heads, channels);
    a.setOnes(heads);
    b.resize(heads);
    for (Index h = 0; h < heads; ++h) b[h] = Scalar(1) - static_cast<Scalar>(h) / static_cast<Scalar>(heads);
  }

  Index channels() const { return channels_; }
  Index heads() const { return a.size(); }

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("a", self.a, more.a...);
    f("b", self.b, more.b...);
  }

  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    const auto now = run.kept(0), past = run.kept(1);
    for_each_head(run, [&](Index j, Index row, Index rows, Index head) {
      detail::weighted_sum(rows, a[head], at(now, row, j), b[head], at(past, row, j), at(z, row, j));
    });
  }

  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double> sums) const {
    const auto now = run.kept(0), past = run.kept(1);
    auto d_now = d.kept(0);
    for_each_head(run, [&](Index j, Index row, Index rows, Index head) {
      const Scalar* g = at(dz, row, j);
      detail::scaled(rows, a[head], g, at(d_now, row, j));  // z = a now + b past
      sums[static_cast<std::size_t>(head)] += static_cast<double>(dot(rows, g, at(now, row, j)));
      sums[static_cast<std::size_t>(heads() + head)] += static_cast<double>(dot(rows, g, at(past, row, j)));
    });
  }

  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    auto d_past = d.kept(1);
    for_each_head(run, [&](Index j, Index row, Index rows, Index head) {
      detail::add_scaled(rows, b[head], at(dz, row, j), at(d_past, row, j));  // z = a now + b past
    });
  }

  Index sum_count() const { return 2 * heads(); }
  void add_sums(std::span<const double> sums, ScalarPair& gradients) const {
    for (Index h = 0; h < heads(); ++h) {
      gradients.a[h] += static_cast<Scalar>(sums[static_cast<std::size_t>(h)]);
      gradients.b[h] += static_cast<Scalar>(sums[static_cast<std::size_t>(heads() + h)]);
    }
  }

 private:
  /// f(column, first row in the run, rows, head), the last column first, so that z may be the memory of
  /// `now`.
  template <class F>
  static void for_each_head(const Run<Scalar>& run, F&& f) {
    const Index rows = run.rows_per_head();
    for (Index j = run.count - 1; j >= 0; --j) {
      for (Index h = 0; h < run.heads; ++h) f(j, h * rows, rows, run.first_head + h);
    }
  }

  Index channels_;
};

}  // namespace hsm
