// SPDX-License-Identifier: MIT
//
// The engine: runs a mixing policy at a distance over sequences, causally, in every execution mode, and all
// of them through one mechanism (mixing/segment.hpp):
//
//   forward     x, y [B,T,C]             whole sequences from their start
//   packed      x, y [1,N,C], offsets    documents one after another; nothing leaks across their boundaries
//   step        one token per stream     O(C) memory traffic besides the products, no allocation
//   extend      x, y [streams,T,C]       any number of further tokens per stream
//   forward_in_place   y over x, for mixers without products
//   backward    after a forward, packed or extend that was given a `saved`
//
// y and dx are overwritten, parameter gradients are added to; x and y must not overlap. Cost per token: the
// policy's products and O(K C). Scratch and threads come from the Workspace; without one a call is serial and
// may allocate. A const Mixer serves many threads. Number of threads: same bits. Cut of time or batch: see
// the policy's file for its bound ((a,b): same bits). Errors: std::invalid_argument naming what was expected
// and what came, before anything is written.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/mixing/mixer_backward.hpp>
#include <hsm/mixing/mixer_forward.hpp>
#include <hsm/mixing/mixer_in_place.hpp>
#include <hsm/mixing/mixer_saved.hpp>
#include <hsm/mixing/mixer_state.hpp>
#include <hsm/mixing/mixing_policy.hpp>
#include <hsm/mixing/segment.hpp>

namespace hsm {

/// One layer of Hierarchical Shift Mixing: a policy (its parameters) and the shift of each of its heads.
template <class Policy>
class Mixer {
  static_assert(detail::explain_policy<Policy>());

 public:
  /// float or double.
  using Scalar = typename Policy::Scalar;
  /// The tensors of the layer; gradients have the same type.
  using Parameters = Policy;
  /// What a stream carries from call to call.
  using State = MixerState<Scalar>;
  /// What a forward leaves for backward.
  using Saved = MixerSaved<Scalar>;

  /// All heads at one shift. Throws std::invalid_argument for shift < 1.
  Mixer(Policy policy, Index shift) : policy_(std::move(policy)) {
    set_shifts(std::vector<Index>(static_cast<std::size_t>(heads()), shift));
  }

  /// A shift per head. Throws std::invalid_argument for a shift < 1 or another number of shifts than heads.
  Mixer(Policy policy, std::span<const Index> head_shifts) : policy_(std::move(policy)) {
    set_shifts(head_shifts);
  }

  /// C.
  Index channels() const { return policy_.channels(); }
  /// H.
  Index heads() const { return policy_.heads(); }
  /// K.
  Index taps() const { return detail::taps_of(policy_); }
  /// The shift of head h.
  Index shift(Index h = 0) const;
  /// The policy.
  const Policy& parameters() const { return policy_; }
  /// The policy, to change its values in place; sizes must stay.
  Policy& parameters() { return policy_; }

  /// An empty record for forward to fill.
  Saved make_saved() const { return {}; }
  /// Zeros in the shape of the parameters.
  Policy make_gradients() const { return zeros_like(policy_); }
  /// Fresh streams: (K-1) s + spare columns of the kept planes each.
  State make_state(StateOptions options = {}) const;

  /// y = mix(x): x, y [B,T,C].
  template <class X, class Y>
  void forward(const X& x, Y&& y) const {
    detail::check_kept<Y>();
    Workspace workspace;
    forward(x, y, workspace);
  }
  /// The same, with the scratch and the executor of `workspace`.
  template <class X, class Y>
  void forward(const X& x, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_forward("Mixer::forward", x, y, nullptr, workspace);
  }
  /// The same, leaving in `saved` what backward needs.
  template <class X, class Y>
  void forward(const X& x, Y&& y, Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_forward("Mixer::forward", x, y, &saved, workspace);
  }

  /// x = mix(x), x [B,T,C], for mixers without products ((a,b), channel); the same bits as forward. A mandate
  /// refuses other policies. Memory: half of forward's; with long sequences a copy of at most an eighth of x.
  template <class X>
  void forward_in_place(X&& x, Workspace& workspace) const;

