// SPDX-License-Identifier: MIT
//
// The backward pass. Each token is visited once where the policy is a pair: its gradient is what the pair (t,
// t-s) gives to t and what the pair (t+s, t) gives to it, so it can be finished in one visit and no two tasks
// write one column. With more taps the gradients are added into the taps instead, each head and document in
// one task. Either way later tokens add before earlier ones, so that a cut in time changes no order of
// additions.
#pragma once

#include <hsm/core/stream.hpp>
#include <hsm/mixing/shift_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Where an adjoint of tokens [start, end) writes, for taps first_tap ... last_tap; nowhere for the others.
template <class Policy>
HSM_NOINLINE auto ShiftPass<Policy>::make_gradient(const Scene& scene, const Gradient& d, const Piece& piece,
                                                   std::size_t g, Index start, Index end, Index first_tap,
                                                   Index last_tap) const -> RunGradient<Scalar> {
  const HeadGroup& group = layer.groups()[g];
  RunGradient<Scalar> to;
  to.rows = rows_of(group);
  to.count = end - start;
  to.blocks.own = {nullptr, 0};
  if constexpr (kStages.own > 0) {
    to.blocks.own = {d.projected + (piece.first + start) * projected_rows() + first_row(group),
                     projected_rows()};
  }
  for (Index k = 0; k < layer.taps(); ++k) to.blocks.kept[static_cast<std::size_t>(k)].fill({nullptr, 0});
  for (Index k = first_tap; k <= last_tap; ++k) {
    const Index t = start - k * group.shift;
    for (int plane = 0; plane < kStages.planes(); ++plane) {
      auto& strip = to.blocks.kept[static_cast<std::size_t>(k)][static_cast<std::size_t>(plane)];
      switch (place_of(piece, start, k * group.shift)) {
        case Place::kBuffer:
          strip = kept_gradient(d, group, piece.first + t, plane);
          break;
        case Place::kRing: {
          const RingView<Scalar> ring =
              d.ring->ring(g, scene.segments[static_cast<std::size_t>(piece.segment)].stream);
          strip = {ring.slot(piece.position + t) + plane * to.rows, ring.rows};
          break;
        }
        case Place::kNowhere:
          strip = {nullptr, 0};
          break;
      }
    }
  }
  return to;
}

/// Adds the gradient of the state that the call left to the tokens [from, to) of the piece that it holds, and
/// clears it: the slots then belong to the state at entry.
template <class Policy>
void ShiftPass<Policy>::take_state_gradient(const Scene& scene, const Gradient& d, const Piece& piece,
                                            std::size_t g, Index from, Index to) const {
  const Segment& segment = scene.segments[static_cast<std::size_t>(piece.segment)];
  if (!d.state || segment.fresh()) return;
  const RingView<Scalar> ring = d.state->ring(g, segment.stream);
  const Index rows = rows_of(layer.groups()[g]);
  for (Index t = (std::max)(from, piece.count - ring.slot_count); t < to; ++t) {
    Scalar* slot = ring.slot(piece.position + t);
    for (int plane = 0; plane < kStages.planes(); ++plane) {
      Scalar* column = kept_gradient(d, layer.groups()[g], piece.first + t, plane).data;
      for (Index i = 0; i < rows; ++i) column[i] += slot[plane * rows + i];
    }
    std::fill(slot, slot + ring.rows, Scalar(0));
  }
}

/// Finishes the gradients of tokens [start, end): at once by adjoint_token, else in parts so small that what one
/// half has written is in cache for the other.
template <class Policy>
void ShiftPass<Policy>::gather_run(const Scene& scene, const Gradient& d, const Piece& piece, std::size_t g,
                                   Index start, Index end, std::span<double> sums) const {
  const Policy& policy = layer.parameters();
  const HeadGroup& group = layer.groups()[g];
  const Index s = group.shift, n = end - start;
  const bool followed = end + s <= piece.count;
  Run<Scalar> now = make_run(scene, piece, g, start, end);
  RunGradient<Scalar> d_now = make_gradient(scene, d, piece, g, start, end, 0, 0);
  d_now.stream = d.stream;
  if constexpr (HasTokenAdjoint<Policy>) {
    const Index token = piece.first + start;
    const auto next = mixed_gradient(d, group, followed ? token + s : token, n);
    policy.adjoint_token(now, mixed_gradient(d, group, token, n), followed ? &next : nullptr, d_now, sums);
  } else {
    const Index next_start = followed ? start + s : start;
    const Index part = std::max<Index>(1, columns_in(kCacheBytes, rows_of(group)));
    Run<Scalar> next = make_run(scene, piece, g, next_start, next_start + n);
    RunGradient<Scalar> d_next =
        make_gradient(scene, d, piece, g, next_start, next_start + n, followed, followed);
    for (Index first = start; first < end; first += part) {
      const Index count = (std::min)(part, end - first), token = piece.first + first;
      now.count = d_now.count = next.count = d_next.count = count;
      policy.adjoint_now(now, mixed_gradient(d, group, token, count), d_now, sums);
      if (followed) policy.adjoint_past(next, mixed_gradient(d, group, token + s, count), d_next);
      now.blocks.advance(count, 0, 1, kStages.planes());
      d_now.blocks.advance(count, 0, 0, kStages.planes());
      next.blocks.advance(count, 0, 1, kStages.planes());
      d_next.blocks.advance(count, followed, followed, kStages.planes());
    }
  }
}

