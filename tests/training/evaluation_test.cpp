// SPDX-License-Identifier: MIT
//
// The loss of a text against -log softmax by plain loops, window by window.
#include <gtest/gtest.h>

#include <cmath>
#include <hsm/training/evaluation.hpp>
#include <stdexcept>
#include <vector>

#include "support/matchers.hpp"
#include "support/models.hpp"

namespace hsm::test::evaluation_test {
namespace {

using Net = LanguageModel<double>;
using Ids = std::vector<std::int32_t>;

constexpr Index kVocabulary = 11, kContext = 6;

Net make_model() {
  Random random(5);
  Net model({.vocabulary = kVocabulary,
             .width = 8,
             .feed_forward = 12,
             .context = kContext,
             .layers = "2*ab,gated"},
            random);
  Net::visit([](std::string_view, auto& tensor) { tensor *= 3; }, model);
  return model;
}

Ids tokens(Index count) {
  Random random(9);
  Ids ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(random.below(kVocabulary)));
  return ids;
}

/// -log p of token i + 1 of the text, read from the start of its window of T tokens.
std::vector<double> oracle(const Net& model, const Ids& text, Index T) {
  std::vector<double> losses;
  Workspace workspace;
  for (Index start = 0; start + 1 < static_cast<Index>(text.size()); start += T) {
    const Index n = std::min(T, static_cast<Index>(text.size()) - 1 - start);
    const Ids window(text.begin() + start, text.begin() + start + n);
    Net::Saved saved;
    model.hidden(window, 1, n, saved, workspace);
    const auto& E = model.embedding().weight;
    for (Index t = 0; t < n; ++t) {
      double sum = 0, of_target = 0;
      for (Index v = 0; v < kVocabulary; ++v) {
        double logit = 0;
        for (Index c = 0; c < E.cols(); ++c) logit += E(v, c) * saved.hidden(c, t);
        sum += std::exp(logit);
        if (v == text[static_cast<std::size_t>(start + t + 1)]) of_target = logit;
      }
      losses.push_back(std::log(sum) - of_target);
    }
  }
  return losses;
}

TEST(Evaluation, IsTheMeanOverAllTokensButTheFirst) {
  const Net model = make_model();
  Workspace workspace;
  for (const Index size : {2, 6, 7, 8, 13, 40}) {
    for (const Index batch : {1, 3, 50}) {
      const Ids text = tokens(size);
      const std::vector<double> losses = oracle(model, text, kContext);
      double sum = 0;
      for (const double loss : losses) sum += loss;
      const Evaluation got =
          evaluate(model, std::span<const std::int32_t>(text), {.batch = batch}, workspace);
      EXPECT_EQ(got.total.count, size - 1);
      const double mean = sum / static_cast<double>(size - 1);
      expect_close(got.nats(), mean, 0, 1e-12, "nats");
      expect_close(got.bits(), mean / std::log(2.0), 0, 1e-12, "bits");
      expect_close(got.perplexity(), std::exp(mean), 0, 1e-12, "perplexity");
    }
  }
}

TEST(Evaluation, TellsTheLossOfEachPosition) {
  const Net model = make_model();
  Workspace workspace;
  const Ids text = tokens(16);  // windows of 6, 6 and 3 predictions
  const std::vector<double> losses = oracle(model, text, kContext);
  const Evaluation got = evaluate(model, std::span<const std::int32_t>(text), {.batch = 2}, workspace);
  ASSERT_EQ(got.by_position.size(), 6u);
  for (std::size_t t = 0; t < 6; ++t) {
    const bool third = t < 3;
    EXPECT_EQ(got.by_position[t].count, third ? 3 : 2);
    expect_close(got.by_position[t].sum, losses[t] + losses[t + 6] + (third ? losses[t + 12] : 0.0), 0, 1e-12,
                 "position");
  }
  expect_close(got.between(2, 3).sum, losses[1] + losses[2] + losses[7] + losses[8] + losses[13] + losses[14],
               0, 1e-12, "2 to 3");
  EXPECT_EQ(got.between(1, 6).count, 15);
  EXPECT_THROW(got.between(0, 3), std::out_of_range);
  EXPECT_THROW(got.between(3, 2), std::out_of_range);
  EXPECT_THROW(got.between(1, 7), std::out_of_range);
}

TEST(Evaluation, TakesAnotherContextAndNoMoreThanTheTextHas) {
  const Net model = make_model();
  Workspace workspace;
  const Ids text = tokens(10);
  for (const Index context : {1, 4, 9, 1'000'000'000}) {
    const Index T = std::min<Index>(context, 9);
    double sum = 0;
    for (const double loss : oracle(model, text, T)) sum += loss;
    const Evaluation got =
        evaluate(model, std::span<const std::int32_t>(text), {.context = context}, workspace);
    EXPECT_EQ(static_cast<Index>(got.by_position.size()), T);
    expect_close(got.total.sum, sum, 0, 1e-12, "sum");
  }
}

TEST(Evaluation, CarriedIsOneWindowOfTheWholeText) {
  const Net model = make_model();
  Workspace workspace;
  for (const Index size : {2, 6, 7, 8, 13, 40}) {
    const Ids text = tokens(size);
    const std::vector<double> losses = oracle(model, text, size - 1);
    for (const Index batch : {1, 3, 50}) {
      std::vector<Index> done;
      const Evaluation got = evaluate(model, std::span<const std::int32_t>(text),
                                      {.batch = batch, .carry = true}, workspace, [&](Index now, Index all) {
                                        EXPECT_EQ(all, (size - 2) / kContext + 1);
                                        done.push_back(now);
                                        return true;
                                      });
      EXPECT_EQ(done.back(), (size - 2) / kContext + 1);
      double sum = 0, far = 0;
      const Index T = std::min(kContext, size - 1);
      for (Index t = 0; t < size - 1; ++t) {
        sum += losses[static_cast<std::size_t>(t)];
        if (t >= T - 1) far += losses[static_cast<std::size_t>(t)];
      }
      ASSERT_EQ(static_cast<Index>(got.by_position.size()), T);
      EXPECT_EQ(got.total.count, size - 1);
      expect_close(got.total.sum, sum, 0, 1e-12, "sum");
      expect_close(got.by_position.front().sum, T == 1 ? far : losses.front(), 0, 1e-12, "first");
      EXPECT_EQ(got.by_position.back().count, size - T);
      expect_close(got.by_position.back().sum, far, 0, 1e-12, "last");
    }
  }
}

TEST(Evaluation, CarriesNoLearnedPositions) {
  Random random(5);
  const Net model({.vocabulary = kVocabulary,
                   .width = 8,
                   .feed_forward = 4,
                   .context = kContext,
                   .positions = Positions::kLearned,
                   .layers = "ab"},
                  random);
  Workspace workspace;
  const Ids text = tokens(40);
  EXPECT_THROW(evaluate(model, std::span<const std::int32_t>(text), {.carry = true}, workspace),
               std::invalid_argument);
}

TEST(Evaluation, ReportsProgressAndStopsWhenAsked) {
  const Net model = make_model();
  Workspace workspace;
  const Ids text = tokens(40);  // 7 windows
  std::vector<Index> done;
  const Evaluation got = evaluate(model, std::span<const std::int32_t>(text), {.batch = 3}, workspace,
                                  [&](Index now, Index all) {
                                    EXPECT_EQ(all, 7);
                                    done.push_back(now);
                                    return now < 6;
                                  });
  EXPECT_EQ(done, (std::vector<Index>{3, 6}));
  EXPECT_EQ(got.total.count, 36);
}

TEST(Evaluation, RefusesShortTextsBadConfigsAndBadTokens) {
  const Net model = make_model();
  Workspace workspace;
  const auto run = [&](const Ids& text, const EvaluationConfig& config) {
    evaluate(model, std::span<const std::int32_t>(text), config, workspace);
  };
  EXPECT_THROW(run({}, {}), std::invalid_argument);
  EXPECT_THROW(run({1}, {}), std::invalid_argument);
  EXPECT_THROW(run({1, 2}, {.batch = 0}), std::invalid_argument);
  EXPECT_THROW(run({1, 2}, {.context = -1}), std::invalid_argument);
  EXPECT_THROW(run({1, kVocabulary}, {}), std::out_of_range);
  EXPECT_THROW(run({-1, 2}, {}), std::out_of_range);
  Ids late = tokens(40);  // told before anything is read
  late.back() = kVocabulary;
  for (const bool carry : {false, true}) {
    EXPECT_THROW(evaluate(model, std::span<const std::int32_t>(late), {.batch = 1, .carry = carry}, workspace,
                          [](Index, Index) {
                            ADD_FAILURE() << "windows were read";
                            return true;
                          }),
                 std::out_of_range);
  }
}

}  // namespace
}  // namespace hsm::test::evaluation_test
