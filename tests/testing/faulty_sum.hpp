// SPDX-License-Identifier: MIT
//
// A layer that is no shift mixer with one fault at a time: a fading sum whose run or adjoint does something else.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "layer/fading_sum.hpp"

namespace hsm::test {

enum class LayerFault {
  kNone,
  kForgottenTensor,      // nothing is added to the gradient of q
  kDoubledGradient,      // the gradient of q is added twice
  kOverwrittenGradient,  // the gradient of q is written
  kDoubledAdjoint,       // dx is doubled
  kWrongSign,            // dx has the wrong sign
  kUnwrittenAdjoint,     // dx is left as it was
  kFuture,               // y[t] sees x[t+1]
  kLeak,                 // a segment sees the token before it in the call
  kUnwritten,            // y is not written at the last channel of token 3
  kNoState,              // what a call leaves is not in the state
  kForgetsFill,          // fill counts its tokens and keeps nothing of them
  kForgetsLong,          // an extend by several tokens keeps nothing of the last one
  kCountsWrong,          // the state counts a token too many
  kStale,                // a stream continues after reset what it held before
  kHeldInLayer,          // what streams hold is in the layer
  kNoStateGradient,      // the adjoint takes nothing from the state that the call left
  kDropsStateGradient,   // the adjoint gives nothing to the state at entry
  kStaleRecord,          // a record that served a longer call keeps its segments
  kRefuses,              // a state gradient is refused
  kTakesOtherStreams,    // a state gradient of other streams is taken
  kIgnoresStrides,       // tokens are read as if they lay one after another
  kCountsOnWorkers,      // tasks are taken to run as worker 0
  kCountsOnOrder,        // tasks are taken to run from the first to the last
  kCannotBeSpoiled,      // spoil does nothing
  kForgetsTakenBack,  // the adjoint takes of the state that the call left only what is behind its last token
  kMovesOnFirst,      // a call that throws has moved its streams on
  kKeepsRecord,       // a call that throws leaves the record of the call before it
  kTakesNothingBack,  // take_back does nothing
  kTakesBackCounts,   // take_back changes the count and leaves the stream whole
  kTakesBackWhole,    // take_back makes a stream whole that was spoiled
};

/// FadingSum<double> with a fault.
struct FaultySum : FadingSum<double> {
  /// With what each stream held last, which reset forgets to clear.
  struct State : FadingSum<double>::State {
    std::vector<double> last;
    LayerFault fault = LayerFault::kNone;
    void spoil(Index stream) {
      if (fault != LayerFault::kCannotBeSpoiled) RingState<double>::spoil(stream);
    }
    void take_back(Index stream, Index n) {
      if (fault == LayerFault::kTakesNothingBack) return;
      if (fault == LayerFault::kTakesBackCounts) return advance(stream, n - count(stream));
      if (fault == LayerFault::kTakesBackWhole && !is_whole(stream)) return reset(stream);
      RingState<double>::take_back(stream, n);
    }
  };
  State make_state(StateOptions options) const {
    State state;
    static_cast<FadingSum<double>::State&>(state) = FadingSum::make_state(options);
    state.last.resize(static_cast<std::size_t>(state.streams() * channels()));
    state.fault = fault;
    return state;
  }

  LayerFault fault;
  std::shared_ptr<std::vector<double>> held = std::make_shared<std::vector<double>>();

  explicit FaultySum(LayerFault of, Index C = 4) : FadingSum<double>(C), fault(of) {}
  bool has(LayerFault one) const { return fault == one; }

  void check_state_gradient(const char* who, const Saved& saved, const State& d) const {
    if (has(LayerFault::kRefuses)) throw std::invalid_argument(std::string(who) + ": no gradients of states");
    if (!has(LayerFault::kTakesOtherStreams)) FadingSum::check_state_gradient(who, saved, d);
  }

