// SPDX-License-Identifier: MIT
//
// What (a,b) and channel pairs share: y = a .* now + b .* past with a weight per row, and its adjoint, each in
// one pass over memory.
//
//   forward    z[t] = a .* x[t] + b .* x[t-s]
//   adjoint    dx[t] = a .* dz[t] + b .* dz[t+s];   da += dz[t] .* x[t],   db += dz[t] .* x[t-s]
//
// Tokens s apart form a chain: what is `now` to one is `past` to the next. Where the buffers allow, a few links
// of the chain are worked through together, so that each value is read once and not twice, and the weights and
// sums of a row once for all of them. Rows go a few cache lines at a time, all of them read before one is
// written; where z is x itself, tokens go from the last to the first.
#pragma once

#include <algorithm>
#include <iterator>
#include <numeric>
#include <type_traits>

#include <hsm/core/pack.hpp>
#include <hsm/shift/run.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The rows that are worked on at a time: so few that their sums stay in the first-level cache, so many that
/// memory is read in long stretches.
inline constexpr Index kPairRows = 1024;

/// Links of a chain that are worked through together: two places to read and to write are as many as caches
/// bear well. Past the cache one at a time, since non-temporal stores want to fill one line after another.
inline constexpr Index kLinks = 2;

/// Packs that are read before the first of their results is written. A processor takes a read for one of a value
/// just written where both lie at the same place of their pages, and then lets it wait: the further reads are
/// ahead of writes, the less it matters how the buffers lie to each other.
inline constexpr Index kPairPacks = 8;

/// Rows of a cache line.
template <class Scalar>
inline constexpr Index kPairLine = 2 * Pack<Scalar>::kSize;

/// One weight for all rows, and the sum of its gradient: each value of a line by itself.
template <class Scalar>
struct OneWeight {
  static constexpr bool kOne = true;
  struct Sums {
    double a[kPairLine<Scalar>] = {}, b[kPairLine<Scalar>] = {};
  };
  Scalar a_, b_;

  Scalar a(Index) const { return a_; }
  Scalar b(Index) const { return b_; }
  Pack<Scalar> a_pack(Index) const { return Pack<Scalar>::of(a_); }
  Pack<Scalar> b_pack(Index) const { return Pack<Scalar>::of(b_); }
};

/// A weight for each row, and the sums of their gradients.
template <class Scalar>
struct RowWeights {
  static constexpr bool kOne = false;
  struct Sums {
    Scalar a[kPairRows] = {}, b[kPairRows] = {};
  };
  const Scalar *a_, *b_;

  Scalar a(Index i) const { return a_[i]; }
  Scalar b(Index i) const { return b_[i]; }
  Pack<Scalar> a_pack(Index i) const { return Pack<Scalar>::read_once(a_ + i); }
  Pack<Scalar> b_pack(Index i) const { return Pack<Scalar>::read_once(b_ + i); }
};

/// How many of n rows come before the first that may be written past the cache.
template <class Scalar>
Index rows_before_lines(Index n, const Scalar* out) {
  Index i = 0;
  while (i < n && !is_aligned(out + i)) ++i;
  return i;
}

/// Calls row(i) for the first `head` of n rows, block(i, packs) for kPacks packs at a time and then for the lines
/// that are left, and row(i) for the rows after them.
template <class Scalar, Index kPacks, class Row, class Block>
HSM_INLINE void in_packs(Index n, Index head, Row&& row, Block&& block) {
  Index i = 0;
  for (; i < head; ++i) row(i);
  for (; i + kPacks * Pack<Scalar>::kSize <= n; i += kPacks * Pack<Scalar>::kSize) {
    block(i, std::integral_constant<Index, kPacks>{});
  }
  for (; i + kPairLine<Scalar> <= n; i += kPairLine<Scalar>) block(i, std::integral_constant<Index, 2>{});
  for (; i < n; ++i) row(i);
}

