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
#include <string_view>
#include <utility>
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

/// The tokens of a batch that have a target: what the model made of each, column by column, its target and its place.
struct AskedTokens {
  std::vector<float> hidden{};
  std::vector<std::int32_t> targets{}, places{};
};

/// Those of a batch that the model has read.
inline AskedTokens asked_tokens(const TaskBatch& batch, const Model::Saved& saved, Index C) {
  AskedTokens asked;
  for (std::size_t t = 0; t < batch.targets.size(); ++t) {
    if (batch.targets[t] == kIgnoredTarget) continue;
    const float* const column = saved.hidden.data() + static_cast<Index>(t) * C;
    asked.hidden.insert(asked.hidden.end(), column, column + C);
    asked.targets.push_back(batch.targets[t]);
    asked.places.push_back(batch.places[t]);
  }
  return asked;
}

/// Adds the answers of `model`, some at a time, so that a large vocabulary takes no more memory than a small one.
inline void add_answers(const Model& model, const AskedTokens& asked, TaskScore& score,
                        Workspace& workspace) {
  constexpr Index kLogits = Index{1} << 22;  // at a time
  const Index C = model.config().width, V = model.config().vocabulary;
  const auto all = static_cast<Index>(asked.targets.size());
  const Index most = std::clamp<Index>(kLogits / V, 1, std::max<Index>(all, 1));
  std::vector<float> logits(static_cast<std::size_t>(most * V));
  for (Index first = 0; first < all; first += most) {
    const Index n = std::min(most, all - first);
    const auto begin = static_cast<std::size_t>(first);
    const Columns<float> z(logits.data(), V, n, Eigen::OuterStride<>(V));
    model.logits(ConstColumns<float>(asked.hidden.data() + first * C, C, n, Eigen::OuterStride<>(C)), z,
                 workspace);
    score.loss += cross_entropy(z, std::span(asked.targets).subspan(begin, static_cast<std::size_t>(n)),
                                workspace.executor());
    for (Index i = 0; i < n; ++i) {
      const float* const column = logits.data() + i * V;
      const std::size_t token = begin + static_cast<std::size_t>(i);
      const bool right = std::max_element(column, column + V) - column == asked.targets[token];
      for (TaskAnswers* answers : {&score.all, &score.by_place[asked.places[token]]}) {
        answers->asked += 1;
        answers->right += right;
      }
    }
  }
}

/// Asks `model` for all targets of `count` sequences of `random`, some at a time; go_on() is asked before each of these
/// parts, and ends it.
template <class GoOn>
TaskScore score_task(const Model& model, const Task& task, Random random, Index count, Workspace& workspace,
                     GoOn&& go_on) {
  constexpr Index kTokens = 4096;  // at a time
  const Index most = std::max<Index>(1, kTokens / task.time);
  TaskScore score;
  TaskBatch batch;
  Model::Saved saved;
  for (Index first = 0; first < count && go_on(); first += most) {
    const Index B = std::min(most, count - first);
    batch.draw(task, random, B);
    model.hidden(batch.ids, B, task.time, saved, workspace);
    add_answers(model, asked_tokens(batch, saved, model.config().width), score, workspace);
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
  Model gradients = zeros_like(model), good = model;  // before the last update
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
    if (!hsm::detail::is_finite(loss) || !hsm::detail::is_finite(norm)) {
      model = good;
      break;
    }
    Model::visit([](std::string_view, auto& to, const auto& from) { to = from; }, good, std::as_const(model));
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
  // The last update may have been the one too much: no step follows that would find it.
  if (!outcome.stopped && outcome.steps == training.steps &&
      !hsm::detail::is_finite(outcome.selection.loss.mean())) {
    model = good;
    --outcome.steps;
    outcome.selection = score(TaskStream::kSelection, (training.sequences + 1) / 2);
  }
  outcome.test = score(TaskStream::kTest, training.sequences);
  outcome.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return outcome;
}

}  // namespace hsm::examples
