// SPDX-License-Identifier: MIT
//
// A layer of one's own that is no shift mixer: a sum of all tokens that fades, one decay for each channel.
#pragma once

#include <hsm/core/tensor_spec.hpp>
#include <hsm/layer/layer_options.hpp>
#include <hsm/layer/recorded_call.hpp>
#include <hsm/layer/ring_state.hpp>
#include <hsm/layer/token_mixer.hpp>
#include <string>
#include <utility>
#include <vector>

namespace hsm::test {

/// h[t] = q .* h[t-1] + x[t], y = h.
template <class S>
struct FadingSum {
  using Scalar = S;
  struct Parameters {
    Vector<S> q;
    template <class F, class Self, class... More>
    static void visit(F&& f, Self& self, More&... more) {
      f("q", self.q, more.q...);
    }
  };
  using State = RingState<S>;
  struct Saved : RecordedCall {
    std::vector<S> before;  // h[t-1] of each token
  };
  static constexpr std::string_view kType = "FadingSum", kName = "fading-sum";

  static TensorSpecs describe(Index C, const OptionValues&) { return {vector_spec("q", C)}; }
  explicit FadingSum(Index C) { own.q.setConstant(C, S(0.5)); }

  Index channels() const { return own.q.size(); }
  const Parameters& parameters() const { return own; }
  Parameters& parameters() { return own; }
  LayerFootprint footprint() const { return {.kept = 1, .reads = 1}; }
  std::string description() const { return "fading sum"; }
  void check(const char*) const {}
  State make_state(StateOptions options) const {
    const RingShape ring{channels(), 1, 1};
    return State("FadingSum::make_state", options, std::span(&ring, 1));
  }
  bool fits(const State& state) const {
    return state.ring_count() == 1 && state.ring_shape(0) == RingShape{channels(), 1, 1};
  }
  bool fits(const Saved& saved, const Tokens<const S>& x) const {
    return static_cast<Index>(saved.before.size()) == x.count() * channels();
  }
  void check_state_gradient(const char* who, const Saved& saved, const State& d) const {
    saved.check_rings(who, "none", d);
  }

  void run(const Tokens<const S>& x, std::span<const Segment> segments, const Tokens<S>& y, State* state,
           Saved* saved, Workspace&) const {
    const Index C = channels();
    if (saved) {
      saved->start(segments, state);
      saved->before.resize(static_cast<std::size_t>(C * x.count()));
    }
    for (const Segment& segment : segments) {
      std::vector<S> h(static_cast<std::size_t>(C));
      const Index past = segment.fresh() ? 0 : state->count(segment.stream);
      if (!segment.fresh()) state->make_room(past + segment.count);
      if (past > 0) std::copy_n(state->ring(0, segment.stream).slot(past - 1), C, h.data());
      for (Index t = 0; t < segment.count; ++t) {
        const Index token = segment.first + t;
        for (std::size_t c = 0; c < h.size(); ++c) {
          if (saved) saved->before[static_cast<std::size_t>(token * C) + c] = h[c];
          h[c] = multiply_add(own.q[static_cast<Index>(c)], h[c], x.at(token)[c]);
          if (y.data) y.at(token)[c] = h[c];
        }
        if (!segment.fresh()) std::copy(h.begin(), h.end(), state->ring(0, segment.stream).slot(past + t));
      }
      if (!segment.fresh()) state->advance(segment.stream, segment.count);
    }
    if (saved) saved->sizes = x.shape();
  }
  void run_adjoint(const Tokens<const S>&, const Saved& saved, const Tokens<const S>& dy, const Tokens<S>& dx,
                   Parameters& gradients, State* state_gradient, Workspace&) const {
    const Index C = channels();
    saved.make_room(state_gradient);
    for (std::size_t i = 0; i < saved.segments.size(); ++i) {
      const Segment& segment = saved.segments[i];
      const Index past = saved.past[i];
      std::vector<S> carry(static_cast<std::size_t>(C));  // the gradient of h[t] from what comes after t
      ::hsm::detail::RingView<S> ring;
      if (state_gradient && !segment.fresh()) ring = state_gradient->ring(0, segment.stream);
      for (Index t = segment.count; t-- > 0;) {
        const Index token = segment.first + t;
        for (Index c = 0; c < C; ++c) {
          S d = dy.at(token)[c] + carry[static_cast<std::size_t>(c)];
          if (segment.count - t <= ring.slot_count) d += std::exchange(ring.slot(past + t)[c], S(0));
          dx.at(token)[c] = d;
          gradients.q[c] += d * saved.before[static_cast<std::size_t>(token * C + c)];
          carry[static_cast<std::size_t>(c)] = own.q[c] * d;
        }
      }
      for (Index c = 0; ring.data && past > 0 && c < C; ++c)
        ring.slot(past - 1)[c] += carry[static_cast<std::size_t>(c)];
    }
  }
  Parameters own;
};
static_assert(MixingLayer<FadingSum<float>>);

}  // namespace hsm::test
