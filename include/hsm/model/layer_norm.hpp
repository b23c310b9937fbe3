// SPDX-License-Identifier: MIT
//
// Layer normalisation of each token (Ba, Kiros, Hinton, arXiv 1607.06450):
//
//   y = gain .* (x - mean) / sqrt(variance + 1e-5) + bias        over the C channels of a token
//   variance = sum of (x - mean)^2 / C                           divided by C, not C - 1
//
// O(C) per token, one visit. Where the residual stream takes up a branch first, `add_forward` does both in
// that visit. Sums run in a fixed order of lanes, so the bits depend on neither address nor threads. The mean is rounded:
// where all channels share an offset of some 1 / epsilon / 1000 times their differences (10^4 in float), it shows. Where the
// sum of squares is not in the scalar (differences of 10^18 in float) y is the bias alone.
#pragma once

#include <algorithm>
#include <cmath>

#include <hsm/core/check.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/tensor_spec.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>

namespace hsm::inline HSM_ABI {

/// Layer normalisation with gain [C] (initially 1) and bias [C] (initially 0).
template <ComputeScalar Scalar>
struct LayerNorm {
  /// Added to the variance.
  static constexpr double kEpsilon = 1e-5;

  Vector<Scalar> gain;  ///< [C]
  Vector<Scalar> bias;  ///< [C]

  LayerNorm() = default;
  /// Gain 1, bias 0. Throws std::invalid_argument for channels < 1.
  explicit LayerNorm(Index channels) {
    detail::check_at_least("LayerNorm", "channels", channels, 1);
    gain.setOnes(channels);
    bias.setZero(channels);
  }

  /// C.
  Index channels() const { return gain.size(); }

  /// y = norm(x); x, y (C, n).
  void forward(ConstColumns<Scalar> x, Columns<Scalar> y, Executor& executor) const {
    parallel_blocks(executor, x.cols(), kTokens, [&](Index first, Index n, int) {
      for (Index j = first; j < first + n; ++j) normalise(at(x, 0, j), at(y, 0, j));
    });
  }

  /// sum = x + branch, y = norm(sum); all (C, n), sum may be x.
  void add_forward(ConstColumns<Scalar> x, ConstColumns<Scalar> branch, Columns<Scalar> sum,
                   Columns<Scalar> y, Executor& executor) const {
    parallel_blocks(executor, x.cols(), kTokens, [&](Index first, Index n, int) {
      for (Index j = first; j < first + n; ++j) {
        detail::add(channels(), at(x, 0, j), at(branch, 0, j), at(sum, 0, j));
        normalise(at(sum, 0, j), at(y, 0, j));
      }
    });
  }

  /// dx += the gradient of x for dy, gradients += those of gain and bias; x is forward's. All (C, n).
  void backward(ConstColumns<Scalar> x, ConstColumns<Scalar> dy, Columns<Scalar> dx, LayerNorm& gradients,
                Workspace& workspace) const {
    const Index C = channels();
    const Index blocks = (x.cols() + kTokens - 1) / kTokens;
    Workspace::Frame frame(workspace);
    Columns<Scalar> sums =
        frame.template columns<Scalar>(3 * C, blocks);  // d gain, d bias and room for one token, per block
    parallel_blocks(workspace.executor(), x.cols(), kTokens, [&](Index first, Index n, int) {
      Scalar* d_gain = at(sums, 0, first / kTokens);
      Scalar* d_bias = d_gain + C;
      Scalar* centred = d_bias + C;  // (x - mean) / deviation
      std::fill(d_gain, centred, Scalar(0));
      for (Index j = first; j < first + n; ++j) {
        const Scalar *in = at(x, 0, j), *g = at(dy, 0, j);
        Scalar* out = at(dx, 0, j);
        const Moments m = moments(in);
        Scalar share[kLanes] = {}, slope[kLanes] = {};
        detail::in_lanes<kLanes>(C, [&](Index i, Index lane) {
          centred[i] = (in[i] - m.mean) * m.scale;
          const Scalar scaled = g[i] * gain[i];
          share[lane] += scaled;
          slope[lane] = multiply_add(scaled, centred[i], slope[lane]);
        });
        const Scalar mean_share = detail::sum_lanes(share) / static_cast<Scalar>(C);
        const Scalar mean_slope = detail::sum_lanes(slope) / static_cast<Scalar>(C);
        HSM_INDEPENDENT
        for (Index i = 0; i < C; ++i) {  // y = gain centred + bias
          d_gain[i] = multiply_add(g[i], centred[i], d_gain[i]);
          d_bias[i] += g[i];
          out[i] += m.scale * (g[i] * gain[i] - mean_share - centred[i] * mean_slope);
        }
      }
    });
    for (Index block = 0; block < blocks; ++block) {
      detail::add(C, gradients.gain.data(), at(sums, 0, block), gradients.gain.data());
      detail::add(C, gradients.bias.data(), at(sums, C, block), gradients.bias.data());
    }
  }

  /// The tensors of a norm of C channels.
  static TensorSpecs describe(Index C) { return {vector_spec("gain", C), vector_spec("bias", C)}; }

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("gain", self.gain, more.gain...);
    f("bias", self.bias, more.bias...);
  }

 private:
  static constexpr Index kTokens = 32;  // per task
  static constexpr Index kLanes = 16;

  struct Moments {
    Scalar mean, scale;
  };

  Moments moments(const Scalar* x) const {
    const Index C = channels();
    Scalar sum[kLanes] = {}, square[kLanes] = {};
    detail::in_lanes<kLanes>(C, [&](Index i, Index lane) { sum[lane] += x[i]; });
    const Scalar mean = detail::sum_lanes(sum) / static_cast<Scalar>(C);
    detail::in_lanes<kLanes>(C, [&](Index i, Index lane) {
      const Scalar difference = x[i] - mean;
      square[lane] = multiply_add(difference, difference, square[lane]);
    });
    const Scalar variance = detail::sum_lanes(square) / static_cast<Scalar>(C);
    return {mean, Scalar(1) / std::sqrt(variance + static_cast<Scalar>(kEpsilon))};
  }

  void normalise(const Scalar* x, Scalar* y) const {
    const Moments m = moments(x);
    const Scalar *g = gain.data(), *b = bias.data();
    const Index C = channels();
    HSM_INDEPENDENT
    for (Index i = 0; i < C; ++i) y[i] = multiply_add((x[i] - m.mean) * m.scale, g[i], b[i]);
  }
};

}  // namespace hsm::inline HSM_ABI
