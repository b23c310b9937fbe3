// SPDX-License-Identifier: MIT
//
// The layer of a type of one's own behind the calls that the checks make: values are rounded to its scalar on their
// way in and widened on their way out, which keeps every bit.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <hsm/layer/token_mixer.hpp>
#include <hsm/testing/tested_layer.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Runs tasks from the last to the first, as three workers: the order and the worker of a task are nobody's to rely on.
class LastFirstExecutor final : public Executor {
 public:
  /// What it throws, where it has exceptions, in place of a task once `left` tasks have run.
  struct Interrupted {};
  static constexpr Index kAll = -1;
  Index left = kAll;

  int workers() const override { return 3; }
  void run(Index tasks, TaskRef task) override {
    for (Index i = tasks; i-- > 0;) {
#if defined(__cpp_exceptions)
      if (left == 0) throw Interrupted();
#endif
      if (left > 0) --left;
      task(i, static_cast<int>(i % 3));
    }
  }
};

/// TokenMixer<Layer>, run on tokens in double. Scratch, y and dx come as NaN, each at the same alignment in every call.
/// Forward, and backward without the gradient of a state, run on dense buffers and one worker; all else on buffers with
/// gaps between tokens and between sequences, by LastFirstExecutor.
template <class Layer>
class TestedMixer final : public TestedLayer {
  using Mixer = TokenMixer<Layer>;
  using Scalar = typename Mixer::Scalar;
  using State = typename Mixer::State;
  using Saved = typename Mixer::Saved;

  struct HeldState final : TestedState {
    explicit HeldState(State made) : state(std::move(made)) {}
    std::unique_ptr<TestedState> copy() const override { return std::make_unique<HeldState>(state); }
    Index count(Index stream) const override { return state.count(stream); }
    bool can_rewind(Index stream, Index k) const override { return state.can_rewind(stream, k); }
    void rewind(Index stream, Index k) override { state.rewind(stream, k); }
    void reset(Index stream) override { state.reset(stream); }
    void reset() override { state.reset(); }
    void copy_stream(Index from, Index to) override { state.copy_stream(from, to); }
    void take_back(Index stream, Index count) override { state.take_back(stream, count); }
    void spoil(Index stream) override { state.spoil(stream); }
    bool is_whole(Index stream) const override { return state.is_whole(stream); }

    State state;
  };
  struct HeldRecord final : TestedRecord {
    bool is_nothing() const override { return saved.shape()[0] < 0; }
    Saved saved;
  };

 public:
  explicit TestedMixer(Mixer mixer) : mixer_(std::move(mixer)) {
    workspace_.poison = other_workspace_.poison = buffers_.poison = true;
    Mixer::visit(
        [&](std::string_view name, auto& tensor) {
          static_assert(std::is_same_v<decltype(tensor.data()), Scalar*>,
                        "hsm: every tensor that visit names must be of the layer's Scalar");
          tensors_.push_back({std::string(name), static_cast<Index>(tensor.size())});
          data_.push_back(tensor.data());
        },
        mixer_);
  }
  TestedMixer(const TestedMixer&) = delete;
  TestedMixer& operator=(const TestedMixer&) = delete;

  const Mixer& mixer() const { return mixer_; }

  Index channels() const override { return mixer_.channels(); }
  double epsilon() const override { return static_cast<double>(std::numeric_limits<Scalar>::epsilon()); }
  double rounded(double value) const override { return static_cast<double>(static_cast<Scalar>(value)); }
  const std::vector<TestedTensor>& tensors() const override { return tensors_; }
  double value(std::size_t tensor, Index i) const override { return static_cast<double>(data_[tensor][i]); }
  void set_value(std::size_t tensor, Index i, double value) override {
    data_[tensor][i] = static_cast<Scalar>(value);
  }
  std::unique_ptr<TestedState> make_state(Index streams, Index spare) const override {
    return std::make_unique<HeldState>(mixer_.make_state({.streams = streams, .spare = spare}));
  }
  std::unique_ptr<TestedRecord> make_record() const override { return std::make_unique<HeldRecord>(); }

