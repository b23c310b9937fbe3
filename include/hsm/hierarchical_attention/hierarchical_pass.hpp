// SPDX-License-Identifier: MIT
//
// One call of attention over a hierarchy over a list of segments, for every execution mode: tokens to heads, two blocks to
// one and blocks to heads from level to level (here), queries against keys and back to C channels
// (hierarchical_forward_pass.hpp). Arrays are those of attention/segment_passes.hpp, of each level as many. Products are by
// token, what lies between them is by head. The way back is in hierarchical_backward_pass.hpp.
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
        level_count_(layer.levels()),
        weights_(level_weights(parameters_.lambda)) {}

  void forward(const In& x, const Out& y, std::span<const Segment> segments, State* state, Saved* saved);
  void backward(const In& x, const Saved& saved, const In& dy, const Out& dx, Parameters& gradients,
                State* state_gradient);

 private:
  /// A level from 1 on: x^e [M][C], and queries and keys [2][H][M][C/H].
  struct LevelMemory {
    Scalar* pooled;
    HeadMemory<Scalar> heads;
  };
  template <class Value>
  using Levels = std::array<Value, kMostLevels>;

  static std::size_t number(Index i) { return static_cast<std::size_t>(i); }
  Index width() const { return C_ / H_; }
  const AttentionLevel<Scalar>& level(Index e) const { return parameters_.levels[number(e - 1)]; }
  /// The query of level e in a tail, and the x^{e-1} that waits.
  Index tail_query(Index e) const { return (e - 1) * C_; }
  Index tail_waiting(Index e) const { return (level_count_ - 1 + e - 1) * C_; }

  /// x^e at a place among all of its level, given x.
  auto block_values(Index e, const In& x, const Levels<const Scalar*>& pooled) const {
    return [=, this](Index place) -> const Scalar* {
      return e == 0 ? x.at(place) : pooled[number(e)] + place * C_;
    };
  }
  /// One head of segment i, but for its keys and values.
  HierarchyHead<Scalar> head_of(const BlockPlaces& places, std::size_t i, Index h,
                                const HeadMemory<const Scalar>& tokens,
                                const Levels<HeadMemory<const Scalar>>& levels, const Scalar* tail) const;
  void start_record(const In& x, const BlockPlaces& places, const State* state, Saved& saved) const;
  void pool_levels(const In& x, const BlockPlaces& places, const State* state,
                   const Levels<LevelMemory>& levels) const;
  void attend(const BlockPlaces& places, const HeadMemory<Scalar>& tokens, const Levels<LevelMemory>& levels,
              const State* state) const;
  void write_tails(const In& x, const BlockPlaces& places, std::size_t i, const Levels<LevelMemory>& levels,
                   State& state, Scalar* before) const;

  /// What goes back through scores: of all levels the gradients by token or block, of the tokens before by state.
  struct Returned {
    Scalar* d_joint;           // [N][3C]
    Levels<Scalar*> d_levels;  // from 1 on [M][2C]
    Scalar* d_tails;           // [segments][2 E C]: of the tails at entry
    double* d_weights;         // [segments][H][E+1]
    State* state_gradient;     // or null
  };
  void return_scores(const Saved& saved, const BlockPlaces& places, const Scalar* d_mixed,
                     const Returned& returned) const;
  void return_levels(const In& x, const Saved& saved, const BlockPlaces& places, const Returned& returned,
                     const Out& dx, Parameters& gradients);
  void return_lambda(Index tasks, const double* d_weights, Vector<Scalar>& d_lambda) const;

  const Parameters& parameters_;
  Workspace& workspace_;
  Workspace::Frame frame_;
  const Index C_, H_, level_count_;
  const std::array<Scalar, kMostLevels> weights_;
};

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
  head.level_count = level_count_;
  head.weights = weights_;
  for (Index e = 1; e < level_count_; ++e) {
    const HeadMemory<const Scalar>& own = levels[number(e)];
    const Index first = places.offset(i, e);
    head.levels[number(e)] = {own.queries(h, first), tail ? tail + tail_query(e) + h * width() : nullptr,
                              own.keys(h, first), places.first(i, e), places.end(i, e)};
  }
  return head;
}

