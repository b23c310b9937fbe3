// SPDX-License-Identifier: MIT
//
// Softmax-local: attention of each token over K tokens only, s apart, with H heads.
//
//   [q; k; v] = W x;   per head: w_i = softmax over i < K of q[t].k[t - i s] / sqrt(C/H)
//   z[t] = sum_i w_i v[t - i s];   y[t] = W_o z[t]
//
// Taps before the first token are left out of the softmax (weight 0). Products [3C,C] and [C,C]: 8 C^2 flop
// per token, 4 K C for the taps. Parameters 4 C^2. State: (K-1) s columns of 2 C (k and v). The framework is
// that of arXiv 2601.22852; this form is ours. Modes agree within 1e-5 (float) and 1e-12 (double) of the
// largest value, their gradients within 1e-4 and 1e-12. Initial values: W, W_o normal(1/sqrt(C)).
#pragma once

#include <cmath>

#include <hsm/shift/mixing_policy.hpp>

namespace hsm::inline HSM_ABI {

/// The softmax-local mixer. Parameters project.weight [W_q; W_k; W_v] [3C,C], output.weight W_o [C,C].
template <ComputeScalar ScalarType>
struct SoftmaxLocal {
  /// float or double.
  using Scalar = ScalarType;
  /// The name in recipes and files.
  static constexpr std::string_view kName = "softmax-local";
  /// Which stages this policy has.
  static constexpr Stages kStages{.local = 1, .shifted = 2, .output = true};
  /// What a recipe may say.
  static constexpr std::array kOptions{
      heads_option(default_heads),
      PolicyOption{.name = "taps", .least = 2, .most = kMostTaps, .usual = [](Index) -> Index { return 2; }}};

  /// The product of the project stage.
  Linear<Scalar> project;
  /// The product of the output stage.
  Linear<Scalar> output;

  /// Throws std::invalid_argument for channels < 1, heads that do not divide channels, or taps outside 2 ...
  /// kMostTaps.
  SoftmaxLocal(Index channels, Random& random, Index heads = 1, Index taps = 2) : heads_(heads), taps_(taps) {
    detail::check_at_least("SoftmaxLocal", "channels", channels, 1);
    detail::check_heads("SoftmaxLocal", heads, channels);
    if (taps < 2 || taps > kMostTaps) {
      detail::fail("SoftmaxLocal", "taps", "2 to " + std::to_string(kMostTaps), std::to_string(taps));
    }
    const double deviation = 1 / std::sqrt(static_cast<double>(channels));
    project = Linear<Scalar>(3 * channels, channels, 0, deviation, random);
    output = Linear<Scalar>(channels, channels, 0, deviation, random);
  }

  /// The policy of a recipe.
  static SoftmaxLocal make(Index channels, const OptionValues& options, Random& random) {
    return SoftmaxLocal(channels, random, options["heads"], options["taps"]);
  }
  /// Its tensors.
  static TensorSpecs describe(Index channels, const OptionValues&) {
    return join({Linear<Scalar>::describe("project", 3 * channels, channels, 0),
                 Linear<Scalar>::describe("output", channels, channels, 0, true)});
  }

  /// C.
  Index channels() const { return project.in(); }
  /// H.
  Index heads() const { return heads_; }
  /// K.
  Index taps() const { return taps_; }

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<Scalar>::visit(named("project", f), self.project, more.project...);
    Linear<Scalar>::visit(named("output", f), self.output, more.output...);
  }

