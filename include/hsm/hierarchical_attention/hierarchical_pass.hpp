// SPDX-License-Identifier: MIT
//
// One call of attention over a hierarchy over a list of segments, for every execution mode: tokens to heads, two blocks to
// one and blocks to heads from level to level, queries against keys (hierarchical_forward.hpp), and back to C channels.
// Arrays are those of attention/segment_passes.hpp, of each level as many. Products are by token, what lies between them is
// by head. The way back is in hierarchical_backward_pass.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include <hsm/attention/attention_layer.hpp>
#include <hsm/attention/segment_passes.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/hierarchical_attention/hierarchical_attention_layer.hpp>
#include <hsm/hierarchical_attention/hierarchical_forward.hpp>
#include <hsm/hierarchical_attention/pooling.hpp>

namespace hsm::inline HSM_ABI::detail {

/// A call in progress.
template <class Scalar>
class HierarchyPass {
  using State = HierarchicalAttentionState<Scalar>;
  using Saved = HierarchicalAttentionSaved<Scalar>;
  using Parameters = HierarchicalAttention<Scalar>;
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;

 public:
  HierarchyPass(const HierarchicalAttentionLayer<Scalar>& layer, Workspace& workspace)
      : parameters_(layer.parameters()),
        workspace_(workspace),
        frame_(workspace),
        C_(layer.channels()),
        H_(layer.heads()),
        L_(layer.levels()),
        weights_(level_weights(parameters_.lambda)) {}

  void forward(const In& x, const Out& y, std::span<const Segment> segments, State* state, Saved* saved);
  void backward(const In& x, const Saved& saved, const In& dy, const Out& dx, Parameters& gradients,
                State* state_gradient);

 private:
  /// A level from 1 on: x^l [M][C], and queries and keys [2][H][M][C/H].
  struct LevelMemory {
    Scalar* pooled;
    HeadMemory<Scalar> heads;
  };
  template <class Value>
  using Levels = std::array<Value, kMostLevels>;

  static std::size_t number(Index i) { return static_cast<std::size_t>(i); }
  Index width() const { return C_ / H_; }
  const AttentionLevel<Scalar>& level(Index l) const { return parameters_.levels[number(l - 1)]; }
  /// The query of level l in a tail, and the x^{l-1} that waits.
  Index tail_query(Index l) const { return (l - 1) * C_; }
  Index tail_waiting(Index l) const { return (L_ - 1 + l - 1) * C_; }

  /// x^l at a place among all of its level, given x.
  auto block_values(Index l, const In& x, const Levels<const Scalar*>& pooled) const {
    return [=, this](Index place) -> const Scalar* {
      return l == 0 ? x.at(place) : pooled[number(l)] + place * C_;
    };
  }
  /// One head of segment i, but for its keys and values.
  HierarchyHead<Scalar> head_of(const BlockPlaces& places, std::size_t i, Index h,
                                const HeadMemory<const Scalar>& tokens,
                                const Levels<HeadMemory<const Scalar>>& levels, const Scalar* tail) const;
  Index* past_of(std::span<const Segment> segments, const State* state);
  void start_record(const In& x, const BlockPlaces& places, const State* state, Saved& saved) const;
  void pool_levels(const In& x, const BlockPlaces& places, const State* state,
                   const Levels<LevelMemory>& levels) const;
  void attend(const BlockPlaces& places, const HeadMemory<Scalar>& tokens, const Levels<LevelMemory>& levels,
              const State* state) const;
  void write_tails(const In& x, const BlockPlaces& places, std::size_t i, const Levels<LevelMemory>& levels,
                   State& state, Scalar* before) const;

