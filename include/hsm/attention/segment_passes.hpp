// SPDX-License-Identifier: MIT
//
// The passes of attention over the segments of a call, each a list of tasks for the executor: here tokens to heads,
// rotary positions, and keys and values to those of their document; queries against keys are in
// attend_passes.hpp. Heads are kept one after another,
//
//   heads[part][h][token][C/H], part = queries, keys, values        mixed[token][C]        log_sums[h][token]
//
// so that a head reads contiguous memory. Tasks follow from the sizes alone; each writes columns of its own.
#pragma once

#include <algorithm>
#include <span>

#include <hsm/attention/attention_saved.hpp>
#include <hsm/attention/attention_state.hpp>
#include <hsm/attention/rotary.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/linear_passes.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The arrays of a call of N tokens; log_sums may be null. `Scalar` may be const.
template <class Scalar>
struct HeadMemory {
  Index C, H, N;
  Scalar* heads;
  Scalar* mixed;
  Scalar* log_sums;

  Index width() const { return C / H; }
  Scalar* queries(Index h, Index token) const { return heads + (h * N + token) * width(); }
  Scalar* keys(Index h, Index token) const { return queries(h, token) + C * N; }
  Scalar* values(Index h, Index token) const { return queries(h, token) + 2 * C * N; }
  /// Block b of a cache: the keys of all heads, then the values.
  Scalar* block(Index b, Index token) const { return queries(H + b, token); }
  Scalar* log_sum(Index h, Index token) const { return log_sums ? log_sums + h * N + token : nullptr; }
};

/// [q; k; v] = W x + b, or of a map with fewer rows the first of these parts, sorted by head.
template <class Scalar>
void project_heads(const Linear<Scalar>& linear, const Tokens<const Scalar>& x,
                   const HeadMemory<Scalar>& memory, Workspace& workspace) {
  // The product comes out token by token in scratch and is sorted from there, while a block of it is in
  // cache.
  constexpr Index kStretch = 4096;  // bounds that scratch and still gives many threads work
  const Index D = memory.width();
  Workspace::Frame frame(workspace);
  Columns<Scalar> joint = frame.columns<Scalar>(linear.out(), (std::min)(memory.N, kStretch));
  for_each_stretch(
      0, memory.N, kStretch,
      [&](Index first, Index count) {
        const auto sort = [&](Index row, Index column, const Columns<Scalar>& block) {
          for (Index r = 0; r < block.rows();) {
            const Index d = (row + r) % D, rows = (std::min)(D - d, block.rows() - r);
            // Row / D counts heads through all three parts, as they follow each other in memory.
            Scalar* out = memory.queries((row + r) / D, first + column) + d;
            for (Index j = 0; j < block.cols(); ++j) std::copy_n(&block(r, j), rows, out + j * D);
            r += rows;
          }
        };
        linear.forward(x.columns(first, count), part(joint, 0, joint.rows(), 0, count), workspace.executor(),
                       sort);
      },
      x);
}

/// Turns queries and keys by the positions of their tokens; past(i): how many of its document lie before segment i.
template <class Scalar, class Past>
void turn_segments(Index rotary, std::span<const Segment> segments, const HeadMemory<Scalar>& memory,
                   const Past& past, Workspace& workspace) {
  const Index D = memory.width();
  Workspace::Frame frame(workspace);
  const auto table =
      make_rotary_table<Scalar>(rotary, D, memory.N, segments, past, frame, workspace.executor());
  // The keys of all heads follow the queries.
  turn_heads(table, Turn::kForward, memory.N, 2 * memory.H, memory.N * D, D, memory.heads,
             workspace.executor());
}

