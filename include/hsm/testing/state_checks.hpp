// SPDX-License-Identifier: MIT
//
// States: a copy and a fork go on alone, a stream that is reset or rewound holds nothing of what it saw, and one that is
// taken up again after calls for others goes on where it stopped.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/testing/layer_trial.hpp>
#include <hsm/testing/stream_part.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Tokens [from, to) of all streams by extend.
inline TokenValues extend_tokens(LayerTrial& trial, const TokenValues& x, TestedState& state, Index from,
                                 Index to) {
  return trial.layer.run({.mode = TestedMode::kExtend, .x = x.part(from, to - from), .state = &state});
}

/// "" or how a state that goes on with tokens [from, T) of x differs from `expected`, whole sequences.
inline std::string check_goes_on(LayerTrial& trial, std::string_view what, TestedState& state,
                                 const TokenValues& x, const TokenValues& expected, Index from,
                                 std::string_view hint) {
  TokenValues y = expected;
  y.put(extend_tokens(trial, x, state, from, trial.tokens()), from);
  return compare(what, y, expected, trial.mode_bound(), hint);
}

/// A copy of the state, and states by turns.
inline std::string check_copies(LayerTrial& trial) {
  const Index T = trial.tokens(), half = T / 2;
  const auto state = trial.layer.make_state(LayerTrial::kStreams, 0);
  extend_tokens(trial, trial.x, *state, 0, half);
  const auto copy = state->copy(), other = state->copy();
  extend_tokens(trial, trial.dy, *other, half, T);
  std::string wrong = check_goes_on(trial, "a state whose copy went on with other tokens", *state, trial.x,
                                    trial.y, half, "copies must share nothing");
  if (wrong.empty())
    wrong = check_goes_on(trial, "a copied state", *copy, trial.x, trial.y, half,
                          "a copy must hold all that the state holds");
  if (!wrong.empty()) return wrong;

  const auto first = trial.layer.make_state(LayerTrial::kStreams, 0), second = first->copy();
  const TokenValues expected = trial.layer.forward(trial.dy);
  for (Index t = 0; t < half; ++t) {
    extend_tokens(trial, trial.x, *first, t, t + 1);
    extend_tokens(trial, trial.dy, *second, t, t + 1);
  }
  wrong = check_goes_on(trial, "a state that is taken up again", *first, trial.x, trial.y, half,
                        "what a stream holds must be in its state, not in the layer");
  if (!wrong.empty()) return wrong;
  return check_goes_on(trial, "a state that is taken up again", *second, trial.dy, expected, half,
                       "what a stream holds must be in its state, not in the layer");
}

/// A fork: stream 2 becomes a copy of stream 0, whatever it held.
inline std::string check_forks(LayerTrial& trial) {
  const Index T = trial.tokens(), half = T / 2;
  const auto state = trial.layer.make_state(LayerTrial::kStreams, 0);
  extend_tokens(trial, trial.x, *state, 0, half);
  state->copy_stream(0, 2);
  if (state->count(2) != half) return "copy_stream does not copy the count of a stream";
  TokenValues x = trial.x, expected = trial.y;
  std::copy_n(trial.x.at(0, 0), T * x.channels, x.at(2, 0));
  std::copy_n(trial.y.at(0, 0), T * x.channels, expected.at(2, 0));
  return check_goes_on(trial, "a state after copy_stream(0, 2)", *state, x, expected, half,
                       "the copied stream must go on as the other does, and no third one may notice");
}

/// A stream that is spoiled is not whole until it is reset.
inline std::string check_spoiled(LayerTrial& trial) {
  const auto state = trial.layer.make_state(LayerTrial::kStreams, 0);
  extend_tokens(trial, trial.x, *state, 0, trial.tokens() / 2);
  state->spoil(1);
  if (state->is_whole(1))
    return "spoil(1) leaves stream 1 whole: what a call that threw left in part goes on";
  if (!state->is_whole(0) || !state->is_whole(2)) return "spoil(1) makes other streams not whole";
  state->reset(1);
  return state->is_whole(1) ? "" : "a stream that was spoiled is not whole after reset(1)";
}

/// reset, of one stream, which has seen NaN, and of all.
inline std::string check_resets(LayerTrial& trial) {
  const Index T = trial.tokens(), half = T / 2;
  const auto state = trial.layer.make_state(LayerTrial::kStreams, 0);
  TokenValues bad = trial.x;
  bad.fill(1, 0, T, kUntouchable);
  extend_tokens(trial, bad, *state, 0, half);
  state->reset(1);
  if (state->count(1) != 0) return "reset(stream) leaves " + counted(state->count(1), "token");
  StreamPart part;
  part.add(1, 0, T);
  part.add(0, half, T - half);
  part.add(2, half, T - half);
  TokenValues y = trial.y;
  part.scatter(trial.layer.run({.mode = TestedMode::kExtend,
                                .x = part.gather(trial.x),
                                .state = state.get(),
                                .offsets = part.offsets,
                                .streams = part.streams}),
               y);
  std::string wrong = compare("a state after reset(1)", y, trial.y, trial.mode_bound(),
                              "stream 1 must start as a fresh one, and the others go on");
  if (!wrong.empty()) return wrong;

  extend_tokens(trial, bad, *state, 0, half);
  state->reset();
  if (state->count(0) != 0) return "reset() leaves " + counted(state->count(0), "token");
  return check_goes_on(trial, "a state after reset()", *state, trial.x, trial.y, 0,
                       "all streams must start as fresh ones");
}

/// rewind, where the state can: of tokens that were NaN, and of all.
inline std::string check_rewinds(LayerTrial& trial) {
  constexpr Index kSpare = 3;
  const Index T = trial.tokens(), half = T / 2;
  for (Index k = 1; k <= kSpare; ++k) {
    const auto state = trial.layer.make_state(LayerTrial::kStreams, kSpare);
    TokenValues bad = trial.x;
    for (Index b = 0; b < bad.batch; ++b) bad.fill(b, half, T - half, kUntouchable);
    extend_tokens(trial, trial.x, *state, 0, half);
    extend_tokens(trial, bad, *state, half, half + k);
    if (!state->can_rewind(0, k)) return {};  // such states take nothing back
    for (Index s = 0; s < LayerTrial::kStreams; ++s) state->rewind(s, k);
    if (state->count(0) != half)
      return "rewind by " + std::to_string(k) + " leaves " + counted(state->count(0), "token") + " of " +
             std::to_string(half + k);
    std::string wrong = check_goes_on(trial, "a state after rewind by " + std::to_string(k), *state, trial.x,
                                      trial.y, half, "the tokens that were taken back must leave no trace");
    if (!wrong.empty()) return wrong;
    bool all = true;
    for (Index s = 0; s < LayerTrial::kStreams; ++s) all = all && state->can_rewind(s, T);
    if (!all) continue;
    for (Index s = 0; s < LayerTrial::kStreams; ++s) state->rewind(s, T);
    wrong = check_goes_on(trial, "a state after rewind by all", *state, trial.x, trial.y, 0,
                          "all streams must start as fresh ones");
    if (!wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace hsm::inline HSM_ABI::detail