  void run(const Tokens<const double>& x, std::span<const Segment> segments, const Tokens<double>& y,
           State* state, Saved* saved, Workspace& workspace) const {
    const Index C = channels();
    const std::vector<double> left = what_fresh_streams_hold(segments, state);
    if (has(LayerFault::kHeldInLayer)) give_held(segments, state);
    const auto stale = saved && has(LayerFault::kStaleRecord) ? saved->segments : std::vector<Segment>();
    const auto stale_pasts = saved ? saved->past : std::vector<Index>();
    const bool strides = !has(LayerFault::kIgnoresStrides);
    const Tokens<const double> dense(x.data, x.batch, x.time, C);
    if (saved && !has(LayerFault::kKeepsRecord)) saved->sizes = RecordedCall::kNothing;
    Index last = -1;
    bool wrong = false;
    const auto loop = [&] {
      workspace.executor().run(3, [&](Index task, int worker) {
        wrong = wrong || (has(LayerFault::kCountsOnOrder) && task != last + 1) ||
                (has(LayerFault::kCountsOnWorkers) && worker != 0);
        last = task;
      });
    };
    if (!has(LayerFault::kMovesOnFirst)) loop();
    FadingSum::run(strides ? x : dense, segments, y, state, saved, workspace);
    if (has(LayerFault::kMovesOnFirst)) loop();
    if (wrong && y.data && y.count() > 0) y.at(0)[0] += 1e-6;
    if (!stale.empty() && stale[0].count > x.time) saved->segments = stale, saved->past = stale_pasts;
    if (has(LayerFault::kHeldInLayer)) take_held(segments, state);
    for (const Segment& segment : segments) {
      for (Index t = segment.first; y.data && t < segment.first + segment.count; ++t) {
        if (has(LayerFault::kFuture) && t + 1 < segment.first + segment.count)
          y.at(t)[0] += 1e-6 * x.at(t + 1)[0];
        if (has(LayerFault::kLeak) && t == segment.first && t > 0 && segment.fresh())
          y.at(t)[0] += 1e-6 * x.at(t - 1)[0];
        if (has(LayerFault::kUnwritten) && t == 3) y.at(t)[C - 1] = std::numeric_limits<double>::quiet_NaN();
      }
      if (segment.fresh() || segment.count == 0) continue;
      if (has(LayerFault::kStale)) {
        const double* const h = left.data() + (&segment - segments.data()) * C;
        for (Index t = 0; y.data && t < segment.count; ++t) {
          for (Index c = 0; c < C; ++c) y.at(segment.first + t)[c] += std::pow(own.q[c], t + 1) * h[c];
        }
      }
      const Index count = state->count(segment.stream);
      double* const slot = state->ring(0, segment.stream).slot(count - 1);
      if (has(LayerFault::kStale)) std::copy_n(slot, C, state->last.data() + segment.stream * C);
      if (has(LayerFault::kNoState) || (has(LayerFault::kForgetsFill) && !y.data)) std::fill_n(slot, C, 0.0);
      if (has(LayerFault::kForgetsLong) && segment.count > 1)
        for (Index c = 0; c < C; ++c) slot[c] -= x.at(segment.first + segment.count - 1)[c];
      if (has(LayerFault::kCountsWrong)) state->advance(segment.stream, 1);
    }
  }

  void run_adjoint(const Tokens<const double>& x, const Saved& saved, const Tokens<const double>& dy,
                   const Tokens<double>& dx, Parameters& gradients, State* state_gradient,
                   Workspace& workspace) const {
    const Vector<double> before = gradients.q;
    if (has(LayerFault::kForgetsTakenBack)) keep_last_slots(saved, state_gradient);
    if (has(LayerFault::kNoStateGradient)) state_gradient = nullptr;
    FadingSum::run_adjoint(x, saved, dy, dx, gradients, state_gradient, workspace);
    const Vector<double> added = gradients.q - before;
    if (has(LayerFault::kForgottenTensor)) gradients.q = before;
    if (has(LayerFault::kDoubledGradient)) gradients.q += added;
    if (has(LayerFault::kOverwrittenGradient)) gradients.q = added;
    for (Index t = 0; t < x.count(); ++t) {
      for (Index c = 0; c < x.channels; ++c) {
        if (has(LayerFault::kDoubledAdjoint)) dx.at(t)[c] *= 2;
        if (has(LayerFault::kWrongSign)) dx.at(t)[c] *= -1;
        if (has(LayerFault::kUnwrittenAdjoint)) dx.at(t)[c] = std::numeric_limits<double>::quiet_NaN();
      }
    }
    for (std::size_t i = 0; has(LayerFault::kDropsStateGradient) && i < saved.segments.size(); ++i) {
      if (state_gradient && !saved.segments[i].fresh() && saved.past[i] > 0)
        std::fill_n(state_gradient->ring(0, saved.segments[i].stream).slot(saved.past[i] - 1), x.channels,
                    0.0);
    }
  }

 private:
  void keep_last_slots(const Saved& saved, State* gradient) const {
    for (std::size_t i = 0; gradient && i < saved.segments.size(); ++i) {
      const Segment& segment = saved.segments[i];
      if (segment.fresh()) continue;
      const auto ring = gradient->ring(0, segment.stream);
      for (Index t = 1; t < ring.slot_count && t < segment.count; ++t)
        std::fill_n(ring.slot(saved.past[i] + segment.count - 1 - t), channels(), 0.0);
    }
  }
  /// For each segment what its stream held last, where that is a fresh one.
  std::vector<double> what_fresh_streams_hold(std::span<const Segment> segments, State* state) const {
    std::vector<double> left(segments.size() * static_cast<std::size_t>(channels()));
    for (std::size_t i = 0; i < segments.size() && has(LayerFault::kStale); ++i) {
      if (segments[i].fresh() || state->count(segments[i].stream) > 0) continue;
      std::copy_n(state->last.data() + segments[i].stream * channels(), channels(),
                  left.data() + i * static_cast<std::size_t>(channels()));
    }
    return left;
  }
  void give_held(std::span<const Segment> segments, State* state) const {
    for (const Segment& segment : segments) {
      if (segment.fresh() || state->count(segment.stream) == 0 || held->empty()) continue;
      std::copy_n(held->data() + segment.stream * channels(), channels(),
                  state->ring(0, segment.stream).slot(state->count(segment.stream) - 1));
    }
  }
  void take_held(std::span<const Segment> segments, State* state) const {
    for (const Segment& segment : segments) {
      if (segment.fresh() || state->count(segment.stream) == 0) continue;
      held->resize(static_cast<std::size_t>(state->streams() * channels()));
      std::copy_n(state->ring(0, segment.stream).slot(state->count(segment.stream) - 1), channels(),
                  held->data() + segment.stream * channels());
    }
  }
};
static_assert(MixingLayer<FaultySum>);

}  // namespace hsm::test
