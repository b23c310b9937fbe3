// SPDX-License-Identifier: MIT
//
// One run of a task: a model is trained on fresh sequences, and then asked for answers on sequences that it has
// not seen.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <span>
#include <vector>

#include <hsm/core/parameters.hpp>
#include <hsm/training/adamw.hpp>
#include <hsm/training/gradient_clip.hpp>
#include <hsm/training/language_model_loss.hpp>
#include <hsm/training/learning_rate.hpp>

#include "examples/hsm_lm/model.hpp"
#include "examples/support/tasks.hpp"

namespace hsm::examples {

/// How many answers are right.
struct TaskAnswers {
  Index right = 0, asked = 0;
  double share() const { return asked == 0 ? 0 : static_cast<double>(right) / static_cast<double>(asked); }
};

/// What came of asking a model.
struct TaskScore {
  TaskAnswers all{};
  std::map<std::int32_t, TaskAnswers> by_place{};
  CrossEntropy loss{};
};

/// How one run is trained and tested.
struct TaskTraining {
  Index steps = 0, batch = 0;
  double learning_rate = 0;
  std::uint64_t seed = 0;
  Index sequences = 0;  ///< to test on; half as many to select
};

/// How far a run is.
struct TaskProgress {
  Index step = 0;
  double loss = 0;  ///< mean over about the last 20 steps
};

/// What came of a run.
struct TaskOutcome {
  TaskScore selection{}, test{};
  Index steps = 0;  ///< fewer than planned where loss or gradients were not finite: the score is that before
  double seconds = 0;
  bool stopped = false;  ///< by the callback; there are no scores
};

/// Asks `model` for all targets of `count` sequences of `random`, some at a time; go_on() is asked before each of these
/// parts, and ends it.
template <class GoOn>
TaskScore score_task(const Model& model, const Task& task, Random random, Index count, Workspace& workspace,
                     GoOn&& go_on) {
  constexpr Index kTokens = 4096;  // at a time
  const Index C = model.config().width, V = model.config().vocabulary;
  const Index most = std::max<Index>(1, kTokens / task.time);
  TaskScore score;
  TaskBatch batch;
  Model::Saved saved;
  std::vector<float> hidden, logits;
  std::vector<std::int32_t> targets, places;
  for (Index first = 0; first < count && go_on(); first += most) {
    const Index B = std::min(most, count - first);
    batch.draw(task, random, B);
    model.hidden(batch.ids, B, task.time, saved, workspace);
    hidden.clear();
    targets.clear();
    places.clear();
    for (std::size_t t = 0; t < batch.targets.size(); ++t) {
      if (batch.targets[t] == kIgnoredTarget) continue;
      const float* const column = saved.hidden.data() + static_cast<Index>(t) * C;
      hidden.insert(hidden.end(), column, column + C);
      targets.push_back(batch.targets[t]);
      places.push_back(batch.places[t]);
    }
    const auto n = static_cast<Index>(targets.size());
    logits.resize(static_cast<std::size_t>(n * V));
    const Columns<float> z(logits.data(), V, n, Eigen::OuterStride<>(V));
    model.logits(ConstColumns<float>(hidden.data(), C, n, Eigen::OuterStride<>(C)), z, workspace);
    score.loss += cross_entropy(z, targets, workspace.executor());
    for (Index i = 0; i < n; ++i) {
      const float* const column = logits.data() + i * V;
      const auto place = static_cast<std::size_t>(i);
      const bool right = std::max_element(column, column + V) - column == targets[place];
      for (TaskAnswers* answers : {&score.all, &score.by_place[places[place]]}) {
        answers->asked += 1;
        answers->right += right;
      }
    }
  }
  return score;
}

/// Trains a model of `config` and scores it. after_step(TaskProgress) returns whether to go on, and is asked within the
/// scoring too.
template <class Callback>
TaskOutcome run_task(const Task& task, const LanguageModelConfig& config, const TaskTraining& training,
                     Workspace& workspace, Callback&& after_step) {
  using Clock = std::chrono::steady_clock;
  constexpr double kMemory = 0.95;
  const Clock::time_point start = Clock::now();
  Random weights = task_random(training.seed, TaskStream::kWeights);
  Random data = task_random(training.seed, TaskStream::kTraining);
  Model model(config, weights);
  Model gradients = zeros_like(model);
  AdamW<Model> optimizer(model);
  const WarmupCosine rate{training.learning_rate, std::min(training.steps, training.steps / 20 + 1),
                          training.steps};
  Model::Saved saved;
  TaskBatch batch;
  TaskOutcome outcome;
  TaskProgress last;
  double smoothed = 0;
  while (outcome.steps < training.steps) {
    batch.draw(task, data, training.batch);
    // [shown]
    set_zero(gradients);
    const double loss = language_model_gradients(model, batch.ids, batch.targets, training.batch, task.time,
                                                 saved, gradients, workspace)
                            .mean();
    const double norm = clip_global_norm(gradients, 1.0);
    // [/shown]
    if (!hsm::detail::is_finite(loss) || !hsm::detail::is_finite(norm)) break;
    optimizer.step(model, gradients, rate.at(outcome.steps), workspace.executor());
    ++outcome.steps;
    smoothed = kMemory * smoothed + (1 - kMemory) * loss;
    const double weight = 1 - std::pow(kMemory, static_cast<double>(outcome.steps));
    last = {outcome.steps, smoothed / weight};
    outcome.stopped = !after_step(last);
    if (outcome.stopped) return outcome;
  }
  const auto score = [&](TaskStream stream, Index count) {
    return score_task(model, task, task_random(training.seed, stream), count, workspace, [&] {
      outcome.stopped = outcome.stopped || !after_step(last);
      return !outcome.stopped;
    });
  };
  outcome.selection = score(TaskStream::kSelection, (training.sequences + 1) / 2);
  outcome.test = score(TaskStream::kTest, training.sequences);
  outcome.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return outcome;
}

}  // namespace hsm::examples
