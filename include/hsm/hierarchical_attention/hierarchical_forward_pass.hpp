// SPDX-License-Identifier: MIT
//
// A forward call of attention over a hierarchy: queries against keys by tiles (hierarchical_forward.hpp), back to C
// channels, and at last, when nothing throws any more, what streams carry on.
#pragma once

#include <algorithm>
#include <span>

#include <hsm/hierarchical_attention/hierarchical_forward.hpp>
#include <hsm/hierarchical_attention/hierarchical_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Every query against the keys of its document. Tasks are tiles of queries, the longest of a head first.
template <class Scalar>
void HierarchyPass<Scalar>::attend(const BlockPlaces& places, const HeadMemory<Scalar>& tokens,
                                   const Levels<LevelMemory>& levels, const State* state) const {
  struct Task {
    std::size_t segment;
    Index head, first, lanes;
  };
  const std::span<const Segment> segments = places.segments;
  const auto lanes_of = [&](std::size_t i) {
    return places.past[i] + segments[i].count - aligned_start(places.past[i], level_count_);
  };
  const auto tiles_of = [&](std::size_t i) {
    return segments[i].count > 0 ? (lanes_of(i) + kQueryTile - 1) / kQueryTile : 0;
  };
  Index count = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) count += H_ * tiles_of(i);
  Workspace::Frame frame(workspace_);
  Task* tasks = frame.take<Task>(count);
  Task* next = tasks;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    for (Index h = 0; h < H_; ++h) {
      for (Index t = tiles_of(i) - 1; t >= 0; --t)
        *next++ = {i, h, t * kQueryTile, (std::min)(kQueryTile, lanes_of(i) - t * kQueryTile)};
    }
  }
  const HeadMemory<const Scalar> read{C_, H_, tokens.N, tokens.heads, nullptr, nullptr};
  Levels<HeadMemory<const Scalar>> read_levels{};
  for (Index e = 1; e < level_count_; ++e)
    read_levels[number(e)] = {C_, H_, places.blocks(e), levels[number(e)].heads.heads, nullptr, nullptr};
  const std::ptrdiff_t scratch_size = hierarchy_scratch<Scalar>(width(), level_count_);
  Scalar* scratch = frame.take<Scalar>(scratch_size, workspace_.executor().workers());
  parallel_blocks(workspace_.executor(), count, 1, [&](Index n, Index, int worker) {
    const Task& task = tasks[n];
    const Segment& segment = segments[task.segment];
    const Index s = segment.stream, h = task.head, past = places.past[task.segment];
    HierarchyHead<Scalar> head = head_of(places, task.segment, h, read, read_levels,
                                         past > 0 && level_count_ > 1 ? state->tail(s, past - 1) : nullptr);
    if (!segment.fresh()) {
      head.tokens.keys = state->part(s, 0, h);
      head.tokens.values = state->part(s, 0, H_ + h);
      for (Index e = 1; e < level_count_; ++e) head.levels[number(e)].keys = state->part(s, e, h);
    }
    const HeadResults<Scalar> results{tokens.mixed + segment.first * C_ + h * width(), C_,
                                      tokens.log_sum(h, segment.first)};
    attend_hierarchy(width(), task.first, task.lanes, head, results, scratch + worker * scratch_size);
  });
}