  /// What goes back through scores: of all levels the gradients by token or block, of the tokens before by state.
  struct Returned {
    Scalar* d_joint;               // [N][3C]
    Levels<Scalar*> d_levels;      // from 1 on [M][2C]
    Scalar* d_tails;               // [segments][2 (L-1) C]: of the tails at entry
    double* d_weights;             // [segments][H][L]
    State* state_gradient;         // or null
  };
  void return_scores(const Saved& saved, const BlockPlaces& places, const Scalar* d_mixed,
                     const Returned& returned) const;
  void return_levels(const In& x, const Saved& saved, const BlockPlaces& places, const Returned& returned,
                     const Out& dx, Parameters& gradients);
  void return_lambda(Index tasks, const double* d_weights, Vector<Scalar>& d_lambda) const;

  const Parameters& parameters_;
  Workspace& workspace_;
  Workspace::Frame frame_;
  const Index C_, H_, L_;
  const std::array<Scalar, kMostLevels> weights_;
};

/// How many tokens of its document each segment has before it.
template <class Scalar>
Index* HierarchyPass<Scalar>::past_of(std::span<const Segment> segments, const State* state) {
  Index* past = frame_.template take<Index>(static_cast<Index>(segments.size()));
  for (std::size_t i = 0; i < segments.size(); ++i)
    past[i] = segments[i].fresh() ? 0 : state->count(segments[i].stream);
  return past;
}

template <class Scalar>
HierarchyHead<Scalar> HierarchyPass<Scalar>::head_of(const BlockPlaces& places, std::size_t i, Index h,
                                                     const HeadMemory<const Scalar>& tokens,
                                                     const Levels<HeadMemory<const Scalar>>& levels,
                                                     const Scalar* tail) const {
  const Index at = places.segments[i].first;
  HierarchyHead<Scalar> head{};
  head.tokens = {tokens.queries(h, at), tokens.keys(h, at), tokens.values(h, at), kWholeWindow};
  head.past = places.past[i];
  head.count = places.segments[i].count;
  head.level_count = L_;
  head.weights = weights_;
  for (Index l = 1; l < L_; ++l) {
    const HeadMemory<const Scalar>& own = levels[number(l)];
    const Index first = places.offset(i, l);
    head.levels[number(l)] = {own.queries(h, first), tail ? tail + tail_query(l) + h * width() : nullptr,
                              own.keys(h, first), places.first(i, l), places.end(i, l)};
  }
  return head;
}

/// Room for what is recorded, and what streams hold at entry.
template <class Scalar>
void HierarchyPass<Scalar>::start_record(const In& x, const BlockPlaces& places, const State* state,
                                         Saved& saved) const {
  const Index N = x.count(), count = static_cast<Index>(places.segments.size());
  saved.segments.assign(places.segments.begin(), places.segments.end());
  saved.past.assign(places.past, places.past + count);
  saved.streams = state ? state->streams() : Segment::kFresh;
  saved.heads.resize(3 * C_ * N);
  saved.mixed.resize(C_ * N);
  saved.log_sums.resize(H_ * N);
  saved.levels.resize(parameters_.levels.size());
  for (Index l = 1; l < L_; ++l) {
    saved.levels[number(l - 1)].pooled.resize(C_ * places.blocks(l));
    saved.levels[number(l - 1)].heads.resize(2 * C_ * places.blocks(l));
  }
  saved.tails.resize(2 * (L_ - 1) * C_, state ? count : 0);
  if (!state) return;
  State& documents = saved.documents;
  if (documents.streams() != count || documents.channels() != C_ || documents.heads() != H_ ||
      documents.levels() != L_)
    documents = State(C_, H_, L_, {.streams = count});
  for (std::size_t i = 0; i < places.segments.size(); ++i) {
    const Index past = places.past[i], s = static_cast<Index>(i);
    documents.restart(s, past + places.segments[i].count);
    if (past == 0) saved.tails.col(s).setZero();
    if (past > 0 && L_ > 1)
      std::copy_n(state->tail(places.segments[i].stream, past - 1), saved.tails.rows(), &saved.tails(0, s));
  }
}

/// x^l, queries and keys of all levels above the tokens.
template <class Scalar>
void HierarchyPass<Scalar>::pool_levels(const In& x, const BlockPlaces& places, const State* state,
                                        const Levels<LevelMemory>& levels) const {
  Levels<const Scalar*> pooled{};
  for (Index l = 1; l < L_; ++l) {
    const LevelMemory& own = levels[number(l)];
    const auto waiting = [&](Index i) {
      return state->tail(places.segments[number(i)].stream, places.past[i] - 1) + tail_waiting(l);
    };
    pool_blocks(places, l, level(l), block_values(l - 1, x, pooled), waiting, own.pooled,
                workspace_.executor());
    pooled[number(l)] = own.pooled;
    const Index M = places.blocks(l);
    if (M > 0) project_heads(level(l).project, In(own.pooled, 1, M, C_), own.heads, workspace_);
  }
}

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
    return places.past[i] + segments[i].count - aligned_start(places.past[i], L_);
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
  for (Index l = 1; l < L_; ++l)
    read_levels[number(l)] = {C_, H_, places.blocks(l), levels[number(l)].heads.heads, nullptr, nullptr};
  const Index scratch_size = hierarchy_scratch<Scalar>(width(), L_);
  Scalar* scratch = frame.take<Scalar>(scratch_size * workspace_.executor().workers());
  parallel_blocks(workspace_.executor(), count, 1, [&](Index n, Index, int worker) {
    const Task& task = tasks[n];
    const Segment& segment = segments[task.segment];
    const Index s = segment.stream, h = task.head, past = places.past[task.segment];
    HierarchyHead<Scalar> head =
        head_of(places, task.segment, h, read, read_levels,
                past > 0 && L_ > 1 ? state->tail(s, past - 1) : nullptr);
    if (!segment.fresh()) {
      head.tokens.keys = state->part(s, 0, h);
      head.tokens.values = state->part(s, 0, H_ + h);
      for (Index l = 1; l < L_; ++l) head.levels[number(l)].keys = state->part(s, l, h);
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
  if (L_ == 1 || segment.count == 0) return;
  std::fill_n(before, state.tail_size(), Scalar(0));
  if (past > 0) std::copy_n(state.tail(s, past - 1), state.tail_size(), before);
  Levels<const Scalar*> pooled{};
  for (Index l = 1; l < L_; ++l) pooled[number(l)] = levels[number(l)].pooled;
  const Index kept = (std::min)(segment.count, state.tail_slots());
  for (Index n = past + segment.count - kept + 1; n <= past + segment.count; ++n) {
    Scalar* tail = state.tail(s, n - 1);
    for (Index l = 1; l < L_; ++l) {
      Scalar* query = tail + tail_query(l);
      const Index last = blocks_of(n, l) - 1 - places.first(i, l);  // of those of the segment
      for (Index h = 0; h < H_; ++h) {
        std::copy_n(last >= 0 ? levels[number(l)].heads.queries(h, places.offset(i, l) + last)
                              : before + tail_query(l) + h * D,
                    D, query + h * D);
      }
      Scalar* waiting = tail + tail_waiting(l);
      const Index below = blocks_of(n, l - 1), own = below - 1 - places.first(i, l - 1);
      if (below % 2 == 0) {
        std::fill_n(waiting, C_, Scalar(0));
      } else {
        std::copy_n(own >= 0 ? block_values(l - 1, x, pooled)(places.offset(i, l - 1) + own)
                             : before + tail_waiting(l),
                    C_, waiting);
      }
    }
  }
}

template <class Scalar>
void HierarchyPass<Scalar>::forward(const In& x, const Out& y, std::span<const Segment> segments,
                                    State* state, Saved* saved) {
  const Index N = x.count();
  if (state) {
    for (const Segment& segment : segments) state->reserve(segment.stream, segment.count);
  }
  const BlockPlaces places(segments, past_of(segments, state), L_, frame_);
  if (saved) start_record(x, places, state, *saved);
  const auto take = [&](Index n) { return frame_.template take<Scalar>(n); };
  HeadMemory<Scalar> tokens{C_, H_, N, nullptr, nullptr, nullptr};
  tokens.heads = saved ? saved->heads.data() : take(3 * C_ * N);
  tokens.mixed = saved ? saved->mixed.data() : take(C_ * N);
  if (saved) tokens.log_sums = saved->log_sums.data();
  Levels<LevelMemory> levels{};
  for (Index l = 1; l < L_; ++l) {
    const Index M = places.blocks(l);
    auto* own = saved ? &saved->levels[number(l - 1)] : nullptr;
    levels[number(l)] = {own ? own->pooled.data() : take(C_ * M),
                         {C_, H_, M, own ? own->heads.data() : take(2 * C_ * M), nullptr, nullptr}};
  }
  Scalar* tail = take(2 * (L_ - 1) * C_);
  if (N > 0) {
    project_heads(parameters_.project, x, tokens, workspace_);
    pool_levels(x, places, state, levels);
  }
  for (std::size_t i = 0; state && i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    state->append(segment.stream, 0, segment.count, [&](Index b) { return tokens.block(b, segment.first); });
    for (Index l = 1; l < L_; ++l) {
      state->append(segment.stream, l, segment.count,
                    [&](Index b) { return levels[number(l)].heads.block(b, places.offset(i, l)); });
    }
  }
  if (N > 0 && y.data) {
    attend(places, tokens, levels, state);
    for_each_stretch(
        N,
        [&](Index first, Index count) {
          const ConstColumns<Scalar> mixed(tokens.mixed + first * C_, C_, count, Eigen::OuterStride<>(C_));
          parameters_.output.forward(mixed, y.columns(first, count), workspace_.executor());
        },
        x, In(y));
  }
  for (std::size_t i = 0; state && i < segments.size(); ++i) {  // nothing throws any more
    write_tails(x, places, i, levels, *state, tail);
    state->advance(segments[i].stream, segments[i].count);
    if (saved) saved->documents.copy_blocks(*state, segments[i].stream, static_cast<Index>(i));
  }
  if (saved) saved->sizes = x.shape();
}

}  // namespace hsm::inline HSM_ABI::detail

#include <hsm/hierarchical_attention/hierarchical_backward_pass.hpp>

namespace hsm::inline HSM_ABI {

template <ComputeScalar Scalar>
void HierarchicalAttentionLayer<Scalar>::run(const Tokens<const Scalar>& x, std::span<const Segment> segments,
                                             const Tokens<Scalar>& y, State* state, Saved* saved,
                                             Workspace& workspace) const {
  if (saved) saved->sizes = {-1, -1, -1};  // of nothing, whatever throws
  if (state) {
    for (const Segment& segment : segments) state->reserve(segment.stream, segment.count);
  }
  if (!state || saved || x.time <= detail::kExtendChunk) {
    detail::HierarchyPass<Scalar>(*this, workspace).forward(x, y, segments, state, saved);
    return;
  }
  Workspace::Frame frame(workspace);
  const std::span<Segment> parts(frame.take<Segment>(static_cast<Index>(segments.size())), segments.size());
  detail::StreamUndo undo(state, segments, frame);
  for (Index first = 0; first < x.time; first += detail::kExtendChunk) {
    const Index count = (std::min)(detail::kExtendChunk, x.time - first);
    detail::HierarchyPass<Scalar>(*this, workspace)
        .forward(x.slice(first, count), y.data ? y.slice(first, count) : y,
                 detail::cut_segments(segments, x.batch, first, count, parts), state, nullptr);
  }
  undo.kept = true;
}

template <ComputeScalar Scalar>
void HierarchicalAttentionLayer<Scalar>::run_adjoint(const Tokens<const Scalar>& x, const Saved& saved,
                                                     const Tokens<const Scalar>& dy, const Tokens<Scalar>& dx,
                                                     Parameters& gradients, State* state_gradient,
                                                     Workspace& workspace) const {
  detail::HierarchyPass<Scalar>(*this, workspace).backward(x, saved, dy, dx, gradients, state_gradient);
}

}  // namespace hsm::inline HSM_ABI
