// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/core/threaded_executor.hpp>
#include <hsm/training/adamw.hpp>
#include <hsm/training/gradient_clip.hpp>
#include <hsm/training/language_model_loss.hpp>

#include "model/language_model_cases.hpp"
#include "reference/language_model_reference.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::language_model_loss_test {
namespace {

/// Ids and targets of B sequences of T tokens; every fifth target is -1.
struct Batch {
  Index B, T;
  Ids ids, targets;

  Batch(Index batch, Index time, Index V, Random& random)
      : B(batch),
        T(time),
        ids(random_ids(batch * time, V, random)),
        targets(random_ids(batch * time, V, random)) {
    for (std::size_t i = 2; i < targets.size(); i += 5) targets[i] = -1;
  }
};

template <class Scalar>
CrossEntropy loss_of(const LanguageModel<Scalar>& model, const Batch& batch, std::span<double> losses = {}) {
  Workspace workspace;
  LanguageModelSaved<Scalar> saved;
  return language_model_loss(model, std::span<const std::int32_t>(batch.ids),
                             std::span<const std::int32_t>(batch.targets), batch.B, batch.T, saved, workspace,
                             losses);
}

template <class Scalar>
CrossEntropy add_gradients(const LanguageModel<Scalar>& model, const Batch& batch,
                           LanguageModel<Scalar>& gradients, Workspace& workspace) {
  LanguageModelSaved<Scalar> saved;
  return language_model_gradients(model, std::span<const std::int32_t>(batch.ids),
                                  std::span<const std::int32_t>(batch.targets), batch.B, batch.T, saved,
                                  gradients, workspace);
}

/// The losses of all tokens by the oracle.
Values expected_losses(const LanguageModel<double>& model, const Batch& batch) {
  const LanguageModelReference reference(model);
  Values losses;
  const auto T = static_cast<std::size_t>(batch.T);
  for (std::size_t start = 0; start < batch.ids.size(); start += T) {
    for (const double loss :
         reference.losses(std::span(batch.ids).subspan(start, T), std::span(batch.targets).subspan(start, T)))
      losses.push_back(loss);
  }
  return losses;
}

/// A place among the parameters: tensor number and element.
struct Place {
  std::size_t tensor;
  Index element;
};

/// Every tensor once and `more` others, drawn over all parameters.
template <class Model>
std::vector<Place> draw_places(const Model& model, Index more, Random& random) {
  std::vector<Index> sizes;
  Model::visit([&](std::string_view, const auto& tensor) { sizes.push_back(tensor.size()); }, model);
  std::vector<Place> places;
  const auto below = [&](Index n) { return static_cast<Index>(random.below(static_cast<std::uint64_t>(n))); };
  for (std::size_t i = 0; i < sizes.size(); ++i) places.push_back({i, below(sizes[i])});
  for (Index i = 0; i < more; ++i) {
    Index element = below(count_parameters(model));
    std::size_t tensor = 0;
    while (element >= sizes[tensor]) element -= sizes[tensor++];
    places.push_back({tensor, element});
  }
  return places;
}

/// Calls f(name, value) on the parameter at `place`.
template <class Model, class F>
void with_value(Model& model, const Place& place, F&& f) {
  std::size_t number = 0;
  Model::visit(
      [&](std::string_view name, auto& tensor) {
        if (number++ == place.tensor) f(name, tensor.data()[place.element]);
      },
      model);
}

/// Compares the gradients of the mean loss with central differences of `mean_loss(model)` at `places`.
template <class Loss>
void expect_gradients(LanguageModel<double> model, const LanguageModel<double>& gradients,
                      const std::vector<Place>& places, const Loss& mean_loss) {
  for (const Place& place : places) {
    double difference = 0, gradient = 0;
    std::string label;
    with_value(gradients, place, [&](std::string_view, double value) { gradient = value; });
    with_value(model, place, [&](std::string_view name, double& value) {
      label = std::string(name) + " element " + std::to_string(place.element);
      const double before = value;
      value = before + kDifferenceStep;
      const double above = mean_loss(model);
      value = before - kDifferenceStep;
      difference = (above - mean_loss(model)) / (2 * kDifferenceStep);
      value = before;
    });
    expect_close(gradient, difference, Tolerance<double>::difference, Tolerance<double>::difference, label);
  }
}

TEST(LanguageModelLoss, IsThatOfPlainLoopsTokenByToken) {
  Random random(1);
  const auto model = random_model<double>(small_config(), 2);
  const Batch batch(3, 11, 11, random);
  Values losses(batch.ids.size());
  const CrossEntropy total = loss_of(model, batch, losses);
  const Values expected = expected_losses(model, batch);
  double sum = 0;
  for (const double loss : expected) sum += loss;
  expect_close_to_scale(losses, expected, 1e-11, "losses");
  expect_close(total.sum, sum, 0, 1e-11, "sum");
  EXPECT_EQ(total.count, count_targets(batch.targets));
  EXPECT_LT(total.count, static_cast<Index>(batch.targets.size()));
  auto gradients = zeros_like(model);
  Workspace workspace;
  expect_close(add_gradients(model, batch, gradients, workspace).sum, sum, 0, 1e-11, "sum beside gradients");
}

TEST(LanguageModelLoss, GradientsOfEveryTensorAreThoseOfCentralDifferences) {
  Random random(2);
  LanguageModelConfig config = small_config();
  config.positions = Positions::kLearned;
  const auto model = random_model<double>(config, 3);
  const Batch batch(2, 20, config.vocabulary, random);
  auto gradients = zeros_like(model);
  Workspace workspace;
  workspace.poison = true;
  add_gradients(model, batch, gradients, workspace);
  expect_gradients(model, gradients, draw_places(model, 200, random),
                   [&](const LanguageModel<double>& at) { return loss_of(at, batch).mean(); });
}

TEST(LanguageModelLoss, GradientsThroughSeveralBlocksOfLogitsAreThoseOfCentralDifferences) {
  Random random(3);
  LanguageModelConfig config = small_config("ab");
  config.vocabulary = 9000;  // 64 tokens of logits at a time
  config.width = 4;
  const auto model = random_model<double>(config, 4);
  const Batch batch(1, 150, config.vocabulary, random);
  Values losses(batch.ids.size());
  loss_of(model, batch, losses);
  expect_close_to_scale(losses, expected_losses(model, batch), 1e-11, "losses");
  auto gradients = zeros_like(model);
  Workspace workspace;
  workspace.poison = true;
  add_gradients(model, batch, gradients, workspace);
  expect_gradients(model, gradients, draw_places(model, 20, random),
                   [&](const LanguageModel<double>& at) { return loss_of(at, batch).mean(); });
}

TEST(LanguageModelLoss, GradientsInFloatAreThoseInDouble) {
  Random random(4);
  const auto model = random_model<float>(small_config(), 5);
  auto wide = random_model<double>(small_config(), 5);
  const Batch batch(2, 24, 11, random);
  auto gradients = zeros_like(model);
  auto expected = zeros_like(wide);
  Workspace workspace;
  add_gradients(model, batch, gradients, workspace);
  add_gradients(wide, batch, expected, workspace);
  std::vector<Values> tensors;
  LanguageModel<double>::visit(
      [&](std::string_view, const auto& tensor) {
        tensors.emplace_back(tensor.data(), tensor.data() + tensor.size());
      },
      expected);
  std::size_t number = 0;
  LanguageModel<float>::visit(
      [&](std::string_view name, const auto& tensor) {
        // Rounded weights are other weights, and nine layers amplify that: a factor of 10.
        expect_close_to_scale(Values(tensor.data(), tensor.data() + tensor.size()), tensors[number++],
                              10 * Tolerance<float>::gradient, name);
      },
      gradients);
}

TEST(LanguageModelLoss, GradientsAreAddedToWhatIsThere) {
  Random random(5);
  const auto model = random_model<double>(small_config(), 6);
  const Batch batch(2, 9, 11, random);
  Workspace workspace;
  auto once = zeros_like(model), twice = zeros_like(model);
  add_gradients(model, batch, once, workspace);
  for (int i = 0; i < 2; ++i) add_gradients(model, batch, twice, workspace);
  LanguageModel<double>::visit(
      [](std::string_view name, const auto& sum, auto& one) {
        one *= 2;
        expect_close_to_scale(sum, one, Tolerance<double>::gradient, name);
      },
      twice, once);
}

TEST(LanguageModelLoss, ThreadsChangeNoBitOfLossAndGradients) {
  Random random(6);
  LanguageModelConfig config = small_config();
  config.vocabulary = 300;
  config.width = 64;
  config.feed_forward = 192;
  config.positions = Positions::kLearned;
  config.context = 70;
  const LanguageModel<float> model(config, random);
  const Batch batch(5, 70, config.vocabulary, random);
  ThreadedExecutor executor(2);
  Workspace serial, threaded(executor);
  auto gradients = zeros_like(model), gradients_threaded = zeros_like(model);
  const CrossEntropy loss = add_gradients(model, batch, gradients, serial);
  const CrossEntropy loss_threaded = add_gradients(model, batch, gradients_threaded, threaded);
  EXPECT_EQ(loss_threaded.sum, loss.sum);
  LanguageModel<float>::visit(
      [](std::string_view name, const auto& a, const auto& b) { expect_same_bits(a, b, name); },
      gradients_threaded, gradients);
}

TEST(LanguageModelLoss, ABatchWithoutTargetsHasNoLossAndNoGradients) {
  Random random(7);
  const auto model = random_model<double>(small_config(), 7);
  Batch batch(2, 6, 11, random);
  batch.targets.assign(batch.targets.size(), -1);
  auto gradients = zeros_like(model);
  Workspace workspace;
  const CrossEntropy loss = add_gradients(model, batch, gradients, workspace);
  EXPECT_EQ(loss.sum, 0);
  EXPECT_EQ(loss.count, 0);
  EXPECT_EQ(loss.mean(), 0);
  EXPECT_EQ(global_norm(gradients), 0);
}

TEST(LanguageModelLoss, BadTargetsAndIdsAreRefusedBeforeAnyGradient) {
  Random random(8);
  const auto model = random_model<double>(small_config(), 8);
  Workspace workspace;
  auto gradients = zeros_like(model);
  const Batch good(1, 6, 11, random);
  const auto spoiled = [&](const auto& spoil) {
    Batch batch = good;
    spoil(batch);
    return batch;
  };
  for (const std::int32_t bad : {-2, 11}) {
    const Batch target = spoiled([&](Batch& batch) { batch.targets[3] = bad; });
    EXPECT_THROW(add_gradients(model, target, gradients, workspace), std::out_of_range);
    EXPECT_THROW(loss_of(model, target), std::out_of_range);
  }
  const Batch id = spoiled([](Batch& batch) { batch.ids[3] = -1; });
  EXPECT_THROW(add_gradients(model, id, gradients, workspace), std::out_of_range);
  EXPECT_THROW(loss_of(model, id), std::out_of_range);
  const Batch few = spoiled([](Batch& batch) { batch.targets.pop_back(); });
  EXPECT_THROW(add_gradients(model, few, gradients, workspace), std::invalid_argument);
  EXPECT_THROW(loss_of(model, few), std::invalid_argument);
  EXPECT_EQ(global_norm(gradients), 0);
}

TEST(LanguageModelLoss, ListsOfAnotherLengthAreRefusedBeforeTheForwardPass) {
  Random random(8);
  const auto model = random_model<double>(small_config(), 8);
  const Batch batch(1, 6, 11, random);
  for (const std::size_t size : {std::size_t{5}, std::size_t{7}}) {
    Values losses(size, 3.0);
    expect_refused([&] { loss_of(model, batch, losses); },
                   "language_model_loss: the number of losses must be 6, got " + std::to_string(size));
    EXPECT_EQ(losses, Values(size, 3.0));
  }
  Workspace workspace;
  LanguageModelSaved<double> saved;
  auto gradients = zeros_like(model);
  constexpr Index kQuarter = Index{1} << (kIndexBits - 1);  // times 4 it is 0
  const std::string sizes =
      ": [batch,time] must be small enough to count, got [4," + std::to_string(kQuarter) + "]";
  expect_refused([&] { language_model_loss(model, {}, {}, 4, kQuarter, saved, workspace); },
                 "language_model_loss" + sizes);
  expect_refused([&] { language_model_gradients(model, {}, {}, 4, kQuarter, saved, gradients, workspace); },
                 "language_model_gradients" + sizes);
}

TEST(LanguageModelLoss, GradientsOfOtherSizesAreRefusedBeforeAnyIsWritten) {
  Random random(10);
  const auto model = random_model<double>(small_config("ab"), 8);
  const Batch batch(1, 6, 11, random);
  Workspace workspace;
  for (const auto& [vocabulary, width] : {std::pair<Index, Index>{5, 8}, {11, 4}}) {
    LanguageModelConfig config = small_config("ab:heads=2");
    config.vocabulary = vocabulary;
    config.width = width;
    auto gradients = zeros_like(random_model<double>(config, 8));
    expect_refused([&] { add_gradients(model, batch, gradients, workspace); },
                   "language_model_gradients: gradients must be a model of the same config, got another");
    EXPECT_EQ(global_norm(gradients), 0);
  }
  auto gradients = zeros_like(model);
  gradients.embedding().weight.setZero(5, 8);
  expect_refused([&] { add_gradients(model, batch, gradients, workspace); },
                 "language_model_gradients: the gradient of embedding.weight must be [11,8], got [5,8]");
  EXPECT_EQ(global_norm(gradients), 0);
}

TEST(LanguageModelLoss, AModelIsNotItsOwnGradient) {
  Random random(12);
  auto model = random_model<double>(small_config("ab"), 8);
  const double before = global_norm(model);
  const Batch batch(1, 6, 11, random);
  Workspace workspace;
  expect_refused([&] { add_gradients(model, batch, model, workspace); },
                 "language_model_gradients: gradients must be a model of its own, got the model itself");
  EXPECT_EQ(global_norm(model), before);
}

TEST(LanguageModelLoss, AdamWLearnsOneBatchByHeart) {
  Random random(9);
  LanguageModelConfig config = small_config("ab,gated,attention,gated-pair,softmax-local");
  config.width = 32;
  config.feed_forward = 64;
  LanguageModel<float> model(config, random);
  const Batch batch(4, 16, config.vocabulary, random);
  AdamW<LanguageModel<float>> optimizer(model, {.weight_decay = 0});
  auto gradients = zeros_like(model);
  Workspace workspace;
  double loss = 0;
  for (int step = 0; step < 300; ++step) {
    set_zero(gradients);
    loss = add_gradients(model, batch, gradients, workspace).mean();
    if (step == 0) {
      EXPECT_NEAR(loss, std::log(11.0), 0.3);
    }
    clip_global_norm(gradients, 1.0);
    optimizer.step(model, gradients, 3e-3);
  }
  EXPECT_LT(loss, 0.01);
}

}  // namespace
}  // namespace hsm::test::language_model_loss_test
