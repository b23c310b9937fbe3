// SPDX-License-Identifier: MIT
//
// The entry points of CausalAttention: each checks what it was given, before anything is written, and turns
// it into a list of segments (mixing/segment.hpp) for the one pass behind all of them (attention_pass.hpp).
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include <hsm/attention/attention_checks.hpp>
#include <hsm/attention/attention_pass.hpp>
#include <hsm/attention/causal_attention.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// Tokens per stream and pass of extend, which bounds its scratch.
inline constexpr Index kExtendChunk = 2048;

/// Scratch for a list of n segments.
inline std::span<Segment> take_segments(Workspace::Frame& frame, Index n) {
  return {frame.take<Segment>(n), static_cast<std::size_t>(n)};
}

/// What segments have of tokens first ... first + count - 1, as segments of these tokens; `parts` has room
/// for all of them.
inline std::span<const Segment> cut_segments(std::span<const Segment> segments, Index first, Index count,
                                             std::span<Segment> parts) {
  std::size_t n = 0;
  for (const Segment& segment : segments) {
    const Index from = (std::max)(first, segment.first);
    const Index to = (std::min)(first + count, segment.first + segment.count);
    if (from < to) parts[n++] = {from - first, to - from, segment.stream};
  }
  return parts.first(n);
}

/// Unless kept, the streams of the segments hold as many tokens again as they did before.
template <class Scalar>
struct AttentionUndo {
  AttentionUndo(AttentionState<Scalar>& of, std::span<const Segment> list, Workspace::Frame& frame)
      : state(of), segments(list), counts(frame.take<Index>(static_cast<Index>(list.size()))) {
    for (std::size_t i = 0; i < segments.size(); ++i) counts[i] = state.count(segments[i].stream);
  }
  AttentionUndo(const AttentionUndo&) = delete;
  AttentionUndo& operator=(const AttentionUndo&) = delete;
  ~AttentionUndo() {
    for (std::size_t i = 0; !kept && i < segments.size(); ++i) state.take_back(segments[i].stream, counts[i]);
  }

  AttentionState<Scalar>& state;
  std::span<const Segment> segments;
  Index* counts;  // at entry
  bool kept = false;
};

}  // namespace detail

template <ComputeScalar Scalar>
CausalAttention<Scalar>::CausalAttention(Attention<Scalar> parameters) : parameters_(std::move(parameters)) {
  check_parameters("CausalAttention");
}

template <ComputeScalar Scalar>
template <class X, class Y>
void CausalAttention<Scalar>::run_forward(const X& x_any, Y& y_any, Saved* saved,
                                          Workspace& workspace) const {
  const In x = detail::view<const Scalar>(x_any, "CausalAttention::forward: x");
  const Out y = detail::view<Scalar>(y_any, "CausalAttention::forward: y");
  check_pair("CausalAttention::forward", x, "y", y);
  Workspace::Frame frame(workspace);
  const std::span<Segment> segments = detail::take_segments(frame, x.batch);
  detail::fill_segments(segments, x.time, false);
  detail::attention_forward<Scalar>(parameters_, x, y, segments, nullptr, saved, workspace);
}

template <ComputeScalar Scalar>
template <class X, class Y>
void CausalAttention<Scalar>::run_packed(const X& x_any, std::span<const Index> offsets, Y& y_any,
                                         Saved* saved, Workspace& workspace) const {
  const char* who = "CausalAttention::packed";
  const In x = detail::view<const Scalar>(x_any, "CausalAttention::packed: x");
  const Out y = detail::view<Scalar>(y_any, "CausalAttention::packed: y");
  check_pair(who, x, "y", y);
  detail::check_equal(who, "the batch of x", x.batch, Index{1});
  detail::check_offsets(who, offsets, x.time);
  Workspace::Frame frame(workspace);
  const std::span<Segment> segments = detail::take_segments(frame, static_cast<Index>(offsets.size()) - 1);
  detail::fill_documents(segments, offsets);
  detail::attention_forward<Scalar>(parameters_, x, y, segments, nullptr, saved, workspace);
}

template <ComputeScalar Scalar>
template <class X, class Y>
void CausalAttention<Scalar>::run_step(const X& x_any, const std::span<const Index>* streams, State& state,
                                       Y& y_any, Workspace& workspace) const {
  const char* who = "CausalAttention::step";
  const In x_all = detail::view<const Scalar>(x_any, "CausalAttention::step: x");
  const Out y_all = detail::view<Scalar>(y_any, "CausalAttention::step: y");
  check_state(who, "the state", state);
  const Index count = streams ? static_cast<Index>(streams->size()) : state.streams();
  const In x = detail::as_streams(who, "x", x_all, count);
  const Out y = detail::as_streams(who, "y", y_all, count);
  check_pair(who, x, "y", y);
  Workspace::Frame frame(workspace);
  const std::span<Segment> segments = detail::take_segments(frame, count);
  detail::fill_segments(segments, 1, true);
  if (streams) {
    detail::check_streams(who, *streams, count, state.streams(), frame.take<Index>(count));
    for (std::size_t i = 0; i < segments.size(); ++i) segments[i].stream = (*streams)[i];
  }
  state.check_room(who, segments);
  detail::attention_forward<Scalar>(parameters_, x, y, segments, &state, nullptr, workspace);
}

