// SPDX-License-Identifier: MIT
//
// Every way of running a layer that mixes tokens, made from the one call that it states (layer/mixing_layer.hpp):
//
//   forward     x, y [B,T,C]             whole sequences from their start
//   packed      x, y [1,N,C], offsets    documents one after another; nothing leaks across their boundaries
//   step        one token per stream     no allocation with a workspace and a state that have their memory
//   extend      x, y [streams,T,C]       any number of further tokens per stream
//   fill        x                        the same without results: only the state is brought past the tokens
//   all three   also on chosen streams   one buffer [1,N,C], by offsets; no other stream changes a bit
//   backward    after a forward, packed or extend that was given a `saved`
//
// y and dx are overwritten, parameter gradients are added to; x and y must not overlap, from the first value of
// each to its last, so they cannot interleave in one buffer. Scratch and threads come from the Workspace; without
// one a call is serial and may allocate. With one that has served such a call before, and records likewise, only
// Eigen's products allocate: two packing spaces per block of at most 256 rows and 256 columns of the result, where
// they pass 128 KB, and with matrices stored in fewer bytes a panel of them per block (core/narrow_product.hpp); none for a
// single column, so step with one stream makes no allocation, but where a state grows: rings of
// more than 16 MiB in all before make_room, a cache of attention without capacity. A const mixer serves many
// threads, each with a workspace of its own. Number of threads: same bits. Cut of time or batch: see the layer's file
// for its bound. Errors: std::invalid_argument naming what was expected and what came, before anything is written;
// std::out_of_range where a stream has no room. Where a call throws later (no memory, an executor that throws)
// results hold anything, its record is refused by backward, and each stream of its state either holds what it held
// before or is refused until it is reset, as all of a state's gradient are then; gradients that were added to hold a
// part of what was to be added.
#pragma once

#include <concepts>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <hsm/core/parameters.hpp>
#include <hsm/layer/call_checks.hpp>
#include <hsm/layer/call_name.hpp>
#include <hsm/layer/mixing_layer.hpp>

namespace hsm::inline HSM_ABI {

/// A layer, run in every mode.
template <class LayerType>
class TokenMixer {
  static_assert(MixingLayer<LayerType>,
                "hsm: a layer that mixes tokens needs every type, constant and function that "
                "hsm/layer/mixing_layer.hpp lists; this one lacks one of them, or has it in another form");

 public:
  /// What is run.
  using Layer = LayerType;
  /// float or double.
  using Scalar = typename Layer::Scalar;
  /// The tensors of the layer; gradients have the same type.
  using Parameters = typename Layer::Parameters;
  /// What a stream carries from call to call.
  using State = typename Layer::State;
  /// What a forward leaves for backward.
  using Saved = typename Layer::Saved;

  /// The layer, whose constructor has checked it.
  explicit TokenMixer(Layer layer) : layer_(std::move(layer)) {}
  /// The layer of these tensors, where they are all that it is made of. Throws std::invalid_argument unless they fit together.
  explicit TokenMixer(Parameters parameters) requires std::constructible_from<Layer, Parameters>
      : layer_(std::move(parameters)) {}

  /// What is run.
  const Layer& layer() const { return layer_; }
  /// C.
  Index channels() const { return layer_.channels(); }
  /// H, of a layer that has heads.
  Index heads() const requires requires(const Layer& layer) {
    { layer.heads() } -> std::same_as<Index>;
  }
  { return layer_.heads(); }
  /// The tensors.
  const Parameters& parameters() const { return layer_.parameters(); }
  /// The tensors, to change their values in place, or for others of the same sizes; where they no longer fit the
  /// next call throws std::invalid_argument.
  Parameters& parameters() { return layer_.parameters(); }

