// SPDX-License-Identifier: MIT
//
// What came of the runs of `hsm_lm compare`, as tables and as pictures. All of it is read off the tables of runs,
// curves and speeds.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "examples/hsm_lm/compare_speeds.hpp"
#include "examples/hsm_lm/compare_table.hpp"
#include "examples/support/plot.hpp"
#include "examples/support/text.hpp"
#include "examples/support/text_table.hpp"

namespace hsm::examples {

/// All that a report is made from.
struct CompareData {
  const CompareOptions& options;
  const ComparePlan& plan;
  const RunTable& runs;
  const RunTable& curves;
  const RunTable* speeds;                ///< null where nothing was measured
  std::vector<CompareResult> results{};  ///< one for each contender

  CompareData(const CompareOptions& o, const ComparePlan& p, const RunTable& r, const RunTable& c,
              const RunTable* s)
      : options(o), plan(p), runs(r), curves(c), speeds(s) {
    for (const Contender& contender : p.contenders) results.push_back(compare_result(r, o, contender));
  }

  /// Multiply-adds of a contender over those of attention of as many parameters; nothing where there is none.
  std::optional<double> cost_ratio(const Contender& contender, CostKind kind, Index context) const {
    const auto attention = attention_of_equal_size(contender.config);
    if (!attention) return std::nullopt;
    const auto T = static_cast<double>(context);
    return cost_of(contender.config).at(kind, T) / cost_of(*attention).at(kind, T);
  }
};

namespace detail {

inline std::string loss_text(double loss) { return std::isfinite(loss) ? format("%.4f", loss) : "diverged"; }

inline std::string optional_text(int digits, std::optional<double> value) {
  return value ? format("%.*f", digits, *value) : "-";
}

inline std::string speed_text(const CompareData& data, const Contender& contender, const char* what,
                              Index context) {
  return optional_text(0, speed_of(data.speeds, contender, what, context));
}

}  // namespace detail

/// One line for each contender.
inline TextTable compare_table(const CompareData& data) {
  const CompareOptions& o = data.options;
  const Index last = o.speed_contexts.back(), first = o.speed_contexts.front();
  const Index window = o.speed_windows.front();
  TextTable table{{"recipe", "parameters", "learning rate", "loss", "spread", "bits per byte",
                   "training tokens/s" + (window == o.context ? "" : format(" at %td", window)),
                   format("generated/s at %td", first), format("at %td", last), format("state at %td", last),
                   "training memory", "training cost", format("generation cost at %td", last)},
                  {}};
  for (std::size_t c = 0; c < data.results.size(); ++c) {
    const Contender& contender = data.plan.contenders[c];
    const CompareResult& result = data.results[c];
    const bool fine = std::isfinite(result.loss.mean());
    table.rows.push_back(
        {contender.name, parameters_text(contender, data.plan.parameters),
         format("%g%s", result.rate, result.edge ? "*" : ""), detail::loss_text(result.loss.mean()),
         fine ? detail::optional_text(4, result.loss.width()) : "-",
         fine ? format("%.4f", bits_per_byte(data.plan.texts, result.loss.mean())) : "-",
         detail::speed_text(data, contender, kTrainingSpeed, window),
         detail::speed_text(data, contender, kGenerationSpeed, first),
         detail::speed_text(data, contender, kGenerationSpeed, last),
         bytes_text(cost_of(contender.config).at(CostKind::kState, static_cast<double>(last))),
         bytes_text(training_memory(contender.config, {.batch = o.batch}).total()),
         detail::optional_text(3, data.cost_ratio(contender, CostKind::kTraining, o.context)),
         detail::optional_text(3, data.cost_ratio(contender, CostKind::kGeneration, last))});
  }
  if (first == last) {  // one column of it
    constexpr std::ptrdiff_t kAgain = 8;
    table.header.erase(table.header.begin() + kAgain);
    for (Cells& row : table.rows) row.erase(row.begin() + kAgain);
  }
  return table;
}

/// Speeds and costs at each context, where there are more than the first table shows.
inline TextTable compare_speed_table(const CompareData& data) {
  TextTable table{{"recipe", "what", "context", "tokens/s", "cost", "state"}, {}};
  for (const Contender& contender : data.plan.contenders) {
    const auto add = [&](const char* what, CostKind kind, Index context) {
      const double T = static_cast<double>(context);
      table.rows.push_back({contender.name, what, std::to_string(context),
                            detail::speed_text(data, contender, what, context),
                            detail::optional_text(3, data.cost_ratio(contender, kind, context)),
                            bytes_text(cost_of(contender.config).at(CostKind::kState, T))});
    };
    for (const Index window : data.options.speed_windows) add(kTrainingSpeed, CostKind::kTraining, window);
    for (const Index context : data.options.speed_contexts)
      add(kGenerationSpeed, CostKind::kGeneration, context);
  }
  return table;
}

/// What the tables leave out, a sentence each.
inline std::vector<std::string> compare_notes(const CompareData& data) {
  const CompareOptions& o = data.options;
  const std::string rates = listed(o.rates, [](double rate) { return format("%g", rate); });
  const std::string seeds = listed(o.seeds, [](std::uint64_t seed) { return std::to_string(seed); });
  std::vector<std::string> notes{
      data.plan.texts.what + "; " + data.plan.texts.fingerprint,
      format("width %td, about %td parameters each, schedule %s; %s of %td x %td tokens, the same in the "
             "same order for all",
             o.width, data.plan.parameters, o.schedule.c_str(), counted(data.plan.steps, "step").c_str(),
             o.batch, o.context)};
  if (o.rates.size() == 1) {  // nothing is searched
    notes.push_back(format("learning rate%s for all; seed%s", rates.c_str(), seeds.c_str()));
  } else {
    notes.insert(
        notes.end(),
        {format("learning rate%s for all, and up to %d more while a recipe's best is the first or last of "
                "its own",
                rates.c_str(), RateSearch::kMostMore),
         "the best rate is that of the lowest loss on the first half of the validation text",
         format("seed%s; rates are searched with the first, the others run at the rate that was chosen",
                seeds.c_str())});
  }
  notes.insert(
      notes.end(),
      {"loss: nats per token on the second half, mean over the seeds; spread: largest less smallest",
       format("cost: multiply-adds per token over those of attention of equal size; in training at %s",
              counted(o.context, "token").c_str()),
       "training memory: computed, at least"});
  bool edge = false, diverged = false;
  for (const CompareResult& result : data.results) {
    edge = edge || result.edge;
    diverged = diverged || result.diverged;
  }
  if (edge) notes.push_back("* no rate beyond this one was tried: another one may be better");
  if (diverged) notes.push_back("diverged: a loss at the best rate was not finite");
  if (data.speeds == nullptr) notes.push_back("speeds were not measured; --speeds does");
  return notes;
}

inline TextReport compare_report(const CompareData& data) {
  TextReport report{
      .title = format("Recipes at about %td parameters and %td tokens of training", data.plan.parameters,
                      data.plan.steps * data.options.batch * data.options.context),
      .tables = {compare_table(data)},
      .notes = compare_notes(data)};
  if (data.options.speed_contexts.size() > 2 || data.options.speed_windows.size() > 1)
    report.tables.push_back(compare_speed_table(data));
  return report;
}

namespace detail {

/// Training losses over x(contender, point). The loss of the first fifth of a run would leave no room for what tells
/// the recipes apart.
template <class X>
std::string curve_picture(const CompareData& data, const std::string& title, const std::string& axis, X&& x) {
  LinePlot plot;
  plot.text = {title, "training loss, smoothed, at each recipe's best learning rate", compare_notes(data)};
  plot.x.label = axis;
  plot.y.label = "nats per token";
  double high = 0, low = std::numeric_limits<double>::infinity();
  for (std::size_t c = 0; c < data.results.size(); ++c) {
    PlotLine line{data.plan.contenders[c].name, {}};
    const std::vector<CurvePoint> curve = curve_of(data.curves, data.results[c].keys.front());
    for (const CurvePoint& point : curve) {
      line.points.push_back({x(data.plan.contenders[c], point), point.loss});
      low = std::min(low, point.loss);
    }
    if (!curve.empty()) high = std::max(high, curve[curve.size() / 5].loss);
    plot.lines.push_back(std::move(line));
  }
  if (low < high) {
    plot.y.high = high;
    plot.y.low = low - 0.02 * (high - low);
  }
  return plot.file();
}

}  // namespace detail

/// Training losses over tokens.
inline std::string tokens_picture(const CompareData& data) {
  return detail::curve_picture(data, "Loss over tokens", "training tokens",
                               [](const Contender&, const CurvePoint& point) { return point.tokens; });
}

/// Training losses over seconds: those that the tokens take at the speeds that were measured in turns, where they were
/// for all recipes, else those of the runs, which share the machine with whatever else ran.
inline std::string seconds_picture(const CompareData& data) {
  const auto speed = [&](const Contender& contender) {
    return speed_of(data.speeds, contender, kTrainingSpeed, data.options.context);
  };
  const auto& all = data.plan.contenders;
  if (std::all_of(all.begin(), all.end(), [&](const Contender& one) { return speed(one).has_value(); })) {
    return detail::curve_picture(data, "Loss over time", "seconds of training at the measured speed",
                                 [&](const Contender& contender, const CurvePoint& point) {
                                   return point.tokens / *speed(contender);
                                 });
  }
  return detail::curve_picture(data, "Loss over time", "seconds of training",
                               [](const Contender&, const CurvePoint& point) { return point.seconds; });
}

/// Validation losses over the multiply-adds of a token in training.
inline std::string cost_picture(const CompareData& data) {
  LinePlot plot;
  plot.text = {"Loss against cost", "validation loss, mean and spread over the seeds", compare_notes(data)};
  plot.x.label =
      format("multiply-adds per token in training at %s", counted(data.options.context, "token").c_str());
  plot.y.label = "nats per token";
  for (std::size_t c = 0; c < data.results.size(); ++c) {
    const Contender& contender = data.plan.contenders[c];
    const Spread& loss = data.results[c].loss;
    const double cost =
        cost_of(contender.config).at(CostKind::kTraining, static_cast<double>(data.options.context));
    plot.lines.push_back({contender.name, {{cost, loss.mean(), loss.low, loss.high}}});
  }
  return plot.file();
}

/// Validation losses by position in the window, with the reach of the shifts.
inline std::string position_picture(const CompareData& data) {
  LinePlot plot;
  plot.text = {"Loss by position in the window", "validation loss of the first seed", compare_notes(data)};
  plot.x.label = "tokens read before";
  plot.x.scale = Scale::kLog2;
  plot.y.label = "nats per token";
  std::map<double, std::string> reaches;
  for (std::size_t c = 0; c < data.results.size(); ++c) {
    const Contender& contender = data.plan.contenders[c];
    PlotLine line{contender.name, {}};
    for (const PositionLoss& p : positions_of(data.curves, data.results[c].keys.front()))
      line.points.push_back({std::sqrt(static_cast<double>(p.first) * static_cast<double>(p.last)), p.loss});
    plot.lines.push_back(std::move(line));
    // A token is predicted from itself and those that its shifts reach.
    if (contender.reach > 0) reaches[contender.reach + 1] = format("reach %.0f", contender.reach + 1);
  }
  for (const auto& [reach, text] : reaches) plot.at_x.push_back({reach, text});
  return plot.file();
}

}  // namespace hsm::examples