/// Room for what is recorded, and what streams hold at entry.
template <class Scalar>
void HierarchyPass<Scalar>::start_record(const In& x, const BlockPlaces& places, const State* state,
                                         Saved& saved) const {
  const Index N = x.count(), count = static_cast<Index>(places.segments.size());
  saved.start(places.segments, state);
  set_size(saved.heads, 3 * C_ * N);
  set_size(saved.mixed, C_ * N);
  set_size(saved.log_sums, H_ * N);
  saved.levels.resize(parameters_.levels.size());
  for (Index e = 1; e < level_count_; ++e) {
    set_size(saved.levels[number(e - 1)].pooled, C_ * places.blocks(e));
    set_size(saved.levels[number(e - 1)].heads, 2 * C_ * places.blocks(e));
  }
  set_size(saved.tails, 2 * (level_count_ - 1) * C_, state ? count : 0);
  if (!state) return;
  State& documents = saved.documents;
  if (documents.streams() != count || documents.channels() != C_ || documents.heads() != H_ ||
      documents.levels() != level_count_)
    documents = State(C_, H_, level_count_, {.streams = count});
  for (std::size_t i = 0; i < places.segments.size(); ++i) {
    const Index past = places.past[i], s = static_cast<Index>(i);
    documents.restart(s, past + places.segments[i].count);
    if (past == 0) saved.tails.col(s).setZero();
    if (past > 0 && level_count_ > 1)
      std::copy_n(state->tail(places.segments[i].stream, past - 1), saved.tails.rows(), &saved.tails(0, s));
  }
}

/// x^e, queries and keys of all levels above the tokens.
template <class Scalar>
void HierarchyPass<Scalar>::pool_levels(const In& x, const BlockPlaces& places, const State* state,
                                        const Levels<LevelMemory>& levels) const {
  Levels<const Scalar*> pooled{};
  for (Index e = 1; e < level_count_; ++e) {
    const LevelMemory& own = levels[number(e)];
    const auto waiting = [&](Index i) {
      return state->tail(places.segments[number(i)].stream, places.past[i] - 1) + tail_waiting(e);
    };
    pool_blocks(places, e, level(e), block_values(e - 1, x, pooled), waiting, own.pooled,
                workspace_.executor());
    pooled[number(e)] = own.pooled;
    const Index M = places.blocks(e);
    if (M > 0) project_heads(level(e).project, In(own.pooled, 1, M, C_), own.heads, workspace_);
  }
}

}  // namespace hsm::inline HSM_ABI::detail

#include <hsm/hierarchical_attention/hierarchical_backward_pass.hpp>
#include <hsm/hierarchical_attention/hierarchical_forward_pass.hpp>

namespace hsm::inline HSM_ABI {

template <ComputeScalar Scalar>
void HierarchicalAttentionLayer<Scalar>::run(const Tokens<const Scalar>& x, std::span<const Segment> segments,
                                             const Tokens<Scalar>& y, State* state, Saved* saved,
                                             Workspace& workspace) const {
  detail::run_chunks(
      x, segments, y, state, saved, workspace,
      [&](const auto& own_x, const auto& own_y, std::span<const Segment> own) {
        detail::HierarchyPass<Scalar>(*this, workspace).forward(own_x, own_y, own, state, saved);
      });
}

template <ComputeScalar Scalar>
void HierarchicalAttentionLayer<Scalar>::run_adjoint(const Tokens<const Scalar>& x, const Saved& saved,
                                                     const Tokens<const Scalar>& dy, const Tokens<Scalar>& dx,
                                                     Parameters& gradients, State* state_gradient,
                                                     Workspace& workspace) const {
  detail::HierarchyPass<Scalar>(*this, workspace).backward(x, saved, dy, dx, gradients, state_gradient);
}

}  // namespace hsm::inline HSM_ABI
