// SPDX-License-Identifier: MIT
//
// (a,b): the simplest mixer of Hierarchical Shift Mixing (arXiv 2601.22852).
//
//   y[t] = a_h x[t] + b_h x[t-s],   x[t] = 0 for t < 0,   one a and one b per head of C/H channels
//
// No product, no projection: 2 H parameters, O(C) per token, bound by memory. State: s columns of C.
// The forward is the same bits in every mode, gradients are within 1e-4 (float) and 1e-12 (double) of the largest
// of a tensor. Initial values: a = 1 and b = 1 - h/H, so that some heads carry the past fully and some
// only in part, which lets the layers that follow tell the two tokens apart; with one head a = b = 1.
#pragma once

#include <hsm/core/check.hpp>
#include <hsm/shift/mixing_policy.hpp>
#include <hsm/shift/policies/pair_rows.hpp>

namespace hsm::inline HSM_ABI {

/// The (a,b) mixer. Parameters a [H], b [H].
template <ComputeScalar ScalarType>
struct ScalarPair {
  /// float or double.
  using Scalar = ScalarType;
  /// The name in recipes and files.
  static constexpr std::string_view kName = "ab";
  /// Which stages this policy has.
  static constexpr Stages kStages{.shifts_input = true, .in_place = true};
  /// What a recipe may say.
  static constexpr std::array kOptions{heads_option(default_pair_heads)};

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

  /// The policy of a recipe.
  static ScalarPair make(Index channels, const OptionValues& options, Random&) {
    return ScalarPair(channels, options["heads"]);
  }
  /// Its tensors.
  static TensorSpecs describe(Index, const OptionValues& options) {
    return {vector_spec("a", options["heads"]), vector_spec("b", options["heads"])};
  }

  /// C.
  Index channels() const { return channels_; }
  /// H.
  Index heads() const { return a.size(); }

  /// Throws unless a and b have as many values.
  void check(const char* who) const { detail::check_equal(who, "the size of b", b.size(), a.size()); }

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("a", self.a, more.a...);
    f("b", self.b, more.b...);
  }

  /// a and b of every channel, C values each: what a stack of such layers is run by.
  void channel_weights(Scalar* as, Scalar* bs) const {
    const Index rows = channels_ / heads();
    for (Index c = 0; c < channels_; ++c) {
      as[c] = a[c / rows];
      bs[c] = b[c / rows];
    }
  }

  /// z = a_h now + b_h past.
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    for_each_rows(
        run, [&](Index first, Index n, const auto& w) { detail::combine_pair_rows(run, first, n, w, z); });
  }

  /// What the pairs (t, t-s) give to token t: local and tap 0 of d are overwritten, parameter sums added to.
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double> sums) const {
    adjoint_token(run, dz, nullptr, d, sums);
  }

  /// What the pairs (t, t-s) give to token t-s: added to tap 1 of d.
  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    for_each_rows(run, [&](Index first, Index n, const auto& w) {
      detail::adjoint_past_rows(run, first, n, w, dz, d);
    });
  }

  /// What both pairs give to token t, d written once; `next` is dz[t+s], or nullptr where there is none.
  void adjoint_token(const Run<Scalar>& run, ConstColumns<Scalar> dz, const ConstColumns<Scalar>* next,
                     const RunGradient<Scalar>& d, std::span<double> sums) const {
    const Index rows = run.rows_per_head();
    for_each_rows(run, [&](Index first, Index n, const auto& w) {
      detail::adjoint_pair_rows(run, first, n, w, dz, next, d, [&](Index i, double da, double db) {
        const Index head = run.first_head + (first + i) / rows;
        sums[static_cast<std::size_t>(head)] += da;
        sums[static_cast<std::size_t>(heads() + head)] += db;
      });
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
  /// f(first, n, weights) for blocks of rows.
  template <class F>
  void for_each_rows(const Run<Scalar>& run, F&& f) const {
    const Index rows = run.rows_per_head();
    Scalar as[detail::kPairRows], bs[detail::kPairRows];
    for (Index first = 0; first < run.rows; first += detail::kPairRows) {
      const Index n = (std::min)(detail::kPairRows, run.rows - first);
      if (run.heads == 1) {
        f(first, n, detail::OneWeight<Scalar>{a[run.first_head], b[run.first_head]});
        continue;
      }
      for (Index i = 0; i < n; ++i) {
        as[i] = a[run.first_head + (first + i) / rows];
        bs[i] = b[run.first_head + (first + i) / rows];
      }
      f(first, n, detail::RowWeights<Scalar>{as, bs});
    }
  }

  Index channels_;
};

}  // namespace hsm::inline HSM_ABI