/// The tails after the last tokens of segment i, as many as are kept; `before` is scratch for one.
template <class Scalar>
void HierarchyPass<Scalar>::write_tails(const In& x, const BlockPlaces& places, std::size_t i,
                                        const Levels<LevelMemory>& levels, State& state,
                                        Scalar* before) const {
  const Segment& segment = places.segments[i];
  const Index past = places.past[i], s = segment.stream, D = width();
  if (level_count_ == 1 || segment.count == 0) return;
  std::fill_n(before, state.tail_size(), Scalar(0));
  if (past > 0) std::copy_n(state.tail(s, past - 1), state.tail_size(), before);
  Levels<const Scalar*> pooled{};
  for (Index e = 1; e < level_count_; ++e) pooled[number(e)] = levels[number(e)].pooled;
  const Index kept = (std::min)(segment.count, state.tail_slots());
  for (Index n = past + segment.count - kept + 1; n <= past + segment.count; ++n) {
    Scalar* tail = state.tail(s, n - 1);
    for (Index e = 1; e < level_count_; ++e) {
      Scalar* query = tail + tail_query(e);
      const Index last = blocks_of(n, e) - 1 - places.first(i, e);  // of those of the segment
      for (Index h = 0; h < H_; ++h) {
        std::copy_n(last >= 0 ? levels[number(e)].heads.queries(h, places.offset(i, e) + last)
                              : before + tail_query(e) + h * D,
                    D, query + h * D);
      }
      Scalar* waiting = tail + tail_waiting(e);
      const Index below = blocks_of(n, e - 1), own = below - 1 - places.first(i, e - 1);
      if (below % 2 == 0) {
        std::fill_n(waiting, C_, Scalar(0));
      } else {
        std::copy_n(own >= 0 ? block_values(e - 1, x, pooled)(places.offset(i, e - 1) + own)
                             : before + tail_waiting(e),
                    C_, waiting);
      }
    }
  }
}

template <class Scalar>
void HierarchyPass<Scalar>::forward(const In& x, const Out& y, std::span<const Segment> segments,
                                    State* state, Saved* saved) {
  const Index N = x.count();
  Index* past = frame_.template take<Index>(static_cast<Index>(segments.size()));
  for (std::size_t i = 0; i < segments.size(); ++i) past[i] = past_of(segments[i], state);
  const BlockPlaces places(segments, past, level_count_, frame_);
  if (saved) start_record(x, places, state, *saved);
  const auto take = [&](Index n) { return frame_.template take<Scalar>(n); };
  HeadMemory<Scalar> tokens{C_, H_, N, nullptr, nullptr, nullptr};
  tokens.heads = saved ? saved->heads.data() : take(3 * C_ * N);
  tokens.mixed = saved ? saved->mixed.data() : take(C_ * N);
  if (saved) tokens.log_sums = saved->log_sums.data();
  Levels<LevelMemory> levels{};
  for (Index e = 1; e < level_count_; ++e) {
    const Index M = places.blocks(e);
    auto* own = saved ? &saved->levels[number(e - 1)] : nullptr;
    levels[number(e)] = {own ? own->pooled.data() : take(C_ * M),
                         {C_, H_, M, own ? own->heads.data() : take(2 * C_ * M), nullptr, nullptr}};
  }
  Scalar* tail = take(2 * (level_count_ - 1) * C_);
  if (N > 0) {
    project_heads(parameters_.project, x, tokens, workspace_);
    pool_levels(x, places, state, levels);
  }
  for (std::size_t i = 0; state && i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    state->append(segment.stream, 0, segment.count, [&](Index b) { return tokens.block(b, segment.first); });
    for (Index e = 1; e < level_count_; ++e) {
      state->append(segment.stream, e, segment.count,
                    [&](Index b) { return levels[number(e)].heads.block(b, places.offset(i, e)); });
    }
  }
  if (N > 0 && y.data) {
    attend(places, tokens, levels, state);
    write_tokens<Scalar>(parameters_.output, tokens.mixed, y, 0, N, workspace_.executor());
  }
  for (std::size_t i = 0; state && i < segments.size(); ++i) {  // nothing throws any more
    write_tails(x, places, i, levels, *state, tail);
    state->advance(segments[i].stream, segments[i].count);
    if (saved) saved->documents.copy_blocks(*state, segments[i].stream, static_cast<Index>(i));
  }
  if (saved) saved->sizes = x.shape();
}

}  // namespace hsm::inline HSM_ABI::detail
