// SPDX-License-Identifier: MIT
//
// What came of the runs of `hsm_lm task`, as tables and as pictures.
#pragma once

#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "examples/hsm_lm/task_results.hpp"
#include "examples/support/plot.hpp"
#include "examples/support/text.hpp"
#include "examples/support/text_table.hpp"

namespace hsm::examples {

namespace detail {

inline std::string percent(double share) { return format("%.1f %%", 100 * share); }
inline std::string percent(std::optional<double> share) { return share ? percent(*share) : "-"; }

inline std::string rate_text(const TaskResult& result) {
  return format("%g%s%s", result.rate, result.edge ? "*" : "", result.diverged ? " (diverged)" : "");
}

}  // namespace detail

/// One line for each contender.
inline TextTable task_table(const TaskPlan& plan, const TaskResults& results) {
  TextTable table{{"recipe", "parameters", "best rate", "accuracy", "spread", "chance", "loss", "seconds"},
                  {}};
  for (std::size_t c = 0; c < plan.contenders.size(); ++c) {
    const TaskResult& result = results[0][c];
    table.rows.push_back({plan.contenders[c].name, parameters_text(plan.contenders[c], plan.parameters),
                          detail::rate_text(result), detail::percent(result.accuracy.mean()),
                          detail::percent(result.accuracy.width()), detail::percent(plan.tasks[0].chance),
                          format("%.3f", result.loss.mean()), format("%.1f", result.seconds.mean())});
  }
  return table;
}

/// The same for tasks at several distances: means within and past the reach of a contender.
inline TextTable distance_table(const TaskPlan& plan, const TaskResults& results) {
  TextTable table{{"recipe", "reach", "parameters", "within", "past", "largest spread", "chance", "seconds"},
                  {}};
  for (std::size_t c = 0; c < plan.contenders.size(); ++c) {
    const Contender& contender = plan.contenders[c];
    Spread within, past, spread, seconds;
    for (std::size_t t = 0; t < plan.tasks.size(); ++t) {
      const TaskResult& result = results[t][c];
      const bool reached = contender.reach < 0 || static_cast<double>(plan.distances[t]) <= contender.reach;
      (reached ? within : past).add(result.accuracy.mean());
      if (const auto width = result.accuracy.width()) spread.add(*width);
      seconds.add(result.seconds.mean());
    }
    const auto mean = [](const Spread& of) { return of.count == 0 ? "-" : detail::percent(of.mean()); };
    table.rows.push_back({contender.name, contender.reach < 0 ? "all" : format("%.0f", contender.reach),
                          parameters_text(contender, plan.parameters), mean(within), mean(past),
                          spread.count == 0 ? "-" : detail::percent(spread.high),
                          detail::percent(plan.tasks[0].chance), format("%.1f", seconds.mean())});
  }
  return table;
}

/// The accuracy of each contender at each distance.
inline TextTable each_distance_table(const TaskPlan& plan, const TaskResults& results) {
  TextTable table{{"distance"}, {}};
  for (const Contender& contender : plan.contenders) table.header.push_back(contender.name);
  for (std::size_t t = 0; t < plan.tasks.size(); ++t) {
    table.rows.push_back({std::to_string(plan.distances[t])});
    for (const TaskResult& result : results[t])
      table.rows.back().push_back(detail::percent(result.accuracy.mean()));
  }
  return table;
}

/// What the tables leave out, a sentence each.
inline std::vector<std::string> task_notes(const TaskOptions& options, const TaskPlan& plan,
                                           const TaskResults& results) {
  const std::string seeds = listed(options.seeds, [](std::uint64_t seed) { return std::to_string(seed); });
  const std::string rates = listed(options.rates, [](double rate) { return format("%g", rate); });
  std::vector<std::string> notes{
      format("seed%s; width %td, about %td parameters each, schedule %s", seeds.c_str(), options.width,
             plan.parameters, options.schedule.c_str()),
      format("%s of %td x %td fresh ids; learning rate%s%s", counted(options.steps, "step").c_str(),
             options.batch, options.context, rates.c_str(),
             options.rates.size() == 1 ? "" : ", the best of them on selection data"),
      format("accuracy: mean over the seeds, on %s each; spread: largest less smallest",
             counted(options.sequences, "test sequence").c_str())};
  bool edge = false, diverged = false;
  for (const auto& row : results) {
    for (const TaskResult& result : row) {
      edge |= result.edge;
      diverged |= result.diverged;
    }
  }
  if (edge && !plan.by_distance())
    notes.push_back("* the best rate is the first or last of those tried: another one may be better");
  if (diverged)
    notes.push_back("a loss was not finite: that run was scored with the weights before that step");
  return notes;
}

/// Bars of the accuracies.
inline std::string task_picture(const TaskOptions& options, const TaskPlan& plan,
                                const TaskResults& results) {
  const Task& task = plan.tasks[0];
  BarPlot plot;
  plot.text = {task.name, task.sizes, task_notes(options, plan, results)};
  plot.value.label = "accuracy";
  plot.value.low = 0;
  plot.value.high = 1;
  plot.marks.push_back({task.chance, "chance"});
  for (std::size_t c = 0; c < plan.contenders.size(); ++c) {
    const Spread& accuracy = results[0][c].accuracy;
    plot.bars.push_back({plan.contenders[c].name, accuracy.mean(), accuracy.low, accuracy.high});
  }
  return plot.file();
}

/// Lines of accuracies, to be filled.
inline LinePlot accuracy_plot(const std::string& x, double chance) {
  LinePlot plot;
  plot.x.label = x;
  plot.y.label = "accuracy";
  plot.y.low = 0;
  plot.y.high = 1.02;
  plot.at_y.push_back({chance, "chance"});
  return plot;
}

/// Lines of the accuracies over the distance.
inline std::string distance_picture(const TaskOptions& options, const TaskPlan& plan,
                                    const TaskResults& results) {
  LinePlot plot = accuracy_plot("distance", plan.tasks[0].chance);
  plot.text = {"copy at a distance", plan.tasks.back().sizes, task_notes(options, plan, results)};
  plot.text.subtitle =
      format("the symbol so many places before, of %td; length %td; a model for each distance",
             options.symbols, options.context);
  std::map<double, std::string> reaches;
  for (std::size_t c = 0; c < plan.contenders.size(); ++c) {
    const Contender& contender = plan.contenders[c];
    PlotLine line{contender.name, {}};
    for (std::size_t t = 0; t < plan.tasks.size(); ++t) {
      const Spread& accuracy = results[t][c].accuracy;
      line.points.push_back(
          {static_cast<double>(plan.distances[t]), accuracy.mean(), accuracy.low, accuracy.high});
    }
    plot.lines.push_back(std::move(line));
    if (contender.reach > 0) reaches[contender.reach] = format("reach of shifts %.0f", contender.reach);
  }
  for (const auto& [reach, text] : reaches) plot.at_x.push_back({reach, text});
  return plot.file();
}

/// Lines of the accuracies over the axis of the task. Places with few answers are joined: those from 2^i to
/// 2^(i+1) - 1, and 0.
inline std::string place_picture(const TaskOptions& options, const TaskPlan& plan,
                                 const TaskResults& results) {
  const Task& task = plan.tasks[0];
  LinePlot plot = accuracy_plot(task.axis, task.chance);
  plot.text = {task.name, task.sizes, task_notes(options, plan, results)};
  constexpr Index kFew = 256;
  const auto answers = static_cast<Index>(options.seeds.size()) * options.sequences * task.asked;
  const bool join = answers < kFew * static_cast<Index>(results[0][0].by_place.size());
  if (join) plot.text.notes.push_back("a point is the mean of the places from 2^i to 2^(i+1) - 1");
  for (std::size_t c = 0; c < plan.contenders.size(); ++c) {
    const TaskResult& result = results[0][c];
    struct Group {
      TaskAnswers answers{};
      double places = 0;
    };
    std::map<Index, Group> groups;
    for (const auto& [place, some] : result.by_place) {
      const auto bits = static_cast<Index>(std::bit_width(static_cast<std::uint64_t>(place)));
      Group& group = groups[join ? bits : place];
      group.answers.right += some.right;
      group.answers.asked += some.asked;
      group.places += static_cast<double>(place) * static_cast<double>(some.asked);
    }
    PlotLine line{plan.contenders[c].name, {}};
    for (const auto& [place, group] : groups)
      line.points.push_back({group.places / static_cast<double>(group.answers.asked), group.answers.share()});
    plot.lines.push_back(std::move(line));
  }
  return plot.file();
}

}  // namespace hsm::examples
