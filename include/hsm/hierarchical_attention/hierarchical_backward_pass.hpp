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
  for (Index l = 1; l < L_; ++l)
    levels[number(l)] = {C_,      H_,     places.blocks(l), saved.levels[number(l - 1)].heads.data(),
                         nullptr, nullptr};
  Index most = 0;
  for (std::size_t i = 0; i < saved.segments.size(); ++i) {
    const Index end = saved.past[i] + saved.segments[i].count;
    most = (std::max)(most, end - aligned_start(saved.past[i], L_));
  }
  const Index scratch_size = HierarchyBackwardScratch<Scalar>::size(D, most, L_);
  Workspace::Frame frame(workspace_);
  Scalar* scratch = frame.take<Scalar>(scratch_size * workspace_.executor().workers());
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
    for (Index l = 1; l < L_; ++l) {
      if (!segment.fresh()) head.levels[number(l)].keys = saved.documents.part(n, l, h);
      Scalar* d_level = returned.d_levels[number(l)] + places.offset(i, l) * 2 * C_ + at;
      level_gradients[number(l)] = {d_level, d_level + C_, 2 * C_,
                                    returned.d_tails + n * 2 * (L_ - 1) * C_ + tail_query(l) + at,
                                    state ? state->part(segment.stream, l, h) : nullptr};
    }
    const Index place = segment.first * C_ + at;
    const HeadForward<Scalar> forward{tokens.mixed + place, d_mixed + place, C_,
                                      tokens.log_sum(h, segment.first)};
    attend_hierarchy_backward(D, head, forward, gradients, level_gradients, returned.d_weights + task * L_,
                              scratch + worker * scratch_size);
  });
}

/// From the gradients of queries, keys and values of all levels those of x and of the tails at entry. What comes in as the
/// gradient of the tails that the call left is at their places in returned.state_gradient.
template <class Scalar>
void HierarchyPass<Scalar>::return_levels(const In& x, const Saved& saved, const BlockPlaces& places,
                                          const Returned& returned, const Out& dx, Parameters& gradients) {
  Executor& executor = workspace_.executor();
  const Index size = 2 * (L_ - 1) * C_;
  Levels<Scalar*> d_blocks{};
  Levels<const Scalar*> pooled{};
  for (Index l = 1; l < L_; ++l) {
    pooled[number(l)] = saved.levels[number(l - 1)].pooled.data();
    d_blocks[number(l)] = frame_.template take<Scalar>(C_ * places.blocks(l));
  }
  const auto d_block = [&](Index l) {
    return [&d_blocks, &dx, l, C = C_](Index place) {
      return l == 0 ? dx.at(place) : d_blocks[number(l)] + place * C;
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
  // The block of level l that waited, given where a call that saw it got it from.
  const auto return_waiting = [&](Index l) {
    for_each_tail([&](std::size_t i, const Scalar* tail) {
      const Index end = places.end(i, l), own = end - 1 - places.first(i, l);
      if (end % 2 == 0) return;
      add(tail + tail_waiting(l + 1),
          own >= 0 ? d_block(l)(places.offset(i, l) + own) : d_tail(i) + tail_waiting(l + 1));
    });
  };

  for (Index l = L_ - 1; l > 0; --l) {
    const Index M = places.blocks(l);
    for_each_tail([&](std::size_t i, const Scalar* tail) {
      const Index last = places.end(i, l) - 1 - places.first(i, l);
      add(tail + tail_query(l), last >= 0
                                    ? returned.d_levels[number(l)] + (places.offset(i, l) + last) * 2 * C_
                                    : d_tail(i) + tail_query(l));
    });
    if (M == 0) continue;
    const ConstColumns<Scalar> d_level(returned.d_levels[number(l)], 2 * C_, M, Eigen::OuterStride<>(2 * C_));
    const ConstColumns<Scalar> blocks(pooled[number(l)], C_, M, Eigen::OuterStride<>(C_));
    Linear<Scalar>::backward_parameters(blocks, d_level, gradients.levels[number(l - 1)].project, executor);
    level(l).project.backward_input(d_level, Write::kOverwrite,
                                    Columns<Scalar>(d_blocks[number(l)], C_, M, Eigen::OuterStride<>(C_)),
                                    executor);
  }
  for (Index l = L_ - 1; l > 0; --l) {
    const auto waiting = [&](Index i) { return &saved.tails(tail_waiting(l), i); };
    if (l + 1 < L_) return_waiting(l);
    pool_backward(
        places, l, level(l), block_values(l - 1, x, pooled), waiting,
        static_cast<const Scalar*>(d_blocks[number(l)]), d_block(l - 1),
        [&](Index i) { return d_tail(number(i)) + tail_waiting(l); }, gradients.levels[number(l - 1)],
        executor);
  }
  if (L_ > 1) return_waiting(0);
}

/// The adjoint of softmax, of sums over tasks in their order.
template <class Scalar>
void HierarchyPass<Scalar>::return_lambda(Index tasks, const double* d_weights,
                                          Vector<Scalar>& d_lambda) const {
  std::array<double, kMostLevels> sums{};
  double mean = 0;
  for (Index task = 0; task < tasks; ++task) {
    for (Index l = 0; l < L_; ++l) sums[number(l)] += d_weights[task * L_ + l];
  }
  for (Index l = 0; l < L_; ++l) mean += static_cast<double>(weights_[number(l)]) * sums[number(l)];
  for (Index l = 0; l < L_; ++l)
    d_lambda[l] += static_cast<Scalar>(static_cast<double>(weights_[number(l)]) * (sums[number(l)] - mean));
}

template <class Scalar>
void HierarchyPass<Scalar>::backward(const In& x, const Saved& saved, const In& dy, const Out& dx,
                                     Parameters& gradients, State* state_gradient) {
  const Index N = x.count(), count = static_cast<Index>(saved.segments.size());
  if (count == 0) return;
  for (std::size_t i = 0; state_gradient && i < saved.segments.size(); ++i)
    state_gradient->hold(saved.segments[i].stream, saved.past[i] + saved.segments[i].count);
  const BlockPlaces places(saved.segments, saved.past.data(), L_, frame_);
  Executor& executor = workspace_.executor();
  const auto take = [&](Index n) { return frame_.template take<Scalar>(n); };
  const Index tail_size = 2 * (L_ - 1) * C_;
  Returned returned{take(3 * C_ * N),
                    {},
                    take(count * tail_size),
                    frame_.template take<double>(count * H_ * L_),
                    state_gradient};
  for (Index l = 1; l < L_; ++l) returned.d_levels[number(l)] = take(2 * C_ * places.blocks(l));
  std::fill_n(returned.d_tails, count * tail_size, Scalar(0));
  std::fill_n(returned.d_weights, count * H_ * L_, 0.0);
  RingState<Scalar>* tails = state_gradient ? &state_gradient->tails() : nullptr;
  UnfinishedStreams<RingState<Scalar>> unfinished{tails, saved.segments};

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
    if (L_ == 1) continue;
    state_gradient->clear_tails(stream);
    if (past > 0)
      std::copy_n(returned.d_tails + static_cast<Index>(i) * tail_size, tail_size,
                  state_gradient->tail(stream, past - 1));
  }
  unfinished.written = false;
}

}  // namespace hsm::inline HSM_ABI::detail