  /// y = mix(x) for documents one after another in x [1,N,C]: document i is tokens offsets[i] ...
  /// offsets[i+1]-1. Offsets begin with 0, do not fall and end with N; empty documents are legal.
  template <class X, class Y>
  void packed(const X& x, std::span<const Index> offsets, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_packed(x, offsets, y, nullptr, workspace);
  }
  /// The same, leaving in `saved` what backward needs.
  template <class X, class Y>
  void packed(const X& x, std::span<const Index> offsets, Y&& y, Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_packed(x, offsets, y, &saved, workspace);
  }

  /// The next token of every stream. x, y: any buffer of `streams` tokens, [B,1,C], [1,B,C] or a matrix
  /// (C,B).
  template <class X, class Y>
  void step(const X& x, State& state, Y&& y, Workspace& workspace) const;

  /// The next T tokens of every stream: x, y [streams,T,C].
  template <class X, class Y>
  void extend(const X& x, State& state, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, state, y, nullptr, workspace);
  }
  /// The same, leaving in `saved` what backward needs, the state at entry included.
  template <class X, class Y>
  void extend(const X& x, State& state, Y&& y, Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, state, y, &saved, workspace);
  }

  /// The gradients of the call that filled `saved`: x is that call's x, dy [B,T,C] the gradient of its y. dx
  /// is overwritten, gradients are added to. `state_gradient`, where given, comes in as the gradient of the
  /// state that the call left (a zero state for none) and goes out as that of the state it started from:
  /// chunk by chunk from the last to the first it is backpropagation through time.
  template <class X, class DY, class DX>
  void backward(const X& x, const Saved& saved, const DY& dy, DX&& dx, Policy& gradients,
                Workspace& workspace, State* state_gradient = nullptr) const;

  /// Calls f(name, tensor, more...) for the policy's tensors.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Policy::visit(f, self.policy_, more.policy_...);
  }

 private:
  using Pass = detail::MixerPass<Policy>;
  friend Pass;

  template <class X, class Y>
  void run_forward(const char* who, const X& x, Y& y, Saved* saved, Workspace& workspace) const;
  template <class X, class Y>
  void run_packed(const X& x, std::span<const Index> offsets, Y& y, Saved* saved, Workspace& workspace) const;
  template <class X, class Y>
  void run_extend(const X& x, State& state, Y& y, Saved* saved, Workspace& workspace) const;

  void set_shifts(std::span<const Index> head_shifts);
  void check_input(const char* who, const Tokens<const Scalar>& x) const;
  void check_output(const char* who, const Tokens<const Scalar>& x, const Tokens<Scalar>& y) const;
  void check_state(const char* who, const State& state) const;
  void check_saved(const Tokens<const Scalar>& x, const Saved& saved) const;
  void check_gradients(const Policy& gradients) const;
  Index slots(const detail::HeadGroup& group, Index spare) const {
    return (taps() - 1) * group.shift + spare;
  }

  Policy policy_;
  std::vector<detail::HeadGroup> groups_;
};

template <class Policy>
void Mixer<Policy>::set_shifts(std::span<const Index> head_shifts) {
  const Index H = heads();
  if (static_cast<Index>(head_shifts.size()) != H) {
    detail::fail("Mixer", "the shifts", std::to_string(H) + ", one per head",
                 std::to_string(head_shifts.size()));
  }
  if (taps() < 2 || taps() > kMostTaps)
    detail::fail("Mixer", "taps", "2 to " + std::to_string(kMostTaps), std::to_string(taps()));
  if (detail::HasPairAdjoint<Policy> && taps() != 2)
    detail::fail("Mixer", "taps of a policy with adjoint_now and adjoint_past", "2", std::to_string(taps()));
  for (Index h = 0; h < H; ++h) {
    const Index s = head_shifts[static_cast<std::size_t>(h)];
    detail::check_at_least("Mixer", "shift", s, 1);
    if (s > Index{1} << 57) {  // (kMostTaps - 1) s and sums with a position stay far from overflow
      detail::fail("Mixer", "shift", "at most 2^57", std::to_string(s));
    }
    if (!groups_.empty() && groups_.back().shift == s) {
      ++groups_.back().heads;
    } else {
      groups_.push_back({s, h, 1});
    }
  }
}

template <class Policy>
Index Mixer<Policy>::shift(Index h) const {
  for (const detail::HeadGroup& group : groups_) {
    if (h >= group.first_head && h < group.first_head + group.heads) return group.shift;
  }
  throw std::out_of_range("Mixer::shift: head must be 0 to " + std::to_string(heads() - 1) + ", got " +
                          std::to_string(h));
}

