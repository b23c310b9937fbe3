// SPDX-License-Identifier: MIT
//
// The runs of `hsm_lm task` in a table of runs, and what is read off it: of each contender the learning rate that
// did best on selection data, and with it the accuracies on test data.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "examples/hsm_lm/task_plan.hpp"
#include "examples/hsm_lm/task_run.hpp"
#include "examples/support/run_table.hpp"
#include "examples/support/spread.hpp"

namespace hsm::examples {

namespace detail {

/// Adds answers by place, "place:right/asked ...", to `answers`; false for another text.
inline bool read_places(std::string_view cell, std::map<Index, TaskAnswers>& answers) {
  return read_words(cell, [&](std::string_view word) {
    Index place = 0;
    TaskAnswers read;
    if (!read_word(word, ":/", place, read.right, read.asked)) return false;
    constexpr Index kMostPlace = std::numeric_limits<std::int32_t>::max();
    constexpr Index kMostAsked = Index{1} << 40;  // whose sums can be counted
    if (place < 0 || place > kMostPlace || read.right < 0 || read.asked < 1 || read.right > read.asked ||
        read.asked > kMostAsked)
      return false;
    TaskAnswers& all = answers[place];
    all.right += read.right;
    all.asked += read.asked;
    return true;
  });
}

}  // namespace detail

/// What a run's answers by place are.
inline constexpr CellForm kPlacesCell{"whole numbers as place:right/asked, no more right than asked",
                                      [](std::string_view cell) {
                                        std::map<Index, TaskAnswers> answers;
                                        return detail::read_places(cell, answers);
                                      }};

/// The columns that `hsm_lm task` keeps of its runs.
inline RunColumns task_columns(const TaskOptions& o, const TaskPlan& plan) {
  const auto number = [](auto value) { return std::to_string(value); };
  RunColumns columns{
      .settings = {{"task", o.name},
                   {"context", number(o.context)},
                   {"items", number(o.items)},
                   {"symbols", number(o.symbols)},
                   {"width", number(o.width)},
                   {"target_parameters", number(plan.parameters)},
                   {"schedule", o.schedule},
                   {"steps", number(o.steps)},
                   {"batch", number(o.batch)},
                   {"test_sequences", number(o.sequences)}},
      .keys = {"recipe", "learning_rate", "seed"},
      .results = {"parameters", "feed_forward", "selection_accuracy", "selection_loss", "test_accuracy",
                  "test_loss", "by_place", "steps_done", "seconds", "threads"},
      .forms = {{"selection_accuracy", kShareCell},
                {"selection_loss", kNumberCell},
                {"test_accuracy", kShareCell},
                {"test_loss", kNumberCell},
                {"by_place", kPlacesCell},
                {"steps_done", kCountCell},
                {"seconds", kAmountCell},
                {"threads", kCountCell}}};
  if (plan.by_distance()) columns.keys.insert(columns.keys.begin(), "distance");
  return columns;
}

/// What tells a run of task number `task` from others.
inline Cells task_key(const TaskPlan& plan, std::size_t task, const Contender& contender, double rate,
                      std::uint64_t seed) {
  Cells key{contender.name, exact_number(rate), std::to_string(seed)};
  if (plan.by_distance()) key.insert(key.begin(), std::to_string(plan.distances[task]));
  return key;
}

/// The results of a run in the order of the columns.
inline Cells task_cells(const Contender& contender, const TaskOutcome& outcome, int threads) {
  std::string by_place;
  for (const auto& [place, answers] : outcome.test.by_place)
    by_place += format("%s%d:%td/%td", by_place.empty() ? "" : " ", place, answers.right, answers.asked);
  return {std::to_string(contender.parameters),
          std::to_string(contender.config.feed_forward),
          format("%.6f", outcome.selection.all.share()),
          format("%.6f", outcome.selection.loss.mean()),
          format("%.6f", outcome.test.all.share()),
          format("%.6f", outcome.test.loss.mean()),
          by_place,
          std::to_string(outcome.steps),
          format("%.2f", outcome.seconds),
          std::to_string(threads)};
}

/// What came of a contender at a task, at its best learning rate.
struct TaskResult {
  double rate = 0;
  bool edge = false;                     ///< whether no rate below it, or none above it, was tried
  bool diverged = false;                 ///< whether a run ended early because its loss was not finite
  Spread accuracy{}, loss{}, seconds{};  ///< over the seeds
  std::map<Index, TaskAnswers> by_place{};
};

/// Reads the results of a contender at task number `task`.
inline TaskResult result_of(const RunTable& table, const TaskOptions& options, const TaskPlan& plan,
                            std::size_t task, const Contender& contender) {
  TaskResult result;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double best_accuracy = -1, best_loss = kInfinity;
  for (const double rate : options.rates) {
    Spread accuracy, loss;
    for (const std::uint64_t seed : options.seeds) {
      const Cells key = task_key(plan, task, contender, rate, seed);
      accuracy.add(table.number(key, "selection_accuracy"));
      loss.add(table.number(key, "selection_loss"));
    }
    const double mean = hsm::detail::is_finite(loss.mean()) ? loss.mean() : kInfinity;
    const bool better =
        accuracy.mean() > best_accuracy || (accuracy.mean() == best_accuracy && mean < best_loss);
    if (!better) continue;
    best_accuracy = accuracy.mean();
    best_loss = mean;
    result.rate = rate;
  }
  const auto [least, most] = std::minmax_element(options.rates.begin(), options.rates.end());
  result.edge = *least < *most && (result.rate == *least || result.rate == *most);
  for (const std::uint64_t seed : options.seeds) {
    const Cells key = task_key(plan, task, contender, result.rate, seed);
    result.accuracy.add(table.number(key, "test_accuracy"));
    result.loss.add(table.number(key, "test_loss"));
    result.seconds.add(table.number(key, "seconds"));
    result.diverged |= table.number(key, "steps_done") < static_cast<double>(options.steps);
    const std::string& places = table.cell(key, "by_place");
    if (!detail::read_places(places, result.by_place))
      throw std::runtime_error("by_place must be " + std::string(kPlacesCell.text) + ", got " +
                               hsm::detail::in_quotes(places));
  }
  return result;
}

/// All results: [task][contender].
using TaskResults = std::vector<std::vector<TaskResult>>;

inline TaskResults results_of(const RunTable& table, const TaskOptions& options, const TaskPlan& plan) {
  TaskResults all(plan.tasks.size());
  for (std::size_t t = 0; t < plan.tasks.size(); ++t) {
    for (const Contender& contender : plan.contenders)
      all[t].push_back(result_of(table, options, plan, t, contender));
  }
  return all;
}

}  // namespace hsm::examples
