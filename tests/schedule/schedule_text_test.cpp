// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <hsm/schedule/head_rotated.hpp>
#include <hsm/schedule/reversed.hpp>
#include <hsm/schedule/schedule_text.hpp>

namespace hsm::schedule_text_test {
namespace {

using Shifts = std::vector<Index>;

Shifts shifts_of(const char* text, Index layers) {
  const ScheduleText schedule = ScheduleText::parse(text, layers);
  EXPECT_EQ(schedule.layer_count(), layers);
  Shifts shifts;
  for (Index l = 0; l < layers; ++l) shifts.push_back(schedule.shift(l));
  return shifts;
}

std::string complaint(const std::string& text, Index layers) {
  try {
    ScheduleText::parse(text, layers);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing";
}

TEST(ScheduleText, NamesAScheduleForAnyDepth) {
  EXPECT_EQ(shifts_of("dyadic", 4), (Shifts{1, 2, 4, 8}));
  EXPECT_EQ(shifts_of("cyclic=2", 5), (Shifts{1, 2, 1, 2, 1}));
  EXPECT_EQ(shifts_of("geometric=5", 4), (Shifts{1, 5, 25, 125}));
  EXPECT_EQ(shifts_of("list=1,5,25", 3), (Shifts{1, 5, 25}));
  EXPECT_EQ(shifts_of("dyadic", 0), Shifts{});
  EXPECT_EQ(shifts_of("reversed:dyadic", 4), (Shifts{8, 4, 2, 1}));
  EXPECT_EQ(shifts_of("reversed:list=7,1,2", 3), (Shifts{2, 1, 7}));
}

/// Whether every head of every layer of the text is that of the composed type.
template <Schedule S>
void expect_same(const char* text, const S& expected) {
  const ScheduleText schedule = ScheduleText::parse(text, expected.layer_count());
  const ScheduleText again = ScheduleText::parse(schedule.text(), expected.layer_count());
  ASSERT_EQ(schedule.layer_count(), expected.layer_count());
  for (Index l = 0; l < expected.layer_count(); ++l) {
    const Shifts pattern = schedule.head_shifts(l);
    for (Index h = 0; h < 12; ++h) {
      EXPECT_EQ(schedule.shift(l, h), expected.shift(l, h)) << text << ", layer " << l << ", head " << h;
      EXPECT_EQ(again.shift(l, h), expected.shift(l, h)) << schedule.text();
      EXPECT_EQ(pattern[static_cast<std::size_t>(h) % pattern.size()], expected.shift(l, h)) << text;
    }
  }
}

TEST(ScheduleText, PrefixesComposeAsTheTypesDo) {
  const GeometricSchedule base{.layers = 5, .base = 3};
  expect_same("geometric=3", base);
  expect_same("reversed:geometric=3", Reversed{base});
  expect_same("rotated:geometric=3", HeadRotated{base});
  expect_same("reversed:rotated:geometric=3", Reversed<HeadRotated<GeometricSchedule>>{{base}});
  expect_same("rotated:reversed:geometric=3", HeadRotated<Reversed<GeometricSchedule>>{{base}});
  expect_same("reversed:rotated:reversed:geometric=3",
              Reversed<HeadRotated<Reversed<GeometricSchedule>>>{{{base}}});
  expect_same("rotated:reversed:rotated:geometric=3",
              HeadRotated<Reversed<HeadRotated<GeometricSchedule>>>{{{base}}});
  expect_same("rotated:rotated:geometric=3", HeadRotated<HeadRotated<GeometricSchedule>>{{base}});
}

TEST(ScheduleText, TellsWhetherHeadsDiffer) {
  EXPECT_EQ(ScheduleText::parse("reversed:dyadic", 3).head_shifts(0), (Shifts{4}));
  EXPECT_EQ(ScheduleText::parse("rotated:dyadic", 3).head_shifts(1), (Shifts{2, 4, 1}));
}

TEST(ScheduleText, TheCanonicalTextLeavesOutWhatHasNoEffect) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"dyadic", "dyadic"},
      {"cyclic=004", "cyclic=4"},
      {"geometric=10", "geometric=10"},
      {"list=01,2,30", "list=1,2,30"},
      {"reversed:reversed:dyadic", "dyadic"},
      {"reversed:reversed:reversed:dyadic", "reversed:dyadic"},
      {"rotated:rotated:cyclic=2", "rotated:cyclic=2"},
      {"reversed:rotated:reversed:reversed:dyadic", "reversed:rotated:dyadic"},
      {"rotated:reversed:rotated:dyadic", "rotated:reversed:dyadic"},
      {"reversed:rotated:reversed:dyadic", "reversed:rotated:reversed:dyadic"},
  };
  for (const auto& [text, canonical] : cases) {
    EXPECT_EQ(ScheduleText::parse(text, 3).text(), canonical);
    EXPECT_EQ(ScheduleText::parse(canonical, 3).text(), canonical);
  }
  EXPECT_EQ(ScheduleText().text(), "dyadic");
  std::string deep;
  for (int i = 0; i < 5001; ++i) deep += "reversed:";
  EXPECT_EQ(ScheduleText::parse(deep + "dyadic", 3).text(), "reversed:dyadic");
}