  /// z = the values of the present taps, weighted by the softmax of their scores.
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    for_each_part(run, [&](Index row, Index first, Index count) {
      Table w = {};
      weigh(run, row, first, count, w);
      const Index rows = run.rows_per_head();
      for (Index j = 0; j < count; ++j) {
        Scalar* out = at(z, row, first + j);
        for (Index k = 0; k < taps_; ++k) {
          if (!run.present(k)) continue;
          const auto values = run.tap(k, 1);
          if (k == 0) {
            detail::scaled(rows, w[k][j], at(values, row, first + j), out);
          } else {
            detail::add_scaled(rows, w[k][j], at(values, row, first + j), out);
          }
        }
      }
    });
  }

  /// local of d is overwritten; what each tap gets is added to it.
  void adjoint(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    const Scalar scale = score_scale(run);
    const auto queries = run.local();
    auto d_local = d.local();
    d_local.setZero();
    for_each_part(run, [&](Index row, Index first, Index count) {
      const Index rows = run.rows_per_head();
      Table w = {}, dw = {};
      weigh(run, row, first, count, w);
      Scalar mean[kPart] = {};
      for (Index k = 0; k < taps_; ++k) {
        if (!run.present(k)) continue;
        const auto values = run.tap(k, 1);
        for (Index j = 0; j < count; ++j) {
          dw[k][j] = dot(rows, at(dz, row, first + j), at(values, row, first + j));  // z = sum_k w_k v_k
          mean[j] = multiply_add(w[k][j], dw[k][j], mean[j]);
        }
      }
      for (Index k = taps_ - 1; k >= 0;
           --k) {  // the farthest tap first: the same order of additions under any cut in time
        if (!run.present(k)) continue;
        const auto keys = run.tap(k, 0);
        auto d_keys = d.tap(k, 0), d_values = d.tap(k, 1);
        for (Index j = 0; j < count; ++j) {
          const Index column = first + j;
          const Scalar d_score = scale * w[k][j] * (dw[k][j] - mean[j]);  // w = softmax(scale q.k)
          detail::add_scaled(rows, d_score, at(keys, row, column), at(d_local, row, column));
          detail::add_scaled(rows, d_score, at(queries, row, column), at(d_keys, row, column));
          detail::add_scaled(rows, w[k][j], at(dz, row, column), at(d_values, row, column));
        }
      }
    });
  }

 private:
  static constexpr Index kPart = 32;  // columns whose weights are held at a time
  using Table = Scalar[kMostTaps][kPart];

  static Scalar score_scale(const Run<Scalar>& run) {
    return Scalar(1) / std::sqrt(static_cast<Scalar>(run.rows_per_head()));
  }

  /// f(first row, first column, columns) for each head and each part of the columns, the last part first:
  /// gradients are then added from later tokens to earlier ones under any cut.
  template <class F>
  static void for_each_part(const Run<Scalar>& run, F&& f) {
    for (Index h = 0; h < run.heads; ++h) {
      for (Index j = (run.count - 1) / kPart * kPart; j >= 0; j -= kPart)
        f(h * run.rows_per_head(), j, (std::min)(kPart, run.count - j));
    }
  }

  /// w[k][j]: the softmax weights of tap k for column first + j of one head.
  void weigh(const Run<Scalar>& run, Index row, Index first, Index count, Table& w) const {
    const Index rows = run.rows_per_head();
    const Scalar scale = score_scale(run);
    const auto queries = run.local();
    Scalar most[kPart] = {}, sum[kPart] = {};
    for (Index k = 0; k < taps_; ++k) {
      if (!run.present(k)) continue;
      const auto keys = run.tap(k, 0);
      for (Index j = 0; j < count; ++j) {
        w[k][j] = scale * dot(rows, at(queries, row, first + j), at(keys, row, first + j));
        most[j] = k == 0 || w[k][j] > most[j] ? w[k][j] : most[j];
      }
    }
    for (Index k = 0; k < taps_; ++k) {
      if (!run.present(k)) continue;
      for (Index j = 0; j < count; ++j) w[k][j] -= most[j];
      detail::softmax_weights(count, w[k], w[k]);
      for (Index j = 0; j < count; ++j) sum[j] += w[k][j];
    }
    for (Index k = 0; k < taps_; ++k) {
      if (!run.present(k)) continue;
      for (Index j = 0; j < count; ++j) w[k][j] /= sum[j];
    }
  }

  Index heads_;
  Index taps_;
};

}  // namespace hsm::inline HSM_ABI
