// SPDX-License-Identifier: MIT
#include "examples/support/coverage_text.hpp"

#include <gtest/gtest.h>

#include <hsm/schedule/cyclic.hpp>
#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/geometric.hpp>
#include <string>
#include <vector>

namespace hsm::examples::coverage_text_test {
namespace {

using Sentences = std::vector<std::string>;

template <Schedule S>
CoverageText text_of(const S& schedule, Index context, std::vector<Index> attention = {}) {
  return coverage_text(Coverage(schedule, {.attention = std::move(attention), .window = context}), context,
                       context);
}

TEST(CoverageText, SaysThatEverythingIsSeen) {
  const CoverageText text = text_of(DyadicSchedule{.layers = 7}, 128);
  EXPECT_EQ(text.coverage, "all 128 offsets of the context, 1 path each");
  EXPECT_EQ(text.holes, "none");
  EXPECT_EQ(text.warnings, Sentences{});
  EXPECT_EQ(text_of(CyclicSchedule{.layers = 8, .period = 4}, 31).coverage,
            "all 31 offsets of the context, 1 to 16 paths each");
  EXPECT_EQ(text_of(DyadicSchedule{.layers = 7}, 1).coverage, "the 1 offset of the context, 1 path each");
}

TEST(CoverageText, WarnsOfHolesAndOfAContextPastTheReach) {
  const CoverageText text = text_of(GeometricSchedule{.layers = 3, .base = 3}, 100);
  EXPECT_EQ(text.coverage, "8 of the 100 offsets of the context, 1 path each");
  EXPECT_EQ(text.holes, "6 of the 14 offsets within reach, the nearest 2 back, at most 4 in a row");
  EXPECT_EQ(text.warnings,
            (Sentences{
                "no path leads to a token from 6 of the 14 offsets within its reach, the nearest 2 back",
                "the context of 100 tokens is longer than the reach: no path leads to a token from more than "
                "13 back"}));
  EXPECT_EQ(text_of(GeometricSchedule{.layers = 3, .base = 3}, 14).warnings.size(), 1u);
  EXPECT_EQ(text_of(GeometricSchedule{.layers = 3, .base = 3}, 2).warnings, Sentences{});
  EXPECT_EQ(text_of(DyadicSchedule{.layers = 3}, 9).warnings.size(), 1u);
  EXPECT_EQ(text_of(DyadicSchedule{.layers = 3}, 8).warnings.size(), 0u);
}

TEST(CoverageText, TellsWhatRestsOnAttentionAlone) {
  const CoverageText text = text_of(DyadicSchedule{.layers = 7}, 128, {0, 6});
  EXPECT_EQ(
      text.coverage,
      "32 of the 128 offsets of the context by shifts, 1 path each; 96 rest on layers without shifts alone");
  EXPECT_EQ(text.holes, "31 of the 63 offsets within reach, the nearest 1 back, at most 1 in a row");
  EXPECT_EQ(text.warnings, Sentences{});
}

TEST(CoverageText, NamesThePartThatWasCounted) {
  const Coverage part(DyadicSchedule{.layers = 20}, {.window = 1000});
  EXPECT_EQ(coverage_text(part, 1000, 5000).coverage, "all 1000 nearest offsets, 1 path each");
  const Coverage many(CyclicSchedule{.layers = 100, .period = 1});
  EXPECT_EQ(paths_text(many), "up to 2^64 paths and more");
}

}  // namespace
}  // namespace hsm::examples::coverage_text_test
