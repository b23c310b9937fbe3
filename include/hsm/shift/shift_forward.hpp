// SPDX-License-Identifier: MIT
//
// The forward pass. Tokens are worked through in chunks that stay in cache: project (a product), combine
// (runs, see timeline.hpp), keep (the rings of the states), output (a product). With a record for backward
// there is one chunk of all tokens. Where shifted planes are projected, what earlier chunks of the same segment
// kept is read from a ring: a long sequence is a short one that continues, so memory does not grow with T.
#pragma once

#include <hsm/core/nontemporal.hpp>
#include <hsm/shift/shift_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

template <class Policy>
void ShiftPass<Policy>::forward(const In& x, const Out& y, std::span<const Segment> list, State* state,
                                Saved* saved) {
  const Index N = x.count();
  if (saved) {
    saved->start(list, state);
    if (state) {
      saved->entry = *state;  // into the memory that it has
    } else {
      saved->entry = State();
    }
    saved->policy = Policy::kName;
    saved->taps = layer.taps();
    saved->groups = layer.groups();
    set_size(saved->projected, projected_rows(), N);
    if constexpr (kStages.output) set_size(saved->mixed, C(), N);
  }
  make_room(list, state);
  fill_zeros(list, state);
  constexpr int kPlanes = kStages.projected() + (kStages.output ? 1 : 0);
  Index most = std::max<Index>(N, 1);  // tokens of a chunk
  if (!saved && kPlanes > 0) {
    const Index fitting = workspace.chunk_bytes / static_cast<Index>(sizeof(Scalar)) / (kPlanes * C());
    most = (std::min)(most, std::clamp<Index>(fitting / 64 * 64, 64, 2048));
  }
  Chunk chunk{x, list, state};
  chunk.history = saved || kStages.shifted == 0;
  if (!chunk.history && most < N) {
    for (const Segment& segment : list) chunk.longest = (std::max)(chunk.longest, segment.count);
    Index size = 0;
    for (std::size_t g = 0; g < layer.groups().size(); ++g) size += carry_size(chunk, g);
    chunk.carry = frame.template take<Scalar>(size);
  }
  Scalar* projected = saved ? saved->projected.data() : frame.template take<Scalar>(projected_rows() * most);
  if constexpr (kStages.output) {
    if (saved && !y.data) saved->mixed.setZero();  // its gradient is 0, which times anything finite is
  }
  Scalar* mixed = !kStages.output ? nullptr
                  : saved         ? saved->mixed.data()
                                  : frame.template take<Scalar>(C() * most);
  chunk.projected = projected;
  [[maybe_unused]] Executor& executor = workspace.executor();
  UnfinishedStreams<State> unfinished{state, list, false};
  for (chunk.first = 0; chunk.first < N; chunk.first += most) {
    chunk.count = (std::min)(most, N - chunk.first);
    if constexpr (kStages.projected() > 0)
      project_tokens(layer.parameters().project, x, chunk.first, chunk.count, projected, executor);
    if (y.data) {
      combine(chunk, mixed, y);
      if constexpr (kStages.output)
        write_tokens<Scalar>(layer.parameters().output, mixed, y, chunk.first, chunk.count, executor);
    }
    if (state || chunk.carry) {  // last, so that what throws before leaves the state as it was
      unfinished.written = state != nullptr;
      keep(chunk, state);
    }
  }
  unfinished.advance();
  if (saved) saved->sizes = x.shape();
}

template <class Policy>
void ShiftPass<Policy>::combine(const Chunk& chunk, Scalar* mixed, const Out& y) {
  const auto bytes = static_cast<std::size_t>(y.count() * C()) * sizeof(Scalar);
  const bool nontemporal = !mixed && should_be_nontemporal(workspace.stores, bytes);
  parallel_blocks(workspace.executor(), chunk.count, task_tokens(), [&](Index begin, Index n, int) {
    for_each_part(chunk, chunk.first + begin, n, [&](const SegmentPart& part, Index from, Index to) {
      for (std::size_t g = 0; g < layer.groups().size(); ++g) {
        const HeadGroup& group = layer.groups()[g];
        for_each_run(part, from, to, group.shift, layer.taps(), ring(chunk, part, g).slot_count, false,
                     [&](Index start, Index end) {
                       Run<Scalar> run = make_run(chunk, part, g, start, end);
                       const Index token = part.first + start;
                       if (mixed) {
                         Scalar* z = mixed + (token - chunk.first) * C() + first_row(group);
                         layer.parameters().combine(
                             run, Columns<Scalar>(z, run.rows, run.count, Eigen::OuterStride<>(C())));
                       } else {
                         run.nontemporal = nontemporal;
                         layer.parameters().combine(run,
                                                    y.rows(token, run.count, first_row(group), run.rows));
                       }
                     });
      }
    });
    if (nontemporal) nontemporal_fence();
  });
}

template <class Policy>
void ShiftPass<Policy>::keep(const Chunk& chunk, State* state) {
  parallel_blocks(workspace.executor(), chunk.count, task_tokens(), [&](Index begin, Index n, int) {
    for_each_part(chunk, chunk.first + begin, n, [&](const SegmentPart& part, Index from, Index to) {
      const Segment& segment = chunk.segments[static_cast<std::size_t>(part.segment)];
      const bool ends = part.first + part.count == segment.first + segment.count;
      if (segment.fresh() && (!chunk.carry || ends)) return;
      for (std::size_t g = 0; g < layer.groups().size(); ++g) {
        const RingView<Scalar> to_ring =
            segment.fresh() ? carry_ring(chunk, g) : state->ring(g, segment.stream);
        const Index rows = rows_of(layer.groups()[g]);
        for (Index t = (std::max)(from, part.count - to_ring.slot_count); t < to; ++t) {
          Scalar* slot = to_ring.slot(part.position + t);
          for (int plane = 0; plane < kStages.planes(); ++plane) {
            const Scalar* column = shifted_block(chunk, layer.groups()[g], part.first + t, plane).data;
            std::copy(column, column + rows, slot + plane * rows);
          }
        }
      }
    });
  });
}

}  // namespace hsm::inline HSM_ABI::detail

namespace hsm::inline HSM_ABI {

template <class Policy>
void ShiftLayer<Policy>::run(const Tokens<const Scalar>& x, std::span<const Segment> segments,
                             const Tokens<Scalar>& y, State* state, Saved* saved,
                             Workspace& workspace) const {
  detail::ShiftPass<Policy>(*this, workspace).forward(x, y, segments, state, saved);
}

}  // namespace hsm::inline HSM_ABI