  /// An empty record for forward to fill.
  Saved make_saved() const { return {}; }
  /// Zeros in the shape of the parameters.
  Parameters make_gradients() const { return zeros_like(parameters()); }
  /// Fresh streams. It is also the gradient 0 of a state. Throws std::invalid_argument for options out of range, and
  /// where the tensors no longer fit.
  State make_state(StateOptions options = {}) const {
    layer_.check(kMakeState.who);
    return layer_.make_state(options);
  }
  /// Whether `state` is one that make_state could have made, for any number of streams.
  bool fits(const State& state) const { return layer_.fits(state); }

  /// y = mix(x): B sequences of T tokens, from their start. Both [B,T,C], apart in memory.
  template <class X, class Y>
  void forward(const X& x, Y&& y) const {
    detail::check_kept<Y>();
    Workspace workspace;
    run_forward(x, y, nullptr, workspace);
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

  /// The same for documents one after another in x [1,N,C]: document i is tokens offsets[i] ... offsets[i+1]-1.
  /// Offsets begin with 0, do not fall and end with N; empty documents are legal.
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

  /// The next token of every stream. x, y: any buffer of `streams` tokens, [B,1,C], [1,B,C] or a matrix (C,B).
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
  /// The next tokens of each of `streams`, and of no other, each its own number of them: those of streams[i] are
  /// tokens offsets[i] ... offsets[i+1]-1 of x [1,N,C]. The streams are different ones; offsets as in packed.
  template <class X, class Y>
  void extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state, Y&& y,
              Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, offsets, streams, state, y, nullptr, workspace);
  }
  /// The same, leaving in `saved` what backward needs, the state at entry included.
  template <class X, class Y>
  void extend(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state, Y&& y,
              Saved& saved, Workspace& workspace) const {
    detail::check_kept<Y>();
    run_extend(x, offsets, streams, state, y, &saved, workspace);
  }

  /// extend without results: the state afterwards is that of extend, to the bit where extend is equal to itself
  /// however time is cut, else within the layer's bound; what only results need is not computed.
  template <class X>
  void fill(const X& x, State& state, Workspace& workspace) const {
    run_extend(x, state, kNoResult, nullptr, workspace);
  }
  /// The same for the next tokens of each of `streams`.
  template <class X>
  void fill(const X& x, std::span<const Index> offsets, std::span<const Index> streams, State& state,
            Workspace& workspace) const {
    run_extend(x, offsets, streams, state, kNoResult, nullptr, workspace);
  }

  /// The gradients of the call that filled `saved`: x is that call's x, the parameters are what they were, dy [B,T,C]
  /// is the gradient of its y. dx is overwritten, gradients are added to. `state_gradient`, where given, comes in as
  /// the gradient of the state that the call left (a fresh state for none) and goes out as that of the state it
  /// started from: chunk by chunk from the last to the first it is backpropagation through time, equal to the
  /// gradient of the whole sequence. Streams that the call did not name keep theirs. Without it the gradient stops at
  /// the start of the chunk.
  template <class X, class DY, class DX>
  void backward(const X& x, const Saved& saved, const DY& dy, DX&& dx, Parameters& gradients,
                Workspace& workspace, State* state_gradient = nullptr) const {
    detail::check_kept<DX>();
    run_backward(detail::view<const Scalar>(x, kBackward.x), saved,
                 detail::view<const Scalar>(dy, kBackward.dy), detail::view<Scalar>(dx, kBackward.dx),
                 gradients, workspace, state_gradient);
  }

