// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <vector>

#include "examples/hsm_lm/rate_search.hpp"

namespace hsm::examples::rate_search_test {
namespace {

using Rates = std::vector<double>;

/// The rates in the order in which they are tried.
Rates tried(RateSearch& search, const std::function<double(double)>& loss) {
  Rates rates;
  while (const auto rate = search.next()) {
    EXPECT_GE(search.size(), rates.size() + 1);
    rates.push_back(*rate);
    search.set(*rate, loss(*rate));
    if (rates.size() > 20) break;
  }
  EXPECT_TRUE(search.all_known());
  EXPECT_EQ(search.size(), rates.size());
  EXPECT_EQ(search.rates().size(), rates.size());
  return rates;
}

/// Lowest at `best`.
std::function<double(double)> valley(double best) {
  return [best](double rate) { return 1 + std::abs(std::log(rate / best)); };
}

TEST(RateSearch, TriesTheGridAloneWhereTheBestLiesInside) {
  RateSearch search({3e-3, 1e-3, 1e-2});
  EXPECT_EQ(tried(search, valley(3e-3)), (Rates{1e-3, 3e-3, 1e-2}));
  EXPECT_EQ(search.best(), 3e-3);
  EXPECT_FALSE(search.edge());
}

TEST(RateSearch, GoesOnBeyondAnEdgeByTheRatioOfTheGrid) {
  RateSearch up({1e-3, 2e-3, 4e-3});
  EXPECT_EQ(tried(up, valley(7e-3)), (Rates{1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2}));
  EXPECT_EQ(up.best(), 8e-3);
  EXPECT_FALSE(up.edge());
  RateSearch down({1e-3, 1e-2});
  EXPECT_EQ(tried(down, valley(1e-4)), (Rates{1e-3, 1e-2, 1e-4, 1e-5}));
  EXPECT_EQ(down.best(), 1e-4);
  // Of a grid that is uneven the ratio at that edge.
  RateSearch uneven({1e-3, 3e-3, 1e-2});
  EXPECT_EQ(tried(uneven, valley(0.9e-3)), (Rates{1e-3, 3e-3, 1e-2, 3.33e-4}));
}

TEST(RateSearch, EndsAfterSomeMoreAndTellsThatTheBestIsAnEdge) {
  RateSearch search({1, 2});
  EXPECT_EQ(tried(search, [](double rate) { return -rate; }), (Rates{1, 2, 4, 8, 16, 32}));
  EXPECT_EQ(search.best(), 32);
  EXPECT_TRUE(search.edge());
}

TEST(RateSearch, TakesWhatDivergedForTheWorst) {
  RateSearch search({1e-3, 1e-2, 1e-1});
  const auto loss = [](double rate) {
    return rate > 0.5 ? std::numeric_limits<double>::quiet_NaN() : rate > 5e-3 ? 2 - rate : 3;
  };
  EXPECT_EQ(tried(search, loss), (Rates{1e-3, 1e-2, 1e-1, 1}));
  EXPECT_EQ(search.best(), 1e-1);
  EXPECT_FALSE(search.edge());
  RateSearch all({1e-2, 1e-1});
  const Rates rates = tried(all, [](double) { return std::numeric_limits<double>::infinity(); });
  EXPECT_EQ(rates, (Rates{1e-2, 1e-1, 1e-3, 1e-4, 1e-5, 1e-6}));
  EXPECT_EQ(all.best(), 1e-6);
}

TEST(RateSearch, IsContentWithOneRate) {
  RateSearch search({1e-2});
  EXPECT_EQ(tried(search, [](double) { return 1.0; }), Rates{1e-2});
  EXPECT_FALSE(search.edge());
  EXPECT_THROW(RateSearch({}), std::invalid_argument);
}

TEST(RateSearch, GoesOnAsItWouldHaveUnbroken) {
  RateSearch whole({1e-3, 2e-3, 4e-3}), part({1e-3, 2e-3, 4e-3});
  const Rates rates = tried(whole, valley(1e-2));
  for (std::size_t i = 0; i < 4; ++i) part.set(rates[i], valley(1e-2)(rates[i]));
  EXPECT_EQ(part.next(), rates[4]);
}

}  // namespace
}  // namespace hsm::examples::rate_search_test
