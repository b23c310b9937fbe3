// SPDX-License-Identifier: MIT
//
// The backward pass. Each token is visited once where the policy is a pair: its gradient is what the pair (t,
// t-s) gives to t and what the pair (t+s, t) gives to it, so it can be finished in one visit and no two tasks
// write one column. With more taps the gradients are added into the taps instead, each head and document in
// one task. Either way later tokens add before earlier ones, so that a cut in time changes no order of
// additions.
#pragma once

#include <hsm/core/nontemporal.hpp>
#include <hsm/shift/shift_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Where an adjoint of tokens [start, end) writes, for taps first_tap ... last_tap; nowhere for the others.
template <class Policy>
HSM_NOINLINE auto ShiftPass<Policy>::make_gradient(const Chunk& chunk, const Gradient& d,
                                                   const SegmentPart& part, std::size_t g, Index start,
                                                   Index end, Index first_tap, Index last_tap) const
    -> RunGradient<Scalar> {
  const HeadGroup& group = layer.groups()[g];
  RunGradient<Scalar> to;
  to.rows = rows_of(group);
  to.count = end - start;
  to.blocks.local = {nullptr, 0};
  if constexpr (kStages.local > 0) {
    to.blocks.local = {d.projected + (part.first + start) * projected_rows() + first_row(group),
                       projected_rows()};
  }
  for (Index k = 0; k < layer.taps(); ++k) to.blocks.taps[static_cast<std::size_t>(k)].fill({nullptr, 0});
  for (Index k = first_tap; k <= last_tap; ++k) {
    const Index t = start - k * group.shift;
    for (int plane = 0; plane < kStages.planes(); ++plane) {
      auto& block = to.blocks.taps[static_cast<std::size_t>(k)][static_cast<std::size_t>(plane)];
      switch (source_of(part, start, k * group.shift)) {
        case TapSource::kBuffer:
          block = shifted_gradient(d, group, part.first + t, plane);
          break;
        case TapSource::kRing: {
          const RingView<Scalar> ring =
              d.ring->ring(g, chunk.segments[static_cast<std::size_t>(part.segment)].stream);
          block = {ring.slot(part.position + t) + plane * to.rows, ring.rows};
          break;
        }
        case TapSource::kNone:
          block = {nullptr, 0};
          break;
      }
    }
  }
  return to;
}

/// Adds the gradient of the state that the call left to the tokens [from, to) of the part that it holds, and
/// clears it: the slots then belong to the state at entry.
template <class Policy>
void ShiftPass<Policy>::take_state_gradient(const Chunk& chunk, const Gradient& d, const SegmentPart& part,
                                            std::size_t g, Index from, Index to) const {
  const Segment& segment = chunk.segments[static_cast<std::size_t>(part.segment)];
  if (!d.state || segment.fresh()) return;
  const RingView<Scalar> ring = d.state->ring(g, segment.stream);
  const Index rows = rows_of(layer.groups()[g]);
  for (Index t = (std::max)(from, part.count - ring.slot_count); t < to; ++t) {
    Scalar* slot = ring.slot(part.position + t);
    for (int plane = 0; plane < kStages.planes(); ++plane) {
      Scalar* column = shifted_gradient(d, layer.groups()[g], part.first + t, plane).data;
      for (Index i = 0; i < rows; ++i) column[i] += slot[plane * rows + i];
    }
    std::fill(slot, slot + ring.rows, Scalar(0));
  }
}

