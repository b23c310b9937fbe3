// SPDX-License-Identifier: MIT
//
// Linear maps (core/linear.hpp) between the tokens of a caller's view and columns without gaps, and their adjoints: into a
// layer and out of it. Tokens that lie the same stride apart in a view are one product, else those of each sequence.
#pragma once

#include <algorithm>
#include <type_traits>

#include <hsm/core/executor.hpp>
#include <hsm/core/linear.hpp>
#include <hsm/core/product.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Calls f(first, count) for stretches of at most `most` of the n tokens from `first` on, which are evenly strided in all
/// views.
template <class F, class View, class... Views>
void for_each_stretch(Index first, Index n, Index most, F&& f, const View& x, const Views&... more) {
  const bool flat = x.is_flat() && (more.is_flat() && ...);
  for (const Index end = first + n; first < end;) {
    const Index together = flat ? end - first : (std::min)(end - first, x.time - first % x.time);
    const Index count = (std::min)(most, together);
    f(first, count);
    first += count;
  }
}

/// So many columns without gaps.
template <class Scalar>
auto dense_columns(Scalar* values, Index rows, Index count) {
  using Block =
      std::conditional_t<std::is_const_v<Scalar>, ConstColumns<std::remove_const_t<Scalar>>, Columns<Scalar>>;
  return Block(values, rows, count, Eigen::OuterStride<>(rows));
}

/// Into a layer: `to` [out, n] = W x + b of the n tokens from `first` on.
template <class Scalar>
void project_tokens(const Linear<Scalar>& map, const Tokens<const Scalar>& x, Index first, Index n,
                    Scalar* to, Executor& executor) {
  for_each_stretch(
      first, n, n,
      [&](Index at, Index count) {
        map.forward(x.columns(at, count), dense_columns(to + (at - first) * map.out(), map.out(), count),
                    executor);
      },
      x);
}

/// Out of it: the n tokens y from `first` on = W z + b, z [in, n].
template <class Scalar>
void write_tokens(const Linear<Scalar>& map, const Scalar* z, const Tokens<Scalar>& y, Index first, Index n,
                  Executor& executor) {
  for_each_stretch(
      first, n, n,
      [&](Index at, Index count) {
        map.forward(dense_columns(z + (at - first) * map.in(), map.in(), count), y.columns(at, count),
                    executor);
      },
      y);
}

/// The adjoint of write_tokens for all tokens: dz [in, N] is overwritten, the gradient of the map added to.
template <class Scalar>
void return_output(const Linear<Scalar>& map, const Scalar* z, const Tokens<const Scalar>& dy, Scalar* dz,
                   Linear<Scalar>& gradient, Executor& executor) {
  for_each_stretch(
      0, dy.count(), dy.count(),
      [&](Index at, Index count) {
        const Index place = at * map.in();
        const ConstColumns<Scalar> d = dy.columns(at, count);
        map.backward_input(d, Write::kOverwrite, dense_columns(dz + place, map.in(), count), executor);
        Linear<Scalar>::backward_parameters(dense_columns(z + place, map.in(), count), d, gradient, executor);
      },
      dy);
}

/// The adjoint of project_tokens for all tokens, d [out, N]: dx is overwritten or added to, the gradient of the map added to.
template <class Scalar>
void return_projection(const Linear<Scalar>& map, const Tokens<const Scalar>& x, const Scalar* d, Write write,
                       const Tokens<Scalar>& dx, Linear<Scalar>& gradient, Executor& executor) {
  for_each_stretch(
      0, x.count(), x.count(),
      [&](Index at, Index count) {
        const ConstColumns<Scalar> own = dense_columns(d + at * map.out(), map.out(), count);
        map.backward_input(own, write, dx.columns(at, count), executor);
        Linear<Scalar>::backward_parameters(x.columns(at, count), own, gradient, executor);
      },
      x, dx);
}

}  // namespace hsm::inline HSM_ABI::detail
