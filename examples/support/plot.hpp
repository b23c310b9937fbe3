// SPDX-License-Identifier: MIT
//
// Plots as SVG text: lines over an axis with a legend, and bars with names. Axes are linear or logarithmic, with
// ticks at round values; points may have error bars, from `low` to `high`; marks are dashed lines across the plot.
//
//   LinePlot plot{.text = {.title = "copy"}, .x = {.label = "distance"}, .y = {.label = "accuracy"}};
//   plot.lines.push_back({.name = "7*ab", .points = {{.x = 0, .y = 1}, {.x = 1, .y = 0.5, .low = 0.4, .high = 0.6}}});
//   plot.file()                                                            the SVG
//
// What is not finite, or not above 0 on a logarithmic axis, is not drawn, and a line has a gap there.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "examples/support/plot_axis.hpp"
#include "examples/support/svg.hpp"

namespace hsm::examples {

/// What is written above and below a plot.
struct PlotText {
  std::string title{}, subtitle{};
  std::vector<std::string> notes{};  ///< a line each
};

/// A point of a line, with an error bar where `low` and `high` are given.
struct PlotPoint {
  double x = 0, y = 0;
  double low = std::numeric_limits<double>::quiet_NaN(), high = low;
};

/// A line through its points in their order.
struct PlotLine {
  std::string name{};
  std::vector<PlotPoint> points{};
};

/// A dashed line across the plot.
struct PlotMark {
  double at = 0;
  std::string text{};
};

/// A bar with its name, and an error bar where `low` and `high` are given.
struct PlotBar {
  std::string name{};
  double value = 0;
  double low = std::numeric_limits<double>::quiet_NaN(), high = low;
};

namespace detail {

inline constexpr const char* kPlotColors[] = {"#1d4ed8", "#dc2626", "#059669", "#d97706", "#7c3aed",
                                              "#0891b2", "#be185d", "#65a30d", "#475569", "#92400e"};
inline constexpr std::size_t kPlotColorCount = std::size(kPlotColors);

/// A straight line of dashes, `on` pixels with `off` between.
inline void add_dashes(Strokes& strokes, double x1, double y1, double x2, double y2, double on = 5,
                       double off = 4) {
  const double length = std::hypot(x2 - x1, y2 - y1);
  for (double from = 0; from < length; from += on + off) {
    const double a = from / length, b = std::min(from + on, length) / length;
    strokes.line(x1 + a * (x2 - x1), y1 + a * (y2 - y1), x1 + b * (x2 - x1), y1 + b * (y2 - y1));
  }
}

/// About how many pixels wide a text is.
inline double text_width(const std::string& text, int size) {
  return 0.56 * size * static_cast<double>(text.size());
}

inline void draw_plot_text(Svg& svg, const PlotText& text, double below) {
  svg.text(20, 28, text.title, {.size = 17, .color = "#0f172a", .bold = true});
  svg.text(20, 49, text.subtitle, {.size = 13, .color = "#475569"});
  for (std::size_t i = 0; i < text.notes.size(); ++i)
    svg.text(20, below + 18 * static_cast<double>(i), text.notes[i], {.color = "#64748b"});
}

}  // namespace detail

/// Lines over an axis; see the file comment.
struct LinePlot {
  PlotText text{};
  PlotAxis x{}, y{};
  std::vector<PlotLine> lines{};
  std::vector<PlotMark> at_x{}, at_y{};

  /// The SVG.
  std::string file() const;

 private:
  static constexpr double kLeft = 70, kTop = 92, kPaper = 640, kHeight = 360, kBottom = kTop + kHeight;