/// Finishes the gradients of tokens [start, end): at once by adjoint_token, else in blocks so small that what one
/// half has written is in cache for the other.
template <class Policy>
void ShiftPass<Policy>::gather_run(const Chunk& chunk, const Gradient& d, const SegmentPart& part,
                                   std::size_t g, Index start, Index end, std::span<double> sums) const {
  const Policy& policy = layer.parameters();
  const HeadGroup& group = layer.groups()[g];
  const Index s = group.shift, n = end - start;
  const bool followed = end + s <= part.count;
  Run<Scalar> now = make_run(chunk, part, g, start, end);
  RunGradient<Scalar> d_now = make_gradient(chunk, d, part, g, start, end, 0, 0);
  d_now.nontemporal = d.nontemporal;
  if constexpr (HasTokenAdjoint<Policy>) {
    const Index token = part.first + start;
    const auto next = mixed_gradient(d, group, followed ? token + s : token, n);
    policy.adjoint_token(now, mixed_gradient(d, group, token, n), followed ? &next : nullptr, d_now, sums);
  } else {
    const Index next_start = followed ? start + s : start;
    const Index block = std::max<Index>(1, columns_in(kCacheBytes, rows_of(group)));
    Run<Scalar> next = make_run(chunk, part, g, next_start, next_start + n);
    RunGradient<Scalar> d_next =
        make_gradient(chunk, d, part, g, next_start, next_start + n, followed, followed);
    for (Index first = start; first < end; first += block) {
      const Index count = (std::min)(block, end - first), token = part.first + first;
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
void ShiftPass<Policy>::gather_adjoint(const Chunk& chunk, const Gradient& d, Policy& gradients) {
  const Policy& policy = layer.parameters();
  const Index tasks = (chunk.count + task_tokens() - 1) / task_tokens();
  const Index sum_count = sum_count_of(policy);
  double* sums = take_sums(tasks);
  parallel_blocks(workspace.executor(), chunk.count, task_tokens(), [&](Index begin, Index n, int) {
    const std::span<double> task_sums(sums + begin / task_tokens() * sum_count,
                                      static_cast<std::size_t>(sum_count));
    for_each_part(chunk, begin, n, [&](const SegmentPart& part, Index from, Index to) {
      for (std::size_t g = 0; g < layer.groups().size(); ++g) {
        const HeadGroup& group = layer.groups()[g];
        const Index s = group.shift;
        for_each_run(part, from, to, s, 2, ring(chunk, part, g).slot_count, true,
                     [&](Index start, Index end) { gather_run(chunk, d, part, g, start, end, task_sums); });
        take_state_gradient(chunk, d, part, g, from, to);
      }
    });
    if (d.nontemporal) nontemporal_fence();
  });
  add_sums(sums, tasks, gradients);
  if (!d.state) return;
  // What the first s tokens of a continuing segment give to the state at its entry.
  for_each_part(chunk, 0, chunk.count, [&](const SegmentPart& part, Index, Index) {
    for (std::size_t g = 0; g < layer.groups().size(); ++g) {
      const HeadGroup& group = layer.groups()[g];
      const Index reach = (std::min)(group.shift, part.count);
      for_each_run(part, 0, reach, group.shift, 2, ring(chunk, part, g).slot_count, false,
                   [&](Index start, Index end) {
                     if (source_of(part, start, group.shift) != TapSource::kRing) return;
                     policy.adjoint_past(make_run(chunk, part, g, start, end),
                                         mixed_gradient(d, group, part.first + start, end - start),
                                         make_gradient(chunk, d, part, g, start, end, 1, 1));
                   });
    }
  });
}

/// The adjoint of a policy with any number of taps: added into the taps, no two tasks in one document and group
/// of heads.
template <class Policy>
void ShiftPass<Policy>::scatter_adjoint(const Chunk& chunk, const Gradient& d, Policy& gradients) {
  const auto groups = static_cast<Index>(layer.groups().size());
  const auto parts = static_cast<Index>(chunk.segments.size()) * groups;
  // Each task has sums of its own, so there are a bounded number of them.
  constexpr Index kMostSums = 256;
  const Index block = HasSums<Policy> ? std::max<Index>(1, (parts + kMostSums - 1) / kMostSums) : 1;
  const Index sum_count = sum_count_of(layer.parameters()), tasks = (parts + block - 1) / block;
  double* sums = take_sums(tasks);
  parallel_blocks(workspace.executor(), parts, block, [&](Index first, Index count, int) {
    const std::span<double> task_sums(sums + first / block * sum_count, static_cast<std::size_t>(sum_count));
    for (Index i = 0; i < count; ++i) scatter_part(chunk, d, first + i, task_sums);
  });
  add_sums(sums, tasks, gradients);
}

/// One document and group of heads.
template <class Policy>
void ShiftPass<Policy>::scatter_part(const Chunk& chunk, const Gradient& d, Index task,
                                     std::span<double> sums) const {
  const auto groups = static_cast<Index>(layer.groups().size());
  const auto g = static_cast<std::size_t>(task % groups);
  const HeadGroup& group = layer.groups()[g];
  const Segment& segment = chunk.segments[static_cast<std::size_t>(task / groups)];
  if (segment.count == 0) return;
  const Index before = past_of(segment, chunk.entry);
  const SegmentPart part{segment.first, segment.count, before, 0, task / groups};
  for (Index t = 0; t < part.count; ++t) {
    for (int plane = 0; plane < kStages.planes(); ++plane) {
      Scalar* column = shifted_gradient(d, group, part.first + t, plane).data;
      std::fill(column, column + rows_of(group), Scalar(0));
    }
  }
  take_state_gradient(chunk, d, part, g, 0, part.count);
  for_each_run(part, 0, part.count, group.shift, layer.taps(), ring(chunk, part, g).slot_count, false,
               [&](Index start, Index end) {
                 const Run<Scalar> run = make_run(chunk, part, g, start, end);
                 const RunGradient<Scalar> d_run =
                     make_gradient(chunk, d, part, g, start, end, 0, layer.taps() - 1);
                 const auto dz = mixed_gradient(d, group, part.first + start, end - start);
                 if constexpr (HasSums<Policy> || !HasPlainTapAdjoint<Policy>) {  // of no sums: none
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
  [[maybe_unused]] Executor& executor = workspace.executor();
  saved.make_room(state_gradient);
  fill_zeros(saved.segments, &saved.entry);
  Chunk chunk{x, saved.segments, &saved.entry, saved.projected.data(), 0, N, true, nullptr};
  State unwanted;
  if (!state_gradient && saved.entry.streams() > 0 && !HasPairAdjoint<Policy>) unwanted = saved.entry;
  Gradient d{dx,
             frame.template take<Scalar>(projected_rows() * N),
             nullptr,
             dy,
             state_gradient,
             state_gradient ? state_gradient : &unwanted,
             HasTokenAdjoint<Policy> && kStages.projected() == 0 &&
                 should_be_nontemporal(workspace.stores, static_cast<std::size_t>(N * C()) * sizeof(Scalar))};
  if constexpr (kStages.output) {
    Scalar* dz = frame.template take<Scalar>(C() * N);
    d.mixed = dz;
    return_output(layer.parameters().output, saved.mixed.data(), dy, dz, gradients.output, executor);
  }
  if constexpr (HasPairAdjoint<Policy>) {
    gather_adjoint(chunk, d, gradients);
  } else {
    scatter_adjoint(chunk, d, gradients);
  }
  if constexpr (kStages.projected() > 0) {
    constexpr Write kWrite = kStages.shifts_input ? Write::kAdd : Write::kOverwrite;
    return_projection<Scalar>(layer.parameters().project, x, d.projected, kWrite, dx, gradients.project,
                              executor);
  }
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
