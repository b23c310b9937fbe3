// SPDX-License-Identifier: MIT
//
// Every mode gives what forward gives: documents packed, tokens one by one, in chunks, on chosen streams, and after
// tokens whose results nobody wanted.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/testing/layer_trial.hpp>
#include <hsm/testing/stream_part.hpp>

namespace hsm::inline HSM_ABI::detail {

/// "" or why the counts of a state are not those of the tokens that its streams have seen.
inline std::string check_counts(const TestedState& state, const std::vector<Index>& seen, const char* call) {
  for (std::size_t s = 0; s < seen.size(); ++s) {
    const Index count = state.count(static_cast<Index>(s));
    if (count != seen[s])
      return std::string("after ") + call + " the state counts " + counted(count, "token") + " of stream " +
             std::to_string(s) + ", which has read " + std::to_string(seen[s]);
  }
  return {};
}

/// forward of fewer tokens, of none, and with a record; packed against each document alone.
inline std::string check_packed(LayerTrial& trial) {
  TestedLayer& layer = trial.layer;
  const double bound = trial.mode_bound();
  const Index T = trial.tokens(), N = trial.x.count();
  const auto record = layer.make_record();
  layer.forward(TokenValues(2, 0, layer.channels()));
  std::string wrong = compare("forward with a record", layer.forward(trial.x, record.get()), trial.y, bound,
                              "the record must change nothing");
  if (!wrong.empty()) return wrong;

  const TokenValues x = trial.x.joined();
  const std::vector<Index> offsets{0, 0, 1, T / 2, T + 3, T + 3, N};
  TokenValues alone(1, N, layer.channels());
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
    alone.put(layer.forward(x.part(offsets[i], offsets[i + 1] - offsets[i])), offsets[i]);
  const TokenValues got = layer.run({.mode = TestedMode::kPacked, .x = x, .offsets = offsets});
  wrong = compare("packed", got, alone, bound, "documents must be mixed as if each were alone");
  if (!wrong.empty()) return wrong;
  const TokenValues recorded =
      layer.run({.mode = TestedMode::kPacked, .x = x, .record = record.get(), .offsets = offsets});
  return compare("packed with a record", recorded, alone, bound, "the record must change nothing");
}

/// All tokens of all streams by calls of these lengths, again and again; `mode` is kStep, whose calls have one token,
/// kExtend, or kFill, after which step reads every other call.
inline TokenValues run_in_chunks(LayerTrial& trial, TestedState& state, TestedMode mode,
                                 const std::vector<Index>& lengths) {
  const Index T = trial.tokens();
  TokenValues y = trial.y;  // stays where nobody wants results
  for (Index first = 0, call = 0; first < T; ++call) {
    const bool fills = mode == TestedMode::kFill && call % 2 == 0;
    const bool steps = mode == TestedMode::kStep || (mode == TestedMode::kFill && !fills);
    const Index length = lengths[static_cast<std::size_t>(call) % lengths.size()];
    const Index n = steps ? 1 : (std::min)(length, T - first);
    const TokenValues got = trial.layer.run({.mode = steps   ? TestedMode::kStep
                                                     : fills ? TestedMode::kFill
                                                             : TestedMode::kExtend,
                                             .x = trial.x.part(first, n),
                                             .state = &state});
    if (!fills) y.put(got, first);
    first += n;
  }
  return y;
}

/// step, extend and fill on all streams.
inline std::string check_streaming(LayerTrial& trial) {
  struct Way {
    TestedMode mode;
    std::vector<Index> lengths;
    const char *call, *hint;
  };
  const Index T = trial.tokens();
  const Way ways[] = {
      {TestedMode::kExtend, {T}, "extend by all tokens", "it must do what forward does"},
      {TestedMode::kStep,
       {1},
       "step",
       "the state forgets something that later tokens need, or holds it wrong"},
      {TestedMode::kExtend,
       {1, 3, 0, T / 3},
       "extend in chunks",
       "the state forgets something that later tokens need, or holds it wrong"},
      {TestedMode::kFill,
       {5, 1, 2, 1, 0, 1},
       "step after fill",
       "fill must leave the state that extend leaves"},
  };
  for (const Way& way : ways) {
    const auto state = trial.layer.make_state(LayerTrial::kStreams, 0);
    const TokenValues got = run_in_chunks(trial, *state, way.mode, way.lengths);
    std::string wrong = compare(way.call, got, trial.y, trial.mode_bound(), way.hint);
    if (wrong.empty()) wrong = check_counts(*state, std::vector<Index>(LayerTrial::kStreams, T), way.call);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

/// step, extend and fill on chosen streams, each with its own number of tokens.
inline std::string check_chosen_streams(LayerTrial& trial) {
  const auto state = trial.layer.make_state(LayerTrial::kStreams, 2);
  std::vector<Index> seen(LayerTrial::kStreams, 0);
  for (int call = 0; !all_read(trial, seen); ++call) {
    const TestedMode mode = call % 3 == 0   ? TestedMode::kStep
                            : call % 3 == 1 ? TestedMode::kExtend
                                            : TestedMode::kFill;
    const char* const name = call % 3 == 0   ? "step of chosen streams"
                             : call % 3 == 1 ? "extend of chosen streams"
                                             : "fill of chosen streams";
    const StreamPart part = mode == TestedMode::kStep ? draw_step(trial, seen) : draw_part(trial, seen, 4);
    if (part.streams.empty()) continue;
    const TokenValues got = trial.layer.run({.mode = mode,
                                             .x = part.gather(trial.x),
                                             .state = state.get(),
                                             .offsets = part.offsets,
                                             .streams = part.streams});
    if (mode != TestedMode::kFill) {
      TokenValues y = trial.y;
      part.scatter(got, y);
      const std::string wrong =
          compare(name, y, trial.y, trial.mode_bound(), "each stream must go on as if it were alone");
      if (!wrong.empty()) return wrong;
    }
    const std::string wrong = check_counts(*state, seen, name);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace hsm::inline HSM_ABI::detail
