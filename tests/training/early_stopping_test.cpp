// SPDX-License-Identifier: MIT
//
// The best model on the validation loss is what is kept, and patience ends a run; dropout trains.
#include <gtest/gtest.h>

#include <algorithm>
#include <hsm/training/evaluation.hpp>
#include <stdexcept>

#include "support/matchers.hpp"
#include "training/training_cases.hpp"

namespace hsm::test::early_stopping_test {
namespace {

// A text of random tokens: what is learned of it by heart makes every other text worse.
TrainingConfig overfitting() {
  return {.batch = 8,
          .steps = 60,
          .learning_rate = 2e-2,
          .warmup = 0,
          .final_rate = 1,
          .weight_decay = 0,
          .validate_every = 3,
          .keep_best = true};
}

double validation_loss(const TrainedRun& run, const Net& model) {
  Workspace workspace;
  return evaluate(model, std::span<const std::int32_t>(run.validation), {.batch = 8}, workspace).nats();
}

TEST(EarlyStopping, KeepsTheModelOfTheLowestValidationLoss) {
  TrainedRun run(overfitting());
  std::vector<std::vector<float>> weights;
  run.train([&](const TrainingProgress&) {
    weights.push_back(weights_of(run.model));
    return true;
  });
  Index best = 0;
  double lowest = 1e9;
  for (const TrainingProgress& p : run.told) {
    if (p.validation_loss && *p.validation_loss < lowest) {
      lowest = *p.validation_loss;
      best = p.step;
    }
    if (best > 0) {
      EXPECT_EQ(p.best_step, best);
      EXPECT_EQ(p.best_loss.value(), lowest);
    } else {
      EXPECT_FALSE(p.best_loss.has_value());
    }
  }
  ASSERT_LT(best, 60) << "the last step was the best: nothing was tested";
  EXPECT_EQ(run.end.best_step, best);
  expect_same_bits(weights_of(run.state.kept(run.model)), weights[static_cast<std::size_t>(best) - 1],
                   "kept weights");
  expect_same_bits(weights_of(run.model), weights.back(), "last weights");
  EXPECT_EQ(validation_loss(run, run.state.kept(run.model)), lowest);
  EXPECT_GT(validation_loss(run, run.model), lowest);
}

TEST(EarlyStopping, TheFrontWithoutAStateLeavesTheBestModel) {
  TrainedRun run(overfitting());
  run.train();
  Net model = make_net();
  Workspace workspace;
  const auto train_until = [&](TrainingConfig config) {
    model = make_net();
    return train(model, std::span<const std::int32_t>(run.text),
                 std::span<const std::int32_t>(run.validation), config, workspace,
                 [](const TrainingProgress&) { return true; });
  };
  EXPECT_EQ(train_until(overfitting()).best_step, run.end.best_step);
  expect_same_bits(weights_of(model), weights_of(run.state.kept(run.model)), "best");
  TrainingConfig last = overfitting();
  last.keep_best = false;
  EXPECT_EQ(train_until(last).best_step, run.end.best_step);
  expect_same_bits(weights_of(model), weights_of(run.model), "last");
}

TEST(EarlyStopping, PatienceEndsTheRunAfterSoManyValidationsWithoutABetterOne) {
  TrainingConfig config = overfitting();
  TrainedRun whole(config);
  whole.train();
  config.keep_best = false;  // patience keeps the best by itself
  config.patience = 2;
  TrainedRun run(config);
  run.train();
  EXPECT_TRUE(run.end.finished);
  EXPECT_LT(run.end.fraction, 1);
  EXPECT_EQ(run.end.step, run.end.best_step + 2 * 3);
  EXPECT_EQ(run.state.stale, 2);
  ASSERT_TRUE(run.state.best.has_value());
  EXPECT_EQ(validation_loss(run, *run.state.best), run.end.best_loss.value());
  for (std::size_t i = 0; i < run.told.size(); ++i) EXPECT_EQ(run.told[i].loss, whole.told[i].loss);
  // It is over, for a run that goes on too.
  run.train();
  EXPECT_EQ(run.end.step, run.end.best_step + 2 * 3);
}

TEST(EarlyStopping, NeedsAValidation) {
  const Ids text = random_tokens(100);
  Net model = make_net();
  const std::vector<float> before = weights_of(model);
  Workspace workspace;
  const auto attempt = [&](const TrainingConfig& config, const Ids& validation) {
    train(model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(validation), config,
          workspace, [](const TrainingProgress&) { return true; });
  };
  EXPECT_THROW(attempt({.steps = 1, .keep_best = true}, {}), std::invalid_argument);
  EXPECT_THROW(attempt({.steps = 1, .validate_every = 1, .patience = 1}, {}), std::invalid_argument);
  EXPECT_THROW(attempt({.steps = 1, .patience = 1}, text), std::invalid_argument);
  EXPECT_THROW(attempt({.steps = 1, .validate_every = 1, .patience = -1}, text), std::invalid_argument);
  EXPECT_THROW(attempt({.steps = 1, .dropout = 1}, text), std::invalid_argument);
  EXPECT_THROW(attempt({.steps = 1, .dropout = -0.5}, text), std::invalid_argument);
  expect_same_bits(weights_of(model), before, "weights");
}

TEST(TrainingDropout, ZeroChangesNoBitAndOtherSharesDo) {
  const auto losses = [](double dropout, std::uint64_t seed) {
    TrainedRun run({.batch = 4, .steps = 6, .seed = seed, .dropout = dropout});
    run.train();
    std::vector<double> all;
    for (const TrainingProgress& p : run.told) all.push_back(p.loss);
    all.push_back(run.end.validation_loss.value());
    return all;
  };
  const auto plain = losses(0, 1);
  EXPECT_EQ(losses(0.3, 1), losses(0.3, 1));
  EXPECT_NE(losses(0.3, 1), plain);
  EXPECT_NE(losses(0.3, 1), losses(0.4, 1));
  EXPECT_NE(losses(0.3, 1), losses(0.3, 2));
}

TEST(TrainingDropout, DropsOtherElementsEachStepAndNoneInValidation) {
  TrainedRun run({.batch = 4, .steps = 3, .validate_every = 1, .dropout = 0.5});
  std::vector<std::uint64_t> states{run.state.dropout.state()};
  run.train([&](const TrainingProgress& p) {
    states.push_back(run.state.dropout.state());
    EXPECT_EQ(p.validation_loss.value(), [&] {
      Workspace workspace;
      return evaluate(run.model, std::span<const std::int32_t>(run.validation), {.batch = 4}, workspace)
          .nats();
    }());
    return true;
  });
  for (std::size_t i = 1; i < states.size(); ++i) EXPECT_NE(states[i], states[i - 1]);
  EXPECT_NE(states[0], Random(run.state.config.seed).state()) << "the windows' stream";
}

}  // namespace
}  // namespace hsm::test::early_stopping_test
