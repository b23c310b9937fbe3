// SPDX-License-Identifier: MIT
//
// The coverage of stacks: at compile time, against a walk along every path, and against what a stack of
// mixers does to one impulse.
#include <gtest/gtest.h>

#include <concepts>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <hsm/schedule/coverage.hpp>
#include <hsm/schedule/cyclic.hpp>
#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/explicit.hpp>
#include <hsm/schedule/geometric.hpp>
#include <hsm/schedule/head_rotated.hpp>
#include <hsm/schedule/reversed.hpp>
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/scalar_pair.hpp>

#include "support/matchers.hpp"

namespace hsm::test::coverage_test {
namespace {

constexpr DyadicSchedule kDyadic{.layers = 7};
constexpr CyclicSchedule kCyclic{.layers = 8, .period = 4};

// Dyadic shifts over 7 layers: 128 offsets, one path each.
static_assert(Coverage(kDyadic).reach() == 127 && Coverage(kDyadic).window() == 128);
static_assert(Coverage(kDyadic).reached_count() == 128 && Coverage(kDyadic).hole_count() == 0);
static_assert(Coverage(kDyadic).least_paths() == 1 && Coverage(kDyadic).most_paths() == 1);
static_assert(Coverage(kDyadic).largest_gap() == 0 && Coverage(kDyadic).first_hole() == 128);
static_assert(Coverage(kDyadic).state_tokens() == 127 && !Coverage(kDyadic).hybrid());
static_assert(Coverage(Reversed{kDyadic}).paths(77) == 1 && Coverage(kDyadic).paths(128) == 0);

// The shifts 1, 2, 4, 8 twice: 31 offsets along 1 to 16 paths.
static_assert(Coverage(kCyclic).reached_count() == 31 && Coverage(kCyclic).window() == 31);
static_assert(Coverage(kCyclic).least_paths() == 1 && Coverage(kCyclic).most_paths() == 16);
static_assert(Coverage(kCyclic).paths(0) == 1 && Coverage(kCyclic).paths(15) == 16 &&
              Coverage(kCyclic).paths(30) == 1);

// Attention in place of layers 0 and 6 leaves 32 of 63 offsets on the shift path, all even.
constexpr bool reaches_even_offsets_alone() {
  const Coverage coverage(kDyadic, {.attention = {0, 6}});
  for (Index d = 0; d < coverage.window(); ++d) {
    if (coverage.reached(d) != (d % 2 == 0)) return false;
  }
  return coverage.hybrid() && coverage.window() == 63 && coverage.reached_count() == 32 &&
         coverage.least_paths() == 1 && coverage.most_paths() == 1 && coverage.hole_count() == 31 &&
         coverage.first_hole() == 1 && coverage.largest_gap() == 1;
}
static_assert(reaches_even_offsets_alone());

// Holes: 1 + 3 + 9 = 13 and 8 sums of them; between 4 and 9 nothing.
static_assert(Coverage(GeometricSchedule{.layers = 3, .base = 3}).reached_count() == 8);
static_assert(Coverage(GeometricSchedule{.layers = 3, .base = 3}).largest_gap() == 4);
static_assert(Coverage(GeometricSchedule{.layers = 3, .base = 3}).first_hole() == 2);
// Three taps fill them.
static_assert(Coverage(GeometricSchedule{.layers = 3, .base = 3}, {.taps = 3}).reached_count() == 27);
static_assert(Coverage(GeometricSchedule{.layers = 3, .base = 3}, {.taps = 3}).most_paths() == 1);

// Two heads at 1 and 2, then at 2 and 1: both layers reach 0, 1, 2; the mean shift is kept.
constexpr HeadRotated kRotated{DyadicSchedule{.layers = 2}};
static_assert(Coverage(kRotated, {.heads = 2}).reach() == 4);
static_assert(Coverage(kRotated, {.heads = 2}).paths(2) == 3);
static_assert(Coverage(kRotated, {.heads = 2}).state_tokens() == 3);
static_assert(Coverage(kRotated, {.heads = 5}).state_tokens() == 3);  // 1 2 1 2 1 and 2 1 2 1 2
static_assert(Coverage(kRotated, {.heads = 1}).reach() == 3);

static_assert(Coverage(DyadicSchedule{}).reached_count() == 1 && Coverage(DyadicSchedule{}).reach() == 0);

static_assert(std::copyable<Coverage>);

/// Follows every path of a stack down from its last layer.
void walk(const std::vector<CoverageLayer>& layers, std::size_t depth, Index offset,
          std::map<Index, std::uint64_t>& paths) {
  if (depth == layers.size()) {
    ++paths[offset];
    return;
  }
  walk(layers, depth + 1, offset, paths);
  std::map<Index, bool> seen;
  for (const Index s : layers[depth].shifts) {
    for (Index k = 1; k < layers[depth].taps; ++k) {
      if (!seen[k * s]) walk(layers, depth + 1, offset + k * s, paths);
      seen[k * s] = true;
    }
  }
}

TEST(Coverage, CountsThePathsThatAWalkFinds) {
  const std::vector<std::vector<CoverageLayer>> stacks = {
      {},
      {{{5}, 2}},
      {{{3}, 4}, {{3}, 4}, {{2}, 3}},
      {{{1, 2, 4}, 2}, {{2, 4, 1}, 2}, {{4, 1, 2}, 2}},
      {{{1, 1, 1}, 3}, {{2, 1}, 3}, {{}, 2}, {{7}, 2}},
      {{{4}, 2}, {{4}, 2}, {{4}, 2}, {{4}, 2}, {{4}, 2}, {{4}, 2}},
  };
  for (std::size_t i = 0; i < stacks.size(); ++i) {
    std::map<Index, std::uint64_t> expected;
    walk(stacks[i], 0, 0, expected);
    const Coverage coverage(stacks[i]);
    EXPECT_EQ(coverage.reach(), expected.rbegin()->first) << i;
    EXPECT_EQ(coverage.reached_count(), static_cast<Index>(expected.size())) << i;
    EXPECT_EQ(coverage.window(), coverage.reach() + 1) << i;
    Index gap = 0, last = 0;
    for (const auto& [offset, paths] : expected) {
      EXPECT_EQ(coverage.paths(offset), paths) << i << ", offset " << offset;
      gap = std::max(gap, offset - last - 1);
      last = offset;
    }
    EXPECT_EQ(coverage.largest_gap(), gap) << i;
  }
}

TEST(Coverage, IsTheImpulseResponseOfAStackOfMixers) {
  const auto response = [](const auto& schedule) {
    const Index T = Coverage(schedule).window() + 3;
    Eigen::MatrixXd x = Eigen::MatrixXd::Zero(1, T), y(1, T);
    x(0, 0) = 1;
    for (Index l = 0; l < schedule.layer_count(); ++l) {
      ScalarPair<double> pair(1);
      pair.a[0] = pair.b[0] = 1;
      Mixer(pair, schedule.shift(l)).forward(x, y);
      x = y;
    }
    return x;
  };
  const auto expect_same = [&](const auto& schedule, const char* name) {
    const Coverage coverage(schedule);
    const Eigen::MatrixXd x = response(schedule);
    Eigen::MatrixXd expected(1, x.cols());
    for (Index d = 0; d < x.cols(); ++d) expected(0, d) = static_cast<double>(coverage.paths(d));
    expect_close(x, expected, 0, 0, name);
  };
  expect_same(kDyadic, "dyadic");
  expect_same(kCyclic, "cyclic");
  expect_same(Reversed{kCyclic}, "reversed");
  expect_same(GeometricSchedule{.layers = 5, .base = 3}, "geometric");
  expect_same(ExplicitSchedule{5, 5, 7, 1, 7, 30}, "list");
}

TEST(Coverage, AWindowCountsTheSameOffsetsAndNoMore) {
  const Coverage whole(kCyclic), part(kCyclic, {.window = 9}), more(kCyclic, {.window = 900});
  EXPECT_EQ(part.window(), 9);
  EXPECT_EQ(part.reach(), 30);
  EXPECT_EQ(more.window(), 31);
  for (Index d = 0; d < 9; ++d) EXPECT_EQ(part.paths(d), whole.paths(d)) << d;
  EXPECT_FALSE(part.reached(9));
  const ExplicitSchedule far{1, Index{1} << (kIndexBits - 23), 2};
  EXPECT_EQ(Coverage(far, {.window = 100}).reached_count(), 4);
  EXPECT_EQ(Coverage(far, {.window = 100}).hole_count(), 96);
}

TEST(Coverage, SaturatesCountsAndRefusesToTellThem) {
  const CyclicSchedule many{.layers = 80, .period = 1};
  const Coverage coverage(many);
  EXPECT_EQ(coverage.reached_count(), 81);
  EXPECT_EQ(coverage.paths(2), 80u * 79u / 2u);
  EXPECT_EQ(coverage.counts()[40], Coverage::kUncounted);
  EXPECT_EQ(coverage.least_paths(), 1u);
  EXPECT_THROW(coverage.paths(40), std::out_of_range);
  EXPECT_THROW(coverage.most_paths(), std::out_of_range);
  // 67 over 33 is below 2^64 - 1, 68 over 34 is not.
  EXPECT_EQ(Coverage(CyclicSchedule{.layers = 67, .period = 1}).most_paths(), 14226520737620288370u);
  EXPECT_THROW(Coverage(CyclicSchedule{.layers = 68, .period = 1}).most_paths(), std::out_of_range);
}

TEST(Coverage, OfOneTapIsThatOfTheTokenItself) {
  const Coverage coverage(std::vector<CoverageLayer>{{{1}, 3}, {{1}, 1}, {{1}, 2}});
  EXPECT_EQ(coverage.reach(), 3);
  EXPECT_EQ(coverage.state_tokens(), 3);
  EXPECT_FALSE(coverage.hybrid());
  for (const auto& [offset, paths] : {std::pair<Index, std::uint64_t>{0, 1}, {1, 2}, {2, 2}, {3, 1}})
    EXPECT_EQ(coverage.paths(offset), paths) << offset;
}

TEST(Coverage, RefusesWhatIsNoStackOrTooLarge) {
  const auto refused = [](const auto& schedule, const CoverageOptions& options) {
    try {
      const Coverage coverage(schedule, options);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  EXPECT_EQ(refused(ExplicitSchedule{Index{1} << 28}, {}),
            "Coverage: the window must be at most 4194304 offsets, got none and a reach of 268435456");
  EXPECT_EQ(refused(ExplicitSchedule{Index{1} << 28}, {.window = Index{1} << 27}),
            "Coverage: the window must be at most 4194304 offsets, got 134217728");
  EXPECT_EQ(refused(DyadicSchedule{.layers = kIndexBits}, {.taps = 3, .window = 4}),
            "Coverage: the reach must be below 2^" + std::to_string(kIndexBits) + " - 1, got " +
                std::to_string(std::numeric_limits<Index>::max() - 1) +
                " and one more layer with 3 taps at " + std::to_string(Index{1} << (kIndexBits - 1)));
  EXPECT_EQ(refused(CyclicSchedule{.layers = 256, .period = 13}, {.taps = 20}),
            "Coverage: the layers must have at most 1447 distances in all for a window of 2966661, got more");
  EXPECT_EQ(refused(kDyadic, {.heads = 0}), "Coverage: heads must be at least 1, got 0");
  EXPECT_EQ(refused(kDyadic, {.taps = 1}), "Coverage: taps must be at least 2, got 1");
  EXPECT_THROW(Coverage(std::vector<CoverageLayer>{{{1}, 0}}), std::invalid_argument);
  EXPECT_EQ(refused(kDyadic, {.window = -1}), "Coverage: the window must be at least 0, got -1");
  EXPECT_THROW(Coverage(kDyadic, {.attention = {7}}), std::out_of_range);
  EXPECT_THROW(Coverage(std::vector<CoverageLayer>{{{1, 0}, 2}}), std::invalid_argument);
  EXPECT_THROW(Coverage(kDyadic).reached(-1), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::test::coverage_test
