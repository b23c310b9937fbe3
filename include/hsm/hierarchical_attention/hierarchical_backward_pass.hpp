// SPDX-License-Identifier: MIT
//
// The adjoint of a call of attention over a hierarchy: back through scores by segment and head
// (hierarchical_backward.hpp), then through the levels from the top down, each of which adds to the one below. The
// gradient of a tail goes where its values came from: to what the call made, or through to the tail at entry.
#pragma once

#include <algorithm>

#include <hsm/hierarchical_attention/hierarchical_backward.hpp>
#include <hsm/hierarchical_attention/hierarchical_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

template <class Scalar>
void HierarchyPass<Scalar>::return_scores(const Saved& saved, const BlockPlaces& places,
                                          const Scalar* d_mixed, const Returned& returned) const {
  const Index D = width(), N = saved.shape()[0] * saved.shape()[1];
  const HeadMemory<const Scalar> tokens{
      C_, H_, N, saved.heads.data(), saved.mixed.data(), saved.log_sums.data()};
  Levels<HeadMemory<const Scalar>> levels{};
  for (Index e = 1; e < level_count_; ++e)
    levels[number(e)] = {C_,      H_,     places.blocks(e), saved.levels[number(e - 1)].heads.data(),
                         nullptr, nullptr};
  Index most = 0;
  for (std::size_t i = 0; i < saved.segments.size(); ++i) {
    const Index end = saved.past[i] + saved.segments[i].count;
    most = (std::max)(most, end - aligned_start(saved.past[i], level_count_));
  }
  const std::ptrdiff_t scratch_size = HierarchyBackwardScratch<Scalar>::size(D, most, level_count_);
  Workspace::Frame frame(workspace_);
  Scalar* scratch = frame.take<Scalar>(scratch_size, workspace_.executor().workers());
  const Index tasks = static_cast<Index>(saved.segments.size()) * H_;
  parallel_blocks(workspace_.executor(), tasks, 1, [&](Index task, Index, int worker) {
    const Index n = task / H_, h = task % H_, at = h * D;
    const auto i = static_cast<std::size_t>(n);
    const Segment& segment = saved.segments[i];
    if (segment.count == 0) return;
    State* state = returned.state_gradient;
    HierarchyHead<Scalar> head =
        head_of(places, i, h, tokens, levels, saved.tails.size() > 0 ? &saved.tails(0, n) : nullptr);
    Scalar* d_own = returned.d_joint + segment.first * 3 * C_ + at;
    HeadGradients<Scalar> gradients{d_own, d_own + C_, d_own + 2 * C_, 3 * C_, nullptr, nullptr};
    if (!segment.fresh()) {
      head.tokens.keys = saved.documents.part(n, 0, h);
      head.tokens.values = saved.documents.part(n, 0, H_ + h);
    }
    if (state) {
      gradients.document_keys = state->part(segment.stream, 0, h);
      gradients.document_values = state->part(segment.stream, 0, H_ + h);
    }
    std::array<LevelGradients<Scalar>, kMostLevels> level_gradients{};
    for (Index e = 1; e < level_count_; ++e) {
      if (!segment.fresh()) head.levels[number(e)].keys = saved.documents.part(n, e, h);
      Scalar* d_level = returned.d_levels[number(e)] + places.offset(i, e) * 2 * C_ + at;
      level_gradients[number(e)] = {d_level, d_level + C_, 2 * C_,
                                    returned.d_tails + n * 2 * (level_count_ - 1) * C_ + tail_query(e) + at,
                                    state ? state->part(segment.stream, e, h) : nullptr};
    }
    const Index place = segment.first * C_ + at;
    const HeadForward<Scalar> forward{tokens.mixed + place, d_mixed + place, C_,
                                      tokens.log_sum(h, segment.first)};
    attend_hierarchy_backward(D, head, forward, gradients, level_gradients,
                              returned.d_weights + task * level_count_, scratch + worker * scratch_size);
  });
}

