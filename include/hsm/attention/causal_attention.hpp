// SPDX-License-Identifier: MIT
//
// Dense causal multi-head softmax attention, the baseline that the shift mixers are measured against:
//
//   y = W_o concat_h softmax(mask(q_h k_h^T / sqrt(C/H))) v_h + b_o,    [q; k; v] = W x + b
//
// All modes are one function over segments (mixing/segment.hpp): queries of a segment against the keys of its
// document, which lie in the call's own scratch, or for a continuing segment in the state. Activations
// [B,T,C]; 8 C^2 flop per token and 4 C flop per pair of tokens; no T x T matrix, scratch 4 C per token.
// The number of threads changes no bit. Tokens after t change no bit of output t, be they NaN. Modes agree
// within 1e-5 (float) and 1e-13 (double) of the largest output; step is bitwise equal to step of as many
// streams.
#pragma once

#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <hsm/attention/attention.hpp>
#include <hsm/attention/attention_saved.hpp>
#include <hsm/attention/attention_state.hpp>
#include <hsm/attention/segment_passes.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/mixing/segment.hpp>

namespace hsm {

/// Attention as a token mixer. Const calls may run at the same time, each with a workspace of its own.
template <ComputeScalar ScalarType>
class CausalAttention {
 public:
  /// float or double.
  using Scalar = ScalarType;
  /// The tensors of the layer; gradients have the same type.
  using Parameters = Attention<Scalar>;
  /// What a stream carries from call to call.
  using State = AttentionState<Scalar>;
  /// What a forward leaves for backward.
  using Saved = AttentionSaved<Scalar>;

  /// Throws std::invalid_argument unless the tensors of `parameters` fit together.
  explicit CausalAttention(Attention<Scalar> parameters) : parameters_(std::move(parameters)) {
    const Index C = channels();
    const char* who = "CausalAttention";
    detail::check_at_least(who, "channels", C, 1);
    detail::check_heads(who, heads(), C);
    check_linear(who, "project", parameters_.project, 3 * C, C);
    check_linear(who, "output", parameters_.output, C, C);
  }

  /// C.
  Index channels() const { return parameters_.channels(); }
  /// H.
  Index heads() const { return parameters_.heads; }
  /// The weights.
  const Parameters& parameters() const { return parameters_; }
  /// The weights, to change in place; sizes must stay.
  Parameters& parameters() { return parameters_; }

  /// An empty record for forward to fill.
  Saved make_saved() const { return {}; }
  /// Zeros in the shape of the parameters.
  Parameters make_gradients() const { return zeros_like(parameters_); }
  /// Fresh streams with an empty cache; options.capacity limits it.
  State make_state(const StateOptions& options = {}) const { return State(channels(), heads(), options); }

  /// y = attention of x: B sequences of T tokens, from their start. Both [B,T,C], apart in memory.
  template <class X, class Y>
  void forward(const X& x, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_forward(x, y, nullptr, workspace);
  }
  /// The same, serial, with scratch of its own.
  template <class X, class Y>
  void forward(const X& x, Y&& y) const {
    detail::check_kept<Y>();
    Workspace workspace;
    forward(x, y, workspace);
  }
  /// The same, and keeps in `saved` what backward needs.
  template <class X, class Y>
  void forward(const X& x, Y&& y, Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_forward(x, y, &saved, workspace);
  }

  /// The same for documents packed one after another into x: document i is tokens offsets[i] ... offsets[i+1]
  /// - 1 of all B T, offsets[0] = 0 and the last offset is B T. Empty documents are legal.
  template <class X, class Y>
  void packed(const X& x, std::span<const Index> offsets, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_packed(x, offsets, y, nullptr, workspace);
  }
  /// The same, and keeps in `saved` what backward needs.
  template <class X, class Y>
  void packed(const X& x, std::span<const Index> offsets, Y&& y, Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_packed(x, offsets, y, &saved, workspace);
  }

  /// The adjoint of forward or packed: dx is overwritten, `gradients` are added to. x and `saved` are those
  /// of the forward call.
  template <class X, class DY, class DX>
  void backward(const X& x, const Saved& saved, const DY& dy, DX&& dx, Parameters& gradients,
                Workspace& workspace) const;

  /// One token of every stream: x and y are buffers of `streams` tokens, [B,1,C], [1,B,C] or (C,B). Throws
  /// std::out_of_range, and changes nothing, if the capacity of the state is used up.
  template <class X, class Y>
  void step(const X& x, State& state, Y&& y, Workspace& workspace) const;

  /// The next T tokens of every stream: x and y [streams,T,C]. Throws as step does.
  template <class X, class Y>
  void extend(const X& x, State& state, Y&& y, Workspace& workspace) const;

  /// Walks the parameters; each argument is a CausalAttention or its Parameters.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Parameters::visit(f, tensors_of(self), tensors_of(more)...);
  }

