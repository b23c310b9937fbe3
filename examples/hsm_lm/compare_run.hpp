// SPDX-License-Identifier: MIT
//
// One run of `hsm_lm compare`: a model is trained, its loss noted at some hundred places of the run, and then tested
// on both halves of the validation text, on the second one by position in the window too.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include <hsm/training/evaluation.hpp>
#include <hsm/training/trainer.hpp>

#include "examples/hsm_lm/compare_texts.hpp"
#include "examples/hsm_lm/model.hpp"

namespace hsm::examples {

/// The training loss at a place of a run.
struct CurvePoint {
  double tokens = 0, seconds = 0, loss = 0;  ///< the loss smoothed as in TrainingProgress
};

/// The loss of the tokens that are predicted from `first` to `last` others.
struct PositionLoss {
  Index first = 0, last = 0;
  double loss = 0;
};

/// What came of a run.
struct CompareOutcome {
  double selection = std::numeric_limits<double>::infinity(), report = selection;  ///< nats per token
  Index steps = 0;  ///< fewer than planned where a loss was not finite; both losses are infinite then
  bool diverged = false;
  bool stopped = false;  ///< by the callback; nothing else counts
  double seconds = 0;    ///< of training
  std::vector<CurvePoint> curve{};
  std::vector<PositionLoss> positions{};
};

namespace detail {

/// Single positions at first, then spans each longer than the last.
inline std::vector<PositionLoss> losses_by_position(const Evaluation& evaluation) {
  std::vector<PositionLoss> all;
  const auto end = static_cast<Index>(evaluation.by_position.size());
  for (Index first = 1; first <= end;) {
    const Index last =
        std::min(end, std::max(first, static_cast<Index>(std::floor(1.25 * static_cast<double>(first)))));
    const CrossEntropy part = evaluation.between(first, last);
    if (part.count > 0) all.push_back({first, last, part.mean()});
    first = last + 1;
  }
  return all;
}

}  // namespace detail

/// Trains a model of `config` and tests it. go_on(TrainingProgress) is asked after each step, and within tests.
template <class GoOn>
CompareOutcome run_compare(const CompareTexts& texts, const LanguageModelConfig& config,
                           const TrainingConfig& training, Workspace& workspace, GoOn&& go_on) {
  constexpr Index kPlaces = 100, kTokensAtATime = 8192;
  const Index every = (training.steps - 1) / kPlaces + 1;
  CompareOutcome outcome;
  TrainingProgress last;
  Random random(training.seed);
  Model model(config, random);
  const auto after_step = [&](const TrainingProgress& p) {
    last = p;
    if (p.step % every == 0 || p.step == p.steps) {
      const Index tokens = p.step * training.batch * config.context;
      outcome.curve.push_back({static_cast<double>(tokens), p.seconds, p.smoothed_loss});
    }
    outcome.stopped = !go_on(p);
    return !outcome.stopped;
  };
  try {
    outcome.steps =
        train(model, std::span<const std::int32_t>(texts.training), {}, training, workspace, after_step).step;
  } catch (const TrainingDiverged& error) {
    outcome.diverged = true;
    outcome.steps = error.good_steps();
  }
  outcome.seconds = last.seconds;
  if (outcome.stopped || outcome.diverged) return outcome;
  const auto test = [&](const std::vector<std::int32_t>& text) {
    const EvaluationConfig how{.batch = std::clamp<Index>(kTokensAtATime / config.context, 1, 64)};
    return evaluate(model, std::span<const std::int32_t>(text), how, workspace, [&](Index, Index) {
      outcome.stopped = outcome.stopped || !go_on(last);
      return !outcome.stopped;
    });
  };
  const double selection = test(texts.selection).nats();
  if (outcome.stopped) return outcome;
  const Evaluation reported = test(texts.report);
  if (outcome.stopped) return outcome;
  if (!std::isfinite(selection) || !std::isfinite(reported.nats())) {
    outcome.diverged = true;
    return outcome;
  }
  outcome.selection = selection;
  outcome.report = reported.nats();
  outcome.positions = detail::losses_by_position(reported);
  return outcome;
}

}  // namespace hsm::examples
