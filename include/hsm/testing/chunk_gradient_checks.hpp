// SPDX-License-Identifier: MIT
//
// Gradients of chunks, from the last to the first and joined by state_gradient, are those of the whole sequence: with
// all streams in step, with chosen ones, each cut elsewhere, and where tokens were taken back in between.
#pragma once

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/testing/gradient_checks.hpp>
#include <hsm/testing/layer_trial.hpp>
#include <hsm/testing/stream_part.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The calls of a chunked forward: tokens of all streams, or of chosen ones.
struct ChunkCall {
  StreamPart part = {};
  bool chosen = false;
  Index first = 0, count = 0;  // of all streams, where none are chosen

  TokenValues of(const TokenValues& all) const { return chosen ? part.gather(all) : all.part(first, count); }
  void put(const TokenValues& tokens, TokenValues& all) const {
    chosen ? part.scatter(tokens, all) : all.put(tokens, first);
  }
};

/// Forward by these calls, and backward from the last to the first.
inline std::string check_chunks(LayerTrial& trial, const WholeGradients& whole, const std::string& what,
                                const std::vector<ChunkCall>& calls) {
  TestedLayer& layer = trial.layer;
  const auto state = layer.make_state(LayerTrial::kStreams, 1), gradient = state->copy();
  std::vector<std::unique_ptr<TestedRecord>> records;
  TokenValues y = trial.y;
  WholeGradients got{whole.dx, layer.zero_gradients()};
  for (const ChunkCall& call : calls) {
    records.push_back(layer.make_record());
    const TokenValues x = call.of(trial.x);
    TestedCall extend{
        .mode = TestedMode::kExtend, .x = x, .state = state.get(), .record = records.back().get()};
    if (call.chosen) extend.offsets = call.part.offsets, extend.streams = call.part.streams;
    call.put(layer.run(extend), y);
  }
  std::string wrong =
      compare("extend with a record", y, trial.y, trial.mode_bound(), "the record must change nothing");
  if (!wrong.empty()) return wrong;

  for (std::size_t i = calls.size(); i-- > 0;) {
    const TokenValues x = calls[i].of(trial.x), dy = calls[i].of(trial.dy);
    calls[i].put(layer.backward(x, *records[i], dy, got.tensors, gradient.get()), got.dx);
  }
  return compare_gradients(
      trial, what, got, whole,
      "what a chunk gives to the state before it, and takes from the one after it, is lost or "
      "wrong");
}

/// The gradients of `whole` by chunks.
inline std::string check_chunk_gradients(LayerTrial& trial, const WholeGradients& whole) {
  const Index T = trial.tokens();
  std::vector<ChunkCall> calls;
  for (Index first = 0, i = 0; first < T; ++i) {
    const Index lengths[] = {1, T / 3, 0, 2}, count = (std::min)(lengths[i % 4], T - first);
    calls.push_back({.first = first, .count = count});
    first += count;
  }
  std::string wrong = check_chunks(trial, whole, "backward in chunks", calls);
  if (!wrong.empty()) return wrong;

  // Without a gradient of the state the last chunk has the same gradients: nothing comes after it.
  const ChunkCall last{.first = T / 2, .count = T - T / 2};
  const auto state = trial.layer.make_state(LayerTrial::kStreams, 0);
  const auto record = trial.layer.make_record();
  const TokenValues before = trial.x.part(0, T / 2), x = last.of(trial.x);
  trial.layer.run({.mode = TestedMode::kExtend, .x = before, .state = state.get()});
  trial.layer.run({.mode = TestedMode::kExtend, .x = x, .state = state.get(), .record = record.get()});
  TensorGradients unused = trial.layer.zero_gradients();
  TokenValues dx = whole.dx;
  last.put(trial.layer.backward(x, *record, last.of(trial.dy), unused), dx);
  wrong = compare("backward of a chunk without state_gradient", dx, whole.dx, 10 * trial.mode_bound(),
                  "what lies before the chunk is a constant, its own tokens have all their gradients",
                  "the whole sequence");
  if (!wrong.empty()) return wrong;

  calls.clear();
  std::vector<Index> seen(LayerTrial::kStreams, 0);
  while (!all_read(trial, seen)) calls.push_back({.part = draw_part(trial, seen, 6), .chosen = true});
  std::erase_if(calls, [](const ChunkCall& call) { return call.part.streams.empty(); });
  return check_chunks(trial, whole, "backward in chunks of chosen streams", calls);
}

/// The gradients of `whole` by two chunks, the first of which had more tokens, which were taken back before the second. A
/// layer may refuse such a state_gradient, and must refuse one of another number of streams.
inline std::string check_rewound_gradients([[maybe_unused]] LayerTrial& trial,
                                           [[maybe_unused]] const WholeGradients& whole) {
#if defined(__cpp_exceptions)
  constexpr Index kBack = 2;
  TestedLayer& layer = trial.layer;
  const Index T = trial.tokens(), half = T / 2;
  const auto state = layer.make_state(LayerTrial::kStreams, kBack), gradient = state->copy();
  TokenValues x = trial.x.part(0, half + kBack), dy = trial.dy.part(0, half + kBack);
  x.put(trial.dy.part(half, kBack), half);  // other tokens than those that come
  for (Index b = 0; b < dy.batch; ++b) dy.fill(b, half, kBack, 0);
  const TokenValues later = trial.x.part(half, T - half), later_dy = trial.dy.part(half, T - half);
  const auto record = layer.make_record(), later_record = layer.make_record();
  layer.run({.mode = TestedMode::kExtend, .x = x, .state = state.get(), .record = record.get()});
  const bool rewinds = state->can_rewind(0, kBack);
  for (Index s = 0; rewinds && s < LayerTrial::kStreams; ++s) state->rewind(s, kBack);
  layer.run({.mode = TestedMode::kExtend, .x = later, .state = state.get(), .record = later_record.get()});

  TensorGradients unused = layer.zero_gradients();
  bool refused = false;
  try {
    const auto other = layer.make_state(LayerTrial::kStreams + 1, kBack);
    layer.backward(later, *later_record, later_dy, unused, other.get());
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  if (!refused)
    return "backward takes a state_gradient of " + std::to_string(LayerTrial::kStreams + 1) +
           " streams for a state of " + std::to_string(LayerTrial::kStreams) +
           ": check_state_gradient must refuse it";
  if (!rewinds) return {};

  WholeGradients got{whole.dx, layer.zero_gradients()};
  TokenValues first;
  try {
    got.dx.put(layer.backward(later, *later_record, later_dy, got.tensors, gradient.get()), half);
    first = layer.backward(x, *record, dy, got.tensors, gradient.get());
  } catch (const std::invalid_argument&) {
    return {};
  }
  got.dx.put(first.part(0, half), 0);
  std::string wrong = compare_gradients(trial, "backward in chunks with tokens taken back in between", got,
                                        whole, "the tokens that stayed must get what the later ones give");
  const TokenValues back = first.part(half, kBack);
  if (wrong.empty() && largest_of(back.values) != 0)
    wrong = "backward gives tokens that were taken back a gradient of " +
            number_text(largest_of(back.values)) + ": nothing depends on them";
  return wrong;
#else
  return {};
#endif
}

}  // namespace hsm::inline HSM_ABI::detail
