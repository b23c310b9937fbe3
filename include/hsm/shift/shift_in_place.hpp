// SPDX-License-Identifier: MIT
//
// The forward pass over its own input, for mixers without products: y[t] takes the place of x[t]. Walks back
// in time, so that a partner is still there when it is read; within a run the policy sees to that
// (Stages::in_place). With several parts the s tokens before each part are copied first, as the ring that the
// part continues. Half the memory of forward, and no line is read to be written.
#pragma once

#include <hsm/shift/shift_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

template <class Policy>
void ShiftPass<Policy>::forward_in_place(const Out& x) {
  const Index B = x.batch, T = x.time;
  Index farthest = 1;  // of the partners
  for (const HeadGroup& group : layer.groups()) farthest = (std::max)(farthest, layer.reach(group));
  // What is copied before a part is at most an eighth of it.
  const Index length = std::max<Index>(4 * task_tokens(), farthest > T ? T : 8 * farthest);
  const Index parts = (T + length - 1) / length;
  Chunk chunk;
  chunk.x = In(x.data, x.batch, x.time, x.channels, x.token_stride, x.batch_stride);
  chunk.count = x.count();
  // Part p of sequence b is segment b parts + p; those after the first each continue a stream of their own.
  State halo = layer.make_state({.streams = B * std::max<Index>(0, parts - 1)});
  if (parts > 1) halo.make_room(farthest);
  chunk.entry = &halo;
  const std::span<Segment> list = equal_segments(frame, B * parts, 0, false);
  for (Index i = 0; i < B * parts; ++i) {
    const Index b = i / parts, p = i % parts, first = p * length;
    Segment& segment = list[static_cast<std::size_t>(i)];
    segment = {b * T + first, (std::min)(length, T - first),
               p == 0 ? Segment::kFresh : b * (parts - 1) + p - 1};
    if (p > 0) halo.advance(segment.stream, first);
  }
  chunk.segments = list;
  fill_zeros(list, &halo);
  Executor& executor = workspace.executor();
  parallel_blocks(executor, B * parts, 1, [&](Index i, Index, int) {
    const Segment& segment = list[static_cast<std::size_t>(i)];
    if (segment.fresh()) return;
    for (std::size_t g = 0; g < layer.groups().size(); ++g) {
      const RingView<Scalar> ring = halo.ring(g, segment.stream);
      const Index before = i % parts * length;
      for (Index t = std::max<Index>(0, before - ring.slot_count); t < before; ++t) {
        const Scalar* column = x.at(segment.first - before + t) + first_row(layer.groups()[g]);
        std::copy(column, column + rows_of(layer.groups()[g]), ring.slot(t));
      }
    }
  });
  parallel_blocks(executor, B * parts, 1, [&](Index i, Index, int) {
    const Segment& segment = list[static_cast<std::size_t>(i)];
    const SegmentPart part{segment.first, segment.count, i % parts * length, 0, i};
    for (std::size_t g = 0; g < layer.groups().size(); ++g) mix_in_place(chunk, part, g, x);
  });
}

/// All tokens of a part for one group of heads, the last first.
template <class Policy>
void ShiftPass<Policy>::mix_in_place(const Chunk& chunk, const SegmentPart& part, std::size_t g,
                                     const Out& x) const {
  const HeadGroup& group = layer.groups()[g];
  const Index rows = rows_of(group);
  for_each_run(part, 0, part.count, group.shift, layer.taps(), ring(chunk, part, g).slot_count, false,
               [&](Index start, Index end) {
                 const Run<Scalar> run = make_run(chunk, part, g, start, end);
                 layer.parameters().combine(run,
                                            x.rows(part.first + start, run.count, first_row(group), rows));
               });
}

}  // namespace hsm::inline HSM_ABI::detail
