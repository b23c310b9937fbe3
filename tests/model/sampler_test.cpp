// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/model/sampler.hpp>

namespace hsm::sampler_test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::int32_t draw(Sampler& sampler, const std::vector<double>& logits, Random& random) {
  return sampler(std::span<const double>(logits), random);
}

/// How often each id came in `draws` draws.
std::vector<double> frequencies(SamplerOptions options, const std::vector<double>& logits, int draws) {
  Sampler sampler(options);
  Random random(17);
  std::vector<double> counts(logits.size());
  for (int i = 0; i < draws; ++i) {
    counts[static_cast<std::size_t>(draw(sampler, logits, random))] += 1.0 / draws;
  }
  return counts;
}

/// The ids that came at least once.
std::set<std::size_t> reached(SamplerOptions options, const std::vector<double>& logits) {
  std::set<std::size_t> ids;
  const std::vector<double> shares = frequencies(options, logits, 2000);
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (shares[i] > 0) ids.insert(i);
  }
  return ids;
}

TEST(Sampler, TemperatureZeroTakesTheLowestOfTheMostProbableIdsAndDrawsNothing) {
  Sampler sampler({.temperature = 0});
  Random random(1);
  EXPECT_EQ(draw(sampler, {0.5, 2.0, -1.0, 2.0}, random), 1);
  EXPECT_EQ(draw(sampler, {-kInfinity, -3.0}, random), 1);
  EXPECT_EQ(draw(sampler, {7.0}, random), 0);
  EXPECT_EQ(random.state(), Random(1).state());
}

TEST(Sampler, DrawsByTheProbabilitiesOfTheLogits) {
  const std::vector<double> logits = {1.0, -1.0, 0.3, 2.0, -kInfinity, 0.3};
  constexpr int kDraws = 100'000;
  for (const double temperature : {0.7, 1.0, 2.5}) {
    double sum = 0;
    for (const double z : logits) sum += std::exp(z / temperature);
    const std::vector<double> shares = frequencies({.temperature = temperature}, logits, kDraws);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double p = std::exp(logits[i] / temperature) / sum;
      EXPECT_LE(std::abs(shares[i] - p), 5 * std::sqrt(p * (1 - p) / kDraws)) << "id " << i;
    }
  }
}

TEST(Sampler, TopKKeepsTheKMostProbableIdsAndTheirProportions) {
  const std::vector<double> logits = {std::log(1.0), std::log(4.0), std::log(2.0), std::log(1.0)};
  EXPECT_EQ(reached({.top_k = 1}, logits), (std::set<std::size_t>{1}));
  EXPECT_EQ(reached({.top_k = 2}, logits), (std::set<std::size_t>{1, 2}));
  EXPECT_EQ(reached({.top_k = 3}, logits), (std::set<std::size_t>{0, 1, 2}));  // of equals the lower id
  EXPECT_EQ(reached({.top_k = 0}, logits), (std::set<std::size_t>{0, 1, 2, 3}));
  EXPECT_EQ(reached({.top_k = 1000}, logits), (std::set<std::size_t>{0, 1, 2, 3}));
  constexpr int kDraws = 100'000;
  const std::vector<double> shares = frequencies({.top_k = 2}, logits, kDraws);
  EXPECT_LE(std::abs(shares[1] - 2.0 / 3), 5 * std::sqrt(2.0 / 9 / kDraws));
}