  /// What backward asks of a record and of the gradient of a state, null where there is none, before anything is
  /// written. Throws std::invalid_argument, which `who` begins.
  void check_record(const char* who, const Tokens<const Scalar>& x, const Saved& saved,
                    const State* state_gradient) const {
    check_input(who, x);
    detail::check_recorded(who, x.shape(), saved.shape());
    if (!layer_.fits(saved, x)) detail::fail(who, "saved", "the record of this layer", "another's");
    if (!state_gradient) return;
    check_state(who, "state_gradient", *state_gradient);
    for (Index stream = 0; stream < state_gradient->streams(); ++stream) {
      if (!state_gradient->is_whole(stream)) detail::fail_whole(who, stream);
    }
    layer_.check_state_gradient(who, saved, *state_gradient);
  }
  /// What it asks of the rest. Throws as check_record does.
  void check_adjoint(const char* who, const Tokens<const Scalar>& x, const Tokens<const Scalar>& dy,
                     const Tokens<Scalar>& dx, const Parameters& gradients) const {
    detail::check_adjoint_buffers(who, x, dy, dx);
    if (&gradients == &parameters())
      detail::fail(who, "gradients", "apart from the parameters of the layer", "these");
    visit(
        [who](std::string_view name, const auto& own, const auto& gradient) {
          detail::check_gradient_of(who, name, {own.rows(), own.cols()}, {gradient.rows(), gradient.cols()});
        },
        parameters(), gradients);
  }