/// The adjoint, on the gradients d_joint [N][3C] of queries and keys as they were turned.
template <class Scalar, class Past>
void turn_segments_back(const AttentionSaved<Scalar>& saved, Index C, Index H, Index N, Scalar* d_joint,
                        const Past& past, Workspace& workspace) {
  const Index D = C / H;
  Workspace::Frame frame(workspace);
  const auto table = make_rotary_table<Scalar>(saved.options.rotary, D, N, saved.segments, past, frame,
                                               workspace.executor());
  turn_heads(table, Turn::kBack, N, 2 * H, D, 3 * C, d_joint, workspace.executor());
}

/// Where the keys and values of a segment's document lie, as many of them as its tokens see: a head's one after another.
template <class Scalar>
struct DocumentKeys {
  const Scalar* keys;    // of head 0
  const Scalar* values;  // of head 0
  Index head_stride;
  Index past;              // tokens that are there before the first of the segment
  Scalar* sums = nullptr;  // of head 0, where blocks are chosen
  Index sums_stride = 0;   // from head to head
  Index blocks = 0;        // how many are summed
};

/// Whether a continuing segment is attended to where its stream lies, its tokens behind those that are held. With a
/// window a record takes the document for itself, and what is longer than the stream would make it grow.
template <class Scalar>
bool in_place(const Segment& segment, const AttentionState<Scalar>& state, bool recorded) {
  return state.window() == 0 || (!recorded && segment.count <= state.most_held());
}

/// The documents of the segments. Those in place get the segment's keys and values appended, which are not counted yet;
/// those of a record are made in `saved`, where `before` tokens that a segment sees lie in front of its own; the others,
/// where `wanted`, in `frame`.
template <class Scalar>
void place_documents(std::span<const Segment> segments, const HeadMemory<Scalar>& memory,
                     AttentionState<Scalar>* state, AttentionSaved<Scalar>* saved, bool wanted,
                     Workspace::Frame& frame, DocumentKeys<Scalar>* documents) {
  const Index D = memory.width(), blocks = 2 * memory.H;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const Index s = segment.stream, count = segment.count;
    const auto own = [&](Index b) { return memory.block(b, segment.first); };
    if (segment.fresh()) {
      documents[i] = {own(0), own(memory.H), memory.N * D, 0};
      continue;
    }
    if (in_place(segment, *state, saved != nullptr)) {
      state->append(s, count, own);
      const AttentionState<Scalar>& held = *state;  // whose keys are only read
      documents[i] = {held.keys(s, 0), held.values(s, 0), held.head_stride(s), held.held(s)};
      continue;
    }
    if (!wanted) continue;
    const Index held = state->held(s), before = (std::min)(held, state->reach()), all = before + count;
    Scalar* start = nullptr;
    Index stride = all * D;
    if (saved) {
      AttentionState<Scalar>& kept = saved->documents;
      const auto n = static_cast<Index>(i);
      kept.restart(n, state->count(s) - before);
      kept.advance(n, all);
      start = kept.keys(n, 0);
      stride = kept.head_stride(n);
    } else {
      start = frame.template take<Scalar>(blocks * stride);
    }
    for (Index b = 0; b < blocks; ++b) {
      std::copy_n(state->keys(s, b) + (held - before) * D, before * D, start + b * stride);
      std::copy_n(own(b), count * D, start + b * stride + before * D);
    }
    documents[i] = {start, start + memory.H * stride, stride, before};
  }
}

/// Counts the tokens of the segments, whose streams then hold them: the last thing that a call does.
template <class Scalar>
void advance_streams(std::span<const Segment> segments, const HeadMemory<Scalar>& memory,
                     const DocumentKeys<Scalar>* documents, AttentionState<Scalar>& state, bool recorded) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    if (in_place(segment, state, recorded)) {
      state.advance(segment.stream, segment.count);
      if (documents[i].blocks > 0) state.set_summed(segment.stream, documents[i].blocks);
    } else {
      state.take(segment.stream, segment.count, [&](Index b) { return memory.block(b, segment.first); });
    }
  }
}

}  // namespace hsm::inline HSM_ABI::detail