TEST(Sampler, TopPKeepsTheFewestIdsThatReachIt) {
  const std::vector<double> equal(4, 0.25);  // four weights of exactly 1
  EXPECT_EQ(reached({.top_p = 1e-9}, equal), (std::set<std::size_t>{0}));
  EXPECT_EQ(reached({.top_p = 0.25}, equal), (std::set<std::size_t>{0}));
  EXPECT_EQ(reached({.top_p = 0.25 + 1e-9}, equal), (std::set<std::size_t>{0, 1}));
  EXPECT_EQ(reached({.top_p = 0.5}, equal), (std::set<std::size_t>{0, 1}));
  EXPECT_EQ(reached({.top_p = 0.75 + 1e-9}, equal), (std::set<std::size_t>{0, 1, 2, 3}));
  EXPECT_EQ(reached({.top_p = 1.0}, equal), (std::set<std::size_t>{0, 1, 2, 3}));
  const std::vector<double> logits = {std::log(0.1), std::log(0.6), std::log(0.3)};
  EXPECT_EQ(reached({.top_p = 0.59}, logits), (std::set<std::size_t>{1}));
  EXPECT_EQ(reached({.top_p = 0.61}, logits), (std::set<std::size_t>{1, 2}));
  EXPECT_EQ(reached({.top_p = 0.91}, logits), (std::set<std::size_t>{0, 1, 2}));
}

TEST(Sampler, TopPCountsTheProbabilitiesThatTopKLeft) {
  const std::vector<double> logits = {std::log(4.0), std::log(3.0), std::log(2.0), std::log(1.0)};
  EXPECT_EQ(reached({.top_k = 2, .top_p = 0.55}, logits), (std::set<std::size_t>{0}));     // 4/7
  EXPECT_EQ(reached({.top_k = 4, .top_p = 0.55}, logits), (std::set<std::size_t>{0, 1}));  // 4/10
}

TEST(Sampler, TheSeedDecidesTheDraws) {
  const std::vector<double> logits(50, 0.0);
  Sampler sampler({});
  Random a(5), b(5), c(6);
  int different = 0;
  for (int i = 0; i < 100; ++i) {
    const std::int32_t id = draw(sampler, logits, a);
    EXPECT_EQ(draw(sampler, logits, b), id);
    different += draw(sampler, logits, c) != id;
  }
  EXPECT_GT(different, 80);
}

TEST(Sampler, TakesLogitsOfAnySizeWithoutOverflow) {
  EXPECT_EQ(reached({}, {1e300, -1e300, 1e300}), (std::set<std::size_t>{0, 2}));
  EXPECT_EQ(reached({.temperature = 1e-300}, {0.0, 1e-6}), (std::set<std::size_t>{1}));
  Sampler sampler({});
  Random random(1);
  const std::vector<float> narrow = {-3e38f, 3e38f};
  EXPECT_EQ(sampler(std::span<const float>(narrow), random), 1);
  EXPECT_EQ(draw(sampler, {0.0, kInfinity}, random), 1);
  EXPECT_EQ(reached({}, {-kInfinity, 0.0, -kInfinity}), (std::set<std::size_t>{1}));
}

TEST(Sampler, RefusesNanAndNoLogitsAtEveryTemperature) {
  Random random(1);
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler({.temperature = temperature});
    EXPECT_THROW(draw(sampler, {}, random), std::invalid_argument);
    try {
      draw(sampler, {0.0, 1.0, kNan}, random);
      FAIL() << "NaN was taken";
    } catch (const std::invalid_argument& error) {
      EXPECT_EQ(std::string(error.what()), "Sampler: the logit of token 2 must be a number, got NaN");
    }
    EXPECT_THROW(draw(sampler, {-kInfinity, -kInfinity}, random), std::invalid_argument);
  }
  EXPECT_EQ(random.state(), Random(1).state());
}

TEST(Sampler, RefusesOptionsOutsideTheirRange) {
  EXPECT_THROW(Sampler({.temperature = -0.1}), std::invalid_argument);
  EXPECT_THROW(Sampler({.temperature = kNan}), std::invalid_argument);
  EXPECT_THROW(Sampler({.temperature = kInfinity}), std::invalid_argument);
  EXPECT_THROW(Sampler({.top_k = -1}), std::invalid_argument);
  EXPECT_THROW(Sampler({.top_p = 0.0}), std::invalid_argument);
  EXPECT_THROW(Sampler({.top_p = 1.5}), std::invalid_argument);
  EXPECT_THROW(Sampler({.top_p = kNan}), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::sampler_test
