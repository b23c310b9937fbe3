// SPDX-License-Identifier: MIT
//
// The tables that `hsm_lm compare` keeps, and what is read off them:
//
//   .csv          a line for each finished run
//   -curves.csv   of the same runs the losses over tokens and seconds, "tokens:seconds:loss ...", and by position in
//                 the window, "first-last:loss ..."
//   -speeds.csv   a line for each measurement of speed (compare_speeds.hpp)
//
// The line of the curves is written first, so that whatever is in the first table has them.
#pragma once

#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "examples/hsm_lm/compare_plan.hpp"
#include "examples/hsm_lm/compare_run.hpp"
#include "examples/hsm_lm/rate_search.hpp"
#include "examples/support/run_table.hpp"
#include "examples/support/spread.hpp"

namespace hsm::examples {

namespace detail {

inline RunColumns compare_settings(const CompareOptions& o, const ComparePlan& plan) {
  const auto number = [](auto value) { return std::to_string(value); };
  return {.settings = {{"texts", plan.texts.fingerprint},
                       {"vocabulary", number(plan.texts.vocabulary)},
                       {"width", number(o.width)},
                       {"context", number(o.context)},
                       {"target_parameters", number(plan.parameters)},
                       {"schedule", o.schedule},
                       {"batch", number(o.batch)},
                       {"steps", number(plan.steps)}},
          .keys = {"recipe", "learning_rate", "seed"}};
}

inline bool read_curve_point(std::string_view word, CurvePoint& p) {
  return read_word(word, "::", p.tokens, p.seconds, p.loss) && p.tokens >= 0 && p.seconds >= 0 &&
         std::isfinite(p.tokens) && std::isfinite(p.seconds) && std::isfinite(p.loss);
}

inline bool read_position_loss(std::string_view word, PositionLoss& p) {
  return read_word(word, "-:", p.first, p.last, p.loss) && p.first >= 1 && p.last >= p.first &&
         std::isfinite(p.loss);
}

/// The points that the words of a cell are. Throws std::runtime_error for a cell of another form.
template <class Point>
std::vector<Point> points_of(const std::string& cell, bool (*read)(std::string_view, Point&),
                             const CellForm& form) {
  std::vector<Point> points;
  const auto add = [&](std::string_view word) { return read(word, points.emplace_back()); };
  if (!read_words(cell, add))
    throw std::runtime_error(std::string("a curve must be ") + form.text + ", got " +
                             hsm::detail::in_quotes(cell));
  return points;
}

}  // namespace detail

/// What a run's training losses are.
inline constexpr CellForm kCurveCell{
    "finite numbers as tokens:seconds:loss", [](std::string_view cell) {
      CurvePoint point;
      return read_words(cell, [&](std::string_view word) { return detail::read_curve_point(word, point); });
    }};
/// What its losses by position are.
inline constexpr CellForm kPositionsCell{
    "finite numbers as first-last:loss, positions from 1 on", [](std::string_view cell) {
      PositionLoss point;
      return read_words(cell, [&](std::string_view word) { return detail::read_position_loss(word, point); });
    }};

/// The columns of the runs.
inline RunColumns compare_columns(const CompareOptions& o, const ComparePlan& plan) {
  RunColumns columns = detail::compare_settings(o, plan);
  columns.results = {"parameters", "feed_forward", "selection_loss",    "loss",    "bits_per_byte",
                     "steps_done", "diverged",     "tokens_per_second", "seconds", "threads"};
  columns.forms = {{"selection_loss", kNumberCell},
                   {"loss", kNumberCell},
                   {"diverged", kFlagCell},
                   {"threads", kCountCell}};
  return columns;
}

/// The columns of their curves.
inline RunColumns curve_columns(const CompareOptions& o, const ComparePlan& plan) {
  RunColumns columns = detail::compare_settings(o, plan);
  columns.results = {"training_loss", "loss_by_position"};
  columns.forms = {{"training_loss", kCurveCell}, {"loss_by_position", kPositionsCell}};
  return columns;
}

/// What tells a run from others.
inline Cells compare_key(const Contender& contender, double rate, std::uint64_t seed) {
  return {contender.name, exact_number(rate), std::to_string(seed)};
}

/// Nats per token as bits per byte.
inline double bits_per_byte(const CompareTexts& texts, double nats) {
  return nats / std::numbers::ln2 / texts.bytes_per_token;
}

/// The results of a run in the order of the columns.
inline Cells compare_cells(const CompareOptions& o, const ComparePlan& plan, const Contender& contender,
                           const CompareOutcome& outcome) {
  const double tokens = static_cast<double>(outcome.steps * o.batch * o.context);
  return {std::to_string(contender.parameters),
          std::to_string(contender.config.feed_forward),
          format("%.6f", outcome.selection),
          format("%.6f", outcome.report),
          format("%.6f", bits_per_byte(plan.texts, outcome.report)),
          std::to_string(outcome.steps),
          outcome.diverged ? "1" : "0",
          format("%.1f", outcome.seconds > 0 ? tokens / outcome.seconds : 0),
          format("%.2f", outcome.seconds),
          std::to_string(o.threads.threads)};
}

inline Cells curve_cells(const CompareOutcome& outcome) {
  std::string curve, positions;
  for (const CurvePoint& p : outcome.curve)
    curve += format("%s%.0f:%.3f:%.5f", curve.empty() ? "" : " ", p.tokens, p.seconds, p.loss);
  for (const PositionLoss& p : outcome.positions)
    positions += format("%s%td-%td:%.5f", positions.empty() ? "" : " ", p.first, p.last, p.loss);
  return {curve, positions};
}

/// The training losses of a run.
inline std::vector<CurvePoint> curve_of(const RunTable& curves, const Cells& key) {
  return detail::points_of(curves.cell(key, "training_loss"), detail::read_curve_point, kCurveCell);
}

/// The losses of a run by position.
inline std::vector<PositionLoss> positions_of(const RunTable& curves, const Cells& key) {
  return detail::points_of(curves.cell(key, "loss_by_position"), detail::read_position_loss, kPositionsCell);
}

/// The search of a contender's rate, as far as the table has its runs. They are those of the first seed.
inline RateSearch search_of(const RunTable& table, const CompareOptions& o, const Contender& contender) {
  RateSearch search(o.rates);
  while (const auto rate = search.next()) {
    const Cells key = compare_key(contender, *rate, o.seeds.front());
    if (table.find(key) == nullptr) break;
    search.set(*rate, table.number(key, "selection_loss"));
  }
  return search;
}

/// What came of a contender at its best rate.
struct CompareResult {
  double rate = 0;
  bool edge = false;          ///< whether no worse rate is known on one side of it
  bool diverged = false;      ///< whether a run at this rate diverged
  Spread loss{};              ///< nats per token, over the seeds
  std::vector<Cells> keys{};  ///< its runs, the first seed first
};

/// Of a contender whose runs are all in the table.
inline CompareResult compare_result(const RunTable& table, const CompareOptions& o,
                                    const Contender& contender) {
  const RateSearch search = search_of(table, o, contender);
  CompareResult result;
  result.rate = search.best();
  result.edge = search.edge();
  for (const std::uint64_t seed : o.seeds) {
    const Cells key = compare_key(contender, result.rate, seed);
    result.loss.add(table.number(key, "loss"));
    result.diverged = result.diverged || table.cell(key, "diverged") != "0";
    result.keys.push_back(key);
  }
  return result;
}

}  // namespace hsm::examples
