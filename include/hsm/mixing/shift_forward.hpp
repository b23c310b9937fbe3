// SPDX-License-Identifier: MIT
//
// The forward pass. Tokens are worked through in chunks that stay in cache: project (a product), combine
// (runs, see timeline.hpp), keep (the rings of the states), output (a product). With a record for backward
// there is one chunk of all tokens. Where kept planes are projected, what earlier chunks of the same segment
// kept is read from a ring: a long sequence is a short one that continues, so memory does not grow with T.
#pragma once

#include <hsm/core/stream.hpp>
#include <hsm/mixing/shift_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

template <class Policy>
void ShiftPass<Policy>::forward(const In& x, const Out& y, std::span<const Segment> list, State* state,
                                Saved* saved) {
  const Index N = x.count();
  if (saved) {
    saved->shape_ = Saved::kNothing;  // until it is whole
    saved->segments_.assign(list.begin(), list.end());
    saved->entry_ = state ? *state : State();
    saved->projected_.resize(projected_rows(), N);
    if constexpr (kStages.output) saved->mixed_.resize(C(), N);
  }
  if (state) make_room(*state, *state, list);
  fill_zeros(list, state);
  constexpr int kPlanes = kStages.projected() + (kStages.output ? 1 : 0);
  Index chunk = std::max<Index>(N, 1);
  if (!saved && kPlanes > 0) {
    const Index fitting = workspace.chunk_bytes / static_cast<Index>(sizeof(Scalar)) / (kPlanes * C());
    chunk = (std::min)(chunk, std::clamp<Index>(fitting / 64 * 64, 64, 2048));
  }
  Scene scene{x, list, state};
  scene.history = saved || kStages.kept == 0;
  if (!scene.history && chunk < N) {
    for (const Segment& segment : list) scene.longest = (std::max)(scene.longest, segment.count);
    Index size = 0;
    for (std::size_t g = 0; g < layer.groups().size(); ++g) size += carry_size(scene, g);
    scene.carry = frame.template take<Scalar>(size);
  }
  Scalar* projected =
      saved ? saved->projected_.data() : frame.template take<Scalar>(projected_rows() * chunk);
  Scalar* mixed = !kStages.output ? nullptr
                  : saved         ? saved->mixed_.data()
                                  : frame.template take<Scalar>(C() * chunk);
  scene.projected = projected;
  UnfinishedStreams<State> unfinished{state, list};
  for (scene.first = 0; scene.first < N; scene.first += chunk) {
    scene.count = (std::min)(chunk, N - scene.first);
    project(scene, projected);
    if (y.data) combine(scene, mixed, y);
    if constexpr (kStages.output) {
      const auto put_out = [&](Index first, Index n) {
        const ConstColumns<Scalar> z(mixed + (first - scene.first) * C(), C(), n, Eigen::OuterStride<>(C()));
        layer.parameters().output.forward(z, y.columns(first, n), workspace.executor());
      };
      if (y.data) for_each_strided(y, y, scene.first, scene.count, put_out);
    }
    if (state || scene.carry) {  // last, so that what throws before leaves the state as it was
      unfinished.written = state != nullptr;
      keep(scene, state);
    }
  }
  unfinished.written = false;
  if (saved) saved->shape_ = x.shape();
  if (state) {
    for (const Segment& segment : list) state->advance(segment.stream, segment.count);
  }
}

template <class Policy>
void ShiftPass<Policy>::project(const Scene& scene, Scalar* projected) {
  if constexpr (kStages.projected() > 0) {
    for_each_strided(scene.x, scene.x, scene.first, scene.count, [&](Index first, Index n) {
      Columns<Scalar> out(projected + (first - scene.first) * projected_rows(), projected_rows(), n,
                          Eigen::OuterStride<>(projected_rows()));
      layer.parameters().project.forward(scene.x.columns(first, n), out, workspace.executor());
    });
  }
}

template <class Policy>
void ShiftPass<Policy>::combine(const Scene& scene, Scalar* mixed, const Out& y) {
  const auto bytes = static_cast<std::size_t>(y.count() * C()) * sizeof(Scalar);
  const bool stream = !mixed && should_stream(workspace.stores, bytes);
  parallel_blocks(workspace.executor(), scene.count, task_tokens(), [&](Index begin, Index n, int) {
    for_each_piece(scene, scene.first + begin, n, [&](const Piece& piece, Index from, Index to) {
      for (std::size_t g = 0; g < layer.groups().size(); ++g) {
        const HeadGroup& group = layer.groups()[g];
        for_each_run(piece, from, to, group.shift, layer.taps(), ring(scene, piece, g).slot_count, false,
                     [&](Index start, Index end) {
                       Run<Scalar> run = make_run(scene, piece, g, start, end);
                       const Index token = piece.first + start;
                       if (mixed) {
                         Scalar* z = mixed + (token - scene.first) * C() + first_row(group);
                         layer.parameters().combine(
                             run, Columns<Scalar>(z, run.rows, run.count, Eigen::OuterStride<>(C())));
                       } else {
                         run.stream = stream;
                         layer.parameters().combine(run,
                                                    y.rows(token, run.count, first_row(group), run.rows));
                       }
                     });
      }
    });
    if (stream) stream_fence();
  });
}

template <class Policy>
void ShiftPass<Policy>::keep(const Scene& scene, State* state) {
  parallel_blocks(workspace.executor(), scene.count, task_tokens(), [&](Index begin, Index n, int) {
    for_each_piece(scene, scene.first + begin, n, [&](const Piece& piece, Index from, Index to) {
      const Segment& segment = scene.segments[static_cast<std::size_t>(piece.segment)];
      const bool ends = piece.first + piece.count == segment.first + segment.count;
      if (segment.fresh() && (!scene.carry || ends)) return;
      for (std::size_t g = 0; g < layer.groups().size(); ++g) {
        const RingView<Scalar> to_ring =
            segment.fresh() ? carry_ring(scene, g) : state->ring(g, segment.stream);
        const Index rows = rows_of(layer.groups()[g]);
        for (Index t = (std::max)(from, piece.count - to_ring.slot_count); t < to; ++t) {
          Scalar* slot = to_ring.slot(piece.position + t);
          for (int plane = 0; plane < kStages.planes(); ++plane) {
            const Scalar* column = kept_strip(scene, layer.groups()[g], piece.first + t, plane).data;
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
