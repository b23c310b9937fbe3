// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/training/token_windows.hpp>

#include "support/message_of.hpp"

namespace hsm::token_windows_test {
namespace {

using test::message_of;

using Ids = std::vector<std::int32_t>;

/// A text whose token at place i is 1000 + i, so that a token tells where it came from.
Ids numbered(std::size_t size) {
  Ids text(size);
  std::iota(text.begin(), text.end(), 1000);
  return text;
}

TEST(TokenWindows, GivesConsecutiveTokensAndTheNextOnesAsTargets) {
  const Ids text = numbered(50);
  TokenWindows windows(text, 8, Random(1));
  Ids tokens(24), targets(24);
  for (int round = 0; round < 200; ++round) {
    windows.fill(tokens, targets, 3);
    for (std::size_t b = 0; b < 3; ++b) {
      ASSERT_GE(tokens[b * 8], 1000);
      ASSERT_LE(targets[b * 8 + 7], 1049);
      for (std::size_t t = 0; t < 8; ++t) {
        ASSERT_EQ(tokens[b * 8 + t], tokens[b * 8] + static_cast<std::int32_t>(t));
        ASSERT_EQ(targets[b * 8 + t], tokens[b * 8 + t] + 1);
      }
    }
  }
}

TEST(TokenWindows, EveryPlaceIsDrawnEquallyOften) {
  const Ids text = numbered(20);
  TokenWindows windows(text, 10, Random(2));
  EXPECT_EQ(windows.count(), 10);
  std::vector<int> counts(10);
  Ids tokens(10 * 100), targets(10 * 100);
  for (int round = 0; round < 200; ++round) {
    windows.fill(tokens, targets, 100);
    for (std::size_t b = 0; b < 100; ++b) ++counts.at(static_cast<std::size_t>(tokens[b * 10] - 1000));
  }
  for (const int count : counts) EXPECT_NEAR(count, 2000, 215);  // 5 standard deviations
}

TEST(TokenWindows, TheShortestTextHasOneWindow) {
  const Ids text = numbered(5);
  TokenWindows windows(text, 4, Random(3));
  Ids tokens(4), targets(4);
  windows.fill(tokens, targets, 1);
  EXPECT_EQ(tokens, (Ids{1000, 1001, 1002, 1003}));
  EXPECT_EQ(targets, (Ids{1001, 1002, 1003, 1004}));
}

TEST(TokenWindows, ContinuesFromTheStateOfItsGenerator) {
  const Ids text = numbered(1000);
  TokenWindows windows(text, 4, Random(4));
  Ids tokens(8), targets(8), other_tokens(8), other_targets(8);
  windows.fill(tokens, targets, 2);
  TokenWindows resumed(text, 4, Random(windows.random().state()));
  windows.fill(tokens, targets, 2);
  resumed.fill(other_tokens, other_targets, 2);
  EXPECT_EQ(tokens, other_tokens);
  TokenWindows same_seed(text, 4, Random(4)), other_seed(text, 4, Random(5));
  same_seed.fill(tokens, targets, 2);
  other_seed.fill(other_tokens, other_targets, 2);
  EXPECT_NE(tokens, other_tokens);
}

TEST(TokenWindows, RefusesATextShorterThanAWindowAndItsTarget) {
  const Ids text = numbered(8);
  EXPECT_THROW(TokenWindows(text, 8, Random(1)), std::invalid_argument);
  EXPECT_EQ(message_of([&] { TokenWindows(text, 128, Random(1)); }),
            "TokenWindows: text must be longer than a window of 128 tokens and 1 target, got 8 tokens");
  EXPECT_THROW(TokenWindows({}, 1, Random(1)), std::invalid_argument);
  EXPECT_THROW(TokenWindows(text, 0, Random(1)), std::invalid_argument);
  EXPECT_THROW(TokenWindows(text, -1, Random(1)), std::invalid_argument);
}

TEST(TokenWindows, RefusesBuffersOfAnotherSizeAndDrawsNothing) {
  const Ids text = numbered(50);
  TokenWindows windows(text, 8, Random(1));
  Ids right(16), wrong(15), wide(24);
  const std::uint64_t state = windows.random().state();
  EXPECT_THROW(windows.fill(wrong, right, 2), std::invalid_argument);
  EXPECT_THROW(windows.fill(right, wide, 2), std::invalid_argument);
  EXPECT_THROW(windows.fill({}, {}, 0), std::invalid_argument);
  EXPECT_THROW(windows.fill(right, right, -2), std::invalid_argument);
  EXPECT_THROW(windows.fill(right, right, (Index{1} << 61) + 2), std::invalid_argument);  // 8 B wraps to 16
  EXPECT_EQ(windows.random().state(), state);
  EXPECT_EQ(right, Ids(16));
  EXPECT_EQ(message_of([&] { windows.fill(wrong, right, 2); }),
            "TokenWindows::fill: tokens must be a buffer of 2 x 8 values, got one of 15");
}

/// Walks over all windows, `batch` at a time, and checks that each token but the first is the target once.
void expect_covered(std::size_t size, Index time, Index batch) {
  SCOPED_TRACE("text of " + std::to_string(size) + ", T = " + std::to_string(time) +
               ", B = " + std::to_string(batch));
  const Ids text = numbered(size);
  const ValidationWindows windows(text, time);
  EXPECT_EQ(windows.predictions(), static_cast<Index>(size) - 1);
  std::vector<int> predicted(size);
  Index padding = 0;
  for (Index first = 0; first < windows.count(); first += batch) {
    const Index rows = std::min(batch, windows.count() - first);
    Ids tokens(static_cast<std::size_t>(rows * time), -5), targets(tokens.size(), -5);
    windows.fill(tokens, targets, first, rows);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (targets[i] == -1) {
        EXPECT_EQ(tokens[i], 0);
        ++padding;
      } else {
        EXPECT_EQ(padding, 0) << "padding before a token";
        EXPECT_EQ(targets[i], tokens[i] + 1);
        EXPECT_EQ(tokens[i], 1000 + first * time + static_cast<Index>(i));
        ++predicted.at(static_cast<std::size_t>(targets[i] - 1000));
      }
    }
  }
  EXPECT_LT(padding, time);
  EXPECT_EQ(predicted[0], 0);
  for (std::size_t i = 1; i < size; ++i) EXPECT_EQ(predicted[i], 1) << "token " << i;
}

TEST(ValidationWindows, PredictEveryTokenButTheFirstExactlyOnce) {
  for (std::size_t size = 2; size <= 40; ++size) {
    for (const Index time : {1, 2, 7, 8, 39, 40, 100}) {
      for (const Index batch : {1, 3, 50}) expect_covered(size, time, batch);
    }
  }
}

TEST(ValidationWindows, FillUpTheLastWindowWithIgnoredTargets) {
  const Ids text = numbered(7);
  const ValidationWindows windows(text, 4);
  ASSERT_EQ(windows.count(), 2);
  Ids tokens(8), targets(8);
  windows.fill(tokens, targets, 0, 2);
  EXPECT_EQ(tokens, (Ids{1000, 1001, 1002, 1003, 1004, 1005, 0, 0}));
  EXPECT_EQ(targets, (Ids{1001, 1002, 1003, 1004, 1005, 1006, -1, -1}));
}

TEST(ValidationWindows, RefuseATextWithNothingToPredict) {
  const Ids text = numbered(1);
  EXPECT_THROW(ValidationWindows(text, 4), std::invalid_argument);
  EXPECT_THROW(ValidationWindows({}, 4), std::invalid_argument);
  const Ids longer = numbered(10);
  EXPECT_THROW(ValidationWindows(longer, 0), std::invalid_argument);
}

TEST(ValidationWindows, RefuseWindowsThatDoNotExistAndBuffersOfAnotherSize) {
  const Ids text = numbered(10);
  const ValidationWindows windows(text, 4);  // 3 windows
  Ids four(4), eight(8), sixteen(16);
  EXPECT_THROW(windows.fill(four, four, 3, 1), std::out_of_range);
  EXPECT_THROW(windows.fill(eight, eight, 2, 2), std::out_of_range);
  EXPECT_THROW(windows.fill(four, four, -1, 1), std::out_of_range);
  EXPECT_THROW(windows.fill(sixteen, sixteen, 0, 4), std::out_of_range);
  EXPECT_THROW(windows.fill(four, four, 1, std::numeric_limits<Index>::max()), std::out_of_range);
  EXPECT_THROW(windows.fill({}, {}, 0, 0), std::invalid_argument);
  EXPECT_THROW(windows.fill(four, eight, 0, 1), std::invalid_argument);
  EXPECT_THROW(windows.fill(eight, four, 0, 1), std::invalid_argument);
  EXPECT_EQ(message_of([&] { windows.fill(eight, eight, 2, 2); }),
            "ValidationWindows::fill: windows must be within [0, 3), got 2 from 2");
}

}  // namespace
}  // namespace hsm::token_windows_test