template <class Policy>
auto Mixer<Policy>::make_state(StateOptions options) const -> State {
  detail::check_at_least("Mixer::make_state", "streams", options.streams, 0);
  detail::check_at_least("Mixer::make_state", "spare", options.spare, 0);
  if (options.spare > std::numeric_limits<Index>::max() / 2)
    detail::fail("Mixer::make_state", "spare", "at most 2^62", std::to_string(options.spare));
  State state;
  state.counts_.assign(static_cast<std::size_t>(options.streams), 0);
  const Index rows_per_head = Policy::kStages.planes() * channels() / heads();
  for (const detail::HeadGroup& group : groups_)
    state.add_ring(group.heads * rows_per_head, slots(group, options.spare));
  return state;
}

template <class Policy>
void Mixer<Policy>::check_input(const char* who, const Tokens<const Scalar>& x) const {
  detail::check_equal(who, "the channels of x", x.channels, channels());
}

template <class Policy>
void Mixer<Policy>::check_output(const char* who, const Tokens<const Scalar>& x,
                                 const Tokens<Scalar>& y) const {
  detail::check_equal(who, "y", y.shape(), x.shape());
  detail::check_apart(who, "x and y", x, y);
}

template <class Policy>
void Mixer<Policy>::check_state(const char* who, const State& state) const {
  bool fits = state.rings_.size() == groups_.size();
  const Index rows_per_head = Policy::kStages.planes() * channels() / heads();
  for (std::size_t g = 0; fits && g < groups_.size(); ++g) {
    fits = state.rings_[g].rows == groups_[g].heads * rows_per_head &&
           state.rings_[g].slots >= slots(groups_[g], 0);
  }
  if (!fits)
    throw std::invalid_argument(std::string(who) +
                                ": the state must come from this mixer's make_state, got another's");
}

template <class Policy>
void Mixer<Policy>::check_saved(const Tokens<const Scalar>& x, const Saved& saved) const {
  constexpr const char* kWho = "Mixer::backward";
  if (saved.shape_[0] < 0)
    detail::fail(kWho, "saved", "the record of a forward, packed or extend", "one that nothing was saved in");
  detail::check_equal(kWho, "x", x.shape(), saved.shape());
  const Index projected = Policy::kStages.projected() * channels();
  const bool fits =
      saved.projected_.rows() == projected && saved.projected_.cols() == x.count() &&
      (!Policy::kStages.output || (saved.mixed_.rows() == channels() && saved.mixed_.cols() == x.count()));
  if (!fits) detail::fail(kWho, "saved", "the record of this mixer", "another's");
  if (saved.entry_.streams() > 0) check_state(kWho, saved.entry_);
}

template <class Policy>
void Mixer<Policy>::check_gradients(const Policy& gradients) const {
  Policy::visit(
      [](std::string_view name, const auto& own, const auto& gradient) {
        const Shape<2> expected{own.rows(), own.cols()}, got{gradient.rows(), gradient.cols()};
        if (got != expected) {
          detail::fail("Mixer::backward", "the gradient of " + std::string(name), detail::to_text(expected),
                       detail::to_text(got));
        }
      },
      policy_, gradients);
}

template <class Policy>
template <class X, class Y>
void Mixer<Policy>::run_forward(const char* who, const X& x, Y& y, Saved* saved, Workspace& workspace) const {
  const auto in = detail::view<const Scalar>(x, "Mixer::forward: x");
  const auto out = detail::view<Scalar>(y, "Mixer::forward: y");
  check_input(who, in);
  check_output(who, in, out);
  Pass pass(*this, workspace);
  const std::span<Segment> segments = pass.segments(in.batch, saved);
  detail::fill_segments(segments, in.time, false);
  pass.forward(in, out, segments, nullptr, saved);
}

