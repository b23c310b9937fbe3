// SPDX-License-Identifier: MIT
//
// What may depend on what: results are numbers and the same every time, no output sees a later token, and no document or
// stream another one. Tokens that must not be read are NaN, and what must not change is compared bit by bit.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <hsm/testing/layer_trial.hpp>

namespace hsm::inline HSM_ABI::detail {

/// forward is finite, writes all of y, and gives the same every time. Leaves its result in the trial.
inline std::string check_forward(LayerTrial& trial) {
  trial.y = trial.layer.forward(trial.x);
  const TokenValues again = trial.layer.forward(trial.x);
  for (Index b = 0; b < trial.y.batch; ++b) {
    for (Index t = 0; t < trial.tokens(); ++t) {
      for (Index c = 0; c < trial.y.channels; ++c) {
        if (is_finite(trial.y.at(b, t)[c])) continue;
        return "forward gives " + number_text(trial.y.at(b, t)[c]) + " at " + token_text(trial.y, b, t) +
               ", channel " + std::to_string(c) +
               ": it must write every value, and read no scratch that it has not written";
      }
    }
    const Index t = first_change(again, trial.y, b, 0, trial.tokens());
    if (t >= 0)
      return "two calls of forward differ at " + token_text(trial.y, b, t) +
             ": the same tokens must give the same bits";
  }
  return {};
}

/// Tokens from t on, whatever they are, change no bit of an output before t.
inline std::string check_future(LayerTrial& trial) {
  const Index T = trial.tokens(), step = (std::max)(Index{1}, T / 24);
  for (Index t = 1; t < T; t += step) {
    TokenValues changed = trial.x;
    for (Index b = 0; b < changed.batch; ++b) changed.fill(b, t, T - t, kUntouchable);
    const TokenValues got = trial.layer.forward(changed);
    for (Index b = 0; b < changed.batch; ++b) {
      const Index reader = first_change(got, trial.y, b, 0, t);
      if (reader >= 0)
        return "output " + std::to_string(reader) + " changes with the tokens from " + std::to_string(t) +
               " on: a layer must not read the future";
    }
  }
  return {};
}

/// A sequence, a packed document or a stream of NaN changes no bit of the others.
inline std::string check_documents(LayerTrial& trial) {
  const Index T = trial.tokens(), N = trial.x.count();
  TestedLayer& layer = trial.layer;
  TokenValues changed = trial.x;
  changed.fill(1, 0, T, kUntouchable);

  const TokenValues sequences = layer.forward(changed);
  const auto told = [](const char* call, Index b) {
    return std::string(call) + " changes sequence " + std::to_string(b) +
           " with the tokens of sequence 1: sequences must not see each other";
  };
  for (const Index b : {0, 2}) {
    if (first_change(sequences, trial.y, b, 0, T) >= 0) return told("forward", b);
  }
  const auto extended = [&](const TokenValues& x) {
    const auto state = layer.make_state(LayerTrial::kStreams, 0);
    TokenValues y = x;
    for (const Index first : {Index{0}, T / 2}) {
      const TokenValues part = x.part(first, T / 2);
      y.put(layer.run({.mode = TestedMode::kExtend, .x = part, .state = state.get()}), first);
    }
    return y;
  };
  const TokenValues expected = extended(trial.x), streams = extended(changed);
  for (const Index b : {0, 2}) {
    if (first_change(streams, expected, b, 0, T) >= 0) return told("extend", b);
  }

  const std::vector<Index> offsets{0, T / 2, T / 2, T + 1, N};
  const TokenValues x = trial.x.joined(), dy = trial.dy.joined();
  const auto record = layer.make_record();
  TensorGradients unused = layer.zero_gradients();
  const auto packed = [&](const TokenValues& tokens) {
    return layer.run({.mode = TestedMode::kPacked, .x = tokens, .record = record.get(), .offsets = offsets});
  };
  const TokenValues y = packed(x), dx = layer.backward(x, *record, dy, unused);
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    const Index begin = offsets[i], end = offsets[i + 1];
    TokenValues bad = x, bad_dy = dy;
    bad.fill(0, begin, end - begin, kUntouchable);
    bad_dy.fill(0, begin, end - begin, kUntouchable);
    const TokenValues got = packed(bad), got_dx = layer.backward(bad, *record, bad_dy, unused);
    const auto leaks = [&](const TokenValues& a, const TokenValues& b) {
      return first_change(a, b, 0, 0, begin) >= 0 || first_change(a, b, 0, end, N - end) >= 0;
    };
    if (leaks(got, y)) return "packed lets a document change others: nothing may leak across a boundary";
    if (leaks(got_dx, dx))
      return "backward of packed lets a document change the gradients of others: nothing may leak across a "
             "boundary";
  }
  return {};
}

}  // namespace hsm::inline HSM_ABI::detail