/// From the gradients of queries, keys and values of all levels those of x and of the tails at entry. What comes in as the
/// gradient of the tails that the call left is at their places in returned.state_gradient.
template <class Scalar>
void HierarchyPass<Scalar>::return_levels(const In& x, const Saved& saved, const BlockPlaces& places,
                                          const Returned& returned, const Out& dx, Parameters& gradients) {
  Executor& executor = workspace_.executor();
  const Index size = 2 * (level_count_ - 1) * C_;
  Levels<Scalar*> d_blocks{};
  Levels<const Scalar*> pooled{};
  for (Index e = 1; e < level_count_; ++e) {
    pooled[number(e)] = saved.levels[number(e - 1)].pooled.data();
    d_blocks[number(e)] = frame_.template take<Scalar>(C_ * places.blocks(e));
  }
  const auto d_block = [&](Index e) {
    return [&d_blocks, &dx, e, C = C_](Index place) {
      return e == 0 ? dx.at(place) : d_blocks[number(e)] + place * C;
    };
  };
  const auto add = [C = C_](const Scalar* from, Scalar* to) {
    for (Index c = 0; c < C; ++c) to[c] += from[c];
  };
  // f(i, its tail that the call left, of the gradient): for the segments that have one.
  const auto for_each_tail = [&](const auto& f) {
    for (std::size_t i = 0; returned.state_gradient && i < saved.segments.size(); ++i) {
      const Index end = saved.past[i] + saved.segments[i].count;
      if (end > 0) f(i, returned.state_gradient->tail(saved.segments[i].stream, end - 1));
    }
  };
  const auto d_tail = [&](std::size_t i) { return returned.d_tails + static_cast<Index>(i) * size; };
  // The block of level e that waited, given where a call that saw it got it from.
  const auto return_waiting = [&](Index e) {
    for_each_tail([&](std::size_t i, const Scalar* tail) {
      const Index end = places.end(i, e), own = end - 1 - places.first(i, e);
      if (end % 2 == 0) return;
      add(tail + tail_waiting(e + 1),
          own >= 0 ? d_block(e)(places.offset(i, e) + own) : d_tail(i) + tail_waiting(e + 1));
    });
  };

  for (Index e = level_count_ - 1; e > 0; --e) {
    const Index M = places.blocks(e);
    for_each_tail([&](std::size_t i, const Scalar* tail) {
      const Index last = places.end(i, e) - 1 - places.first(i, e);
      add(tail + tail_query(e), last >= 0
                                    ? returned.d_levels[number(e)] + (places.offset(i, e) + last) * 2 * C_
                                    : d_tail(i) + tail_query(e));
    });
    if (M == 0) continue;
    const ConstColumns<Scalar> d_level(returned.d_levels[number(e)], 2 * C_, M, Eigen::OuterStride<>(2 * C_));
    const ConstColumns<Scalar> blocks(pooled[number(e)], C_, M, Eigen::OuterStride<>(C_));
    Linear<Scalar>::backward_parameters(blocks, d_level, gradients.levels[number(e - 1)].project, executor);
    level(e).project.backward_input(d_level, Write::kOverwrite,
                                    Columns<Scalar>(d_blocks[number(e)], C_, M, Eigen::OuterStride<>(C_)),
                                    executor);
  }
  for (Index e = level_count_ - 1; e > 0; --e) {
    const auto waiting = [&](Index i) { return &saved.tails(tail_waiting(e), i); };
    if (e + 1 < level_count_) return_waiting(e);
    pool_backward(
        places, e, level(e), block_values(e - 1, x, pooled), waiting,
        static_cast<const Scalar*>(d_blocks[number(e)]), d_block(e - 1),
        [&](Index i) { return d_tail(number(i)) + tail_waiting(e); }, gradients.levels[number(e - 1)],
        executor);
  }
  if (level_count_ > 1) return_waiting(0);
}

/// The adjoint of softmax, of sums over tasks in their order.
template <class Scalar>
void HierarchyPass<Scalar>::return_lambda(Index tasks, const double* d_weights,
                                          Vector<Scalar>& d_lambda) const {
  std::array<double, kMostLevels> sums{};
  double mean = 0;
  for (Index task = 0; task < tasks; ++task) {
    for (Index e = 0; e < level_count_; ++e) sums[number(e)] += d_weights[task * level_count_ + e];
  }
  for (Index e = 0; e < level_count_; ++e) mean += static_cast<double>(weights_[number(e)]) * sums[number(e)];
  for (Index e = 0; e < level_count_; ++e)
    d_lambda[e] += static_cast<Scalar>(static_cast<double>(weights_[number(e)]) * (sums[number(e)] - mean));
}

template <class Scalar>
void HierarchyPass<Scalar>::backward(const In& x, const Saved& saved, const In& dy, const Out& dx,
                                     Parameters& gradients, State* state_gradient) {
  const Index N = x.count(), count = static_cast<Index>(saved.segments.size());
  if (count == 0) return;
  for (std::size_t i = 0; state_gradient && i < saved.segments.size(); ++i)
    state_gradient->hold(saved.segments[i].stream, saved.past[i] + saved.segments[i].count);
  const BlockPlaces places(saved.segments, saved.past.data(), level_count_, frame_);
  Executor& executor = workspace_.executor();
  const auto take = [&](Index n) { return frame_.template take<Scalar>(n); };
  const Index tail_size = 2 * (level_count_ - 1) * C_;
  Returned returned{take(3 * C_ * N),
                    {},
                    take(count * tail_size),
                    frame_.template take<double>(count * H_ * level_count_),
                    state_gradient};
  for (Index e = 1; e < level_count_; ++e) returned.d_levels[number(e)] = take(2 * C_ * places.blocks(e));
  std::fill_n(returned.d_tails, count * tail_size, Scalar(0));
  std::fill_n(returned.d_weights, count * H_ * level_count_, 0.0);

  Scalar* d_mixed = take(C_ * N);
  return_output(parameters_.output, saved.mixed.data(), dy, d_mixed, gradients.output, executor);
  return_scores(saved, places, d_mixed, returned);
  return_projection<Scalar>(parameters_.project, x, returned.d_joint, Write::kOverwrite, dx,
                            gradients.project, executor);
  return_levels(x, saved, places, returned, dx, gradients);
  return_lambda(count * H_, returned.d_weights, gradients.lambda);
  for (std::size_t i = 0; state_gradient && i < saved.segments.size(); ++i) {
    const Index stream = saved.segments[i].stream, past = saved.past[i];
    state_gradient->recount(stream, past);
    if (level_count_ == 1) continue;
    state_gradient->clear_tails(stream);
    if (past > 0)
      std::copy_n(returned.d_tails + static_cast<Index>(i) * tail_size, tail_size,
                  state_gradient->tail(stream, past - 1));
  }
}

}  // namespace hsm::inline HSM_ABI::detail
