// SPDX-License-Identifier: MIT
//
// Pictures of stacks: well-formed, with an element for each thing that they show.
#include "examples/support/stack_picture.hpp"

#include <gtest/gtest.h>

#include <hsm/schedule/cyclic.hpp>
#include <hsm/schedule/dyadic.hpp>
#include <hsm/schedule/geometric.hpp>
#include <string>
#include <vector>

namespace hsm::examples::stack_picture_test {
namespace {

/// The tags of an XML text, each as it stands between < and >. Fails the test if they are not nested, or if a
/// text between them holds markup.
std::vector<std::string> tags_of(const std::string& xml) {
  std::vector<std::string> tags, open;
  for (std::size_t place = 0; place < xml.size();) {
    const std::size_t start = xml.find('<', place);
    EXPECT_EQ(xml.substr(place, start - place).find('>'), std::string::npos);
    if (start == std::string::npos) break;
    const std::size_t end = xml.find('>', start);
    if (end == std::string::npos) {
      ADD_FAILURE() << "a tag without end at " << start;
      break;
    }
    const std::string tag = xml.substr(start + 1, end - start - 1);
    const std::string name = tag.substr(0, tag.find(' '));
    if (tag.starts_with('/')) {
      if (open.empty() || "/" + open.back() != tag) {
        ADD_FAILURE() << "</" << tag << "> closes nothing";
        break;
      }
      open.pop_back();
    } else {
      tags.push_back(tag);
      if (!tag.ends_with('/')) open.push_back(name);
    }
    place = end + 1;
  }
  EXPECT_TRUE(open.empty()) << "<" << open.back() << "> is not closed";
  return tags;
}

std::size_t count(const std::string& text, const std::string& word) {
  std::size_t number = 0;
  for (std::size_t place = text.find(word); place != std::string::npos; place = text.find(word, place + 1))
    ++number;
  return number;
}

/// The strokes of all paths of a colour.
std::size_t strokes(const std::string& xml, const std::string& color) {
  std::size_t number = 0;
  for (const std::string& tag : tags_of(xml)) {
    if (tag.find("stroke=\"" + color + "\"") != std::string::npos) number += count(tag, "M");
  }
  return number;
}

template <Schedule S>
std::string picture(const S& schedule, std::vector<Index> attention = {}, Index window = 0,
                    const PictureTitle& title = {"a title", "below it"}, PictureOptions options = {}) {
  std::vector<PictureLayer> layers;
  for (Index l = 0; l < schedule.layer_count(); ++l)
    layers.push_back({"ab", std::to_string(schedule.shift(l)), {.shifts = {schedule.shift(l)}}});
  for (const Index l : attention) layers[static_cast<std::size_t>(l)] = {"attention", "-", {}};
  const Coverage coverage(schedule, {.attention = attention, .window = window});
  return StackPicture(title, layers, coverage, options).file();
}

TEST(StackPicture, DrawsEveryPathOfADyadicStack) {
  const std::string xml = picture(DyadicSchedule{.layers = 4});
  EXPECT_TRUE(xml.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_TRUE(xml.ends_with("</svg>\n"));
  // 1 + 2 + 4 + 8 edges of each kind, 16 + 8 + 4 + 2 + 1 tokens on paths of 5 * 16, a bar each, the ground.
  EXPECT_EQ(
      strokes(xml, "#1d4ed8") + strokes(xml, "#0891b2") + strokes(xml, "#059669") + strokes(xml, "#65a30d"),
      15u);
  EXPECT_EQ(strokes(xml, "#1d4ed8"), 8u);
  EXPECT_EQ(strokes(xml, "#0f172a"), 31u);
  EXPECT_EQ(strokes(xml, "#cbd5e1"), 80u - 31u);
  EXPECT_EQ(count(xml, "<rect"), 16u + 1u);
  for (const char* text :
       {">a title<", ">below it<", ">layer 0<", ">layer 3<", ">ab, s = 8<", ">the last token<"})
    EXPECT_EQ(count(xml, text), 1u) << text;
  EXPECT_EQ(count(xml, "Red"), 0u);
}

TEST(StackPicture, MarksHolesAndWhatRestsOnAttention) {
  const std::string holes = picture(GeometricSchedule{.layers = 3, .base = 3});
  EXPECT_EQ(count(holes, "#fecaca"), 14u - 8u);
  EXPECT_EQ(count(holes, "Red: "), 1u);
  const std::string hybrid = picture(DyadicSchedule{.layers = 7}, {0, 6});
  EXPECT_EQ(count(hybrid, "#fde68a"), 31u);
  EXPECT_EQ(count(hybrid, "#fef3c7"), 2u);
  EXPECT_EQ(count(hybrid, "Yellow: "), 1u);
  EXPECT_EQ(count(hybrid, "Red: "), 0u);
}

TEST(StackPicture, LetsThePathsOfOneOffsetStandOut) {
  // Of 15 + 15 edges those of 11 = 8 + 2 + 1: one in each layer, a straight one in layer 2.
  const auto from = [](Index offset) {
    return picture(DyadicSchedule{.layers = 4}, {}, 0, {"a title", "below it"}, {.from = offset});
  };
  const std::string one = from(11);
  EXPECT_EQ(strokes(one, "#1d4ed8"), 1u);
  EXPECT_EQ(strokes(one, "#0891b2"), 1u);
  EXPECT_EQ(strokes(one, "#059669"), 0u);
  EXPECT_EQ(strokes(one, "#65a30d"), 1u);
  EXPECT_EQ(strokes(one, "#94a3b8"), 1u + 1u);  // the axis too
  EXPECT_EQ(strokes(one, "#e2e8f0"), 30u - 4u);
  EXPECT_EQ(strokes(one, "#0f172a"), 5u);
  EXPECT_EQ(count(one, "fill=\"#0891b2\"/>"), 1u);  // its bar
  // A hole has none, and an offset that is not drawn has none that are.
  const std::string hole = picture(GeometricSchedule{.layers = 3, .base = 3}, {}, 0, {}, {.from = 2});
  EXPECT_EQ(strokes(hole, "#0f172a"), 0u);
  EXPECT_EQ(strokes(from(100), "#0f172a"), 0u);
}

TEST(StackPicture, DrawsNarrowOnesWithoutTitleAndNotes) {
  const std::string xml = picture(GeometricSchedule{.layers = 3, .base = 3}, {1}, 0, {}, {.width = 360});
  tags_of(xml);
  EXPECT_TRUE(xml.find("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"360\"") == 0);
  EXPECT_EQ(count(xml, "Yellow: ") + count(xml, "layer 0") + count(xml, "a title"), 0u);
  for (const char* text : {">ab<", ">s = 9<", ">attention<"}) EXPECT_GE(count(xml, text), 1u) << text;
  const std::string wide = picture(GeometricSchedule{.layers = 3, .base = 3}, {1}, 0, {}, {.width = 700});
  EXPECT_EQ(count(wide, "Yellow: "), 1u);
  EXPECT_EQ(count(wide, ">layer 0<"), 1u);
}

TEST(StackPicture, CutsLargeStacksAndSaysSo) {
  const std::string far = picture(DyadicSchedule{.layers = 40}, {}, 1000);
  tags_of(far);
  EXPECT_EQ(count(far, "Drawn are the nearest 128 offsets of a reach of 1099511627775"), 1u);
  EXPECT_EQ(count(far, "Drawn are the uppermost 32 layers; 8 more lie below"), 1u);
  EXPECT_EQ(count(far, ">layer 8<"), 1u);
  EXPECT_EQ(count(far, ">layer 7<"), 0u);
  EXPECT_LT(far.size(), 500'000u);
  const std::string many = picture(CyclicSchedule{.layers = 256, .period = 1});
  EXPECT_EQ(count(many, "log scale"), 1u);
  EXPECT_LT(many.size(), 500'000u);
}

TEST(StackPicture, TakesTheSmallestStacks) {
  for (const Index L : {0, 1}) {
    const std::string xml = picture(DyadicSchedule{.layers = L});
    EXPECT_EQ(strokes(xml, "#0f172a"), L == 0 ? 1u : 3u);
    EXPECT_EQ(count(xml, "nan") + count(xml, "inf\""), 0u);
  }
}

TEST(StackPicture, EscapesTextAndShortensIt) {
  const std::string xml = picture(DyadicSchedule{.layers = 2}, {}, 0, {"<&\"\n>", std::string(5000, 'x')});
  tags_of(xml);
  EXPECT_EQ(count(xml, ">&lt;&amp;&quot; &gt;<"), 1u);
  EXPECT_LT(xml.size(), 5000u);
  EXPECT_EQ(xml_text("a\xEF\xBF\xBE"
                     "b\xEF\xBF\xBF"
                     "c\xEF\xBF\xBD\xEF\xBF"),
            "a b c\xEF\xBF\xBD\xEF\xBF");
}

}  // namespace
}  // namespace hsm::examples::stack_picture_test
