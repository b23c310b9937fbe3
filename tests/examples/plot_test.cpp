// SPDX-License-Identifier: MIT
//
// Plots: round ticks, values at their places, well-formed text, and nothing drawn of what has no place.
#include "examples/support/plot.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "examples/svg_form.hpp"

namespace hsm::examples::plot_test {
namespace {

using test::count;
using test::expect_well_formed;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<double> ticks(Scale scale, double low, double high, int most = 7) {
  return PlotScale({.scale = scale}, low, high, 0, 100).ticks(most);
}

void expect_values(const std::vector<double>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], 1e-12 + 1e-12 * std::abs(expected[i]));
}

TEST(PlotScale, HasRoundTicks) {
  expect_values(ticks(Scale::kLinear, 0, 1), {0, 0.2, 0.4, 0.6, 0.8, 1});
  expect_values(ticks(Scale::kLinear, 0, 18, 10), {0, 2, 4, 6, 8, 10, 12, 14, 16, 18});
  expect_values(ticks(Scale::kLinear, 1.21, 1.44), {1.25, 1.3, 1.35, 1.4});
  expect_values(ticks(Scale::kLinear, -3, 4), {-3, -2, -1, 0, 1, 2, 3, 4});
  expect_values(ticks(Scale::kLog, 1e3, 1e6), {1e3, 1e4, 1e5, 1e6});
  expect_values(ticks(Scale::kLog, 80, 1200), {100, 200, 500, 1000});
  expect_values(ticks(Scale::kLog, 2.5, 4.5), {3, 4});
  expect_values(ticks(Scale::kLog2, 128, 8192), {128, 256, 512, 1024, 2048, 4096, 8192});
  expect_values(ticks(Scale::kLog2, 1, 1024, 4), {1, 8, 64, 512});
}

TEST(PlotScale, TicksAreInBoundsAndFewWhateverTheBounds) {
  for (const double low : {-7.3, -1e-9, 0.0, 1e-12, 0.02, 3.0, 99.9, 1e7}) {
    for (const double length : {1e-6, 0.013, 1.0, 47.0, 1e9}) {
      const auto all = ticks(Scale::kLinear, low, low + length);
      EXPECT_GE(all.size(), 2u) << low << " " << length;
      EXPECT_LE(all.size(), 9u) << low << " " << length;
      for (const double tick : all) {
        EXPECT_GE(tick, low - 1e-6 * length);
        EXPECT_LE(tick, low + length + 1e-6 * length);
      }
    }
  }
}

TEST(PlotScale, BoundsThatRoundingHasMadeAreWidened) {
  for (const double low : {814908.0, -814908.0, 0.1, 1e-300, 1e300}) {
    const double high = std::nextafter(low, HUGE_VAL);
    for (const Scale scale : {Scale::kLinear, Scale::kLog, Scale::kLog2}) {
      if (scale != Scale::kLinear && low < 0) continue;
      const PlotScale axis({.scale = scale}, low, high, 0, 10);
      EXPECT_LE(axis.ticks().size(), 9u) << low;
      EXPECT_TRUE(axis(low) >= 0 && axis(low) <= 10) << low;
    }
  }
}

TEST(PlotScale, PutsValuesAtTheirPlaces) {
  const PlotScale linear({}, 2, 4, 100, 200);
  EXPECT_DOUBLE_EQ(linear(2), 100);
  EXPECT_DOUBLE_EQ(linear(3), 150);
  EXPECT_DOUBLE_EQ(linear(4), 200);
  const PlotScale down({}, 0, 1, 300, 100);  // y points down
  EXPECT_DOUBLE_EQ(down(0.75), 150);
  const PlotScale log({.scale = Scale::kLog}, 1, 100, 0, 10);
  EXPECT_NEAR(log(10), 5, 1e-12);
  EXPECT_TRUE(log.shows(1) && log.shows(100));
  for (const double value : {0.5, 101.0, 0.0, -3.0, kNan, HUGE_VAL}) EXPECT_FALSE(log.shows(value)) << value;
  const PlotScale set({.low = 0, .high = 1}, 0.4, 0.6, 0, 10);
  EXPECT_DOUBLE_EQ(set(0.5), 5);
  for (const double value : {0.0, -2.0, 7.0}) {
    const PlotScale point({}, value, value, 0, 10);
    EXPECT_TRUE(point.shows(value) && point.low() < point.high());
    EXPECT_DOUBLE_EQ(point(value), 5);
  }
}