/// The adjoint of a pair policy: every token finished in one visit.
template <class Policy>
void ShiftPass<Policy>::gather_adjoint(const Scene& scene, const Gradient& d, Policy& gradients) {
  const Policy& policy = layer.parameters();
  const Index tasks = (scene.count + task_tokens() - 1) / task_tokens();
  const Index sum_count = sum_count_of(policy);
  double* sums = take_sums(tasks);
  parallel_blocks(workspace.executor(), scene.count, task_tokens(), [&](Index begin, Index n, int) {
    const std::span<double> task_sums(sums + begin / task_tokens() * sum_count,
                                      static_cast<std::size_t>(sum_count));
    for_each_piece(scene, begin, n, [&](const Piece& piece, Index from, Index to) {
      for (std::size_t g = 0; g < layer.groups().size(); ++g) {
        const HeadGroup& group = layer.groups()[g];
        const Index s = group.shift;
        for_each_run(piece, from, to, s, 2, ring(scene, piece, g).slot_count, true,
                     [&](Index start, Index end) { gather_run(scene, d, piece, g, start, end, task_sums); });
        take_state_gradient(scene, d, piece, g, from, to);
      }
    });
    if (d.stream) stream_fence();
  });
  add_sums(sums, tasks, gradients);
  if (!d.state) return;
  // What the first s tokens of a continuing segment give to the state at its entry.
  for_each_piece(scene, 0, scene.count, [&](const Piece& piece, Index, Index) {
    for (std::size_t g = 0; g < layer.groups().size(); ++g) {
      const HeadGroup& group = layer.groups()[g];
      const Index reach = (std::min)(group.shift, piece.count);
      for_each_run(piece, 0, reach, group.shift, 2, ring(scene, piece, g).slot_count, false,
                   [&](Index start, Index end) {
                     if (place_of(piece, start, group.shift) != Place::kRing) return;
                     policy.adjoint_past(make_run(scene, piece, g, start, end),
                                         mixed_gradient(d, group, piece.first + start, end - start),
                                         make_gradient(scene, d, piece, g, start, end, 1, 1));
                   });
    }
  });
}

/// The adjoint of a policy with any number of taps: added into the taps, no two tasks in one document and group
/// of heads.
template <class Policy>
void ShiftPass<Policy>::scatter_adjoint(const Scene& scene, const Gradient& d, Policy& gradients) {
  const auto groups = static_cast<Index>(layer.groups().size());
  const auto parts = static_cast<Index>(scene.segments.size()) * groups;
  // Each task has sums of its own, so there are a bounded number of them.
  constexpr Index kMostSums = 256;
  const Index block = HasSums<Policy> ? std::max<Index>(1, (parts + kMostSums - 1) / kMostSums) : 1;
  const Index sum_count = sum_count_of(layer.parameters()), tasks = (parts + block - 1) / block;
  double* sums = take_sums(tasks);
  parallel_blocks(workspace.executor(), parts, block, [&](Index first, Index count, int) {
    const std::span<double> task_sums(sums + first / block * sum_count, static_cast<std::size_t>(sum_count));
    for (Index i = 0; i < count; ++i) scatter_part(scene, d, first + i, task_sums);
  });
  add_sums(sums, tasks, gradients);
}

/// One document and group of heads.
template <class Policy>
void ShiftPass<Policy>::scatter_part(const Scene& scene, const Gradient& d, Index part,
                                     std::span<double> sums) const {
  const auto groups = static_cast<Index>(layer.groups().size());
  const auto g = static_cast<std::size_t>(part % groups);
  const HeadGroup& group = layer.groups()[g];
  const Segment& segment = scene.segments[static_cast<std::size_t>(part / groups)];
  if (segment.count == 0) return;
  const Index before = segment.fresh() ? 0 : scene.entry->count(segment.stream);
  const Piece piece{segment.first, segment.count, before, 0, part / groups};
  for (Index t = 0; t < piece.count; ++t) {
    for (int plane = 0; plane < kStages.planes(); ++plane) {
      Scalar* column = kept_gradient(d, group, piece.first + t, plane).data;
      std::fill(column, column + rows_of(group), Scalar(0));
    }
  }
  take_state_gradient(scene, d, piece, g, 0, piece.count);
  for_each_run(piece, 0, piece.count, group.shift, layer.taps(), ring(scene, piece, g).slot_count, false,
               [&](Index start, Index end) {
                 const Run<Scalar> run = make_run(scene, piece, g, start, end);
                 const RunGradient<Scalar> d_run =
                     make_gradient(scene, d, piece, g, start, end, 0, layer.taps() - 1);
                 const auto dz = mixed_gradient(d, group, piece.first + start, end - start);
                 if constexpr (HasSums<Policy>) {
                   layer.parameters().adjoint(run, dz, d_run, sums);
                 } else {
                   layer.parameters().adjoint(run, dz, d_run);
                 }
               });
}