/// n rows of kCount tokens, `step` values apart in x and z_step in z; `past` belongs to the first. Non-temporal,
/// one token: `step` then leads to the token that comes next, which is asked for ahead.
template <Index kCount, bool kNontemporal, class W, class Scalar>
void combine_chain(Index n, W w, const Scalar* x, Index step, const Scalar* past, Scalar* z, Index z_step) {
  using P = Pack<Scalar>;
  if constexpr (kNontemporal) {
    for (Index i = 0; i < n; i += kPairLine<Scalar>) __builtin_prefetch(x + step + i);
  }
  in_packs<Scalar, kPairPacks / kCount>(
      n, kNontemporal ? rows_before_lines(n, z) : 0,
      [=](Index i) {
        Scalar before = past[i];
        for (Index k = 0; k < kCount; ++k) {
          const Scalar now = x[k * step + i];
          z[k * z_step + i] = multiply_add(w.a(i), now, w.b(i) * before);
          before = now;
        }
      },
      [=]<Index kPacks>(Index i, std::integral_constant<Index, kPacks>) HSM_INLINE_LAMBDA {
        P sums[kPacks][kCount];
        HSM_WRITTEN_OUT
        for (Index p = 0; p < kPacks; ++p) {
          const Index j = i + p * P::kSize;
          const P a = w.a_pack(j), b = w.b_pack(j);
          P before = P::read(past + j);
          HSM_WRITTEN_OUT
          for (Index k = 0; k < kCount; ++k) {
            const P now = P::read_once(x + k * step + j);
            sums[p][k] = b * before;
            sums[p][k].add_product(a, now);
            before = now;
          }
        }
        HSM_WRITTEN_OUT
        for (Index k = 0; k < kCount; ++k) {
          HSM_WRITTEN_OUT
          for (Index p = 0; p < kPacks; ++p)
            sums[p][k].write(z + k * z_step + i + p * P::kSize, kNontemporal);
        }
      });
}

/// sums += pack.
template <class Scalar>
HSM_INLINE void add_pack(const Pack<Scalar>& pack, double* sums) {
  Scalar values[Pack<Scalar>::kSize];
  pack.write(values);
  for (Index i = 0; i < Pack<Scalar>::kSize; ++i) sums[i] += static_cast<double>(values[i]);
}

/// The gradients of n rows of kCount tokens, dz g_step values apart and d out_step; `next` is dz of the token
/// that follows the last, or nullptr. A sum that all rows share stays in registers.
template <Index kCount, bool kNontemporal, class W, class Scalar>
void adjoint_chain(Index n, W w, const Scalar* x, Index step, const Scalar* past, const Scalar* g,
                   Index g_step, const Scalar* next, Scalar* out, Index out_step, typename W::Sums& sums) {
  using P = Pack<Scalar>;
  P a_sums[2], b_sums[2];
  in_packs<Scalar, kPairPacks / kCount>(
      n, kNontemporal ? rows_before_lines(n, out) : 0,
      [&](Index i) {
        auto &da = sums.a[W::kOne ? 0 : i], &db = sums.b[W::kOne ? 0 : i];
        using Sum = std::remove_reference_t<decltype(da)>;
        Scalar before = past[i], here = g[i];
        for (Index k = 0; k < kCount; ++k) {
          const Scalar now = x[k * step + i];
          const bool last = k + 1 == kCount;
          const Scalar follows = !last ? g[(k + 1) * g_step + i] : next ? next[i] : Scalar(0);
          const Scalar own = w.a(i) * here;
          out[k * out_step + i] = last && !next ? own : multiply_add(w.b(i), follows, own);
          da = multiply_add(static_cast<Sum>(here), static_cast<Sum>(now), da);
          db = multiply_add(static_cast<Sum>(here), static_cast<Sum>(before), db);
          before = now;
          here = follows;
        }
      },
      [&]<Index kPacks>(Index i, std::integral_constant<Index, kPacks>) HSM_INLINE_LAMBDA {
        P results[kPacks][kCount];
        HSM_WRITTEN_OUT
        for (Index p = 0; p < kPacks; ++p) {
          const Index j = i + p * P::kSize;
          const P a = w.a_pack(j), b = w.b_pack(j);
          P before = P::read_once(past + j), here = P::read_once(g + j);
          if constexpr (!W::kOne) {
            a_sums[p % 2] = P::read(sums.a + j);
            b_sums[p % 2] = P::read(sums.b + j);
          }
          HSM_WRITTEN_OUT
          for (Index k = 0; k < kCount; ++k) {
            const P now = P::read_once(x + k * step + j);
            P follows;
            P result = a * here;
            if (kCount > 1 || next) {
              follows = P::read_once(k + 1 < kCount ? g + (k + 1) * g_step + j : next + j);
              result.add_product(b, follows);
            }
            results[p][k] = result;
            a_sums[p % 2].add_product(here, now);
            b_sums[p % 2].add_product(here, before);
            before = now;
            here = follows;
          }
          if constexpr (!W::kOne) {
            a_sums[p % 2].write(sums.a + j);
            b_sums[p % 2].write(sums.b + j);
          }
        }
        HSM_WRITTEN_OUT
        for (Index k = 0; k < kCount; ++k) {
          HSM_WRITTEN_OUT
          for (Index p = 0; p < kPacks; ++p)
            results[p][k].write(out + k * out_step + i + p * P::kSize, kNontemporal);
        }
      });
  if constexpr (W::kOne) {
    add_pack(a_sums[0], sums.a), add_pack(a_sums[1], sums.a + P::kSize);
    add_pack(b_sums[0], sums.b), add_pack(b_sums[1], sums.b + P::kSize);
  }
}

