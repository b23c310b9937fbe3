// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/training/evaluation.hpp>
#include <hsm/training/trainer.hpp>
#include <limits>
#include <numbers>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/matchers.hpp"
#include "support/message_of.hpp"
#include "training/training_cases.hpp"

namespace hsm::test::trainer_test {
namespace {

Net make_model(Positions positions = Positions::kNone) {
  Random random(11);
  return Net({.vocabulary = kTokenKinds,
              .width = 32,
              .feed_forward = 48,
              .context = kWindow,
              .positions = positions,
              .layers = "2*ab,gated,attention:heads=2,softmax-local:heads=4"},
             random);
}

/// What a run reported, and the weights that it left.
struct Record {
  std::vector<TrainingProgress> progress;
  std::vector<double> losses, rates;
  std::vector<float> weights;
  TrainingProgress end;
};

Record run_of(const TrainingConfig& config, const Ids& text, const Ids& validation = {}, int threads = 1,
              Index stop_after = std::numeric_limits<Index>::max()) {
  ThreadedExecutor executor(threads);
  Workspace workspace(executor);
  Net model = make_model();
  Record result;
  result.end = train(model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(validation),
                     config, workspace, [&](const TrainingProgress& p) {
                       result.progress.push_back(p);
                       result.losses.push_back(p.loss);
                       result.rates.push_back(p.learning_rate);
                       return p.step < stop_after;
                     });
  result.weights = weights_of(model);
  return result;
}

TEST(Trainer, GivesTheSameBitsForTheSameSeed) {
  const Ids text = random_tokens(500);
  const Record first = run_of({.batch = 5, .steps = 12, .seed = 4}, text);
  const Record again = run_of({.batch = 5, .steps = 12, .seed = 4}, text);
  const Record other = run_of({.batch = 5, .steps = 12, .seed = 5}, text);
  ASSERT_EQ(first.losses.size(), 12u);
  expect_same_bits(again.losses, first.losses, "losses");
  expect_same_bits(again.weights, first.weights, "weights");
  EXPECT_NE(other.losses, first.losses);
}

TEST(Trainer, GivesTheSameBitsForAnyNumberOfThreads) {
  const Ids text = random_tokens(500), validation = random_tokens(100, 8);
  const TrainingConfig config{.batch = 9, .steps = 8, .validate_every = 3};
  const Record serial = run_of(config, text, validation, 1);
  for (const int threads : {2, 3}) {
    const Record threaded = run_of(config, text, validation, threads);
    expect_same_bits(threaded.losses, serial.losses, "losses");
    expect_same_bits(threaded.weights, serial.weights, "weights");
    EXPECT_EQ(threaded.end.validation_loss.value(), serial.end.validation_loss.value());
  }
}

TEST(Trainer, LearnsOneWindowByHeart) {
  const Record got = run_of({.batch = 2, .steps = 250, .learning_rate = 1e-2, .weight_decay = 0},
                            random_tokens(kWindow + 1));
  EXPECT_GT(got.losses.front(), 2.5);  // log(19) = 2.94
  EXPECT_TRUE(got.losses.back() < 0.01) << got.losses.back();
  EXPECT_TRUE(got.end.smoothed_loss < 0.05) << got.end.smoothed_loss;
}

TEST(Trainer, BeginsWithTheLossOfTheModelItWasGiven) {
  const Ids text = random_tokens(kWindow + 1);  // has one window
  Workspace workspace;
  const double expected = evaluate(make_model(), std::span<const std::int32_t>(text), {}, workspace).nats();
  const Record got = run_of({.batch = 3, .steps = 2}, text);
  expect_close(got.losses[0], expected, 0, 1e-6, "first loss");
  EXPECT_EQ(got.progress[0].smoothed_loss, got.losses[0]);
  expect_close(got.progress[1].smoothed_loss,
               (0.98 * 0.02 * got.losses[0] + 0.02 * got.losses[1]) / (1 - 0.98 * 0.98), 0, 1e-12,
               "smoothed loss");
}

TEST(Trainer, FollowsWarmupAndCosine) {
  const Record got = run_of(
      {.batch = 1, .steps = 10, .learning_rate = 2e-3, .warmup = 0.4, .final_rate = 0.25}, random_tokens(50));
  for (std::size_t i = 0; i < 10; ++i) {
    const double x = static_cast<double>(i) + 1;
    const double expected =
        x <= 4 ? 2e-3 * x / 4 : 2e-3 * (0.25 + 0.75 * (1 + std::cos(std::numbers::pi * (x - 4) / 6)) / 2);
    expect_close(got.rates[i], expected, 0, 1e-12, "rate");
  }
}

TEST(Trainer, CountsStepsAndTheShareThatIsDone) {
  const Record got = run_of({.batch = 2, .steps = 4}, random_tokens(50));
  ASSERT_EQ(got.progress.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    const TrainingProgress& p = got.progress[i];
    EXPECT_EQ(p.step, static_cast<Index>(i) + 1);
    EXPECT_EQ(p.steps, 4);
    EXPECT_EQ(p.fraction, static_cast<double>(i + 1) / 4);
    EXPECT_TRUE(p.tokens_per_second > 0 && p.seconds > 0 && p.gradient_norm > 0);
    EXPECT_TRUE(i == 3 ? p.seconds_left == 0 : p.seconds_left > 0);
    EXPECT_FALSE(p.validation_loss.has_value());
  }
  EXPECT_EQ(got.end.step, 4);
}

TEST(Trainer, ValidatesWhenAskedAndAtTheEnd) {
  const Ids text = random_tokens(60), validation = random_tokens(70, 8);
  const Record got = run_of({.batch = 2, .steps = 8, .validate_every = 3}, text, validation);
  for (const TrainingProgress& p : got.progress) {
    EXPECT_EQ(p.validation_loss.has_value(), p.step == 3 || p.step == 6 || p.step == 8) << p.step;
  }
  const Record unasked = run_of({.batch = 2, .steps = 8}, text, validation);
  for (const TrainingProgress& p : unasked.progress) EXPECT_EQ(p.validation_loss.has_value(), p.step == 8);
  expect_same_bits(unasked.weights, got.weights, "weights, which validation must not change");
}

TEST(Trainer, ValidatesAsManyTokensAsItMay) {
  const Ids text = random_tokens(60), validation = random_tokens(70, 8);
  const Ids start(validation.begin(), validation.begin() + 31);
  Net model = make_model();
  Workspace workspace;
  const auto view = std::span<const std::int32_t>(validation);
  const auto go = [](const TrainingProgress&) { return true; };
  const TrainingProgress end = train(model, std::span<const std::int32_t>(text), view,
                                     {.batch = 2, .steps = 1, .validation_tokens = 30}, workspace, go);
  EXPECT_EQ(end.validation_loss.value(),
            evaluate(model, std::span<const std::int32_t>(start), {.batch = 2}, workspace).nats());
  const TrainingProgress all = train(model, std::span<const std::int32_t>(text), view,
                                     {.batch = 2, .steps = 1, .validation_tokens = 1'000'000}, workspace, go);
  EXPECT_EQ(all.validation_loss.value(), evaluate(model, view, {.batch = 2}, workspace).nats());
}

TEST(Trainer, StopsWhenTheCallbackSaysSo) {
  const Ids text = random_tokens(100), validation = random_tokens(50, 8);
  const Record stopped = run_of({.batch = 2, .steps = 9}, text, validation, 1, 4);
  const Record whole = run_of({.batch = 2, .steps = 9}, text, validation);
  EXPECT_EQ(stopped.end.step, 4);
  EXPECT_TRUE(stopped.end.fraction < 1);
  EXPECT_FALSE(stopped.end.validation_loss.has_value());
  expect_same_bits(stopped.losses, std::vector<double>(whole.losses.begin(), whole.losses.begin() + 4),
                   "losses");
}

TEST(Trainer, EndsByTheClock) {
  const Record got = run_of({.batch = 1, .steps = 1, .minutes = 0.005, .warmup = 0.1}, random_tokens(100),
                            random_tokens(30, 8));
  EXPECT_EQ(got.end.steps, 0);
  EXPECT_EQ(got.end.fraction, 1);
  EXPECT_TRUE(got.end.seconds >= 0.3) << got.end.seconds;
  EXPECT_TRUE(got.end.validation_loss.has_value());
  EXPECT_EQ(static_cast<std::size_t>(got.end.step), got.progress.size());
  for (std::size_t i = 1; i < got.progress.size(); ++i) {
    EXPECT_GE(got.progress[i].fraction, got.progress[i - 1].fraction);
    EXPECT_LT(got.progress[i - 1].fraction, 1);
  }
}

TEST(Trainer, StopsBeforeALossThatIsNotFiniteSpoilsTheWeights) {
  const Ids text = random_tokens(100);
  Net model = make_model();
  model.embedding().weight.row(0).setConstant(std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> before = weights_of(model);
  Workspace workspace;
  try {
    train(model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(),
          {.batch = 2, .steps = 5}, workspace, [](const TrainingProgress&) { return true; });
    ADD_FAILURE() << "a loss of NaN was taken";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("the loss of step 1 must be finite, got"), std::string::npos)
        << error.what();
  }
  expect_same_bits(weights_of(model), before, "weights");
}

TEST(Trainer, ADivergedRunLeavesTheLastWeightsWhoseLossWasFinite) {
  const Ids text = random_tokens(100);
  const TrainingConfig config{
      .batch = 2, .steps = 50, .learning_rate = 1000, .warmup = 0, .weight_decay = 1000};
  Workspace workspace;
  std::vector<std::vector<float>> after;  // entry k: the weights after step k
  const auto run = [&](Net& model, Index steps, const TrainingConfig& how) {
    after.assign(1, weights_of(model));
    return train(model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(), how, workspace,
                 [&](const TrainingProgress& p) {
                   after.push_back(weights_of(model));
                   return p.step < steps;
                 });
  };
  Net model = make_model();
  Index last_step = 0, good = 0;
  try {
    run(model, 50, config);
    ADD_FAILURE() << "weights that grow by a million a step stayed finite";
  } catch (const TrainingDiverged& error) {
    good = error.good_steps();
    last_step = static_cast<Index>(after.size()) - 1;
    EXPECT_NE(std::string(error.what()).find("those after step " + std::to_string(good)), std::string::npos)
        << error.what();
  }
  // Step `last_step` led to weights of which the next loss was not finite.
  ASSERT_EQ(good, last_step - 1);
  ASSERT_GE(good, 1);
  expect_same_bits(weights_of(model), after[static_cast<std::size_t>(good)], "weights");
  for (const float value : weights_of(model)) ASSERT_TRUE(std::isfinite(value));
}

TEST(Trainer, WeightsThatNoLossIsAskedOfMustBeFinite) {
  const Ids text = random_tokens(100);
  Net model = make_model();
  Net::visit(
      [](std::string_view name, auto& tensor) {
        if (name.ends_with("down.weight")) tensor *= 1000.0f;
      },
      model);
  const std::vector<float> before = weights_of(model);
  Workspace workspace;
  // One step that overflows large weights.
  const TrainingConfig config{
      .batch = 2, .steps = 1, .learning_rate = 1e30, .warmup = 0, .weight_decay = 1e8};
  EXPECT_THROW(train(model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(), config,
                     workspace, [](const TrainingProgress&) { return true; }),
               TrainingDiverged);
  expect_same_bits(weights_of(model), before, "weights");
  EXPECT_THROW(train(model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(text), config,
                     workspace, [](const TrainingProgress&) { return true; }),
               TrainingDiverged);
  expect_same_bits(weights_of(model), before, "weights");
}

TEST(Trainer, AGradientWhoseSquareOverflowsEndsTheRun) {
  const Ids text = random_tokens(100);
  Net model = make_model();
  model.embedding().weight *= 1e15f;
  Net::visit(
      [](std::string_view name, auto& tensor) {
        if (name == "norm.gain") tensor.setConstant(1e20f);
      },
      model);
  const std::vector<float> before = weights_of(model);
  Workspace workspace;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(message_of_exactly<TrainingDiverged>([&] {
              train(model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(),
                    {.batch = 2, .steps = 2, .clip = kInfinity}, workspace,
                    [](const TrainingProgress&) { return true; });
            }).find("train: the square of the gradient norm of step 1 must be finite, got infinity"),
            0u);
  expect_same_bits(weights_of(model), before, "weights");
}

TEST(Trainer, AValidationThatIsStoppedGivesNoLoss) {
  const Ids text = random_tokens(200);
  Net model = make_model();
  Workspace workspace;
  int asked = 0;
  const auto run = [&](int most) {
    asked = 0;
    return train(
        model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(text),
        {.batch = 1, .steps = 1}, workspace, [](const TrainingProgress&) { return true; },
        [&] { return ++asked == most; });
  };
  EXPECT_TRUE(run(0).validation_loss.has_value());
  const int windows = asked;
  ASSERT_GT(windows, 3);
  EXPECT_FALSE(run(2).validation_loss.has_value());
  EXPECT_EQ(asked, 2);
  EXPECT_TRUE(run(windows).validation_loss.has_value()) << "nothing was left to stop";
}

TEST(Trainer, RefusesBadConfigsAndTextsBeforeItTouchesTheModel) {
  Net model = make_model();
  const std::vector<float> before = weights_of(model);
  Workspace workspace;
  const auto attempt = [&](const TrainingConfig& config, const Ids& text, const Ids& validation = {}) {
    train(model, std::span<const std::int32_t>(text), std::span<const std::int32_t>(validation), config,
          workspace, [](const TrainingProgress&) { return true; });
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Ids text = random_tokens(50);
  for (const TrainingConfig& config :
       {TrainingConfig{.batch = 0}, TrainingConfig{.batch = std::numeric_limits<Index>::max()},
        TrainingConfig{.steps = 0}, TrainingConfig{.minutes = -1}, TrainingConfig{.minutes = nan},
        TrainingConfig{.learning_rate = 0}, TrainingConfig{.learning_rate = nan},
        TrainingConfig{.warmup = 1.5}, TrainingConfig{.warmup = nan}, TrainingConfig{.final_rate = 2},
        TrainingConfig{.weight_decay = -1}, TrainingConfig{.clip = 0}, TrainingConfig{.clip = nan},
        TrainingConfig{.validate_every = -1}, TrainingConfig{.validation_tokens = -1}}) {
    EXPECT_THROW(attempt(config, text), std::invalid_argument);
  }
  const TrainingConfig config{.batch = 1, .steps = 1};
  EXPECT_THROW(attempt(config, random_tokens(kWindow)), std::invalid_argument);
  EXPECT_THROW(attempt(config, {}), std::invalid_argument);
  EXPECT_THROW(attempt(config, text, {1}), std::invalid_argument);
  Ids bad = text;
  bad[49] = kTokenKinds;
  EXPECT_THROW(attempt(config, bad), std::out_of_range);
  EXPECT_THROW(attempt(config, text, bad), std::out_of_range);
  expect_same_bits(weights_of(model), before, "weights");
}

}  // namespace
}  // namespace hsm::test::trainer_test
