// SPDX-License-Identifier: MIT
//
// The entry points of Mixer: each checks what it was given, before anything is written, and turns it into a
// list of segments (mixing/segment.hpp) for the one pass behind all of them (mixing/mixer_pass.hpp).
#pragma once

#include <hsm/mixing/mixer.hpp>
#include <hsm/mixing/mixer_checks.hpp>

namespace hsm::inline HSM_ABI {

template <class Policy>
void Mixer<Policy>::set_shifts(std::span<const Index> head_shifts) {
  const Index H = heads();
  detail::check_heads("Mixer", H, channels());
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
    if (s > Index{1} << (kIndexBits - 6)) {  // (kMostTaps - 1) s and sums with a position do not overflow
      detail::fail("Mixer", "shift", "at most 2^" + std::to_string(kIndexBits - 6), std::to_string(s));
    }
    if (!groups_.empty() && groups_.back().shift == s) {
      ++groups_.back().heads;
    } else {
      groups_.push_back({s, h, 1});
    }
  }
  sizes_ = sizes();
  check_policy("Mixer");
  check_gradients_of_own();
}

template <class Policy>
Index Mixer<Policy>::shift(Index h) const {
  for (const detail::HeadGroup& group : groups_) {
    if (h >= group.first_head && h < group.first_head + group.heads) return group.shift;
  }
  detail::raise<std::out_of_range>("Mixer::shift: head must be 0 to " + std::to_string(heads() - 1) +
                                   ", got " + std::to_string(h));
}

template <class Policy>
auto Mixer<Policy>::make_state(StateOptions options) const -> State {
  detail::check_at_least("Mixer::make_state", "streams", options.streams, 0);
  detail::check_at_least("Mixer::make_state", "spare", options.spare, 0);
  if (options.spare > (std::numeric_limits<Index>::max)() / 2)
    detail::fail("Mixer::make_state", "spare", "below 2^" + std::to_string(kIndexBits - 1),
                 std::to_string(options.spare));
  State state;
  state.counts_.assign(static_cast<std::size_t>(options.streams), 0);
  state.highest_ = state.counts_;
  state.spare_ = options.spare;
  const Index rows_per_head = Policy::kStages.planes() * channels() / heads();
  for (const detail::HeadGroup& group : groups_)
    state.add_growing_ring(group.heads * rows_per_head, group.shift, slot_count(group, options.spare));
  return state;
}

template <class Policy>
template <class X, class Y, class Record>
void Mixer<Policy>::run_forward(const X& x, Y& y, Record saved, Workspace& workspace) const {
  const auto in = detail::view<const Scalar>(x, "Mixer::forward: x");
  const auto out = detail::view<Scalar>(y, "Mixer::forward: y");
  check_input("Mixer::forward", in);
  check_output("Mixer::forward", in, out);
  Pass pass(*this, workspace);
  const std::span<Segment> segments = pass.segments(in.batch, saved);
  detail::fill_segments(segments, in.time, false);
  pass.record(in, nullptr, saved);
  pass.forward(in, out, segments, nullptr, saved);
}

template <class Policy>
template <class X>
void Mixer<Policy>::forward_in_place(X&& x, Workspace& workspace) const {
  static_assert(
      Policy::kStages.projected() == 0 && !Policy::kStages.output,
      "hsm: forward_in_place is for mixers without products, such as (a,b) and channel; for the others give "
      "forward a y of its own");
  static_assert(Policy::kStages.in_place || Policy::kStages.projected() > 0 || Policy::kStages.output,
                "hsm: forward_in_place is for policies that say Stages::in_place: their combine gives the "
                "same where z is "
                "tap 0 itself; for the others give forward a y of its own");
  detail::check_kept<X>();
  const auto tokens = detail::view<Scalar>(x, "Mixer::forward_in_place: x");
  check_input("Mixer::forward_in_place",
              Tokens<const Scalar>(tokens.data, tokens.batch, tokens.time, tokens.channels,
                                   tokens.token_stride, tokens.batch_stride));
  if (tokens.count() > 0) Pass(*this, workspace).forward_in_place(tokens);
}