/// Calls chain(j) for the chains of kCount columns j, j + s, ... that fit (s > 0), single(j) for the columns that
/// are left. `last_first`: every column after all those behind it in its chain.
template <Index kCount, class Chain, class Single>
void for_each_chain(Index count, Index s, bool last_first, Chain&& chain, Single&& single) {
  const Index length = kCount * s, groups = s > 0 ? count / length : 0, left = groups * length;
  const Index parts = groups + (s > 0 ? (count - left + s - 1) / s : 1);
  for (Index i = 0; i < parts; ++i) {
    const Index part = last_first ? parts - 1 - i : i;
    if (part < groups) {
      for (Index j = part * length; j < part * length + s; ++j) chain(j);
    } else {
      const Index begin = left + (part - groups) * s, end = s > 0 ? (std::min)(begin + s, count) : count;
      for (Index j = begin; j < end; ++j) single(j);
    }
  }
}

/// Rows [first, first + n) of z.
template <class W, class Scalar>
void combine_pair_rows(const Run<Scalar>& run, Index first, Index n, const W& w, Columns<Scalar> z) {
  const auto now = run.tap(0), past = run.tap(1);
  const Index s = run.nontemporal ? 0 : run.distance, step = s * now.outerStride(),
              z_step = s * z.outerStride();
  for_each_chain<kLinks>(
      run.count, s, z.data() == now.data(),
      [&](Index j) {
        combine_chain<kLinks, false>(n, w, at(now, first, j), step, at(past, first, j), at(z, first, j),
                                     z_step);
      },
      [&](Index j) {
        const auto one =
            run.nontemporal ? combine_chain<1, true, W, Scalar> : combine_chain<1, false, W, Scalar>;
        one(n, w, at(now, first, j), now.outerStride(), at(past, first, j), at(z, first, j), 0);
      });
}

/// The gradients of rows [first, first + n), n <= kPairRows; `next` is dz of the tokens that follow s places
/// later, or nullptr where there are none. f(i, da, db) takes the sums of row first + i, or of all rows where
/// they share a weight.
template <class W, class Scalar, class F>
void adjoint_pair_rows(const Run<Scalar>& run, Index first, Index n, const W& w,
                       const ConstColumns<Scalar>& dz, const ConstColumns<Scalar>* next,
                       const RunGradient<Scalar>& d, F&& f) {
  const auto now = run.tap(0), past = run.tap(1);
  auto d_now = d.tap(0);
  typename W::Sums sums;
  const Index s = next && !d.nontemporal ? run.distance : 0, step = s * now.outerStride(),
              g_step = s * dz.outerStride(), out_step = s * d_now.outerStride();
  for_each_chain<kLinks>(
      run.count, s, false,
      [&](Index j) {
        adjoint_chain<kLinks, false>(n, w, at(now, first, j), step, at(past, first, j), at(dz, first, j),
                                     g_step, at(*next, first, j + (kLinks - 1) * s), at(d_now, first, j),
                                     out_step, sums);
      },
      [&](Index j) {
        const auto one =
            d.nontemporal ? adjoint_chain<1, true, W, Scalar> : adjoint_chain<1, false, W, Scalar>;
        one(n, w, at(now, first, j), 0, at(past, first, j), at(dz, first, j), 0,
            next ? at(*next, first, j) : nullptr, at(d_now, first, j), 0, sums);
      });
  if constexpr (W::kOne) {
    f(Index{0}, std::accumulate(sums.a, std::end(sums.a), 0.0),
      std::accumulate(sums.b, std::end(sums.b), 0.0));
  } else {
    for (Index i = 0; i < n; ++i) f(i, static_cast<double>(sums.a[i]), static_cast<double>(sums.b[i]));
  }
}

/// d_past += b .* dz over rows [first, first + n).
template <class W, class Scalar>
void adjoint_past_rows(const Run<Scalar>& run, Index first, Index n, const W& w,
                       const ConstColumns<Scalar>& dz, const RunGradient<Scalar>& d) {
  auto d_past = d.tap(1);
  for (Index j = 0; j < run.count; ++j) {
    const Scalar* g = at(dz, first, j);
    Scalar* out = at(d_past, first, j);
    for (Index i = 0; i < n; ++i) out[i] = multiply_add(w.b(i), g[i], out[i]);
  }
}

}  // namespace hsm::inline HSM_ABI::detail
