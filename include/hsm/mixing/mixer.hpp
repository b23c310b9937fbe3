// SPDX-License-Identifier: MIT
//
// The engine: runs a mixing policy at a distance over sequences, causally, in every execution mode, and all
// of them through one mechanism (mixing/segment.hpp):
//
//   forward     x, y [B,T,C]             whole sequences from their start
//   packed      x, y [1,N,C], offsets    documents one after another; nothing leaks across their boundaries
//   step        one token per stream     O(C) memory traffic besides the products, no allocation
//   extend      x, y [streams,T,C]       any number of further tokens per stream
//   both        also on chosen streams   one buffer [1,N,C], by offsets; no other stream changes a bit
//   forward_in_place   y over x, for mixers without products
//   backward    after a forward, packed or extend that was given a `saved`
//
// y and dx are overwritten, parameter gradients are added to; x and y must not overlap, from the first value of
// each to its last, so they cannot interleave in one buffer. Cost per token: the
// policy's products and O(K C). Scratch and threads come from the Workspace; without one a call is serial and
// may allocate. With one that has served such a call before, and records likewise, only Eigen's products
// allocate: two packing spaces per block of at most 256 rows and 256 columns of the result, where they pass
// 128 KB; none for a single column, so step with one stream makes no allocation. A const Mixer serves many
// threads. Number of threads: same bits. Cut of time or batch: see the policy's file for its bound ((a,b):
// same bits). Errors: std::invalid_argument naming what was expected and what came, before anything is
// written.
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

namespace hsm::inline HSM_ABI {

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
  /// Whether `state` is one that make_state could have made, for any number of streams and spare slots.
  bool fits(const State& state) const;

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
    run_forward(x, y, nullptr, workspace);
  }
  /// The same, leaving in `saved` what backward needs.
  template <class X, class Y>
  void forward(const X& x, Y&& y, Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_forward(x, y, &saved, workspace);
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
  void step(const X& x, State& state, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_step(x, nullptr, state, y, workspace);
  }
  /// The next token of each of `streams`, different numbers below state.streams(), and of no other. x, y: any
  /// buffer of as many tokens, in the order of `streams`.
  template <class X, class Y>
  void step(const X& x, std::span<const Index> streams, State& state, Y&& y, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_step(x, &streams, state, y, workspace);
  }

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

  /// The next tokens of each of `streams`, and of no other, each its own number of them: those of streams[i]
  /// are tokens offsets[i] ... offsets[i+1]-1 of x [1,N,C]. The streams are different ones; offsets as in
  /// packed.
  template <class X, class Y>
  void extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state, Y&& y,
              Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, offsets, streams, state, y, nullptr, workspace);
  }
  /// The same, leaving in `saved` what backward needs, the whole state at entry included.
  template <class X, class Y>
  void extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state, Y&& y,
              Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, offsets, streams, state, y, &saved, workspace);
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
  template <class>
  friend class detail::PairStack;

  // Record: Saved*, or std::nullptr_t for none.
  template <class X, class Y, class Record>
  void run_forward(const X& x, Y& y, Record saved, Workspace& workspace) const;
  template <class X, class Y, class Record>
  void run_packed(const X& x, std::span<const Index> offsets, Y& y, Record saved, Workspace& workspace) const;
  template <class X, class Y>
  void run_step(const X& x, const std::span<const Index>* streams, State& state, Y& y,
                Workspace& workspace) const;
  template <class X, class Y, class Record>
  void run_extend(const X& x, State& state, Y& y, Record saved, Workspace& workspace) const;
  template <class X, class Y, class Record>
  void run_extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state,
                  Y& y, Record saved, Workspace& workspace) const;

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

}  // namespace hsm::inline HSM_ABI

#include <hsm/mixing/mixer_entries.hpp>