 private:
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;

  template <class Self>
  static auto& tensors_of(Self& self) {
    if constexpr (std::is_same_v<std::remove_const_t<Self>, CausalAttention>) {
      return self.parameters();
    } else {
      return self;
    }
  }

  static void check_linear(const char* who, const char* name, const Linear<Scalar>& linear, Index out,
                           Index in) {
    const std::string what(name);
    detail::check_equal(who, (what + ".weight").c_str(), Shape<2>{linear.out(), linear.in()},
                        Shape<2>{out, in});
    detail::check_equal(who, (what + ".bias").c_str(), Shape<1>{linear.bias.size()}, Shape<1>{out});
  }

  void check_pair(const char* who, const In& x, const char* y_name, const In& y) const {
    detail::check_equal(who, "x", x.shape(), Shape<3>{x.batch, x.time, channels()});
    detail::check_equal(who, y_name, y.shape(), x.shape());
    detail::check_apart(who, y_name, x, y);
  }

  void check_state(const char* who, const State& state) const {
    detail::check_equal(who, "channels of the state", state.channels(), channels());
    detail::check_equal(who, "heads of the state", state.heads(), heads());
  }

  template <class X, class Y>
  void run_forward(const X& x_any, Y& y_any, Saved* saved, Workspace& workspace) const {
    const In x = detail::view<const Scalar>(x_any, "CausalAttention::forward: x");
    const Out y = detail::view<Scalar>(y_any, "CausalAttention::forward: y");
    check_pair("CausalAttention::forward", x, "y", y);
    Workspace::Frame frame(workspace);
    run(x, y, make_segments(frame, x.batch, x.time, false), nullptr, saved, workspace);
  }

  template <class X, class Y>
  void run_packed(const X& x_any, std::span<const Index> offsets, Y& y_any, Saved* saved,
                  Workspace& workspace) const {
    const In x = detail::view<const Scalar>(x_any, "CausalAttention::packed: x");
    const Out y = detail::view<Scalar>(y_any, "CausalAttention::packed: y");
    check_pair("CausalAttention::packed", x, "y", y);
    detail::check_offsets("CausalAttention::packed", offsets, x.count());
    Workspace::Frame frame(workspace);
    const auto documents = static_cast<Index>(offsets.size()) - 1;
    const std::span segments(frame.take<Segment>(documents), offsets.size() - 1);
    detail::fill_documents(segments, offsets);
    run(x, y, segments, nullptr, saved, workspace);
  }

  static std::span<const Segment> make_segments(Workspace::Frame& frame, Index count, Index length,
                                                bool continuing) {
    const std::span segments(frame.take<Segment>(count), static_cast<std::size_t>(count));
    detail::fill_segments(segments, length, continuing);
    return segments;
  }

  void run(const In& x, const Out& y, std::span<const Segment> segments, State* state, Saved* saved,
           Workspace& workspace) const;

  /// Tokens per stream and pass of extend, which bounds its scratch.
  static constexpr Index kChunk = 2048;

  Parameters parameters_;
};

/// The scalar follows from the parameters.
template <ComputeScalar Scalar>
CausalAttention(Attention<Scalar>) -> CausalAttention<Scalar>;

template <ComputeScalar Scalar>
template <class X, class Y>
void CausalAttention<Scalar>::step(const X& x_any, State& state, Y&& y_any, Workspace& workspace) const {
  detail::check_kept<Y>();
  const char* who = "CausalAttention::step";
  const In x_all = detail::view<const Scalar>(x_any, "CausalAttention::step: x");
  const Out y_all = detail::view<Scalar>(y_any, "CausalAttention::step: y");
  check_state(who, state);
  const In x = detail::as_streams(who, "x", x_all, state.streams());
  const Out y = detail::as_streams(who, "y", y_all, state.streams());
  check_pair(who, x, "y", y);
  state.check_room(who, 1);
  Workspace::Frame frame(workspace);
  run(x, y, make_segments(frame, state.streams(), 1, true), &state, nullptr, workspace);
}

template <ComputeScalar Scalar>
template <class X, class Y>
void CausalAttention<Scalar>::extend(const X& x_any, State& state, Y&& y_any, Workspace& workspace) const {
  detail::check_kept<Y>();
  const char* who = "CausalAttention::extend";
  const In x = detail::view<const Scalar>(x_any, "CausalAttention::extend: x");
  const Out y = detail::view<Scalar>(y_any, "CausalAttention::extend: y");
  check_state(who, state);
  detail::check_equal(who, "x", x.shape(), Shape<3>{state.streams(), x.time, channels()});
  check_pair(who, x, "y", y);
  state.check_room(who, x.time);
  for (Index s = 0; s < state.streams(); ++s) state.reserve(s, x.time);
  for (Index first = 0; first < x.time; first += kChunk) {
    const Index count = std::min(kChunk, x.time - first);
    Workspace::Frame frame(workspace);
    run(x.slice(first, count), y.slice(first, count), make_segments(frame, x.batch, count, true), &state,
        nullptr, workspace);
  }
}