template <ComputeScalar Scalar>
template <class X, class Y>
void CausalAttention<Scalar>::run_extend(const X& x_any, State& state, Y& y_any, Saved* saved,
                                         Workspace& workspace) const {
  const char* who = "CausalAttention::extend";
  const In x = detail::view<const Scalar>(x_any, "CausalAttention::extend: x");
  const Out y = detail::view<Scalar>(y_any, "CausalAttention::extend: y");
  check_state(who, "the state", state);
  detail::check_equal(who, "x", x.shape(), Shape<3>{state.streams(), x.time, channels()});
  check_pair(who, x, "y", y);
  Workspace::Frame frame(workspace);
  const std::span<Segment> segments = detail::take_segments(frame, x.batch);
  detail::fill_segments(segments, x.time, true);
  state.check_room(who, segments);
  for (const Segment& segment : segments) state.reserve(segment.stream, segment.count);
  if (saved) {
    detail::attention_forward<Scalar>(parameters_, x, y, segments, &state, saved, workspace);
    return;
  }
  detail::AttentionUndo<Scalar> undo(state, segments, frame);
  for (Index first = 0; first < x.time; first += detail::kExtendChunk) {
    const Index count = (std::min)(detail::kExtendChunk, x.time - first);
    detail::fill_segments(segments, count, true);
    detail::attention_forward<Scalar>(parameters_, x.slice(first, count), y.slice(first, count), segments,
                                      &state, nullptr, workspace);
  }
  undo.kept = true;
}

template <ComputeScalar Scalar>
template <class X, class Y>
void CausalAttention<Scalar>::run_extend(const X& x_any, std::span<const Index> offsets,
                                         std::span<const Index> streams, State& state, Y& y_any, Saved* saved,
                                         Workspace& workspace) const {
  const char* who = "CausalAttention::extend";
  const In x = detail::view<const Scalar>(x_any, "CausalAttention::extend: x");
  const Out y = detail::view<Scalar>(y_any, "CausalAttention::extend: y");
  check_state(who, "the state", state);
  check_pair(who, x, "y", y);
  detail::check_equal(who, "the batch of x", x.batch, Index{1});
  detail::check_offsets(who, offsets, x.time);
  const Index count = static_cast<Index>(offsets.size()) - 1;
  Workspace::Frame frame(workspace);
  detail::check_streams(who, streams, count, state.streams(), frame.take<Index>(count));
  const std::span<Segment> segments = detail::take_segments(frame, count);
  detail::fill_chosen(segments, offsets, streams);
  state.check_room(who, segments);
  for (const Segment& segment : segments) state.reserve(segment.stream, segment.count);
  if (saved) {
    detail::attention_forward<Scalar>(parameters_, x, y, segments, &state, saved, workspace);
    return;
  }
  const std::span<Segment> parts = detail::take_segments(frame, count);
  detail::AttentionUndo<Scalar> undo(state, segments, frame);
  for (Index first = 0; first < x.time; first += detail::kExtendChunk) {
    const Index tokens = (std::min)(detail::kExtendChunk, x.time - first);
    const std::span<const Segment> here = detail::cut_segments(segments, first, tokens, parts);
    detail::attention_forward<Scalar>(parameters_, x.slice(first, tokens), y.slice(first, tokens), here,
                                      &state, nullptr, workspace);
  }
  undo.kept = true;
}

template <ComputeScalar Scalar>
template <class X, class DY, class DX>
void CausalAttention<Scalar>::backward(const X& x_any, const Saved& saved, const DY& dy_any, DX&& dx_any,
                                       Parameters& gradients, Workspace& workspace,
                                       State* state_gradient) const {
  detail::check_kept<DX>();
  const char* who = "CausalAttention::backward";
  const In x = detail::view<const Scalar>(x_any, "CausalAttention::backward: x");
  const In dy = detail::view<const Scalar>(dy_any, "CausalAttention::backward: dy");
  const Out dx = detail::view<Scalar>(dx_any, "CausalAttention::backward: dx");
  detail::check_equal(who, "dy", dy.shape(), Shape<3>{x.batch, x.time, channels()});
  check_pair(who, x, "dx", dx);
  detail::check_apart(who, "dx", dy, In(dx));
  check_saved(x, saved);
  check_linear(who, "gradients.project", gradients.project, 3 * channels(), channels());
  check_linear(who, "gradients.output", gradients.output, channels(), channels());
  if (state_gradient) check_state_gradient(saved, *state_gradient);
  detail::attention_backward<Scalar>(parameters_, x, saved, dy, dx, gradients, state_gradient, workspace);
}

}  // namespace hsm::inline HSM_ABI
