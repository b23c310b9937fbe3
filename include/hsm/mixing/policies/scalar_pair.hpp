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

#include <tuple>

#include <hsm/mixing/mixing_policy.hpp>

namespace hsm {

/// The (a,b) mixer. Parameters a [H], b [H].
template <ComputeScalar ScalarType>
struct ScalarPair {
  /// float or double.
  using Scalar = ScalarType;
  /// The name in recipes and files.
  static constexpr std::string_view kName = "ab";
  /// Which stages this policy has.
  static constexpr Stages kStages{.keeps_input = true};

  Vector<Scalar> a;  ///< [H]
  Vector<Scalar> b;  ///< [H]

  /// Throws std::invalid_argument for channels < 1 or heads that do not divide channels.
  explicit ScalarPair(Index channels, Index heads = 1) : channels_(channels) {
    detail::check_at_least("ScalarPair", "channels", channels, 1);
    detail::check_heads("ScalarPair", heads, channels);
    a.setOnes(heads);
    b.resize(heads);
    for (Index h = 0; h < heads; ++h) b[h] = Scalar(1) - static_cast<Scalar>(h) / static_cast<Scalar>(heads);
  }

  /// C.
  Index channels() const { return channels_; }
  /// H.
  Index heads() const { return a.size(); }

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("a", self.a, more.a...);
    f("b", self.b, more.b...);
  }

  /// z = a_h now + b_h past.
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    const auto now = run.kept(0), past = run.kept(1);
    for_each_part(run, now, past, z, [&](Index row, Index column, Index n, std::size_t head) {
      detail::weighted_sum(n, a[static_cast<Index>(head)], at(now, row, column), b[static_cast<Index>(head)],
                           at(past, row, column), at(z, row, column));
    });
  }

  /// What the pairs (t, t-s) give to token t: own and tap 0 of d are overwritten, parameter sums added to.
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double> sums) const {
    const auto now = run.kept(0), past = run.kept(1);
    auto d_now = d.kept(0);
    for_each_part(run, now, past, dz, d_now, [&](Index row, Index column, Index n, std::size_t head) {
      // z = a now + b past
      const auto [da, db] =
          detail::scaled_with_dots(n, a[static_cast<Index>(head)], at(dz, row, column), at(now, row, column),
                                   at(past, row, column), at(d_now, row, column));
      sums[head] += static_cast<double>(da);
      sums[static_cast<std::size_t>(heads()) + head] += static_cast<double>(db);
    });
  }

  /// What the pairs (t, t-s) give to token t-s: added to tap 1 of d.
  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    auto d_past = d.kept(1);
    for_each_part(run, dz, d_past, [&](Index row, Index column, Index n, std::size_t head) {
      detail::add_scaled(n, b[static_cast<Index>(head)], at(dz, row, column),
                         at(d_past, row, column));  // z = a now + b past
    });
  }

  /// Sums that an adjoint gathers per task.
  Index sum_count() const { return 2 * heads(); }
  /// Adds the sums of one task to the gradients.
  void add_sums(std::span<const double> sums, ScalarPair& gradients) const {
    for (Index h = 0; h < heads(); ++h) {
      gradients.a[h] += static_cast<Scalar>(sums[static_cast<std::size_t>(h)]);
      gradients.b[h] += static_cast<Scalar>(sums[static_cast<std::size_t>(heads() + h)]);
    }
  }

 private:
  /// f(row, column, n, head) for the stretches of equal head that lie without gaps in all blocks; f is the last argument.
  template <class... Arguments>
  static void for_each_part(const Run<Scalar>& run, Arguments&&... arguments) {
    auto all = std::forward_as_tuple(arguments...);
    constexpr std::size_t kBlocks = sizeof...(Arguments) - 1;
    auto& f = std::get<kBlocks>(all);
    const bool dense = [&]<std::size_t... i>(std::index_sequence<i...>) {
      return run.heads == 1 && ((std::get<i>(all).outerStride() == run.rows) && ...);
    }
    (std::make_index_sequence<kBlocks>{});
    const Index rows = run.rows_per_head();
    if (dense) {
      f(Index{0}, Index{0}, rows * run.count, static_cast<std::size_t>(run.first_head));
      return;
    }
    for (Index column = 0; column < run.count; ++column) {
      for (Index h = 0; h < run.heads; ++h)
        f(h * rows, column, rows, static_cast<std::size_t>(run.first_head + h));
    }
  }

  Index channels_;
};

}  // namespace hsm
