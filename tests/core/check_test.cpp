// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <hsm/core/check.hpp>
#include <hsm/core/tokens.hpp>
#include <string>
#include <vector>

#include "support/message_of.hpp"

namespace hsm::detail::check_test {
namespace {

using test::message_of;

TEST(Check, ShapesAreShownInBrackets) {
  EXPECT_EQ(to_text(Shape<3>{2, 128, 512}), "[2,128,512]");
  EXPECT_EQ(to_text(Shape<1>{-1}), "[-1]");
  EXPECT_EQ(to_text(Shape<0>{}), "[]");
}

TEST(Check, CountsAreWordsWithAnSUnlessThereIsOne) {
  EXPECT_EQ(counted(Index{0}, "token"), "0 tokens");
  EXPECT_EQ(counted(1, "more token"), "1 more token");
  EXPECT_EQ(counted(std::uint64_t{2}, "token"), "2 tokens");
  EXPECT_EQ(counted(-1, "token"), "-1 tokens");
}

TEST(Check, EqualSaysWhatWasExpectedAndWhatCame) {
  EXPECT_EQ(message_of<std::invalid_argument>([] {
              check_equal("A::b", "y", Shape<2>{1, 2}, Shape<2>{1, 2});
            }),
            "nothing");
  EXPECT_EQ(message_of<std::invalid_argument>([] {
              check_equal("A::b", "y", Shape<2>{1, 2}, Shape<2>{1, 3});
            }),
            "A::b: y must be [1,3], got [1,2]");
  EXPECT_EQ(message_of<std::invalid_argument>([] { check_equal("A::b", "n", Index{4}, Index{5}); }),
            "A::b: n must be 5, got 4");
}

TEST(Check, AtLeastTakesTheBoundItself) {
  EXPECT_EQ(message_of<std::invalid_argument>([] { check_at_least("A::b", "n", 3, 3); }), "nothing");
  EXPECT_EQ(message_of<std::invalid_argument>([] { check_at_least("A::b", "n", 2, 3); }),
            "A::b: n must be at least 3, got 2");
}

TEST(Check, HeadsDivideChannels) {
  EXPECT_EQ(message_of<std::invalid_argument>([] { check_heads("A", 4, 12); }), "nothing");
  EXPECT_EQ(message_of<std::invalid_argument>([] { check_heads("A", 5, 12); }),
            "A: heads must be a divisor of 12 channels, got 5");
  EXPECT_EQ(message_of<std::invalid_argument>([] { check_heads("A", 0, 12); }),
            "A: heads must be at least 1, got 0");
}

TEST(Check, BuffersAreApartWhereTheyShareNoElement) {
  std::vector<float> memory(100);
  const auto apart = [&](Tokens<float> a, Tokens<float> b) {
    return message_of<std::invalid_argument>([&] { check_apart("A", "x and y", a, b); }) == "nothing" &&
           message_of<std::invalid_argument>([&] { check_apart("A", "x and y", b, a); }) == "nothing";
  };
  float* at = memory.data();
  EXPECT_TRUE(apart({at, 2, 3, 4}, {at + 24, 2, 3, 4}));
  EXPECT_FALSE(apart({at, 2, 3, 4}, {at + 23, 2, 3, 4}));
  EXPECT_FALSE(apart({at, 2, 3, 4}, {at, 2, 3, 4}));
  EXPECT_FALSE(apart({at, 2, 3, 4}, {at + 10, 1, 1, 1}));
  EXPECT_TRUE(apart({at, 2, 0, 4}, {at, 2, 3, 4}));                     // nothing to share
  EXPECT_TRUE(apart({at + 10, 1, 0, 4}, {at, 2, 3, 4}));                // nor in the middle
  EXPECT_FALSE(apart({at, 1, 5, 4, 16, 0}, {at + 4, 1, 5, 4, 16, 0}));  // interleaved
  EXPECT_EQ(message_of<std::invalid_argument>([&] {
              check_apart("A::b", "x and y", Tokens<float>(at, 1, 1, 2), Tokens<float>(at + 1, 1, 1, 2));
            }),
            "A::b: x and y must be apart in memory, got buffers that overlap");
}

}  // namespace
}  // namespace hsm::detail::check_test
