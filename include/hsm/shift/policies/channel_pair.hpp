// SPDX-License-Identifier: MIT
//
// Channel pair: (a,b) with a scalar of its own for every channel.
//
//   y[t] = a .* x[t] + b .* x[t-s],   x[t] = 0 for t < 0,   a, b [C]
//
// No product: 2 C parameters, O(C) per token, bound by memory. State: s columns of C. The framework is that
// of arXiv 2601.22852. The forward is the same bits in every mode; gradients are within 1e-4 (float)
// and 1e-12 (double) of the largest of a tensor. Initial values: a = 1, b[c] = 1 - c/C, so that the channels
// differ in how much of the past they carry.
#pragma once

#include <hsm/core/check.hpp>
#include <hsm/shift/mixing_policy.hpp>
#include <hsm/shift/policies/pair_rows.hpp>

namespace hsm::inline HSM_ABI {

/// The channel mixer. Parameters a [C], b [C].
template <ComputeScalar ScalarType>
struct ChannelPair {
  /// float or double.
  using Scalar = ScalarType;
  /// The name in recipes and files.
  static constexpr std::string_view kName = "channel";
  /// Which stages this policy has.
  static constexpr Stages kStages{.shifts_input = true, .in_place = true};
  /// What a recipe may say.
  static constexpr std::array kOptions{heads_option(default_pair_heads)};

  Vector<Scalar> a;  ///< [C]
  Vector<Scalar> b;  ///< [C]

  /// Throws std::invalid_argument for channels < 1 or heads that do not divide channels.
  explicit ChannelPair(Index channels, Index heads = 1) : heads_(heads) {
    detail::check_at_least("ChannelPair", "channels", channels, 1);
    detail::check_heads("ChannelPair", heads, channels);
    a.setOnes(channels);
    b.resize(channels);
    for (Index c = 0; c < channels; ++c)
      b[c] = Scalar(1) - static_cast<Scalar>(c) / static_cast<Scalar>(channels);
  }

  /// The policy of a recipe.
  static ChannelPair make(Index channels, const OptionValues& options, Random&) {
    return ChannelPair(channels, options["heads"]);
  }
  /// Its tensors.
  static TensorSpecs describe(Index channels, const OptionValues&) {
    return {vector_spec("a", channels), vector_spec("b", channels)};
  }

  /// C.
  Index channels() const { return a.size(); }
  /// H.
  Index heads() const { return heads_; }

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
    std::copy_n(a.data(), channels(), as);
    std::copy_n(b.data(), channels(), bs);
  }

  /// z = a now + b past, element by element.
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    const Index c = first_channel(run);
    detail::combine_pair_rows(run, 0, run.rows, detail::RowWeights<Scalar>{a.data() + c, b.data() + c}, z);
  }

  /// What the pairs (t, t-s) give to token t: local and tap 0 of d are overwritten, parameter sums added to.
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double> sums) const {
    adjoint_token(run, dz, nullptr, d, sums);
  }

  /// What the pairs (t, t-s) give to token t-s: added to tap 1 of d.
  void adjoint_past(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    const Index c = first_channel(run);
    detail::adjoint_past_rows(run, 0, run.rows, detail::RowWeights<Scalar>{a.data() + c, b.data() + c}, dz,
                              d);
  }

  /// What both pairs give to token t, d written once; `next` is dz[t+s], or nullptr where there is none.
  void adjoint_token(const Run<Scalar>& run, ConstColumns<Scalar> dz, const ConstColumns<Scalar>* next,
                     const RunGradient<Scalar>& d, std::span<double> sums) const {
    for (Index first = 0; first < run.rows; first += detail::kPairRows) {
      const Index n = (std::min)(detail::kPairRows, run.rows - first), c = first_channel(run) + first;
      double* sum = sums.data() + c;
      detail::adjoint_pair_rows(run, first, n, detail::RowWeights<Scalar>{a.data() + c, b.data() + c}, dz,
                                next, d, [&](Index i, double da, double db) {
                                  sum[i] += da;
                                  sum[channels() + i] += db;
                                });
    }
  }

  /// Sums that an adjoint gathers per task.
  Index sum_count() const { return 2 * channels(); }
  /// Adds the sums of one task to the gradients.
  void add_sums(std::span<const double> sums, ChannelPair& gradients) const {
    const auto C = static_cast<std::size_t>(channels());
    for (std::size_t c = 0; c < C; ++c) {
      gradients.a[static_cast<Index>(c)] += static_cast<Scalar>(sums[c]);
      gradients.b[static_cast<Index>(c)] += static_cast<Scalar>(sums[C + c]);
    }
  }

 private:
  static Index first_channel(const Run<Scalar>& run) { return run.first_head * run.rows_per_head(); }

  Index heads_;
};

}  // namespace hsm::inline HSM_ABI
