// SPDX-License-Identifier: MIT
//
// What (a,b) and channel pairs share: y = a .* now + b .* past with a weight per row, and its adjoint, each in
// one pass over memory.
//
//   forward    z[t] = a .* x[t] + b .* x[t-s]
//   adjoint    dx[t] = a .* dz[t] + b .* dz[t+s];   da += dz[t] .* x[t],   db += dz[t] .* x[t-s]
//
// The adjoint works on blocks of kPairRows rows: so few that the sums of a block's rows stay in the first-level
// cache while the columns of a run go by, so many that memory is read in long stretches (on one core of a Zen 3
// with C = 512 the adjoint of channel has twice the speed with whole columns that it has with halves of them).
#pragma once

#include <algorithm>

#include <hsm/core/elementwise.hpp>
#include <hsm/mixing/run.hpp>

namespace hsm::detail {

inline constexpr Index kPairRows = 1024;

/// Rows [first, first + n) of z, a[i] and b[i] the weights of row first + i.
template <class Scalar>
void combine_pair_rows(const Run<Scalar>& run, Index first, Index n, const Scalar* a, const Scalar* b,
                       Columns<Scalar> z) {
  const auto now = run.kept(0), past = run.kept(1);
  for (Index j = 0; j < run.count; ++j)
    weighted_sum(n, a, at(now, first, j), b, at(past, first, j), at(z, first, j), run.stream);
}

/// The gradients of rows [first, first + n), n <= kPairRows; `next` is dz of the tokens that follow s places
/// later, or nullptr where there are none. f(i, da, db) takes the sums of row first + i.
template <class Scalar, class F>
void adjoint_pair_rows(const Run<Scalar>& run, Index first, Index n, const Scalar* a, const Scalar* b,
                       const ConstColumns<Scalar>& dz, const ConstColumns<Scalar>* next,
                       const RunGradient<Scalar>& d, F&& f) {
  const auto now = run.kept(0), past = run.kept(1);
  auto d_now = d.kept(0);
  Scalar da[kPairRows], db[kPairRows];
  std::fill_n(da, n, Scalar(0));
  std::fill_n(db, n, Scalar(0));
  for (Index j = 0; j < run.count; ++j) {
    const Scalar *x = at(now, first, j), *p = at(past, first, j), *g = at(dz, first, j);
    Scalar* out = at(d_now, first, j);
    if (next) {
      const Scalar* after = at(*next, first, j);
      write_each(n, out, d.stream, [=](Index i) { return multiply_add(b[i], after[i], a[i] * g[i]); });
    } else {
      write_each(n, out, d.stream, [=](Index i) { return a[i] * g[i]; });
    }
    HSM_INDEPENDENT
    for (Index i = 0; i < n; ++i) {
      da[i] = multiply_add(g[i], x[i], da[i]);
      db[i] = multiply_add(g[i], p[i], db[i]);
    }
  }
  for (Index i = 0; i < n; ++i) f(i, da[i], db[i]);
}

/// d_past += b .* dz over all rows.
template <class Scalar>
void adjoint_past_rows(const Run<Scalar>& run, Index first, Index n, const Scalar* b,
                       const ConstColumns<Scalar>& dz, const RunGradient<Scalar>& d) {
  auto d_past = d.kept(1);
  for (Index j = 0; j < run.count; ++j) {
    const Scalar* g = at(dz, first, j);
    Scalar* out = at(d_past, first, j);
    HSM_UNROLLED
    for (Index i = 0; i < n; ++i) out[i] = multiply_add(b[i], g[i], out[i]);
  }
}

}  // namespace hsm::detail