template <class Policy>
template <class X>
void Mixer<Policy>::forward_in_place(X&& x, Workspace& workspace) const {
  static_assert(Policy::kStages.projected() == 0 && !Policy::kStages.output,
                "hsm: forward_in_place is for mixers without products, such as (a,b) and channel; for the others give "
                "forward a y of its own");
  detail::check_kept<X>();
  const auto tokens = detail::view<Scalar>(x, "Mixer::forward_in_place: x");
  check_input("Mixer::forward_in_place", Tokens<const Scalar>(tokens.data, tokens.batch, tokens.time, tokens.channels,
                                                              tokens.token_stride, tokens.batch_stride));
  if (tokens.count() > 0) Pass(*this, workspace).forward_in_place(tokens);
}

template <class Policy>
template <class X, class Y>
void Mixer<Policy>::run_packed(const X& x, std::span<const Index> offsets, Y& y, Saved* saved,
                               Workspace& workspace) const {
  const auto in = detail::view<const Scalar>(x, "Mixer::packed: x");
  const auto out = detail::view<Scalar>(y, "Mixer::packed: y");
  check_input("Mixer::packed", in);
  check_output("Mixer::packed", in, out);
  detail::check_equal("Mixer::packed", "the batch of x", in.batch, Index{1});
  detail::check_offsets("Mixer::packed", offsets, in.time);
  Pass pass(*this, workspace);
  const std::span<Segment> segments = pass.segments(static_cast<Index>(offsets.size()) - 1, saved);
  detail::fill_documents(segments, offsets);
  pass.forward(in, out, segments, nullptr, saved);
}

template <class Policy>
template <class X, class Y>
void Mixer<Policy>::step(const X& x, State& state, Y&& y, Workspace& workspace) const {
  detail::check_kept<Y>();
  const auto in = detail::as_streams("Mixer::step", "x", detail::view<const Scalar>(x, "Mixer::step: x"),
                                     state.streams());
  const auto out =
      detail::as_streams("Mixer::step", "y", detail::view<Scalar>(y, "Mixer::step: y"), state.streams());
  check_input("Mixer::step", in);
  check_output("Mixer::step", in, out);
  check_state("Mixer::step", state);
  Pass pass(*this, workspace);
  const std::span<Segment> segments = pass.segments(in.batch, nullptr);
  detail::fill_segments(segments, 1, true);
  pass.forward(in, out, segments, &state, nullptr);
}

template <class Policy>
template <class X, class Y>
void Mixer<Policy>::run_extend(const X& x, State& state, Y& y, Saved* saved, Workspace& workspace) const {
  const auto in = detail::view<const Scalar>(x, "Mixer::extend: x");
  const auto out = detail::view<Scalar>(y, "Mixer::extend: y");
  check_input("Mixer::extend", in);
  check_output("Mixer::extend", in, out);
  check_state("Mixer::extend", state);
  detail::check_equal("Mixer::extend", "the batch of x (streams)", in.batch, state.streams());
  Pass pass(*this, workspace);
  const std::span<Segment> segments = pass.segments(in.batch, saved);
  detail::fill_segments(segments, in.time, true);
  pass.forward(in, out, segments, &state, saved);
}

template <class Policy>
template <class X, class DY, class DX>
void Mixer<Policy>::backward(const X& x, const Saved& saved, const DY& dy, DX&& dx, Policy& gradients,
                             Workspace& workspace, State* state_gradient) const {
  detail::check_kept<DX>();
  const auto in = detail::view<const Scalar>(x, "Mixer::backward: x");
  const auto out_gradient = detail::view<const Scalar>(dy, "Mixer::backward: dy");
  const auto in_gradient = detail::view<Scalar>(dx, "Mixer::backward: dx");
  check_input("Mixer::backward", in);
  check_saved(in, saved);
  check_gradients(gradients);
  detail::check_equal("Mixer::backward", "dy", out_gradient.shape(), in.shape());
  detail::check_equal("Mixer::backward", "dx", in_gradient.shape(), in.shape());
  detail::check_apart("Mixer::backward", "x and dx", in, in_gradient);
  detail::check_apart("Mixer::backward", "dy and dx", out_gradient, in_gradient);
  if (state_gradient) {
    check_state("Mixer::backward", *state_gradient);
    if (!saved.entry_.same_shape(*state_gradient)) {
      throw std::invalid_argument(
          "Mixer::backward: state_gradient must have the shape of the state that was extended");
    }
  }
  Pass(*this, workspace).backward(in, saved, out_gradient, in_gradient, gradients, state_gradient);
}

}  // namespace hsm
