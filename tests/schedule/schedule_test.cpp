// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <array>
#include <hsm/schedule/cyclic.hpp>
#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/explicit.hpp>
#include <hsm/schedule/geometric.hpp>
#include <vector>

#include "support/message_of.hpp"

namespace hsm::schedule_test {
namespace {

using test::message_of;

static_assert(Schedule<DyadicSchedule> && Schedule<CyclicSchedule> && Schedule<ExplicitSchedule>);

constexpr DyadicSchedule kDyadic{.layers = kIndexBits};
static_assert(kDyadic.layer_count() == kIndexBits);
static_assert(kDyadic.shift(0) == 1 && kDyadic.shift(7) == 128);
static_assert(kDyadic.shift(kIndexBits - 1) == Index{1} << (kIndexBits - 1));
static_assert(kDyadic.shift(3, 5) == kDyadic.shift(3));

constexpr CyclicSchedule kCyclic{.layers = 7, .period = 3};
static_assert(kCyclic.layer_count() == 7);
static_assert(kCyclic.shift(0) == 1 && kCyclic.shift(2) == 4 && kCyclic.shift(3) == 1 &&
              kCyclic.shift(6) == 1);
static_assert(kCyclic.shift(5, 1) == 4);

// Of no layers unless it is told how many.
static_assert(CyclicSchedule{}.layer_count() == 0 && GeometricSchedule{}.layer_count() == 0);
static_assert(CyclicSchedule{.layers = 2}.shift(1) == 1 && GeometricSchedule{.layers = 3}.shift(2) == 4);

constexpr ExplicitSchedule kExplicit{1, 3, 9};
static_assert(kExplicit.layer_count() == 3);
static_assert(kExplicit.shift(2) == 9 && kExplicit.shift(1, 0) == 3);

TEST(Schedule, RefusesLayersThatItDoesNotHave) {
  EXPECT_EQ(message_of<std::out_of_range>([] { DyadicSchedule{.layers = 8}.shift(8); }),
            "DyadicSchedule::shift: layer must be 0 to 7, got 8");
  EXPECT_EQ(message_of<std::out_of_range>([] { DyadicSchedule{.layers = 8}.shift(-1, 0); }),
            "DyadicSchedule::shift: layer must be 0 to 7, got -1");
  EXPECT_EQ(message_of<std::out_of_range>([] { kCyclic.shift(7); }),
            "CyclicSchedule::shift: layer must be 0 to 6, got 7");
  EXPECT_EQ(message_of<std::out_of_range>([] { kExplicit.shift(3); }),
            "ExplicitSchedule::shift: layer must be 0 to 2, got 3");
  EXPECT_THROW(DyadicSchedule{}.shift(0), std::out_of_range);
  EXPECT_THROW(ExplicitSchedule(std::initializer_list<Index>{}).shift(0), std::out_of_range);
}

TEST(Schedule, RefusesShiftsThatAreNoIndex) {
  const DyadicSchedule deep{.layers = 70};
  EXPECT_EQ(deep.shift(kIndexBits - 1), Index{1} << (kIndexBits - 1));
  for (const Index l : {kIndexBits, kIndexBits + 1, 69}) {
    EXPECT_EQ(message_of<std::invalid_argument>([&] { deep.shift(l); }),
              "DyadicSchedule::shift: the shift must be an index below 2^" + std::to_string(kIndexBits) +
                  ", got 2^" + std::to_string(l));
  }
  const CyclicSchedule cyclic{.layers = 70, .period = 64};
  EXPECT_THROW(cyclic.shift(kIndexBits), std::invalid_argument);
  EXPECT_EQ(cyclic.shift(64), 1);
}

TEST(Schedule, OfPowersRefusesABaseBelowOne) {
  EXPECT_EQ((GeometricSchedule{.layers = 4, .base = 1}.shift(3)), 1) << "the least";
  EXPECT_EQ(message_of<std::invalid_argument>([] { GeometricSchedule{.layers = 4, .base = 0}.shift(1); }),
            "GeometricSchedule::shift: base must be at least 1, got 0");
}

TEST(Schedule, RefusesAPeriodBelowOne) {
  EXPECT_EQ(message_of<std::invalid_argument>([] { CyclicSchedule{.layers = 4, .period = 0}.shift(0); }),
            "CyclicSchedule::shift: period must be at least 1, got 0");
  EXPECT_THROW((CyclicSchedule{.layers = 4, .period = -3}.shift(1)), std::invalid_argument);
}

TEST(Schedule, OfAListRefusesShiftsBelowOneAndTooManyLayers) {
  EXPECT_EQ(message_of<std::invalid_argument>([] {
              ExplicitSchedule{1, 0};
            }),
            "ExplicitSchedule: the shift of layer 1 must be at least 1, got 0");
  EXPECT_THROW((ExplicitSchedule{-5}), std::invalid_argument);
  const std::vector<Index> most(256, 2), too_many(257, 2);
  EXPECT_EQ(ExplicitSchedule(std::span<const Index>(most)).shift(255), 2);
  EXPECT_EQ(message_of<std::invalid_argument>([&] { ExplicitSchedule(std::span<const Index>(too_many)); }),
            "ExplicitSchedule: at most 256 layers, got 257");
}

TEST(Schedule, OfDyadicShiftsReachesEveryOffsetBelowTwoToTheLOnce) {
  constexpr Index L = 6;
  const DyadicSchedule schedule{.layers = L};
  std::array<int, std::size_t{1} << L> paths{};
  for (std::size_t choice = 0; choice < paths.size(); ++choice) {
    Index offset = 0;
    for (Index l = 0; l < L; ++l) offset += (choice >> l & 1) != 0 ? schedule.shift(l) : 0;
    ++paths.at(static_cast<std::size_t>(offset));
  }
  for (const int count : paths) EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace hsm::schedule_test
