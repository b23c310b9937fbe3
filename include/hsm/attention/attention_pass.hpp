// SPDX-License-Identifier: MIT
//
// One call of attention over a list of segments: forward and its adjoint, for every execution mode. Checks
// are the callers' (layer/token_mixer.hpp); products are by token, what lies between them by head
// (segment_passes.hpp, attend_passes.hpp).
#pragma once

#include <algorithm>
#include <span>

#include <hsm/attention/attend_passes.hpp>
#include <hsm/attention/attention.hpp>
#include <hsm/attention/attention_saved.hpp>
#include <hsm/attention/attention_state.hpp>
#include <hsm/attention/segment_passes.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Makes room in `saved` for what continuing segments are computed with: of their documents up to the last token what
/// the segment sees.
template <class Scalar>
void reserve_documents(std::span<const Segment> segments, const AttentionState<Scalar>& state,
                       AttentionSaved<Scalar>& saved) {
  const auto count = static_cast<Index>(segments.size());
  AttentionState<Scalar>& documents = saved.documents;
  if (documents.streams() != count || documents.channels() != state.channels() ||
      documents.heads() != state.heads() || documents.rotary() != state.rotary()) {
    documents = AttentionState<Scalar>(state.channels(), state.heads(), {.streams = count},
                                       {.rotary = state.rotary()});
  }
  for (Index i = 0; i < count; ++i) {
    const Segment& segment = segments[static_cast<std::size_t>(i)];
    documents.reset(i);
    documents.reserve(i, (std::min)(state.held(segment.stream), state.reach()) + segment.count);
  }
}

/// Copies documents that lie in place; there is room for them.
template <class Scalar>
void save_documents(std::span<const Segment> segments, const AttentionState<Scalar>& state,
                    AttentionSaved<Scalar>& saved) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (in_place(segments[i], state, true))
      saved.documents.copy_stream(state, segments[i].stream, static_cast<Index>(i));
  }
}

/// Project, turn by positions where these are rotary, put behind the past where segments continue, attend, output.
/// `state` and `saved` may be null, and y.data, where nobody wants results. What throws does so before a stream counts
/// a token, and leaves a record of nothing.
template <class Scalar>
void attention_forward(const Attention<Scalar>& parameters, const Tokens<const Scalar>& x,
                       const Tokens<Scalar>& y, std::span<const Segment> segments,
                       AttentionState<Scalar>* state, AttentionSaved<Scalar>* saved, Workspace& workspace) {
  const Index C = parameters.channels(), H = parameters.heads, N = x.count();
  Workspace::Frame frame(workspace);
  HeadMemory<Scalar> memory{C, H, N, nullptr, nullptr, nullptr};
  auto* documents = frame.take<DocumentKeys<Scalar>>(static_cast<Index>(segments.size()));
  for (std::size_t i = 0; state && i < segments.size(); ++i)
    state->reserve(segments[i].stream, segments[i].count);
  if (saved) {
    saved->start(segments, state);
    saved->options = parameters.options();
    set_size(saved->heads, 3 * C * N);
    set_size(saved->mixed, C * N);
    set_size(saved->log_sums, H * N);
    if (state) reserve_documents(segments, *state, *saved);
    memory.heads = saved->heads.data();
    memory.mixed = saved->mixed.data();
    memory.log_sums = saved->log_sums.data();
  } else {
    memory.heads = frame.take<Scalar>(3 * C * N);
    memory.mixed = frame.take<Scalar>(C * N);
  }
  if (N > 0) {
    project_heads(parameters.project, x, memory, workspace);
    const auto past = [&](std::size_t i) { return past_of(segments[i], state); };
    if (parameters.rotary > 0) turn_segments(parameters.rotary, segments, memory, past, workspace);
  }
  place_documents(segments, memory, state, saved, saved || y.data, frame, documents);
  if (N > 0 && y.data) {
    sum_documents<Scalar>(parameters, segments, memory, state, frame, documents, workspace.executor());
    attend_segments<Scalar>(parameters, segments, memory, documents, workspace);
    write_tokens<Scalar>(parameters.output, memory.mixed, y, 0, N, workspace.executor());
  }
  if (state) advance_streams(segments, memory, documents, *state, saved != nullptr);
  if (saved) {
    if (state) save_documents(segments, *state, *saved);
    saved->sizes = x.shape();
  }
}

/// The adjoint: dx is overwritten, `gradients` are added to. `state_gradient`, null to cut it off, holds the
/// gradient of every document of `saved` when it comes in, and what belongs to the tokens before when it
/// leaves.
template <class Scalar>
void attention_backward(const Attention<Scalar>& parameters, const Tokens<const Scalar>& x,
                        const AttentionSaved<Scalar>& saved, const Tokens<const Scalar>& dy,
                        const Tokens<Scalar>& dx, Attention<Scalar>& gradients,
                        AttentionState<Scalar>* state_gradient, Workspace& workspace) {
  const Index C = parameters.channels(), N = x.count();
  if (N == 0) return;
  const auto segments = static_cast<Index>(saved.segments.size());
  for (Index i = 0; state_gradient && i < segments; ++i) {  // tokens without a gradient get the gradient 0
    const Index s = saved.segments[static_cast<std::size_t>(i)].stream, first = saved.documents.first(i);
    const bool earlier = state_gradient->held(s) > 0 && state_gradient->first(s) < first;
    state_gradient->hold(s, earlier ? state_gradient->first(s) : first, saved.documents.count(i));
  }
  Executor& executor = workspace.executor();
  Workspace::Frame frame(workspace);
  Scalar* d_mixed = frame.take<Scalar>(C * N);
  Scalar* d_joint = frame.take<Scalar>(3 * C * N);
  return_output(parameters.output, saved.mixed.data(), dy, d_mixed, gradients.output, executor);
  const HeadMemory<const Scalar> memory{
      C, parameters.heads, N, saved.heads.data(), saved.mixed.data(), saved.log_sums.data()};
  attend_segments_backward(saved, memory, d_mixed, d_joint, state_gradient, workspace);
  const auto past = [&](std::size_t i) { return saved.past[i]; };
  if (parameters.rotary > 0) turn_segments_back(saved, C, parameters.heads, N, d_joint, past, workspace);
  return_projection<Scalar>(parameters.project, x, d_joint, Write::kOverwrite, dx, gradients.project,
                            executor);
  for (Index i = 0; state_gradient && i < segments; ++i) {
    const Segment& segment = saved.segments[static_cast<std::size_t>(i)];
    state_gradient->rewind(segment.stream, segment.count);
  }
}

}  // namespace hsm::inline HSM_ABI::detail
