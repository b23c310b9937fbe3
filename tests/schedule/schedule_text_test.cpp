// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <hsm/schedule/schedule_text.hpp>

namespace hsm {
namespace {

using Shifts = std::vector<Index>;

std::string complaint(const char* text, Index layers) {
  try {
    shifts_of(text, layers);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing";
}

TEST(ScheduleText, NamesAScheduleForAnyDepth) {
  EXPECT_EQ(shifts_of("dyadic", 4), (Shifts{1, 2, 4, 8}));
  EXPECT_EQ(shifts_of("cyclic=2", 5), (Shifts{1, 2, 1, 2, 1}));
  EXPECT_EQ(shifts_of("list=1,5,25", 3), (Shifts{1, 5, 25}));
  EXPECT_EQ(shifts_of("dyadic", 0), Shifts{});
}

TEST(ScheduleText, RefusesByASentence) {
  EXPECT_EQ(complaint("triadic", 3), "schedule: expected dyadic, cyclic=P or list=1,2,4, got 'triadic'");
  EXPECT_EQ(complaint("list=1,2", 3), "schedule: the list must have one shift for each of 3 layers, got 2");
  EXPECT_EQ(complaint("list=1,,2", 3), "schedule: expected a number, got '' in 'list=1,,2'");
  EXPECT_EQ(complaint("cyclic=two", 3), "schedule: expected a number, got 'two' in 'cyclic=two'");
  for (const char* text : {"cyclic=0", "cyclic=-1", "cyclic=", "list=", "list=0,1,2",
                           "list=1,2,99999999999999999999", "cyclic=2x"}) {
    EXPECT_NE(complaint(text, 3), "nothing") << text;
  }
  EXPECT_NE(complaint("dyadic", 64), "nothing");
}

}  // namespace
}  // namespace hsm
