// SPDX-License-Identifier: MIT
//
// Gradients of chunks, from the last to the first and joined by state_gradient, are those of the whole sequence: with
// all streams in step, and with chosen ones, each cut elsewhere.
#pragma once

#include <algorithm>
#include <memory>
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

}  // namespace hsm::inline HSM_ABI::detail
