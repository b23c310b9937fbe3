// SPDX-License-Identifier: MIT
//
// The passes of attention over the segments of a call in which queries meet keys, each a list of tasks for the executor:
// sums of the keys of blocks, queries against keys, and the adjoint. Arrays and documents are those of segment_passes.hpp.
// Tasks follow from the sizes alone; each writes columns of its own.
#pragma once

#include <algorithm>
#include <new>
#include <span>

#include <hsm/attention/attention_saved.hpp>
#include <hsm/attention/attention_state.hpp>
#include <hsm/attention/block_backward.hpp>
#include <hsm/attention/block_choice.hpp>
#include <hsm/attention/block_forward.hpp>
#include <hsm/attention/segment_passes.hpp>
#include <hsm/attention/tile_backward.hpp>
#include <hsm/attention/tile_forward.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI::detail {

/// With blocks, sums the keys of those that queries choose from: behind what is summed of a stream in its state, which
/// does not count it yet, else in `frame`.
template <class Scalar>
void sum_documents(const AttentionOptions& options, std::span<const Segment> segments,
                   const HeadMemory<Scalar>& memory, AttentionState<Scalar>* state, Workspace::Frame& frame,
                   DocumentKeys<Scalar>* documents, Executor& executor) {
  const Index D = memory.width(), H = memory.H;
  bool any = false;
  for (std::size_t i = 0; options.block > 0 && i < segments.size(); ++i) {
    DocumentKeys<Scalar>& document = documents[i];
    const Segment& segment = segments[i];
    if (dense_queries(options.block, options.top, document.past, segment.count) == segment.count) continue;
    any = true;
    document.blocks = earlier_blocks(options.block, document.past, segment.count);
    if (segment.fresh()) {
      document.sums_stride = block_sums_size<Scalar>(D, document.blocks);
      document.sums = frame.template take<Scalar>(H * document.sums_stride);
      std::fill_n(document.sums, H * document.sums_stride, Scalar(0));
    } else {
      document.sums_stride = state->sums_stride(segment.stream);
      document.sums = state->sums(segment.stream, 0);
    }
  }
  if (!any) return;
  parallel_blocks(executor, static_cast<Index>(segments.size()) * H, 1, [&](Index task, Index, int) {
    const auto i = static_cast<std::size_t>(task / H);
    const Index h = task % H;
    const DocumentKeys<Scalar>& document = documents[i];
    if (document.blocks == 0) return;
    sum_blocks(D, options.block, segments[i].fresh() ? 0 : state->summed(segments[i].stream), document.blocks,
               document.keys + h * document.head_stride, document.sums + h * document.sums_stride);
  });
}

/// Every query against the keys of its document that it sees. Tasks are tiles of queries, the longest of a head first,
/// and in front of them, with blocks, what chooses.
template <class Scalar>
void attend_segments(const AttentionOptions& options, std::span<const Segment> segments,
                     const HeadMemory<Scalar>& memory, const DocumentKeys<Scalar>* documents,
                     Workspace& workspace) {
  struct Task {
    std::size_t segment;
    Index head, first, count;
    bool chooses;
  };
  const Index C = memory.C, D = memory.width(), window = keys_seen(options.window);
  const auto dense = [&](std::size_t i) {
    return dense_queries(options.block, options.top, documents[i].past, segments[i].count);
  };
  const Index part = options.block > 0 ? block_queries(options.top) : 1;
  const auto parts = [](Index n, Index of) { return (n + of - 1) / of; };
  Index count = 0, most_queries = 0, most_blocks = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Index choosing = segments[i].count - dense(i);
    count += memory.H * (parts(dense(i), kQueryTile) + parts(choosing, part));
    most_queries = (std::max)(most_queries, (std::min)(choosing, part));
    most_blocks = (std::max)(most_blocks, documents[i].blocks);
  }
  Workspace::Frame frame(workspace);
  Task* tasks = frame.take<Task>(count);
  Task* next = tasks;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Index end = segments[i].count, tiled = dense(i);
    for (Index h = 0; h < memory.H; ++h) {
      for (Index t = parts(end - tiled, part) - 1; t >= 0; --t)
        *next++ = {i, h, tiled + t * part, (std::min)(part, end - tiled - t * part), true};
      for (Index t = parts(tiled, kQueryTile) - 1; t >= 0; --t)
        *next++ = {i, h, t * kQueryTile, (std::min)(kQueryTile, tiled - t * kQueryTile), false};
    }
  }
  const auto workers = static_cast<Index>(workspace.executor().workers());
  const std::ptrdiff_t scratch_size = attend_scratch<Scalar>(D);
  Scalar* scratch = frame.take<Scalar>(scratch_size, workers);
  auto* block_scratch = frame.take<BlockScratch<Scalar>>(most_queries > 0 ? workers : 0);
  for (Index w = 0; most_queries > 0 && w < workers; ++w)
    new (block_scratch + w) BlockScratch<Scalar>(D, options.top, most_queries, most_blocks, frame);

  parallel_blocks(workspace.executor(), count, 1, [&](Index i, Index, int worker) {
    const Task& task = tasks[i];
    const Segment& segment = segments[task.segment];
    const DocumentKeys<Scalar>& document = documents[task.segment];
    const Index head_place = task.head * document.head_stride;
    const HeadTokens<Scalar> head{memory.queries(task.head, segment.first), document.keys + head_place,
                                  document.values + head_place, window};
    const HeadResults<Scalar> results{memory.mixed + segment.first * C + task.head * D, C,
                                      memory.log_sum(task.head, segment.first)};
    if (task.chooses) {
      attend_blocks(D, task.first, task.count, document.past, head,
                    {options.block, options.top, document.sums + task.head * document.sums_stride}, results,
                    block_scratch[worker]);
    } else {
      attend(D, task.first, task.count, document.past, head, results, scratch + worker * scratch_size);
    }
  });
}

