// SPDX-License-Identifier: MIT
//
// The feed-forward network of a Transformer block, per token:
//
//   y = W_2 gelu(W_1 x + b_1) + b_2       W_1 [F,C], W_2 [C,F]
//
// 4 F C flop per token, 2 F C + F + C parameters: up.weight W_1, up.bias, down.weight W_2, down.bias. GELU in its
// tanh form (core/elementwise.hpp), applied while the block of W_1 x is in cache. Initial values: W_1
// normal(1/sqrt(C)), W_2 normal(1/sqrt(F)), drawn in this order; biases 0.
#pragma once

#include <cmath>

#include <hsm/core/elementwise.hpp>
#include <hsm/core/linear.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/workspace.hpp>

namespace hsm::inline HSM_ABI {

/// What forward leaves for backward: both sides of the GELU, [F, n] each.
template <ComputeScalar Scalar>
struct FeedForwardSaved {
  OwnedColumns<Scalar> before;  ///< [F, n], the GELU's arguments
  OwnedColumns<Scalar> after;   ///< [F, n], its values
};

/// W_2 gelu(W_1 x + b_1) + b_2.
template <ComputeScalar Scalar>
struct FeedForward {
  Linear<Scalar> up;    ///< W_1 [F,C], b_1 [F]
  Linear<Scalar> down;  ///< W_2 [C,F], b_2 [C]

  FeedForward() = default;

  /// W_1 normal(1/sqrt(C)), W_2 normal(1/sqrt(F)), biases 0. Throws std::invalid_argument for sizes below 1.
  FeedForward(Index channels, Index width, Random& random) {
    detail::check_at_least("FeedForward", "channels", channels, 1);
    detail::check_at_least("FeedForward", "width", width, 1);
    up = Linear<Scalar>(width, channels, width, 1 / std::sqrt(static_cast<double>(channels)), random);
    down = Linear<Scalar>(channels, width, channels, 1 / std::sqrt(static_cast<double>(width)), random);
  }

  /// C.
  Index channels() const { return up.in(); }
  /// F, the width between the two maps.
  Index width() const { return up.out(); }

  /// y from x, both (C, n); nothing is kept.
  void forward(ConstColumns<Scalar> x, Columns<Scalar> y, Workspace& workspace) const {
    Workspace::Frame frame(workspace);
    Columns<Scalar> hidden = frame.template columns<Scalar>(width(), x.cols());
    up.forward(x, hidden, workspace.executor(), [](Index, Index, Columns<Scalar>& block) {
      for (Index j = 0; j < block.cols(); ++j) gelu(block.rows(), at(block, 0, j), at(block, 0, j));
    });
    down.forward(detail::read(hidden), y, workspace.executor());
  }

  /// The same, leaving in `saved` what backward needs.
  void forward(ConstColumns<Scalar> x, Columns<Scalar> y, FeedForwardSaved<Scalar>& saved,
               Workspace& workspace) const {
    detail::set_size(saved.before, width(), x.cols());
    detail::set_size(saved.after, width(), x.cols());
    Columns<Scalar> before = whole(saved.before), after = whole(saved.after);
    up.forward(x, before, workspace.executor(), [&](Index row, Index column, Columns<Scalar>& block) {
      for (Index j = 0; j < block.cols(); ++j)
        gelu(block.rows(), at(block, 0, j), at(after, row, column + j));
    });
    down.forward(detail::read(after), y, workspace.executor());
  }

  /// dx overwritten, gradients added to; x and saved are forward's. All blocks (C, n).
  void backward(ConstColumns<Scalar> x, const FeedForwardSaved<Scalar>& saved, ConstColumns<Scalar> dy,
                Columns<Scalar> dx, FeedForward& gradients, Workspace& workspace) const {
    Executor& executor = workspace.executor();
    Workspace::Frame frame(workspace);
    const Index n = x.cols(), F = width();
    Columns<Scalar> d_hidden = frame.template columns<Scalar>(F, n);
    const ConstColumns<Scalar> after(saved.after.data(), F, n, Eigen::OuterStride<>(F));
    down.backward_input(dy, Write::kOverwrite, d_hidden, executor);
    Linear<Scalar>::backward_parameters(after, dy, gradients.down, executor);
    parallel_blocks(executor, n, 32, [&](Index first, Index count, int) {
      detail::in_blocks(F * count, [&](Index offset, Index size) {  // after = gelu(before)
        Scalar slope[detail::kBlock];
        const Index start = first * F + offset;
        gelu_slope(size, saved.before.data() + start, slope);
        Scalar* d = d_hidden.data() + start;
        for (Index i = 0; i < size; ++i) d[i] *= slope[i];
      });
    });
    up.backward_input(detail::read(d_hidden), Write::kOverwrite, dx, executor);
    Linear<Scalar>::backward_parameters(x, detail::read(d_hidden), gradients.up, executor);
  }

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<Scalar>::visit(named("up", f), self.up, more.up...);
    Linear<Scalar>::visit(named("down", f), self.down, more.down...);
  }

  /// The tensors of a network of width F for C channels.
  static TensorSpecs describe(Index C, Index F) {
    return join({Linear<Scalar>::describe("up", F, C, F), Linear<Scalar>::describe("down", C, F, C, true)});
  }

 private:
  static Columns<Scalar> whole(OwnedColumns<Scalar>& m) {
    return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
  }
};

}  // namespace hsm::inline HSM_ABI