template <class Policy>
template <class X, class Y, class Record>
void Mixer<Policy>::run_packed(const X& x, std::span<const Index> offsets, Y& y, Record saved,
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
  pass.record(in, nullptr, saved);
  pass.forward(in, out, segments, nullptr, saved);
}

template <class Policy>
template <class X, class Y>
void Mixer<Policy>::run_step(const X& x, const std::span<const Index>* streams, State& state, Y& y,
                             Workspace& workspace) const {
  const Index count = streams ? static_cast<Index>(streams->size()) : state.streams();
  const auto in =
      detail::as_streams("Mixer::step", "x", detail::view<const Scalar>(x, "Mixer::step: x"), count);
  const auto out = detail::as_streams("Mixer::step", "y", detail::view<Scalar>(y, "Mixer::step: y"), count);
  check_input("Mixer::step", in);
  check_output("Mixer::step", in, out);
  check_state("Mixer::step", state);
  streams ? check_whole("Mixer::step", state, *streams) : check_whole("Mixer::step", state);
  Pass pass(*this, workspace);
  if (streams) pass.check_streams("Mixer::step", *streams, count, state);
  const std::span<Segment> segments = pass.segments(count, nullptr);
  detail::fill_segments(segments, 1, true);
  for (std::size_t i = 0; streams && i < segments.size(); ++i) segments[i].stream = (*streams)[i];
  pass.check_room("Mixer::step", segments, state);
  pass.forward(in, out, segments, &state, nullptr);
}

template <class Policy>
template <class X, class Y, class Record>
void Mixer<Policy>::run_extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams,
                               State& state, Y& y, Record saved, Workspace& workspace) const {
  const auto in = detail::view<const Scalar>(x, "Mixer::extend: x");
  const auto out = detail::view<Scalar>(y, "Mixer::extend: y");
  check_input("Mixer::extend", in);
  check_output("Mixer::extend", in, out);
  check_state("Mixer::extend", state);
  check_whole("Mixer::extend", state, streams);
  detail::check_equal("Mixer::extend", "the batch of x", in.batch, Index{1});
  detail::check_offsets("Mixer::extend", offsets, in.time);
  Pass pass(*this, workspace);
  const Index count = static_cast<Index>(offsets.size()) - 1;
  pass.check_streams("Mixer::extend", streams, count, state);
  const std::span<Segment> segments = pass.segments(count, saved);
  detail::fill_chosen(segments, offsets, streams);
  pass.check_room("Mixer::extend", segments, state);
  pass.record(in, &state, saved);
  pass.forward(in, out, segments, &state, saved);
}

template <class Policy>
template <class X, class Y, class Record>
void Mixer<Policy>::run_extend(const X& x, State& state, Y& y, Record saved, Workspace& workspace) const {
  const auto in = detail::view<const Scalar>(x, "Mixer::extend: x");
  const auto out = detail::view<Scalar>(y, "Mixer::extend: y");
  check_input("Mixer::extend", in);
  check_output("Mixer::extend", in, out);
  check_state("Mixer::extend", state);
  check_whole("Mixer::extend", state);
  detail::check_equal("Mixer::extend", "the batch of x (streams)", in.batch, state.streams());
  Pass pass(*this, workspace);
  const std::span<Segment> segments = pass.segments(in.batch, saved);
  detail::fill_segments(segments, in.time, true);
  pass.check_room("Mixer::extend", segments, state);
  pass.record(in, &state, saved);
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
    check_whole("Mixer::backward", *state_gradient);
    if (!saved.entry_.same_shape(*state_gradient)) {
      detail::raise<std::invalid_argument>(
          "Mixer::backward: state_gradient must have the shape of the state that was extended");
    }
  }
  Pass(*this, workspace).backward(in, saved, out_gradient, in_gradient, gradients, state_gradient);
}

}  // namespace hsm::inline HSM_ABI