TEST(ScheduleText, EveryErrorNamesThePlace) {
  const std::string names =
      "schedule: expected dyadic, cyclic=P, geometric=B or list=1,2,4, after any of reversed: and rotated:, "
      "at "
      "character ";
  EXPECT_EQ(complaint("triadic", 3), names + "0, got 'triadic'");
  EXPECT_EQ(complaint("", 3), names + "0, got the end");
  EXPECT_EQ(complaint("reversed:", 3), names + "9, got the end");
  EXPECT_EQ(complaint("rotated:reversed", 3), names + "8, got 'reversed'");
  EXPECT_EQ(complaint("cyclic", 3), names + "0, got 'cyclic'");
  EXPECT_EQ(complaint("dyadic:rotated", 3), "schedule: expected the end at character 6, got ':rotated'");
  EXPECT_EQ(complaint("\033[2J\xff", 3), names + "0, got '\\x1b[2J\\xff'")
      << "no control character comes out";
  EXPECT_EQ(complaint("dyadic ", 3), "schedule: expected the end at character 6, got ' '");
  EXPECT_EQ(complaint("list=1,2", 3),
            "schedule: expected one shift for each of 3 layers at character 5, got 2");
  const std::string bits = std::to_string(kIndexBits);
  EXPECT_EQ(complaint("list=1,,2", 3),
            "schedule: expected a shift from 1 to 2^" + bits + " - 2 at character 7, got ',2'");
  EXPECT_EQ(complaint("list=1,2,99999999999999999999", 3),
            "schedule: expected a shift from 1 to 2^" + bits + " - 2 at character 9, got '999999999999'");
  EXPECT_EQ(complaint("cyclic=two", 3),
            "schedule: expected a period from 1 to 2^" + bits + " - 2 at character 7, got 'two'");
  EXPECT_EQ(complaint("reversed:geometric=0", 3),
            "schedule: expected a base from 1 to 2^" + bits + " - 2 at character 19, got '0'");
  for (const char* text :
       {"cyclic=0", "cyclic=-1", "cyclic=", "list=", "list=0,1,2", "list=1,2,3,", "cyclic=2x", "list=1, 2,3",
        "geometric=+2", "rotated:rotated:", "reversed::dyadic", "Dyadic"}) {
    EXPECT_NE(complaint(text, 3), "nothing") << text;
  }
  EXPECT_NE(complaint("dyadic", 64), "nothing");
  EXPECT_NE(complaint("rotated:geometric=3", 41), "nothing");
}

TEST(ScheduleText, RefusesLayersAndHeadsThatItDoesNotHave) {
  const ScheduleText schedule = ScheduleText::parse("rotated:dyadic", 3);
  EXPECT_THROW(schedule.shift(3), std::out_of_range);
  EXPECT_THROW(schedule.shift(-1), std::out_of_range);
  EXPECT_THROW(schedule.shift(0, -1), std::out_of_range);
  EXPECT_THROW(schedule.head_shifts(3), std::out_of_range);
  EXPECT_THROW(ScheduleText().shift(0), std::out_of_range);
  EXPECT_EQ(schedule.shift(1, std::numeric_limits<Index>::max()), 4);  // 1 + 2^63 - 1 = 1 + 1 mod 3
}

}  // namespace
}  // namespace hsm::schedule_text_test
