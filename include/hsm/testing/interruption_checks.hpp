// SPDX-License-Identifier: MIT
//
// After a call that threw: each stream is what it was or not whole, and the record is one of nothing; and a stream whose
// last tokens are taken back because another layer threw is what it was before them or not whole.
#pragma once

#include <string>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/testing/layer_trial.hpp>
#include <hsm/testing/state_checks.hpp>
#include <hsm/testing/stream_part.hpp>

namespace hsm::inline HSM_ABI::detail {

/// "" or what is wrong with a state whose streams must be whole with `count` tokens of x, or not whole: the former go on
/// from there, the latter are reset and start anew.
inline std::string check_left(LayerTrial& trial, const std::string& what, TestedState& state, Index count) {
  StreamPart part;
  for (Index s = 0; s < LayerTrial::kStreams; ++s) {
    const bool whole = state.is_whole(s);
    if (!whole) state.reset(s);
    const std::string stream = "stream " + std::to_string(s) + " of " + what;
    if (!state.is_whole(s)) return stream + " is not whole after reset";
    const Index expected = whole ? count : 0;
    if (state.count(s) != expected) {
      return stream + (whole ? " is whole and" : ", reset,") + " counts " + counted(state.count(s), "token") +
             ", where it must count " + std::to_string(expected);
    }
    part.add(s, expected, trial.tokens() - expected);
  }
  TokenValues y = trial.y;
  part.scatter(trial.layer.run({.mode = TestedMode::kExtend,
                                .x = part.gather(trial.x),
                                .state = &state,
                                .offsets = part.offsets,
                                .streams = part.streams}),
               y);
  return compare(what, y, trial.y, trial.mode_bound(),
                 "a stream must be what it was before the call, or not whole until it is reset");
}

/// take_back, with spare slots and without, of as many tokens as there are, of some and of a spoiled stream.
inline std::string check_taken_back(LayerTrial& trial) {
  const Index T = trial.tokens(), half = T / 2;
  TokenValues bad = trial.x;
  for (Index b = 0; b < bad.batch; ++b) bad.fill(b, half, T - half, kUntouchable);
  for (const Index spare : {Index{0}, Index{3}}) {
    for (const Index more : {Index{0}, Index{1}, Index{3}, T - half}) {
      const auto state = trial.layer.make_state(LayerTrial::kStreams, spare);
      extend_tokens(trial, trial.x, *state, 0, half);
      if (more > 0) extend_tokens(trial, bad, *state, half, half + more);
      for (Index s = 0; s < LayerTrial::kStreams; ++s) state->take_back(s, half);
      if (more == 0 && !state->is_whole(0))
        return "take_back(0, " + std::to_string(half) + ") of a stream of so many tokens leaves it not whole";
      std::string wrong =
          check_left(trial, "a state after take_back of " + counted(more, "token"), *state, half);
      if (!wrong.empty()) return wrong;
    }
  }
  const auto state = trial.layer.make_state(LayerTrial::kStreams, 3);
  extend_tokens(trial, trial.x, *state, 0, half);
  state->spoil(1);
  state->take_back(1, half);
  return state->is_whole(1) ? "a stream that was spoiled is whole after take_back, without a reset" : "";
}

/// extend by an executor that throws after 0, 1, 3, 7 ... tasks, as long as it comes to that.
inline std::string check_interrupted(LayerTrial& trial) {
  constexpr Index kMostTasks = 256;
  const Index T = trial.tokens(), half = T / 2;
  const TokenValues x = trial.dy.part(half, T - half);
  const auto before = trial.layer.make_state(LayerTrial::kStreams, 0);
  extend_tokens(trial, trial.x, *before, 0, half);
  const auto record = trial.layer.make_record();
  for (Index tasks = 0; tasks < kMostTasks; tasks = 2 * tasks + 1) {
    const auto state = before->copy(), other = before->copy();
    trial.layer.run({.mode = TestedMode::kExtend, .x = x, .state = other.get(), .record = record.get()});
    const TestedCall call{.mode = TestedMode::kExtend, .x = x, .state = state.get(), .record = record.get()};
    if (!trial.layer.run_interrupted(call, tasks)) break;
    const std::string thrown = "a call that threw after " + counted(tasks, "task");
    std::string wrong = check_left(trial, "a state after " + thrown, *state, half);
    if (!wrong.empty()) return wrong;
    if (!record->is_nothing())
      return "the record of " + thrown + " has the sizes of a call, where it must be one of nothing";
  }
  return {};
}

}  // namespace hsm::inline HSM_ABI::detail