  void draw_axes(Svg& svg, const PlotScale& across, const PlotScale& up) const;
  void draw_marks(Svg& svg, const PlotScale& across, const PlotScale& up) const;
  void draw_line(Svg& svg, const PlotScale& across, const PlotScale& up, std::size_t i) const;
};

inline std::string LinePlot::file() const {
  detail::PlotBounds xs{x.scale}, ys{y.scale};
  double legend = 0;
  for (const PlotLine& line : lines) {
    legend = std::max(legend, detail::text_width(line.name, 12));
    for (const PlotPoint& point : line.points) {
      xs.add(point.x);
      for (const double value : {point.y, point.low, point.high}) ys.add(value);
    }
  }
  for (const PlotMark& mark : at_x) xs.add(mark.at);
  for (const PlotMark& mark : at_y) ys.add(mark.at);
  const PlotScale across = xs.over(x, kLeft, kLeft + kPaper, 0.02), up = ys.over(y, kBottom, kTop, 0.05);
  const double rows = std::max(kHeight, 18 * static_cast<double>(lines.size()));
  const double below = kTop + rows + 66;
  Svg svg(kLeft + kPaper + 60 + std::max(legend, 90.0), below + 18 * static_cast<double>(text.notes.size()));
  detail::draw_plot_text(svg, text, below);
  draw_axes(svg, across, up);
  draw_marks(svg, across, up);
  for (std::size_t i = 0; i < lines.size(); ++i) draw_line(svg, across, up, i);
  return svg.file();
}

inline void LinePlot::draw_axes(Svg& svg, const PlotScale& across, const PlotScale& up) const {
  Strokes grid, axes;
  for (const double tick : up.ticks()) {
    grid.line(kLeft, up(tick), kLeft + kPaper, up(tick));
    svg.text(kLeft - 8, up(tick) + 4, short_number(tick), {.size = 11, .anchor = Anchor::kEnd});
  }
  for (const double tick : across.ticks(10)) {
    axes.line(across(tick), kBottom, across(tick), kBottom + 5);
    svg.text(across(tick), kBottom + 19, short_number(tick), {.size = 11, .anchor = Anchor::kMiddle});
  }
  axes.line(kLeft, kBottom, kLeft + kPaper, kBottom);
  axes.line(kLeft, kTop, kLeft, kBottom);
  svg.path(grid, 1, "#e2e8f0");
  svg.path(axes, 1, "#94a3b8");
  svg.text(20, kTop - 16, y.label, {.color = "#64748b"});
  svg.text(kLeft + kPaper / 2, kBottom + 40, x.label, {.color = "#64748b", .anchor = Anchor::kMiddle});
}

inline void LinePlot::draw_marks(Svg& svg, const PlotScale& across, const PlotScale& up) const {
  Strokes dashes;
  for (const PlotMark& mark : at_x) {
    if (!across.shows(mark.at)) continue;
    detail::add_dashes(dashes, across(mark.at), kTop, across(mark.at), kBottom);
    svg.text(across(mark.at), kTop - 5, mark.text,
             {.size = 11, .color = "#64748b", .anchor = Anchor::kMiddle});
  }
  for (const PlotMark& mark : at_y) {
    if (!up.shows(mark.at)) continue;
    detail::add_dashes(dashes, kLeft, up(mark.at), kLeft + kPaper, up(mark.at));
    svg.text(kLeft + kPaper - 4, up(mark.at) - 5, mark.text,
             {.size = 11, .color = "#64748b", .anchor = Anchor::kEnd});
  }
  svg.path(dashes, 1.2, "#94a3b8");
}

// The colours begin again after the last, with dashed lines.
inline void LinePlot::draw_line(Svg& svg, const PlotScale& across, const PlotScale& up, std::size_t i) const {
  const PlotLine& line = lines[i];
  const char* const color = detail::kPlotColors[i % detail::kPlotColorCount];
  const bool dashed = i >= detail::kPlotColorCount;
  Strokes strokes, dots, bars;
  const auto add = [&](double x1, double y1, double x2, double y2) {
    dashed ? detail::add_dashes(strokes, x1, y1, x2, y2) : strokes.line(x1, y1, x2, y2);
  };
  const auto shows = [&](const PlotPoint& point) { return across.shows(point.x) && up.shows(point.y); };
  for (std::size_t p = 0; p < line.points.size(); ++p) {
    const PlotPoint& point = line.points[p];
    if (!shows(point)) continue;
    if (line.points.size() <= 64) dots.dot(across(point.x), up(point.y));
    if (p > 0 && shows(line.points[p - 1]))
      add(across(line.points[p - 1].x), up(line.points[p - 1].y), across(point.x), up(point.y));
    if (up.shows(point.low) && up.shows(point.high) && point.low < point.high)
      bars.line(across(point.x), up(point.low), across(point.x), up(point.high));
  }
  const double legend = kTop + 9 + 18 * static_cast<double>(i), left = kLeft + kPaper + 18;
  add(left, legend, left + 20, legend);
  svg.path(bars, 1, color);
  svg.path(strokes, 2, color);
  svg.path(dots, 5, color);
  svg.text(left + 27, legend + 4, line.name);
}

/// Bars from the left, one below the other, each with its name and value; see the file comment. The axis is
/// linear.
struct BarPlot {
  PlotText text{};
  PlotAxis value{};
  std::vector<PlotBar> bars{};
  std::vector<PlotMark> marks{};