  /// Calls f(name, tensor, more...) for the layer's tensors; each argument is a mixer or its Parameters.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Parameters::visit(f, tensors_of(self), tensors_of(more)...);
  }

 private:
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;

 protected:
  /// Throws unless the layer is whole and x is of its channels.
  void check_input(const char* who, const In& x) const {
    layer_.check(who);
    detail::check_equal(who, "the channels of x", x.channels, channels());
    detail::check_there(who, "x", "memory to read from", x);
  }

 private:
  using Name = detail::CallName;
  static constexpr Name kForward{Layer::kType, "forward"}, kPacked{Layer::kType, "packed"},
      kStep{Layer::kType, "step"}, kExtend{Layer::kType, "extend"}, kFill{Layer::kType, "fill"},
      kBackward{Layer::kType, "backward"}, kMakeState{Layer::kType, "make_state"};

  /// In place of y: nobody wants results.
  struct NoResult {};
  static constexpr NoResult kNoResult{};
  template <class Y>
  static constexpr bool kWanted = !std::is_same_v<Y, const NoResult>;
  template <class Y>
  static constexpr const Name& kExtendName = kWanted<Y> ? kExtend : kFill;

  /// The views of x and y, checked; of y one of nothing where nobody wants results.
  template <class X, class Y>
  std::pair<In, Out> views(const X& any_x, Y& any_y, const Name& name) const {
    const In x = detail::view<const Scalar>(any_x, name.x);
    Out y{};
    if constexpr (kWanted<Y>) y = detail::view<Scalar>(any_y, name.y);
    check_tokens(name.who, x, y, kWanted<Y>);
    return {x, y};
  }

  template <class Self>
  static auto& tensors_of(Self& self) {
    if constexpr (std::is_same_v<std::remove_const_t<Self>, Parameters>) {
      return self;
    } else {
      return self.parameters();
    }
  }

  void check_tokens(const char* who, const In& x, const Out& y, bool wanted = true) const {
    check_input(who, x);
    if (!wanted) return;
    detail::check_equal(who, "y", y.shape(), x.shape());
    detail::check_there(who, "y", "memory to write to", y);  // not: no results wanted
    detail::check_apart(who, "x and y", x, y);
  }
  void check_state(const char* who, const char* what, const State& state) const {
    if (!fits(state)) fail_state(who, what, state);
  }
  [[noreturn]] HSM_NOINLINE void fail_state(const char* who, const char* what, const State& state) const {
    detail::fail(who, what, "one of this layer, with " + make_state({.streams = 0}).shape_text(),
                 "one with " + state.shape_text());
  }
  static void check_streams(const char* who, std::span<const Segment> segments, const State& state) {
    for (const Segment& segment : segments) {
      if (!state.is_whole(segment.stream)) detail::fail_whole(who, segment.stream);
      const Index room = state.room(segment.stream);
      if (segment.count > room) detail::fail_room(who, segment, state.count(segment.stream), room);
    }
  }

  template <class X, class Y>
  void run_forward(const X& any_x, Y& any_y, Saved* saved, Workspace& workspace) const {
    const auto [x, y] = views(any_x, any_y, kForward);
    Workspace::Frame frame(workspace);
    layer_.run(x, detail::equal_segments(frame, x.batch, x.time, false), y, nullptr, saved, workspace);
  }

  template <class X, class Y>
  void run_packed(const X& any_x, std::span<const Index> offsets, Y& any_y, Saved* saved,
                  Workspace& workspace) const {
    const auto [x, y] = views(any_x, any_y, kPacked);
    detail::check_equal(kPacked.who, "the batch of x", x.batch, Index{1});
    detail::check_offsets(kPacked.who, offsets, x.time);
    Workspace::Frame frame(workspace);
    layer_.run(x, detail::segments_at(frame, offsets, {}), y, nullptr, saved, workspace);
  }

  template <class X, class Y>
  void run_step(const X& any_x, const std::span<const Index>* streams, State& state, Y& any_y,
                Workspace& workspace) const {
    constexpr const char* kWho = kStep.who;
    const Index count = streams ? static_cast<Index>(streams->size()) : state.streams();
    const In x = detail::as_streams(kWho, "x", detail::view<const Scalar>(any_x, kStep.x), count);
    const Out y = detail::as_streams(kWho, "y", detail::view<Scalar>(any_y, kStep.y), count);
    check_tokens(kWho, x, y);
    check_state(kWho, "the state", state);
    Workspace::Frame frame(workspace);
    if (streams)
      detail::check_streams(kWho, *streams, count, state.streams(), frame.template take<Index>(count));
    const std::span<Segment> segments = detail::equal_segments(frame, count, 1, true);
    for (std::size_t i = 0; streams && i < segments.size(); ++i) segments[i].stream = (*streams)[i];
    check_streams(kWho, segments, state);
    layer_.run(x, segments, y, &state, nullptr, workspace);
  }

  template <class X, class Y>
  void run_extend(const X& any_x, State& state, Y& any_y, Saved* saved, Workspace& workspace) const {
    constexpr const Name& kName = kExtendName<Y>;
    const auto [x, y] = views(any_x, any_y, kName);
    check_state(kName.who, "the state", state);
    detail::check_equal(kName.who, "the batch of x (streams)", x.batch, state.streams());
    Workspace::Frame frame(workspace);
    const std::span<Segment> segments = detail::equal_segments(frame, x.batch, x.time, true);
    check_streams(kName.who, segments, state);
    layer_.run(x, segments, y, &state, saved, workspace);
  }

  template <class X, class Y>
  void run_extend(const X& any_x, std::span<const Index> offsets, std::span<const Index> streams,
                  State& state, Y& any_y, Saved* saved, Workspace& workspace) const {
    constexpr const Name& kName = kExtendName<Y>;
    const auto [x, y] = views(any_x, any_y, kName);
    check_state(kName.who, "the state", state);
    detail::check_equal(kName.who, "the batch of x", x.batch, Index{1});
    detail::check_offsets(kName.who, offsets, x.time);
    Workspace::Frame frame(workspace);
    const Index count = static_cast<Index>(offsets.size()) - 1;
    detail::check_streams(kName.who, streams, count, state.streams(),
                          frame.template take<Index>(static_cast<Index>(streams.size())));
    const std::span<Segment> segments = detail::segments_at(frame, offsets, streams);
    check_streams(kName.who, segments, state);
    layer_.run(x, segments, y, &state, saved, workspace);
  }

  void run_backward(const In& x, const Saved& saved, const In& dy, const Out& dx, Parameters& gradients,
                    Workspace& workspace, State* state_gradient) const {
    constexpr const char* kWho = kBackward.who;
    check_record(kWho, x, saved, state_gradient);
    check_adjoint(kWho, x, dy, dx, gradients);
    detail::UnfinishedGradient<State> unfinished(state_gradient);
    layer_.run_adjoint(x, saved, dy, dx, gradients, state_gradient, workspace);
    unfinished.gradient = nullptr;
  }

 protected:
  /// What is run, for what a layer can do besides.
  Layer layer_;
};

}  // namespace hsm::inline HSM_ABI
