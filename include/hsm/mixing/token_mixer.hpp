// SPDX-License-Identifier: MIT
//
// What a model asks of a layer that mixes tokens. Mixer<Policy> and CausalAttention are TokenMixers; a stack
// holds a std::variant of them.
#pragma once

#include <concepts>
#include <span>

#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/mixing/segment.hpp>

namespace hsm::inline HSM_ABI {

/// Every way of running a layer on [B,T,C], with its parameters, its state and its record for backward as
/// plain values.
template <class M>
concept TokenMixer = std::copyable<M> && std::copyable<typename M::State> &&
    std::copyable<typename M::Saved> && std::copyable<typename M::Parameters> &&
    requires(const M& mixer, M& own, Tokens<const typename M::Scalar> x, Tokens<typename M::Scalar> y,
             typename M::State& state, typename M::Saved& saved, typename M::Parameters& gradients,
             Workspace& workspace, StateOptions options, std::span<const Index> list, Index stream) {
  { mixer.channels() } -> std::same_as<Index>;
  { mixer.make_state(options) } -> std::same_as<typename M::State>;
  { mixer.make_saved() } -> std::same_as<typename M::Saved>;
  { mixer.make_gradients() } -> std::same_as<typename M::Parameters>;
  { own.parameters() } -> std::same_as<typename M::Parameters&>;
  own.visit_result([](auto&) {});
  mixer.forward(x, y, workspace);
  mixer.forward(x, y, saved, workspace);
  mixer.packed(x, list, y, saved, workspace);
  mixer.backward(x, saved, x, y, gradients, workspace, &state);
  mixer.step(x, state, y, workspace);
  mixer.step(x, list, state, y, workspace);
  mixer.extend(x, state, y, saved, workspace);
  mixer.extend(x, list, list, state, y, workspace);
  mixer.extend(x, list, list, state, y, saved, workspace);
  { state.count(stream) } -> std::same_as<Index>;
  state.reset(stream);
  state.rewind(stream, stream);
  state.copy_stream(stream, stream);
  { state.is_whole(stream) } -> std::same_as<bool>;
  state.take_back(stream, stream);
};

}  // namespace hsm::inline HSM_ABI