  /// The SVG.
  std::string file() const;
};

inline std::string BarPlot::file() const {
  constexpr double kTop = 92, kRow = 30, kPaper = 560;
  detail::PlotBounds bounds{Scale::kLinear};
  bounds.add(0);
  double left = 60;
  for (const PlotBar& bar : bars) {
    for (const double end : {bar.value, bar.low, bar.high}) bounds.add(end);
    left = std::max(left, 40 + detail::text_width(bar.name, 12));
  }
  for (const PlotMark& mark : marks) bounds.add(mark.at);
  PlotAxis axis = value;
  axis.scale = Scale::kLinear;
  const PlotScale across = bounds.over(axis, left, left + kPaper, 0);
  const double bottom = kTop + kRow * static_cast<double>(std::max<std::size_t>(bars.size(), 1)),
               below = bottom + 66;
  Svg svg(left + kPaper + 80, below + 18 * static_cast<double>(text.notes.size()));
  detail::draw_plot_text(svg, text, below);
  Strokes grid, axes, errors, dashes;
  for (const double tick : across.ticks()) {
    grid.line(across(tick), kTop, across(tick), bottom);
    svg.text(across(tick), bottom + 19, short_number(tick), {.size = 11, .anchor = Anchor::kMiddle});
  }
  svg.path(grid, 1, "#e2e8f0");
  const double zero = across(std::clamp(0.0, across.low(), across.high()));
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const PlotBar& bar = bars[i];
    const double middle = kTop + kRow * (static_cast<double>(i) + 0.5);
    svg.text(left - 10, middle + 4, bar.name, {.anchor = Anchor::kEnd});
    if (!across.shows(bar.value)) {
      svg.text(left + 8, middle + 4, std::isfinite(bar.value) ? short_number(bar.value) : "no value",
               {.color = "#64748b"});
      continue;
    }
    const double from = std::min(zero, across(bar.value)), to = std::max(zero, across(bar.value));
    svg.rectangle(from, middle - 9, to - from, 18, detail::kPlotColors[i % detail::kPlotColorCount], 2);
    double end = to;
    if (across.shows(bar.low) && across.shows(bar.high) && bar.low < bar.high) {
      errors.line(across(bar.low), middle, across(bar.high), middle);
      for (const double at : {bar.low, bar.high}) errors.line(across(at), middle - 4, across(at), middle + 4);
      end = std::max(end, across(bar.high));
    }
    svg.text(end + 8, middle + 4, format("%.3g", bar.value), {.size = 11});
  }
  axes.line(left, bottom, left + kPaper, bottom);
  axes.line(zero, kTop, zero, bottom);
  svg.path(axes, 1, "#94a3b8");
  svg.path(errors, 1.5, "#0f172a");
  for (const PlotMark& mark : marks) {
    if (!across.shows(mark.at)) continue;
    detail::add_dashes(dashes, across(mark.at), kTop, across(mark.at), bottom);
    svg.text(across(mark.at), kTop - 6, mark.text,
             {.size = 11, .color = "#64748b", .anchor = Anchor::kMiddle});
  }
  svg.path(dashes, 1.2, "#475569");
  svg.text(left + kPaper / 2, bottom + 40, value.label, {.color = "#64748b", .anchor = Anchor::kMiddle});
  return svg.file();
}

}  // namespace hsm::examples
