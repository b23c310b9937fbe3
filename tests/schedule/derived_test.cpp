// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <limits>

#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/geometric.hpp>
#include <hsm/schedule/head_rotated.hpp>
#include <hsm/schedule/reversed.hpp>

namespace hsm::derived_test {
namespace {

constexpr GeometricSchedule kThrees{.layers = 5, .base = 3};
static_assert(Schedule<GeometricSchedule>);
static_assert(kThrees.shift(0) == 1 && kThrees.shift(1) == 3 && kThrees.shift(4) == 81 &&
              kThrees.shift(4, 9) == 81);

constexpr Reversed kReversed{DyadicSchedule{.layers = 4}};
static_assert(Schedule<Reversed<DyadicSchedule>>);
static_assert(kReversed.layer_count() == 4 && kReversed.shift(0) == 8 && kReversed.shift(3) == 1);

constexpr HeadRotated kRotated{DyadicSchedule{.layers = 4}};
static_assert(Schedule<HeadRotated<DyadicSchedule>>);
static_assert(kRotated.shift(1) == 2 && kRotated.shift(1, 2) == 8 && kRotated.shift(1, 3) == 1 &&
              kRotated.shift(0, 7) == 8);

constexpr Reversed kBoth{HeadRotated{DyadicSchedule{.layers = 4}}};
static_assert(kBoth.shift(0, 1) == 1 && kBoth.shift(3, 1) == 2);

TEST(DerivedSchedules, RefuseWhatTheyDoNotHave) {
  EXPECT_THROW(kThrees.shift(5), std::out_of_range);
  EXPECT_THROW((GeometricSchedule{.layers = 2, .base = 0}.shift(1)), std::invalid_argument);
  EXPECT_EQ((GeometricSchedule{.layers = 64, .base = 3}.shift(39)), 4052555153018976267);
  EXPECT_THROW((GeometricSchedule{.layers = 64, .base = 3}.shift(40)), std::invalid_argument);
  EXPECT_THROW(kReversed.shift(4), std::out_of_range);
  EXPECT_THROW(kReversed.shift(-1), std::out_of_range);
  EXPECT_THROW(kRotated.shift(4, 0), std::out_of_range);
  EXPECT_THROW(kRotated.shift(0, -1), std::out_of_range);
  EXPECT_EQ(kRotated.shift(3, std::numeric_limits<Index>::max() - 3), 8);  // a multiple of 4 heads on
}

}  // namespace
}  // namespace hsm::derived_test
