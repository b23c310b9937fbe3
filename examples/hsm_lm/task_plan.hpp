// SPDX-License-Identifier: MIT
//
// What `hsm_lm task` is told, and the runs that follow from it: each contender is trained on each task at each
// learning rate from each seed.
#pragma once

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/model/parameter_budget.hpp>

#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/summary.hpp"
#include "examples/support/tasks.hpp"

namespace hsm::examples {

/// The options of `hsm_lm task`. A 0 or an empty list stands for the default of the task.
struct TaskOptions {
  std::string name{}, schedule = "dyadic", positions = "none", out{};
  std::vector<std::string> layers{};
  std::vector<Index> distances{};
  std::vector<double> rates{1e-3, 3e-3, 1e-2};
  std::vector<std::uint64_t> seeds{1, 2, 3};
  Index depth = 0, width = 32, context = 0, items = 0, symbols = 0;
  Index parameters = 0, steps = 0, batch = 32, sequences = 1024;
  ThreadOptions threads{};
};

/// The sizes of a task where none are given. A run takes some 10 to 30 seconds on two cores, of copy some 3.
struct TaskDefaults {
  const char* name;
  Index depth, context, items, symbols, steps;
};

inline constexpr TaskDefaults kTaskDefaults[] = {
    {"recall", 5, 32, 4, 8, 3000},
    {"selective-copy", 5, 32, 8, 14, 2000},
    {"copy", 4, 0, 0, 16, 400},  // the context follows from the distances
    {"induction", 5, 32, 0, 15, 1500},
    {"parity", 5, 32, 0, 0, 2000}};

/// The names of all tasks.
inline std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const TaskDefaults& defaults : kTaskDefaults) names.emplace_back(defaults.name);
  return names;
}

/// A model that is tried.
struct TaskContender {
  static constexpr double kEverything = -1;

  std::string name{};  ///< its recipe, and after @ what tells it positions
  LanguageModelConfig config{};
  Index parameters = 0;
  double reach = 0;  ///< the farthest offset of its shifts; kEverything with attention
};

/// All that is run.
struct TaskPlan {
  std::vector<Task> tasks{};       ///< one, or of `copy` one for each distance
  std::vector<Index> distances{};  ///< of `copy`
  std::vector<TaskContender> contenders{};
  Index parameters = 0;  ///< wanted of each

  /// Whether there is a task for each distance.
  bool by_distance() const { return !distances.empty(); }
};

namespace detail {

inline Positions positions_of(const std::string& text) {
  if (text == "none") return Positions::kNone;
  if (text == "learned") return Positions::kLearned;
  throw std::invalid_argument("positions must be none or learned, got " + hsm::detail::in_quotes(text));
}

/// "attention@learned": layers, and positions where they are not those of all.
inline TaskContender contender_of(const std::string& text, const TaskOptions& options) {
  const std::size_t end = std::min(text.find('@'), text.size());
  TaskContender contender;
  LanguageModelConfig& config = contender.config;
  config.layers = Recipe::parse(text.substr(0, end)).text();
  config.positions = positions_of(end < text.size() ? text.substr(end + 1) : options.positions);
  config.schedule = options.schedule;
  config.width = options.width;
  config.feed_forward = 1;
  contender.name = config.layers + (config.positions == Positions::kLearned ? "@learned" : "");
  for (const LayerSummary& layer : layers_of(config))
    contender.reach =
        layer.attention() || contender.reach < 0 ? TaskContender::kEverything : contender.reach + layer.reach();
  return contender;
}

inline Index depth_of(const TaskContender& contender) {
  return static_cast<Index>(Recipe::parse(contender.config.layers).layers.size());
}

/// Attention, the mixers that differ most, and a hybrid whose every third layer is attention. Four heads: at the
/// small widths of tasks, recall is learned by them and not by one.
inline std::vector<std::string> default_recipes(Index depth) {
  std::vector<std::string> all;
  for (const char* name : {"attention:heads=4@learned", "ab", "gated", "softmax-local:heads=4"})
    all.push_back(std::to_string(depth) + "*" + name);
  std::string hybrid;
  for (Index l = 0; l < depth; ++l)
    hybrid += (l > 0 ? "," : "") + std::string(l % 3 == 2 ? "attention:heads=4" : "ab");
  if (depth > 2) all.push_back(hybrid);
  return all;
}

template <class Value>
void check_once(const char* option, const std::vector<Value>& values) {
  if (std::set<Value>(values.begin(), values.end()).size() < values.size())
    throw std::invalid_argument(std::string(option) + " must name each value once, got one twice");
}

/// 0, 1, ... up to three past the farthest reach of shifts alone.
inline std::vector<Index> default_distances(const TaskPlan& plan) {
  double reach = 0;
  for (const TaskContender& contender : plan.contenders) reach = std::max(reach, contender.reach);
  constexpr double kMost = 1000;
  if (reach > kMost) {
    throw std::invalid_argument("the layers reach " + format("%.0f", reach) +
                                " places back: choose some --distances, or layers with less than " +
                                format("%.0f", kMost));
  }
  std::vector<Index> all;
  for (Index k = 0; k <= static_cast<Index>(reach) + 3; ++k) all.push_back(k);
  return all;
}

inline Task task_of(const TaskOptions& o, Index distance) {
  if (o.name == "recall") return recall_task(o.context, o.items, o.symbols);
  if (o.name == "selective-copy") return selective_copy_task(o.context, o.items, o.symbols);
  if (o.name == "copy") return copy_task(o.context, distance, o.symbols);
  if (o.name == "induction") return induction_task(o.context, o.symbols);
  return parity_task(o.context);
}

}  // namespace detail