TEST(ShortNumber, IsShort) {
  EXPECT_EQ(short_number(0.25), "0.25");
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(-8192), "-8192");
  EXPECT_EQ(short_number(10'000), "10k");
  EXPECT_EQ(short_number(1'500'000), "1.5M");
  EXPECT_EQ(short_number(4e9), "4G");
}

/// The pieces of all paths of a colour and a width.
std::size_t strokes(const std::string& svg, const std::string& color, const std::string& width) {
  const std::string start = "stroke=\"" + color + "\" stroke-width=\"" + width + "\" d=\"";
  std::size_t number = 0;
  for (std::size_t place = svg.find(start); place != std::string::npos; place = svg.find(start, place + 1)) {
    const std::size_t data = place + start.size();
    number += count(svg.substr(data, svg.find('"', data) - data), "M");
  }
  return number;
}

constexpr const char *kBlue = "#1d4ed8", *kRed = "#dc2626";

TEST(LinePlot, DrawsPiecesDotsErrorBarsAndTheLegend) {
  LinePlot plot{.text = {"a <title>", "below", {"first note", "second note"}},
                .x = {.label = "distance"},
                .y = {.label = "accuracy", .low = 0, .high = 1}};
  plot.lines = {{"7*ab", {{0, 1}, {1, 0.5, 0.4, 0.6}, {2, 0.25, 0.2, 0.3}}},
                {"attention & co", {{0, 0.1}, {2, 0.2}}}};
  plot.at_x = {{1, "reach 1"}};
  const std::string svg = plot.file();
  expect_well_formed(svg);
  EXPECT_EQ(strokes(svg, kBlue, "2.0"), 2u + 1u);  // and one in the legend
  EXPECT_EQ(strokes(svg, kBlue, "5.0"), 3u);
  EXPECT_EQ(strokes(svg, kBlue, "1.0"), 2u);
  EXPECT_EQ(strokes(svg, kRed, "2.0"), 1u + 1u);
  EXPECT_EQ(strokes(svg, kRed, "1.0"), 0u);
  EXPECT_EQ(strokes(svg, "#94a3b8", "1.2"), 40u);  // 360 pixels in dashes of 5 and gaps of 4
  for (const char* text : {">a &lt;title&gt;<", ">below<", ">first note<", ">second note<", ">distance<",
                           ">accuracy<", ">7*ab<", ">attention &amp; co<", ">reach 1<", ">0.2<"})
    EXPECT_EQ(count(svg, text), 1u) << text;
}

TEST(LinePlot, LeavesOutWhatHasNoPlace) {
  LinePlot plot{.x = {.scale = Scale::kLog}, .y = {.label = "loss"}};
  plot.lines = {{"a", {{0, 1}, {1, 1}, {10, kNan}, {100, 2}, {1000, 3, kNan, 4}, {1e4, HUGE_VAL}}}};
  plot.at_x = {{-1, "nowhere"}};
  const std::string svg = plot.file();
  expect_well_formed(svg);
  EXPECT_EQ(strokes(svg, kBlue, "2.0"), 1u + 1u);  // from 100 to 1000
  EXPECT_EQ(strokes(svg, kBlue, "5.0"), 3u);
  EXPECT_EQ(strokes(svg, kBlue, "1.0"), 0u);
  EXPECT_EQ(count(svg, "nowhere"), 0u);
}

TEST(LinePlot, DrawsNothingAndManyLinesToo) {
  expect_well_formed(LinePlot{}.file());
  LinePlot plot;
  for (int i = 0; i < 25; ++i)
    plot.lines.push_back({"line " + std::to_string(i), {{0, 1.0 * i}, {1, 2.0 * i}}});
  const std::string svg = plot.file();
  expect_well_formed(svg);
  for (int i = 0; i < 25; ++i) EXPECT_EQ(count(svg, ">line " + std::to_string(i) + "<"), 1u);
  // Lines 0, 10 and 20 share a colour; the later two are dashed.
  EXPECT_GT(strokes(svg, kBlue, "2.0"), 2u + 2 * 10u);
}

TEST(LinePlot, PutsAPointWhereItsValuesAre) {
  LinePlot plot{.x = {.low = 0, .high = 10}, .y = {.low = 0, .high = 1}};
  plot.lines = {{"a", {{2.5, 0.75}}}};
  // The paper is 640 wide from 70 and 360 high from 92.
  EXPECT_EQ(count(plot.file(), "M230.0 182.0h0"), 1u);
}

TEST(BarPlot, DrawsBarsWithNamesValuesAndErrors) {
  BarPlot plot{.text = {"recall", "4 pairs", {"seeds 1, 2"}},
               .value = {.label = "accuracy", .low = 0, .high = 1}};
  plot.bars = {{"attention@learned", 0.5, 0.4, 0.6}, {"ab", 0.25}, {"broken", kNan}, {"above", 3}};
  plot.marks = {{0.25, "chance"}};
  const std::string svg = plot.file();
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, "<rect"), 1u + 2u);
  EXPECT_EQ(count(svg, "height=\"18.0\" fill=\"" + std::string(kBlue)), 1u);
  EXPECT_EQ(count(svg, "width=\"280.0\" height=\"18.0\""), 1u);  // half of 560
  EXPECT_EQ(count(svg, "width=\"140.0\" height=\"18.0\""), 1u);
  EXPECT_EQ(strokes(svg, "#0f172a", "1.5"), 3u);
  for (const char* text : {">recall<", ">seeds 1, 2<", ">attention@learned<", ">ab<", ">0.5<", ">0.25<",
                           ">no value<", ">3<", ">chance<"})
    EXPECT_EQ(count(svg, text), 1u) << text;
  expect_well_formed(BarPlot{}.file());
}

TEST(BarPlot, DrawsBelowZero) {
  BarPlot plot;
  plot.bars = {{"a", -1}, {"b", 1}};
  const std::string svg = plot.file();
  expect_well_formed(svg);
  EXPECT_EQ(count(svg, "width=\"280.0\" height=\"18.0\""), 2u);
}

}  // namespace
}  // namespace hsm::examples::plot_test