/// Zeros for the sums of each task.
template <class Policy>
double* ShiftPass<Policy>::take_sums(Index tasks) {
  const Index size = tasks * sum_count_of(layer.parameters());
  double* sums = frame.template take<double>(size);
  std::fill(sums, sums + size, 0.0);
  return sums;
}

/// Adds the sums of all tasks, in their order.
template <class Policy>
void ShiftPass<Policy>::add_sums(const double* sums, Index tasks, Policy& gradients) const {
  if constexpr (HasSums<Policy>) {
    const Index size = sum_count_of(layer.parameters());
    for (Index task = 0; task < tasks; ++task) {
      layer.parameters().add_sums(std::span<const double>(sums + task * size, static_cast<std::size_t>(size)),
                                  gradients);
    }
  }
}

template <class Policy>
void ShiftPass<Policy>::backward(const In& x, const Saved& saved, const In& dy, const Out& dx,
                                 Policy& gradients, State* state_gradient) {
  const Index N = x.count();
  if (N == 0) return;
  UnfinishedStreams<State> unfinished{state_gradient, saved.segments_, state_gradient != nullptr};
  Executor& executor = workspace.executor();
  if (state_gradient) make_room(*state_gradient, saved.entry_, saved.segments_);
  fill_zeros(saved.segments_, &saved.entry_);
  Scene scene{x, saved.segments_, &saved.entry_, saved.projected_.data(), 0, N, true, nullptr};
  State unwanted;
  if (!state_gradient && saved.entry_.streams() > 0 && !HasPairAdjoint<Policy>) unwanted = saved.entry_;
  Gradient d{dx,
             frame.template take<Scalar>(projected_rows() * N),
             nullptr,
             dy,
             state_gradient,
             state_gradient ? state_gradient : &unwanted,
             HasTokenAdjoint<Policy> && kStages.projected() == 0 &&
                 should_stream(workspace.stores, static_cast<std::size_t>(N * C()) * sizeof(Scalar))};
  if constexpr (kStages.output) {
    Scalar* dz = frame.template take<Scalar>(C() * N);
    d.mixed = dz;
    for_each_strided(dy, dy, 0, N, [&](Index first, Index n) {
      const auto part = dy.columns(first, n);
      layer.parameters().output.backward_input(
          part, Write::kOverwrite, {dz + first * C(), C(), n, Eigen::OuterStride<>(C())}, executor);
      const ConstColumns<Scalar> z(saved.mixed_.data() + first * C(), C(), n, Eigen::OuterStride<>(C()));
      Linear<Scalar>::backward_parameters(z, part, gradients.output, executor);
    });
  }
  if constexpr (HasPairAdjoint<Policy>) {
    gather_adjoint(scene, d, gradients);
  } else {
    scatter_adjoint(scene, d, gradients);
  }
  if constexpr (kStages.projected() > 0) {
    for_each_strided(x, dx, 0, N, [&](Index first, Index n) {
      const ConstColumns<Scalar> part(d.projected + first * projected_rows(), projected_rows(), n,
                                      Eigen::OuterStride<>(projected_rows()));
      layer.parameters().project.backward_input(part, kStages.keeps_input ? Write::kAdd : Write::kOverwrite,
                                                dx.columns(first, n), executor);
      Linear<Scalar>::backward_parameters(x.columns(first, n), part, gradients.project, executor);
    });
  }
  unfinished.written = false;
}

}  // namespace hsm::inline HSM_ABI::detail

namespace hsm::inline HSM_ABI {

template <class Policy>
void ShiftLayer<Policy>::run_adjoint(const Tokens<const Scalar>& x, const Saved& saved,
                                     const Tokens<const Scalar>& dy, const Tokens<Scalar>& dx,
                                     Policy& gradients, State* state_gradient, Workspace& workspace) const {
  detail::ShiftPass<Policy>(*this, workspace).backward(x, saved, dy, dx, gradients, state_gradient);
}

}  // namespace hsm::inline HSM_ABI
