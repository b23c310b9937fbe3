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
#include <hsm/mixing/policies/pair_rows.hpp>

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
    a.resize(heads);
    b.resize(heads);
    for (Index h = 0; h < heads; ++h) {
      a[h] = Scalar(1);
      b[h] = Scalar(1) - static_cast<Scalar>(h) / static_cast<Scalar>(heads);
    }
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
    if (heads() == 1) {
      const auto now = run.kept(0), past = run.kept(1);
      for_each_stretch(run, is_dense(run, now, past, z), [&](Index column, Index n) {
        detail::weighted_sum(n, a[0], at(now, 0, column), b[0], at(past, 0, column), at(z, 0, column),
                             run.stream);
      });
    } else {
      for_each_rows(run, [&](Index first, Index n, const Scalar* as, const Scalar* bs) {
        detail::combine_pair_rows(run, first, n, as, bs, z);
      });
    }
  }

  /// What the pairs (t, t-s) give to token t: own and tap 0 of d are overwritten, parameter sums added to.
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double> sums) const {
    adjoint_token(run, dz, nullptr, d, sums);
  }

  /// What the pairs (t, t-s) give to token t-s: added to tap 1 of d.
  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    for_each_rows(run, [&](Index first, Index n, const Scalar*, const Scalar* bs) {
      detail::adjoint_past_rows(run, first, n, bs, dz, d);
    });
  }

  /// What both pairs give to token t, d written once; `next` is dz[t+s], or nullptr where there is none.
  void adjoint_token(const Run<Scalar>& run, ConstColumns<Scalar> dz, const ConstColumns<Scalar>* next,
                     const RunGradient<Scalar>& d, std::span<double> sums) const {
    const auto add = [&](Index head, Scalar da, Scalar db) {
      sums[static_cast<std::size_t>(head)] += static_cast<double>(da);
      sums[static_cast<std::size_t>(heads() + head)] += static_cast<double>(db);
    };
    if (heads() == 1) {
      const auto now = run.kept(0), past = run.kept(1);
      auto d_now = d.kept(0);
      const bool dense = is_dense(run, now, past, dz, d_now) && (!next || is_dense(run, *next));
      for_each_stretch(run, dense, [&](Index column, Index n) {
        const auto [da, db] = detail::weighted_sum_with_dots(
            n, a[0], at(dz, 0, column), b[0], next ? at(*next, 0, column) : nullptr, at(now, 0, column),
            at(past, 0, column), at(d_now, 0, column), d.stream);
        add(0, da, db);
      });
    } else {
      const Index rows = run.rows_per_head();
      for_each_rows(run, [&](Index first, Index n, const Scalar* as, const Scalar* bs) {
        detail::adjoint_pair_rows(run, first, n, as, bs, dz, next, d, [&](Index i, Scalar da, Scalar db) {
          add(run.first_head + (first + i) / rows, da, db);
        });
      });
    }
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
  /// Whether the columns of all blocks lie one after another.
  template <class... Blocks>
  static bool is_dense(const Run<Scalar>& run, const Blocks&... blocks) {
    return ((blocks.outerStride() == run.rows) && ...);
  }

  /// f(column, n) for the stretches without gaps: all columns as one, or each by itself.
  template <class F>
  static void for_each_stretch(const Run<Scalar>& run, bool dense, F&& f) {
    if (dense) {
      f(Index{0}, run.rows * run.count);
    } else {
      for (Index column = 0; column < run.count; ++column) f(column, run.rows);
    }
  }

  /// f(first, n, a, b) for blocks of rows, with the weights of each row.
  template <class F>
  void for_each_rows(const Run<Scalar>& run, F&& f) const {
    const Index rows = run.rows_per_head();
    Scalar as[detail::kPairRows], bs[detail::kPairRows];
    for (Index first = 0; first < run.rows; first += detail::kPairRows) {
      const Index n = std::min(detail::kPairRows, run.rows - first);
      for (Index i = 0; i < n; ++i) {
        as[i] = a[run.first_head + (first + i) / rows];
        bs[i] = b[run.first_head + (first + i) / rows];
      }
      f(first, n, as, bs);
    }
  }

  Index channels_;
};

}  // namespace hsm