/// The one forward pass: project, append to the state where segments continue, attend, output.
template <ComputeScalar Scalar>
void CausalAttention<Scalar>::run(const In& x, const Out& y, std::span<const Segment> segments, State* state,
                                  Saved* saved, Workspace& workspace) const {
  const Index C = channels(), N = x.count();
  Workspace::Frame frame(workspace);
  detail::HeadMemory<Scalar> memory{C, heads(), N, nullptr, nullptr, nullptr};
  if (saved) {
    saved->segments.assign(segments.begin(), segments.end());
    saved->tokens = N;
    saved->heads.resize(3 * C * N);
    saved->mixed.resize(C * N);
    saved->log_sums.resize(heads() * N);
    memory.heads = saved->heads.data();
    memory.mixed = saved->mixed.data();
    memory.log_sums = saved->log_sums.data();
  } else {
    memory.heads = frame.take<Scalar>(3 * C * N);
    memory.mixed = frame.take<Scalar>(C * N);
  }
  if (N == 0) return;
  detail::project_heads(parameters_.project, x, memory, workspace);
  if (state) detail::append_keys(segments, memory, *state);
  detail::attend_segments(segments, memory, state, workspace);
  detail::for_each_stretch(
      N,
      [&](Index first, Index count) {
        const ConstColumns<Scalar> mixed(memory.mixed + first * C, C, count, Eigen::OuterStride<>(C));
        parameters_.output.forward(mixed, y.columns(first, count), workspace.executor());
      },
      x, In(y));
  if (state) {
    for (const Segment& segment : segments) state->advance(segment.stream, segment.count);
  }
}

template <ComputeScalar Scalar>
template <class X, class DY, class DX>
void CausalAttention<Scalar>::backward(const X& x_any, const Saved& saved, const DY& dy_any, DX&& dx_any,
                                       Parameters& gradients, Workspace& workspace) const {
  detail::check_kept<DX>();
  const char* who = "CausalAttention::backward";
  const In x = detail::view<const Scalar>(x_any, "CausalAttention::backward: x");
  const In dy = detail::view<const Scalar>(dy_any, "CausalAttention::backward: dy");
  const Out dx = detail::view<Scalar>(dx_any, "CausalAttention::backward: dx");
  const Index C = channels(), H = heads(), N = x.count();
  detail::check_equal(who, "x", x.shape(), Shape<3>{x.batch, x.time, C});
  detail::check_equal(who, "dy", dy.shape(), x.shape());
  check_pair(who, x, "dx", dx);
  detail::check_apart(who, "dx", dy, In(dx));
  detail::check_equal(who, "the number of tokens in saved", saved.tokens, N);
  detail::check_equal(who, "the values in saved", saved.mixed.size(), C * N);
  detail::check_equal(who, "the log-sums in saved", saved.log_sums.size(), H * N);
  check_linear(who, "gradients.project", gradients.project, 3 * C, C);
  check_linear(who, "gradients.output", gradients.output, C, C);
  if (N == 0) return;

  Executor& executor = workspace.executor();
  Workspace::Frame frame(workspace);
  const ConstColumns<Scalar> mixed(saved.mixed.data(), C, N, Eigen::OuterStride<>(C));
  Columns<Scalar> d_mixed = frame.columns<Scalar>(C, N);
  Columns<Scalar> d_joint = frame.columns<Scalar>(3 * C, N);
  detail::for_each_stretch(
      N,
      [&](Index first, Index count) {
        const ConstColumns<Scalar> d_out = dy.columns(first, count);
        parameters_.output.backward_input(d_out, Write::kOverwrite, detail::part(d_mixed, 0, C, first, count),
                                          executor);
        Linear<Scalar>::backward_parameters(detail::part(mixed, 0, C, first, count), d_out, gradients.output,
                                            executor);
      },
      x, dy);
  detail::HeadMemory<const Scalar> memory{
      C, heads(), N, saved.heads.data(), saved.mixed.data(), saved.log_sums.data()};
  detail::attend_segments_backward<Scalar>(saved.segments, memory, d_mixed.data(), d_joint.data(), workspace);
  detail::for_each_stretch(
      N,
      [&](Index first, Index count) {
        const ConstColumns<Scalar> d_project = detail::read(detail::part(d_joint, 0, 3 * C, first, count));
        Linear<Scalar>::backward_parameters(x.columns(first, count), d_project, gradients.project, executor);
        parameters_.project.backward_input(d_project, Write::kOverwrite, dx.columns(first, count), executor);
      },
      x, In(dx));
}

}  // namespace hsm
