// SPDX-License-Identifier: MIT
//
// The losses of a training run as a picture, read off its log (step_log.hpp).
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "examples/support/numbers.hpp"
#include "examples/support/plot.hpp"
#include "examples/support/run_cells.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

namespace detail {

inline double number_in_log(const std::string& text) {
  try {
    return read_number(
        text, Bounds<double>{-std::numeric_limits<double>::max(), std::numeric_limits<double>::max()});
  } catch (const std::invalid_argument&) {
    return std::numeric_limits<double>::quiet_NaN();  // not drawn
  }
}

/// Leaves some hundred of the points, evenly over all, and the last one.
template <class Point>
void thin_out(std::vector<Point>& points) {
  constexpr std::size_t kMost = 600;
  const std::size_t every = points.size() / kMost + 1;
  std::vector<Point> left;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (i % every == 0 || i + 1 == points.size()) left.push_back(points[i]);
  }
  points = std::move(left);
}

}  // namespace detail

/// The smoothed training loss over the steps, and the validation losses. At most some hundred points of a long run. The loss of
/// the first fifth would leave no room for the rest, where there are more than a few steps.
inline std::string training_picture(const std::string& log, const std::string& recipe) {
  enum Column { kStep = 0, kSmoothed = 3, kValidation = 7, kColumns = 8 };
  std::vector<Cells> rows;
  std::istringstream lines(log);
  std::string line;
  std::getline(lines, line);  // the header
  while (std::getline(lines, line)) {
    std::optional<Cells> cells = csv_cells(line);
    if (cells && cells->size() == kColumns) rows.push_back(std::move(*cells));  // others were cut
  }
  LinePlot plot;
  plot.text = {"Training", recipe, {}};
  plot.x.label = "steps";
  plot.y.label = "nats per token";
  PlotLine training{"training loss, smoothed", {}}, validation{"validation loss", {}};
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double step = detail::number_in_log(rows[i][kStep]);
    const double loss = detail::number_in_log(rows[i][kSmoothed]);
    training.points.push_back({step, loss});
    low = std::min(low, loss);
    if (i >= rows.size() / 5) high = std::max(high, loss);
    if (rows[i][kValidation].empty()) continue;
    validation.points.push_back({step, detail::number_in_log(rows[i][kValidation])});
    low = std::min(low, validation.points.back().y);
    if (i >= rows.size() / 5) high = std::max(high, validation.points.back().y);
  }
  if (rows.size() >= 10 && low < high) {
    plot.y.high = high;
    plot.y.low = low - 0.02 * (high - low);
  }
  for (PlotLine* curve : {&training, &validation}) {
    detail::thin_out(curve->points);
    if (curve == &training || !curve->points.empty()) plot.lines.push_back(std::move(*curve));
  }
  return plot.file();
}

}  // namespace hsm::examples
