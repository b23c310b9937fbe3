// SPDX-License-Identifier: MIT
//
// What the tests of whole runs share: a small model, texts, and a run cut into parts.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <hsm/training/trainer.hpp>

#include "support/models.hpp"

namespace hsm::test {

using Net = LanguageModel<float>;
using Ids = std::vector<std::int32_t>;

inline constexpr Index kTokenKinds = 19, kWindow = 16;

inline Net make_net(std::uint64_t seed = 11) {
  Random random(seed);
  return Net({.vocabulary = kTokenKinds,
              .width = 32,
              .feed_forward = 48,
              .context = kWindow,
              .layers = "ab,gated,attention:heads=2"},
             random);
}

inline Ids random_tokens(Index count, std::uint64_t seed = 3) {
  Random random(seed);
  Ids ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(random.below(kTokenKinds)));
  return ids;
}

inline std::vector<float> weights_of(const Net& model) {
  std::vector<float> values;
  Net::visit(
      [&](std::string_view, const auto& tensor) {
        values.insert(values.end(), tensor.data(), tensor.data() + tensor.size());
      },
      model);
  return values;
}

/// A run, fresh or gone on with, and what its callbacks were told.
struct TrainedRun {
  Ids text = random_tokens(500), validation = random_tokens(120, 8);
  Net model = make_net();
  TrainingState<Net> state;
  std::vector<TrainingProgress> told = {};
  TrainingProgress end = {};

  explicit TrainedRun(const TrainingConfig& config)
      : state(model, config, TextMark(text), TextMark(validation)) {}

  /// Trains until `go_on` says no or `stop` cuts a validation short.
  void train(const std::function<bool(const TrainingProgress&)>& go_on = {},
             const std::function<bool()>& stop = {}) {
    Workspace workspace;
    end = hsm::train(
        model, state, std::span<const std::int32_t>(text), std::span<const std::int32_t>(validation),
        workspace,
        [&](const TrainingProgress& p) {
          told.push_back(p);
          return !go_on || go_on(p);
        },
        [&] { return stop && stop(); });
  }
};

}  // namespace hsm::test
