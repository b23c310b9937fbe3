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

/// TokenMixer<Layer>, run on tokens in double. Scratch, y and dx come as NaN, each at the same alignment in every call.
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

    State state;
  };
  struct HeldRecord final : TestedRecord {
    Saved saved;
  };

 public:
  explicit TestedMixer(Mixer mixer) : mixer_(std::move(mixer)) {
    workspace_.poison = buffers_.poison = true;
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
    const Tokens<const Scalar> x = taken(frame, call.x);
    const Tokens<Scalar> y = empty(frame, call.x);
    State* const state = state_of(call.state);
    Saved* const saved = call.record ? &static_cast<HeldRecord*>(call.record)->saved : nullptr;
    const bool chosen = !call.streams.empty();
    switch (call.mode) {
      case TestedMode::kForward:
        saved ? mixer_.forward(x, y, *saved, workspace_) : mixer_.forward(x, y, workspace_);
        break;
      case TestedMode::kPacked:
        saved ? mixer_.packed(x, call.offsets, y, *saved, workspace_)
              : mixer_.packed(x, call.offsets, y, workspace_);
        break;
      case TestedMode::kStep:
        chosen ? mixer_.step(x, call.streams, *state, y, workspace_) : mixer_.step(x, *state, y, workspace_);
        break;
      case TestedMode::kExtend:
        if (chosen) {
          saved ? mixer_.extend(x, call.offsets, call.streams, *state, y, *saved, workspace_)
                : mixer_.extend(x, call.offsets, call.streams, *state, y, workspace_);
        } else {
          saved ? mixer_.extend(x, *state, y, *saved, workspace_) : mixer_.extend(x, *state, y, workspace_);
        }
        break;
      case TestedMode::kFill:
        chosen ? mixer_.fill(x, call.offsets, call.streams, *state, workspace_)
               : mixer_.fill(x, *state, workspace_);
        return {};
    }
    return given(y);
  }

  TokenValues backward(const TokenValues& x, const TestedRecord& record, const TokenValues& dy,
                       TensorGradients& gradients, TestedState* state_gradient) override {
    Workspace::Frame frame(buffers_);
    const Tokens<const Scalar> x_view = taken(frame, x), dy_view = taken(frame, dy);
    const Tokens<Scalar> dx = empty(frame, x);
    auto typed = mixer_.make_gradients();
    const auto each = [&](auto&& f) {
      std::size_t i = 0;
      Mixer::visit([&](std::string_view, auto& tensor) { f(gradients[i++], tensor.data()); }, typed);
    };
    each([](const std::vector<double>& from, Scalar* to) {
      for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<Scalar>(from[i]);
    });
    mixer_.backward(x_view, static_cast<const HeldRecord&>(record).saved, dy_view, dx, typed, workspace_,
                    state_of(state_gradient));
    each([](std::vector<double>& to, const Scalar* from) { std::copy_n(from, to.size(), to.begin()); });
    return given(dx);
  }

 private:
  static State* state_of(TestedState* held) { return held ? &static_cast<HeldState*>(held)->state : nullptr; }
  Tokens<Scalar> empty(Workspace::Frame& frame, const TokenValues& like) const {
    return {frame.template take<Scalar>(like.count() * like.channels), like.batch, like.time, like.channels};
  }
  Tokens<const Scalar> taken(Workspace::Frame& frame, const TokenValues& tokens) const {
    const Tokens<Scalar> view = empty(frame, tokens);
    for (std::size_t i = 0; i < tokens.values.size(); ++i)
      view.data[i] = static_cast<Scalar>(tokens.values[i]);
    return view;
  }
  static TokenValues given(const Tokens<Scalar>& view) {
    TokenValues tokens(view.batch, view.time, view.channels);
    std::copy_n(view.data, tokens.values.size(), tokens.values.begin());
    return tokens;
  }

  Mixer mixer_;
  Workspace workspace_, buffers_;
  std::vector<TestedTensor> tensors_;
  std::vector<Scalar*> data_;
};

}  // namespace hsm::inline HSM_ABI::detail