  TokenValues run(const TestedCall& call) override {
    Workspace::Frame frame(buffers_);
    const bool dense = call.mode == TestedMode::kForward;
    const Tokens<const Scalar> x = taken(frame, call.x, dense);
    const Tokens<Scalar> y = empty(frame, call.x, dense);
    Workspace& workspace = dense ? workspace_ : other_workspace_;
    State* const state = state_of(call.state);
    Saved* const saved = call.record ? &static_cast<HeldRecord*>(call.record)->saved : nullptr;
    const bool chosen = !call.streams.empty();
    switch (call.mode) {
      case TestedMode::kForward:
        saved ? mixer_.forward(x, y, *saved, workspace) : mixer_.forward(x, y, workspace);
        break;
      case TestedMode::kPacked:
        saved ? mixer_.packed(x, call.offsets, y, *saved, workspace)
              : mixer_.packed(x, call.offsets, y, workspace);
        break;
      case TestedMode::kStep:
        chosen ? mixer_.step(x, call.streams, *state, y, workspace) : mixer_.step(x, *state, y, workspace);
        break;
      case TestedMode::kExtend:
        if (chosen) {
          saved ? mixer_.extend(x, call.offsets, call.streams, *state, y, *saved, workspace)
                : mixer_.extend(x, call.offsets, call.streams, *state, y, workspace);
        } else {
          saved ? mixer_.extend(x, *state, y, *saved, workspace) : mixer_.extend(x, *state, y, workspace);
        }
        break;
      case TestedMode::kFill:
        chosen ? mixer_.fill(x, call.offsets, call.streams, *state, workspace)
               : mixer_.fill(x, *state, workspace);
        return {};
    }
    return given(y);
  }

  bool run_interrupted([[maybe_unused]] const TestedCall& call, [[maybe_unused]] Index tasks) override {
    bool ended = false;
#if defined(__cpp_exceptions)
    last_first_.left = tasks;
    try {
      run(call);
    } catch (const LastFirstExecutor::Interrupted&) {
      ended = true;
    }
    last_first_.left = LastFirstExecutor::kAll;
#endif
    return ended;
  }

  TokenValues backward(const TokenValues& x, const TestedRecord& record, const TokenValues& dy,
                       TensorGradients& gradients, TestedState* state_gradient) override {
    Workspace::Frame frame(buffers_);
    const bool dense = !state_gradient;
    // Not where the call had them: who keeps a view of its x reads something else.
    const Tokens<const Scalar> dy_view = taken(frame, dy, dense), x_view = taken(frame, x, dense);
    const Tokens<Scalar> dx = empty(frame, x, dense);
    auto typed = mixer_.make_gradients();
    const auto each = [&](auto&& f) {
      std::size_t i = 0;
      Mixer::visit([&](std::string_view, auto& tensor) { f(gradients[i++], tensor.data()); }, typed);
    };
    each([](const std::vector<double>& from, Scalar* to) {
      for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<Scalar>(from[i]);
    });
    mixer_.backward(x_view, static_cast<const HeldRecord&>(record).saved, dy_view, dx, typed,
                    dense ? workspace_ : other_workspace_, state_of(state_gradient));
    each([](std::vector<double>& to, const Scalar* from) { std::copy_n(from, to.size(), to.begin()); });
    return given(dx);
  }

 private:
  static State* state_of(TestedState* held) { return held ? &static_cast<HeldState*>(held)->state : nullptr; }
  Tokens<Scalar> empty(Workspace::Frame& frame, const TokenValues& like, bool dense) const {
    const Index token = like.channels + (dense ? 0 : 3), sequence = like.time * token + (dense ? 0 : 5);
    return {frame.template take<Scalar>(like.batch * sequence),
            like.batch,
            like.time,
            like.channels,
            token,
            sequence};
  }
  Tokens<const Scalar> taken(Workspace::Frame& frame, const TokenValues& tokens, bool dense) const {
    const Tokens<Scalar> view = empty(frame, tokens, dense);
    for (Index t = 0; t < tokens.count(); ++t) {
      const double* const from = tokens.values.data() + t * tokens.channels;
      for (Index c = 0; c < tokens.channels; ++c) view.at(t)[c] = static_cast<Scalar>(from[c]);
    }
    return view;
  }
  static TokenValues given(const Tokens<Scalar>& view) {
    TokenValues tokens(view.batch, view.time, view.channels);
    for (Index t = 0; t < tokens.count(); ++t)
      std::copy_n(view.at(t), view.channels, tokens.values.data() + t * view.channels);
    return tokens;
  }

  Mixer mixer_;
  LastFirstExecutor last_first_;
  Workspace workspace_, buffers_, other_workspace_{last_first_};
  std::vector<TestedTensor> tensors_;
  std::vector<Scalar*> data_;
};

}  // namespace hsm::inline HSM_ABI::detail
