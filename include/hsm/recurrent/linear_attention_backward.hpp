// SPDX-License-Identifier: MIT
//
// The adjoint of linear attention. With S' the matrix S and the vector z beside it, v' the values and a 1 behind them,
// and u = phi(q)^T S' the sums and the divisor, y = u_v / u_z, whose gradient is du = (dy, -dy . y) / u_z:
//
//   dphi(q_t) = S'_t du_t                                     the same sum over the past as y, its roles turned round
//   dphi(k_j) = R_j v'_j,   dv_j = R_j^T phi(k_j)             sums over what comes later
//   R_j = g R_{j+1} + phi(q_j) du_j^T                         and the gradient of the state after token j
//
// Each task, a segment and a head, reads its tokens forth, computing S' again, and back; both by mix_chunk.
#pragma once

#include <algorithm>

#include <hsm/recurrent/linear_attention_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

/// du of head h of a token.
template <class Scalar>
void LinearAttentionPass<Scalar>::read_gradient(const Saved& saved, const Scalar* d_mixed, Index token,
                                                Index h, Index i, const Scratch& own) const {
  const Scalar* d = d_mixed + token * sizes_.C + h * sizes_.width;
  const Scalar* y = &saved.mixed(h * sizes_.width, token);
  const Scalar inverse = Scalar(1) / saved.divisors(h, token);
  Scalar* out = own.gradients.row(i);
  for (Index k = 0; k < sizes_.width; ++k) out[k] = d[k] * inverse;
  out[sizes_.width] = -packet_dot(sizes_.width, d, y) * inverse;
}

/// to += from.
template <class Scalar>
void LinearAttentionPass<Scalar>::add_memory(RowsOf<const Scalar> from, Memory to) const {
  for (Index r = 0; r < sizes_.rows; ++r) add(sizes_.width, to.row(r), from.row(r), to.row(r));
}

/// One head of a segment: d_joint of its tokens, and the gradient of the state that they started from.
template <class Scalar>
void LinearAttentionPass<Scalar>::return_segment(const Saved& saved, Index number, Index h,
                                                 const Scalar* d_mixed, Scalar* d_joint,
                                                 State* state_gradient, const Scratch& own) const {
  const Segment& segment = saved.segments[static_cast<std::size_t>(number)];
  const Index past = saved.past[static_cast<std::size_t>(number)];
  const Index C = sizes_.C, width = sizes_.width, rows = sizes_.rows, count = segment.count;
  const Powers<Scalar> powers(parameters_.kept_share(h));
  const RowsOf<const Scalar> queries(own.queries), keys(own.keys), values(own.values), du(own.gradients);
  Scalar ones[kLanes<Scalar>];
  std::fill_n(ones, kLanes<Scalar>, Scalar(1));
  const auto d_part = [&](Index part, Index token) { return d_joint + token * 3 * C + part * C + h * width; };
  const auto read_all = [&](Index token, Index i) {
    const Scalar* joint = &saved.joint(0, token);
    read_query(joint, h, i, own);
    read_pair(joint, h, i, own);
    read_gradient(saved, d_mixed, token, h, i, own);
  };

  clear(own.memory);
  if (past > 0) copy({&saved.before(h * sizes_.held, number), width}, padded(own.memory));
  for (Index t = 0; t < count; t += kLinearChunk) {
    const Index n = (std::min)(kLinearChunk, count - t), place = segment.first + t;
    for (Index i = 0; i < n; ++i) read_all(place + i, i);
    mix_chunk<Sweep::kForth>(
        n, rows, width, values, du, keys, Left<Order::kColumns, Scalar>{own.memory, sizes_.padded}, powers,
        own.mix, [&](Index first, Index lanes, const Scalar* strip) {
          store_strip(lanes, width, strip, static_cast<const Scalar*>(ones), own.row, width);
          for (Index i = 0; i < lanes; ++i)
            times_query_slope(width, queries.row(first + i), own.row + i * width,
                              d_part(0, place + first + i));
        });
    absorb_chunk<Sweep::kForth>(n, rows, sizes_.padded, keys, own.values, powers, own.memory);
  }

  clear(own.memory);
  // Of its last tokens each has the gradient of what it left, since later calls may go on from any of them.
  RingView<Scalar> ring;
  if (state_gradient && !segment.fresh()) ring = state_gradient->ring(0, segment.stream);
  const Index kept = count - ring.slot_count;
  for (Index end = count, n = 0; end > 0; end -= n) {
    if (end > kept) {
      const Memory left = memory_at(ring, past + end - 1, h);
      add_memory(left, padded(own.memory));
      std::fill_n(left.data, sizes_.held, Scalar(0));
    }
    n = end - 1 > kept ? 1 : end - (end - 1) / kLinearChunk * kLinearChunk;
    const Index last = segment.first + end - 1;
    for (Index i = 0; i < n; ++i) read_all(last - i, i);
    mix_chunk<Sweep::kBack>(
        n, rows, width, du, values, queries, Left<Order::kColumns, Scalar>{own.memory, sizes_.padded}, powers,
        own.mix, [&](Index first, Index lanes, const Scalar* strip) {
          store_strip(lanes, width, strip, static_cast<const Scalar*>(ones), own.row, width);
          for (Index i = 0; i < lanes; ++i)
            times_key_slope(width, keys.row(first + i), own.row + i * width, d_part(1, last - first - i));
        });
    mix_chunk<Sweep::kBack>(
        n, width, width, queries, keys, du, Left<Order::kRows, Scalar>{own.memory, sizes_.padded}, powers,
        own.mix, [&](Index first, Index lanes, const Scalar* strip) {
          store_strip(lanes, width, strip, static_cast<const Scalar*>(ones), d_part(2, last - first), -3 * C);
        });
    absorb_chunk<Sweep::kBack>(n, rows, sizes_.padded, queries, own.gradients, powers, own.memory);
  }
  if (past > 0 && ring.data) add_memory(padded(own.memory), memory_at(ring, past - 1, h));
}

template <class Scalar>
void LinearAttentionPass<Scalar>::backward(const In& x, const Saved& saved, const In& dy, const Out& dx,
                                           LinearAttention<Scalar>& gradients, State* state_gradient) {
  const auto segments = static_cast<Index>(saved.segments.size());
  if (segments == 0) return;
  saved.make_room(state_gradient);
  const Index C = sizes_.C, H = sizes_.H, N = x.count();
  Executor& executor = workspace_.executor();
  Scalar *d_mixed = take(C * N), *d_joint = take(3 * C * N);
  Scalar* scratch = take(Scratch::size(sizes_) * executor.workers());
  return_output(parameters_.output, saved.mixed.data(), dy, d_mixed, gradients.output, executor);
  parallel_blocks(executor, segments * H, 1, [&](Index task, Index, int worker) {
    return_segment(saved, task / H, task % H, d_mixed, d_joint, state_gradient, scratch_of(scratch, worker));
  });
  return_projection<Scalar>(parameters_.project, x, d_joint, Write::kOverwrite, dx, gradients.project,
                            executor);
}

}  // namespace hsm::inline HSM_ABI::detail
