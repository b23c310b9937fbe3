// SPDX-License-Identifier: MIT
//
// A run in parts has the bits of one in a single part.
#include <hsm/training/training_state.hpp>

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>

#include "support/failing_executor.hpp"
#include "support/matchers.hpp"
#include "training/training_cases.hpp"

namespace hsm::test::training_state_test {
namespace {

const TrainingConfig kConfig{.batch = 3,
                             .steps = 14,
                             .learning_rate = 1e-2,
                             .warmup = 0.3,
                             .validate_every = 4,
                             .seed = 6,
                             .dropout = 0.2,
                             .keep_best = true};

void expect_same_run(const TrainedRun& got, const TrainedRun& expected) {
  ASSERT_EQ(got.told.size(), expected.told.size());
  for (std::size_t i = 0; i < got.told.size(); ++i) {
    const TrainingProgress &a = got.told[i], &b = expected.told[i];
    EXPECT_EQ(a.step, b.step);
    EXPECT_EQ(a.loss, b.loss) << a.step;
    EXPECT_EQ(a.smoothed_loss, b.smoothed_loss) << a.step;
    EXPECT_EQ(a.learning_rate, b.learning_rate) << a.step;
    EXPECT_EQ(a.gradient_norm, b.gradient_norm) << a.step;
    EXPECT_EQ(a.validation_loss, b.validation_loss) << a.step;
    EXPECT_EQ(a.best_loss, b.best_loss) << a.step;
    EXPECT_EQ(a.finished, b.finished) << a.step;
  }
  expect_same_bits(weights_of(got.model), weights_of(expected.model), "weights");
  expect_same_bits(weights_of(got.state.kept(got.model)), weights_of(expected.state.kept(expected.model)),
                   "kept");
  expect_same_bits(weights_of(got.state.good), weights_of(expected.state.good), "good");
}

TEST(TrainingState, ARunInPartsHasTheBitsOfOneThatWasNeverStopped) {
  TrainedRun whole(kConfig);
  whole.train();
  ASSERT_EQ(whole.told.size(), 14u);
  for (const Index cut : {1, 4, 7, 13}) {
    SCOPED_TRACE(cut);
    TrainedRun parts(kConfig);
    parts.train([&](const TrainingProgress& p) { return p.step < cut; });
    ASSERT_EQ(parts.end.step, cut);
    EXPECT_FALSE(parts.end.finished);
    TrainedRun other(kConfig);  // as another process would: only model and state pass over
    other.model = parts.model;
    other.state = parts.state;
    other.told = parts.told;
    other.train();
    expect_same_run(other, whole);
  }
}

// Wherever an executor throws, the run goes on to the same bits or is refused.
TEST(TrainingState, ARunThatThrewGoesOnToTheSameBitsOrIsRefused) {
  TrainingConfig config = kConfig;
  config.steps = 3;
  config.validate_every = 1;
  TrainedRun whole(config);
  whole.train();
  const auto train_on = [](TrainedRun& run, Executor& executor) {
    Workspace workspace(executor);
    run.end = hsm::train(run.model, run.state, std::span<const std::int32_t>(run.text),
                         std::span<const std::int32_t>(run.validation), workspace,
                         [&](const TrainingProgress& p) { return run.told.push_back(p), true; });
  };
  SerialExecutor serial;
  int refused = 0, went_on = 0;
  for (Index fails_at = 0;; fails_at += 5) {
    SCOPED_TRACE(fails_at);
    TrainedRun run(config);
    FailingExecutor failing;
    failing.fails_at = fails_at;
    failing.short_loops = true;  // those of AdamW
    try {
      train_on(run, failing);
      break;
    } catch (const std::bad_alloc&) {
    }
    if (run.state.updating) {
      ++refused;
      expect_refused(
          [&] { train_on(run, serial); },
          "train: the state must be whole, got one whose last update threw; go on from a copy or a "
          "checkpoint");
    } else {
      ++went_on;
      train_on(run, serial);
      expect_same_run(run, whole);
    }
  }
  EXPECT_GT(went_on, 0);
  EXPECT_GT(refused, 0);
}

TEST(TrainingState, ARunThatWasOverGoesOnWhereItsConfigIsLonger) {
  TrainingConfig config = kConfig;
  config.steps = 4;
  TrainedRun run(config);
  run.train();
  EXPECT_TRUE(run.end.finished);
  run.state.config.steps = 7;
  run.train();
  EXPECT_EQ(run.end.step, 7);
  EXPECT_TRUE(run.end.finished);
  run.state.config.steps = 5;  // fewer than were made: it is over
  run.train();
  EXPECT_EQ(run.end.step, 7);
  EXPECT_EQ(run.end.fraction, 1);
  EXPECT_TRUE(run.end.finished);
  TrainedRun cut(kConfig);
  cut.train([](const TrainingProgress& p) { return p.step < 6; });
  EXPECT_FALSE(cut.end.finished);
  cut.state.config.steps = 6;
  cut.train();
  EXPECT_TRUE(cut.end.finished);
  EXPECT_EQ(cut.end.step, 6);
}

TEST(TrainingState, ARunWhoseMinutesAValidationUsedUpIsOver) {
  TrainedRun run({.batch = 1, .minutes = 60});
  run.train([](const TrainingProgress& p) { return p.step < 2; });
  EXPECT_FALSE(run.end.finished);
  run.state.progress.seconds = 3600;
  run.train();
  EXPECT_TRUE(run.end.finished);
  EXPECT_EQ(run.end.step, 2);
}

TEST(TrainingState, TheBestModelIsKeptFromWhereItIsAskedFor) {
  TrainingConfig config = kConfig;
  config.steps = 12;
  config.validate_every = 3;
  config.keep_best = false;
  TrainedRun run(config);
  const auto train_to = [&](Index step) {
    run.train([&](const TrainingProgress& p) {
      EXPECT_EQ(run.state.best.has_value(), run.state.config.keep_best && p.best_loss) << p.step;
      return p.step < step;
    });
  };
  train_to(4);
  EXPECT_EQ(run.end.best_step, 3);
  run.state.config.keep_best = true;
  train_to(5);
  EXPECT_FALSE(run.end.best_loss);  // that of weights that are gone
  train_to(7);
  EXPECT_EQ(run.end.best_step, 6);
  run.state.config.keep_best = false;
  train_to(8);
  EXPECT_FALSE(run.state.best);
  EXPECT_EQ(&run.state.kept(run.model), &run.model);
}

TEST(TrainingState, AnOptimizerThatIsNotOfTheConfigIsRefused) {
  TrainedRun run(kConfig);
  run.state.optimizer = AdamW<Net>(run.model, {.beta2 = 0.999});
  EXPECT_THROW(run.train(), std::invalid_argument);
  TrainedRun other(kConfig);
  other.state.config.weight_decay = 0;  // the optimizer's is another
  EXPECT_THROW(other.train(), std::invalid_argument);
  EXPECT_TRUE(other.told.empty());
}

TEST(TrainingState, AValidationThatWasCutShortIsMadeUpFor) {
  TrainedRun whole(kConfig);
  whole.train();
  for (const Index step : {4, 8, 14}) {
    SCOPED_TRACE(step);
    TrainedRun parts(kConfig);
    int asked = 0;
    parts.train([&](const TrainingProgress& p) { return p.step < step; },
                [&] { return parts.state.progress.step == step && ++asked == 2; });
    ASSERT_EQ(parts.end.step, step);
    EXPECT_TRUE(parts.state.validation_due);
    EXPECT_FALSE(parts.end.validation_loss.has_value());
    EXPECT_FALSE(parts.end.finished);
    parts.told.pop_back();  // its step is told again
    parts.train();
    expect_same_run(parts, whole);
  }
}

TEST(TrainingState, AValidationThatWasCutShortEndsTheRunWhateverTheCallbackSays) {
  TrainedRun whole(kConfig);
  whole.train();
  TrainedRun parts(kConfig);
  parts.train({}, [&] { return parts.state.progress.step == 8; });
  ASSERT_EQ(parts.end.step, 8);
  EXPECT_TRUE(parts.state.validation_due);
  EXPECT_FALSE(parts.end.finished);
  parts.told.pop_back();  // its step is told again
  parts.train();
  expect_same_run(parts, whole);
}

TEST(TrainingState, TheProgressOfARunThatDivergesStaysThatOfItsLastStep) {
  TrainedRun run({.batch = 2, .steps = 50, .learning_rate = 1000, .warmup = 0, .weight_decay = 1000});
  EXPECT_THROW(run.train(), TrainingDiverged);
  ASSERT_FALSE(run.told.empty());
  EXPECT_EQ(run.state.progress.loss, run.told.back().loss);
  EXPECT_EQ(run.state.progress.gradient_norm, run.told.back().gradient_norm);
}

TEST(TrainingState, ARunThatIsAtItsEndStaysThere) {
  TrainedRun run(kConfig);
  run.train();
  EXPECT_TRUE(run.end.finished);
  const std::vector<float> before = weights_of(run.model);
  const std::size_t told = run.told.size();
  run.train();
  EXPECT_EQ(run.told.size(), told);
  EXPECT_TRUE(run.end.finished);
  EXPECT_EQ(run.end.step, 14);
  expect_same_bits(weights_of(run.model), before, "weights");
}

TEST(TrainingState, ByTheClockThePartsShareTheMinutes) {
  TrainingConfig config{.batch = 1, .minutes = 0.01};
  TrainedRun run(config);
  run.train([](const TrainingProgress& p) { return p.fraction < 0.5; });
  const double first = run.end.seconds;
  EXPECT_TRUE(first >= 0.3 && run.end.fraction < 1) << first;
  run.train();
  EXPECT_EQ(run.end.fraction, 1);
  EXPECT_TRUE(run.end.seconds >= 0.6);
  EXPECT_GT(run.told.back().seconds, first);
}

TEST(TrainingState, GoesOnWithItsOwnTextsAndModelOnly) {
  TrainedRun run(kConfig);
  run.train([](const TrainingProgress& p) { return p.step < 2; });
  const std::vector<float> before = weights_of(run.model);
  const auto message = [](TrainedRun& other) {
    try {
      other.train();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  TrainedRun text = run;
  text.text[30] ^= 1;
  EXPECT_NE(message(text).find("train: the training text must be the one of the run, 500 tokens"),
            std::string::npos);
  TrainedRun validation = run;
  validation.validation.pop_back();
  EXPECT_NE(message(validation).find("the validation text must be the one of the run, 120 tokens"),
            std::string::npos);
  Random random(1);
  TrainedRun model = run;
  model.model = Net({.vocabulary = kTokenKinds, .width = 64, .context = kWindow, .layers = "ab"}, random);
  EXPECT_NE(message(model).find("the state must be that of a run of this model"), std::string::npos);
  expect_same_bits(weights_of(run.model), before, "weights");
}

TEST(TrainingState, WalksItsTensorsByName) {
  TrainedRun run(kConfig);
  const auto names = [&] {
    std::vector<std::string> all;
    TrainingState<Net>::visit([&](std::string_view name, const auto&) { all.emplace_back(name); },
                              std::as_const(run.state));
    return all;
  };
  std::size_t tensors = 0;
  Net::visit([&](std::string_view, const auto&) { ++tensors; }, run.model);
  EXPECT_EQ(names().size(), 3 * tensors);
  EXPECT_EQ(names().front(), "optimizer.first_moment.embedding.weight");
  EXPECT_EQ(names()[tensors], "optimizer.second_moment.embedding.weight");
  EXPECT_EQ(names()[2 * tensors], "good.embedding.weight");
  run.train();
  EXPECT_EQ(names().size(), 4 * tensors);
  EXPECT_EQ(names().back(), "best.norm.bias");
}

}  // namespace
}  // namespace hsm::test::training_state_test