/// Fills the defaults of the task into `options` and lists what to run. Throws std::invalid_argument for recipes,
/// sizes or a number of parameters that do not fit.
inline TaskPlan plan_task(TaskOptions& options) {
  const auto defaults = std::find_if(std::begin(kTaskDefaults), std::end(kTaskDefaults),
                                     [&](const TaskDefaults& d) { return d.name == options.name; });
  if (defaults == std::end(kTaskDefaults))
    throw std::invalid_argument("there must be a task " + hsm::detail::in_quotes(options.name) +
                                ", got none");
  const auto refuse = [&](const char* option, bool given) {
    if (given) throw std::invalid_argument(std::string(option) + " means nothing to " + options.name);
  };
  refuse("--items", options.items > 0 && defaults->items == 0);
  refuse("--symbols", options.symbols > 0 && defaults->symbols == 0);
  refuse("--distances", !options.distances.empty() && options.name != "copy");
  const auto fill = [](Index& value, Index otherwise) { value = value > 0 ? value : otherwise; };
  fill(options.depth, defaults->depth);
  fill(options.context, defaults->context);
  fill(options.items, defaults->items);
  fill(options.symbols, defaults->symbols);
  fill(options.steps, defaults->steps);
  if (options.layers.empty()) options.layers = detail::default_recipes(options.depth);

  TaskPlan plan;
  Index depth = 1;
  std::vector<std::string> names;
  for (const std::string& text : options.layers) {
    plan.contenders.push_back(detail::contender_of(text, options));
    names.push_back(plan.contenders.back().name);
    depth = std::max(depth, detail::depth_of(plan.contenders.back()));
  }
  detail::check_once("--layers", names);
  detail::check_once("--learning-rates", options.rates);
  detail::check_once("--seeds", options.seeds);
  detail::check_once("--distances", options.distances);
  if (options.name == "copy") {
    plan.distances = options.distances.empty() ? detail::default_distances(plan) : options.distances;
    std::sort(plan.distances.begin(), plan.distances.end());
    fill(options.context, 2 * plan.distances.back() + 2);
  }
  for (const Index k : plan.by_distance() ? plan.distances : std::vector<Index>{0})
    plan.tasks.push_back(detail::task_of(options, k));

  LanguageModelConfig attention = plan.contenders.front().config;
  attention.layers = std::to_string(depth) + "*" + std::string(kAttentionName);
  attention.positions = Positions::kLearned;
  attention.vocabulary = plan.tasks.front().vocabulary;
  attention.context = options.context;
  attention.feed_forward = 4 * options.width;
  plan.parameters = options.parameters > 0 ? options.parameters : parameters_of(attention);
  for (TaskContender& contender : plan.contenders) {
    contender.config.vocabulary = attention.vocabulary;
    contender.config.context = options.context;
    contender.config.feed_forward = feed_forward_for(contender.config, plan.parameters);
    contender.parameters = parameters_of(contender.config);
  }
  return plan;
}

}  // namespace hsm::examples
