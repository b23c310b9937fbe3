// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include <hsm/training/learning_rate.hpp>

namespace hsm::learning_rate_test {
namespace {

constexpr WarmupCosine kRates{.peak = 2e-3, .warmup = 10, .total = 110, .floor_fraction = 0.1};

TEST(WarmupCosine, RisesLinearlyToThePeak) {
  EXPECT_DOUBLE_EQ(kRates.at(0), 2e-4);
  EXPECT_DOUBLE_EQ(kRates.at(4), 1e-3);
  EXPECT_DOUBLE_EQ(kRates.at(8), 1.8e-3);
  EXPECT_EQ(kRates.at(9), 2e-3);
}

TEST(WarmupCosine, FallsByHalfACosineToTheFloor) {
  EXPECT_DOUBLE_EQ(kRates.at(59), (2e-3 + 2e-4) / 2);                                        // half way
  EXPECT_DOUBLE_EQ(kRates.at(34), 2e-4 + 1.8e-3 * (1 + std::cos(std::acos(-1.0) / 4)) / 2);  // a quarter
  EXPECT_DOUBLE_EQ(kRates.at(109), 2e-4);
}

TEST(WarmupCosine, StaysAtTheFloorAfterTheEnd) {
  EXPECT_DOUBLE_EQ(kRates.at(110), 2e-4);
  EXPECT_DOUBLE_EQ(kRates.at(1000000), 2e-4);
  EXPECT_DOUBLE_EQ(kRates.at_progress(1.5), 2e-4);
  EXPECT_DOUBLE_EQ(kRates.at_progress(std::numeric_limits<double>::infinity()), 2e-4);
}

TEST(WarmupCosine, RisesBeforeThePeakAndFallsAfterIt) {
  for (Index step = 1; step < 110; ++step) {
    if (step < 10) {
      EXPECT_GT(kRates.at(step), kRates.at(step - 1)) << step;
    } else {
      EXPECT_LT(kRates.at(step), kRates.at(step - 1)) << step;
    }
  }
}

TEST(WarmupCosine, ProgressAndStepsAgree) {
  for (Index step = 0; step < 110; ++step) {
    EXPECT_NEAR(kRates.at_progress(static_cast<double>(step + 1) / 110), kRates.at(step), 1e-15) << step;
  }
  EXPECT_EQ(kRates.at_progress(0), 0.0);
}

TEST(WarmupCosine, IsContinuousInProgress) {
  for (int i = 1; i <= 100000; ++i) {
    const double change = kRates.at_progress(i / 1e5) - kRates.at_progress((i - 1) / 1e5);
    ASSERT_LE(std::abs(change), 2.3e-7) << i;  // the rise, the steeper part: 2e-3 * 11 / 1e5
  }
}

TEST(WarmupCosine, StartsAtThePeakWithoutWarmup) {
  const WarmupCosine rates{.peak = 1.0, .warmup = 0, .total = 4, .floor_fraction = 0.0};
  EXPECT_EQ(rates.at_progress(0), 1.0);
  EXPECT_DOUBLE_EQ(rates.at(1), 0.5);
  EXPECT_EQ(rates.at(3), 0.0);
}

TEST(WarmupCosine, CanBeAllWarmup) {
  const WarmupCosine rates{.peak = 1.0, .warmup = 4, .total = 4, .floor_fraction = 0.5};
  EXPECT_DOUBLE_EQ(rates.at(0), 0.25);
  EXPECT_DOUBLE_EQ(rates.at(3), 1.0);
  EXPECT_DOUBLE_EQ(rates.at(4), 0.5);
}

TEST(WarmupCosine, AFloorOfOneKeepsThePeak) {
  const WarmupCosine rates{.peak = 3.0, .warmup = 0, .total = 7, .floor_fraction = 1.0};
  for (Index step = 0; step < 10; ++step) EXPECT_DOUBLE_EQ(rates.at(step), 3.0);
}

TEST(WarmupCosine, RefusesFieldsOutsideTheirBounds) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW((WarmupCosine{.peak = 0}.at(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = -1}.at(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = nan}.at(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = 1 / 0.0}.at(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = 1, .warmup = -1, .total = 10}.at(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = 1, .warmup = 11, .total = 10}.at(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = 1, .warmup = 0, .total = 0}.at(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = 1, .floor_fraction = 1.1}.at(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = 1, .floor_fraction = -0.1}.at_progress(0)), std::invalid_argument);
  EXPECT_THROW((WarmupCosine{.peak = 1, .floor_fraction = nan}.at_progress(0)), std::invalid_argument);
}

TEST(WarmupCosine, RefusesNegativeStepsAndProgress) {
  EXPECT_THROW(kRates.at(-1), std::invalid_argument);
  EXPECT_THROW(kRates.at_progress(-0.1), std::invalid_argument);
  EXPECT_THROW(kRates.at_progress(std::numeric_limits<double>::quiet_NaN()), std::invalid_argument);
  try {
    kRates.at(-3);
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "WarmupCosine::at: step must be at least 0, got -3");
  }
}

}  // namespace
}  // namespace hsm::learning_rate_test