/// From d_mixed [N][C] the gradient of the joint projection, d_joint [N][3C] (overwritten). A task is one
/// segment and head. `state_gradient`, where given, holds the tokens of the documents, at least: what it has for
/// the tokens of the segments goes into d_joint, what queries give to the tokens before is added to it.
template <class Scalar>
void attend_segments_backward(const AttentionSaved<Scalar>& saved, const HeadMemory<const Scalar>& memory,
                              const Scalar* d_mixed, Scalar* d_joint, AttentionState<Scalar>* state_gradient,
                              Workspace& workspace) {
  const Index C = memory.C, H = memory.H, D = memory.width();
  const auto chooses = [&](std::size_t i) {
    const Index past = saved.past[i], count = saved.segments[i].count;
    return dense_queries(saved.options.block, saved.options.top, past, count) < count;
  };
  Index longest = 0, most_choosing = 0, most_keys = 0;
  for (std::size_t i = 0; i < saved.segments.size(); ++i) {
    const Index count = saved.segments[i].count;
    if (chooses(i)) {
      most_choosing = (std::max)(most_choosing, count);
      most_keys = (std::max)(most_keys, saved.past[i] + count);
    } else {
      longest = (std::max)(longest, count);
    }
  }
  const std::ptrdiff_t scratch_size = BackwardScratch<Scalar>::size(D, longest);
  const Index tasks = static_cast<Index>(saved.segments.size()) * H;
  const auto workers = static_cast<Index>(workspace.executor().workers());
  Workspace::Frame frame(workspace);
  Scalar* scratch = frame.take<Scalar>(scratch_size, workers);
  auto* block_scratch = frame.take<BlockBackwardScratch<Scalar>>(most_choosing > 0 ? workers : 0);
  for (Index w = 0; most_choosing > 0 && w < workers; ++w) {
    new (block_scratch + w) BlockBackwardScratch<Scalar>(D, saved.options.block, saved.options.top,
                                                         most_choosing, most_keys, frame);
  }
  parallel_blocks(workspace.executor(), tasks, 1, [&](Index task, Index, int worker) {
    const Index i = task / H, h = task % H;
    const Segment& segment = saved.segments[static_cast<std::size_t>(i)];
    const Index at = segment.first * C + h * D;
    Scalar* d_own = d_joint + segment.first * 3 * C + h * D;
    HeadTokens<Scalar> head{memory.queries(h, segment.first), memory.keys(h, segment.first),
                            memory.values(h, segment.first), keys_seen(saved.options.window)};
    HeadGradients<Scalar> gradients{d_own, d_own + C, d_own + 2 * C, 3 * C, nullptr, nullptr};
    Index past = 0;
    if (!segment.fresh()) {
      head.keys = saved.documents.keys(i, h);
      head.values = saved.documents.values(i, h);
      past = saved.documents.held(i) - segment.count;
    }
    if (state_gradient) {
      const Index before = (saved.documents.first(i) - state_gradient->first(segment.stream)) * D;
      gradients.document_keys = state_gradient->keys(segment.stream, h) + before;
      gradients.document_values = state_gradient->values(segment.stream, h) + before;
    }
    const HeadForward<Scalar> forward{memory.mixed + at, d_mixed + at, C, memory.log_sum(h, segment.first)};
    if (chooses(static_cast<std::size_t>(i))) {
      attend_blocks_backward<Scalar>(D, segment.count, past, head, saved.options.block, saved.options.top,
                                     forward, gradients, block_scratch[worker]);
    } else {
      attend_backward<Scalar>(D, segment.count, past, head, forward, gradients,
                              scratch + worker * scratch_size);
    }
  });
}

}  // namespace hsm::inline HSM_ABI::detail
