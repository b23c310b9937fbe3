// SPDX-License-Identifier: MIT
//
// Dense causal multi-head softmax attention, the baseline that the shift mixers are measured against:
//
//   y = W_o concat_h softmax(mask(q_h k_h^T / sqrt(C/H))) v_h + b_o,    [q; k; v] = W x + b
//
// where q and k are turned by their positions first if the parameters say so (attention/rotary.hpp).
//
// All modes are one function over segments (mixing/segment.hpp): queries of a segment against the keys of its
// document, which lie in the call's own scratch, or for a continuing segment in the state.
//
//   forward     x, y [B,T,C]             whole sequences from their start
//   packed      x, y [1,N,C], offsets    documents one after another; nothing leaks across their boundaries
//   step        one token per stream     against the cached keys of its stream, O(C^2 + count C)
//   extend      x, y [streams,T,C]       any number of further tokens per stream
//   both        also on chosen streams   one buffer [1,N,C], by offsets; no other stream changes a bit
//   backward    after a forward, packed or extend that was given a `saved`
//
// 8 C^2 flop per token and 4 C flop per pair of tokens; no T x T matrix, scratch 4 C per token. y and dx are
// overwritten, parameter gradients are added to. The number of threads changes no bit. Tokens after t, other
// documents and other streams change no bit of output t, be they NaN. Modes agree within 1e-5 (float) and
// 1e-13 (double) of the largest output, their gradients within 1e-4 and 1e-12 of the largest of a tensor;
// step is bitwise equal to step of as many streams. Errors: std::invalid_argument naming what was expected
// and what came, before anything is written; std::out_of_range where a stream's capacity is used up. Where a
// call throws later (no memory, an executor that throws) every stream holds what it held before, results hold
// anything, its record is refused by backward, and gradients that were added to hold a part.
#pragma once

#include <span>
#include <type_traits>
#include <utility>

#include <hsm/attention/attention.hpp>
#include <hsm/attention/attention_saved.hpp>
#include <hsm/attention/attention_state.hpp>
#include <hsm/core/check.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/mixing/segment.hpp>

namespace hsm::inline HSM_ABI {

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
  explicit CausalAttention(Attention<Scalar> parameters);

  /// C.
  Index channels() const { return parameters_.channels(); }
  /// H.
  Index heads() const { return parameters_.heads; }
  /// The base of rotary positions, 0 for none.
  Index rotary() const { return parameters_.rotary; }
  /// The weights.
  const Parameters& parameters() const { return parameters_; }
  /// The weights, to change in place; where sizes no longer fit together the next call throws
  /// std::invalid_argument.
  Parameters& parameters() { return parameters_; }

  /// An empty record for forward to fill.
  Saved make_saved() const { return {}; }
  /// Zeros in the shape of the parameters.
  Parameters make_gradients() const { return zeros_like(parameters_); }
  /// Fresh streams with an empty cache, which options.capacity limits. It is also the gradient 0 of a state.
  State make_state(const StateOptions& options = {}) const {
    return State(channels(), heads(), options, rotary());
  }
  /// Whether the state is one of a layer of these sizes and rotary positions.
  bool fits(const State& state) const {
    return state.channels() == channels() && state.heads() == heads() && state.rotary() == rotary();
  }

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

  /// The same for documents one after another in x [1,N,C]: document i is tokens offsets[i] ...
  /// offsets[i+1]-1. Offsets begin with 0, do not fall and end with N; empty documents are legal.
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

  /// One token of every stream: x and y are buffers of `streams` tokens, [B,1,C], [1,B,C] or (C,B). Throws
  /// std::out_of_range, and changes nothing, if the capacity of a stream is used up. With one stream of a
  /// given capacity it allocates nothing once the workspace has served a call.
  template <class X, class Y>
  void step(const X& x, State& state, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_step(x, nullptr, state, y, workspace);
  }
  /// One token of each of `streams`, different numbers below state.streams(), and of no other. x, y: buffers
  /// of as many tokens, in the order of `streams`. Only their capacity counts.
  template <class X, class Y>
  void step(const X& x, std::span<const Index> streams, State& state, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_step(x, &streams, state, y, workspace);
  }

  /// The next T tokens of every stream: x and y [streams,T,C]. Throws as step does. Scratch does not grow
  /// with T.
  template <class X, class Y>
  void extend(const X& x, State& state, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, state, y, nullptr, workspace);
  }
  /// The same, and keeps in `saved` what backward needs, a copy of the streams' keys and values included.
  template <class X, class Y>
  void extend(const X& x, State& state, Y&& y, Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, state, y, &saved, workspace);
  }

  /// The next tokens of each of `streams`, and of no other, each its own number of them: those of streams[i]
  /// are tokens offsets[i] ... offsets[i+1]-1 of x [1,N,C]. The streams are different ones; offsets as in
  /// packed.
  template <class X, class Y>
  void extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state, Y&& y,
              Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, offsets, streams, state, y, nullptr, workspace);
  }
  /// The same, leaving in `saved` what backward needs.
  template <class X, class Y>
  void extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state, Y&& y,
              Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, offsets, streams, state, y, &saved, workspace);
  }

  /// The adjoint of the call that filled `saved`: x is that call's x, dy the gradient of its y. dx is
  /// overwritten, `gradients` are added to. `state_gradient`, after extend, comes in as the gradient of the
  /// state that the call left (its cached keys and values; a fresh state for none) and goes out as that of
  /// the state it started from: chunk by chunk from the last to the first it is backpropagation through time,
  /// equal to the gradient of the whole sequence. Streams that the call did not name keep theirs. Without it
  /// the gradient stops at the start of the chunk.
  template <class X, class DY, class DX>
  void backward(const X& x, const Saved& saved, const DY& dy, DX&& dx, Parameters& gradients,
                Workspace& workspace, State* state_gradient = nullptr) const;

  /// Walks the parameters; each argument is a CausalAttention or its Parameters.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Parameters::visit(f, tensors_of(self), tensors_of(more)...);
  }

  /// Calls f(map) for the Linear whose product is the layer's result.
  template <class F>
  void visit_result(F&& f) {
    f(parameters_.output);
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

  template <class X, class Y>
  void run_forward(const X& x, Y& y, Saved* saved, Workspace& workspace) const;
  template <class X, class Y>
  void run_packed(const X& x, std::span<const Index> offsets, Y& y, Saved* saved, Workspace& workspace) const;
  template <class X, class Y>
  void run_step(const X& x, const std::span<const Index>* streams, State& state, Y& y,
                Workspace& workspace) const;
  template <class X, class Y>
  void run_extend(const X& x, State& state, Y& y, Saved* saved, Workspace& workspace) const;
  template <class X, class Y>
  void run_extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state,
                  Y& y, Saved* saved, Workspace& workspace) const;

  void check_parameters(const char* who) const;
  void check_pair(const char* who, const In& x, const char* y_name, const In& y) const;
  void check_state(const char* who, const char* what, const State& state) const;
  void check_saved(const In& x, const Saved& saved) const;
  void check_state_gradient(const Saved& saved, const State& state_gradient) const;
  static void check_linear(const char* who, const char* name, const Linear<Scalar>& linear, Index out,
                           Index in);

  Parameters parameters_;
};

/// The scalar follows from the parameters.
template <ComputeScalar Scalar>
CausalAttention(Attention<Scalar>) -> CausalAttention<Scalar>;

}  // namespace hsm::inline HSM_ABI

#include <hsm/attention/attention_entries.hpp>
