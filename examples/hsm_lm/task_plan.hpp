// SPDX-License-Identifier: MIT
//
// What `hsm_lm task` is told, and the runs that follow from it: each contender is trained on each task at each
// learning rate from each seed.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "examples/hsm_lm/contender.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/training_memory.hpp"
#include "examples/support/listops.hpp"
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
    {"recall", 5, 32, 4, 8, 3000},     {"selective-copy", 5, 32, 8, 14, 2000},
    {"copy", 4, 0, 0, 16, 400},  // the context follows from the distances
    {"induction", 5, 32, 0, 15, 1500}, {"parity", 5, 32, 0, 0, 2000},
    {"listops", 7, 64, 10, 0, 2000}};

/// The names of all tasks.
inline std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const TaskDefaults& defaults : kTaskDefaults) names.emplace_back(defaults.name);
  return names;
}

/// All that is run.
struct TaskPlan {
  std::vector<Task> tasks{};       ///< one, or of `copy` one for each distance
  std::vector<Index> distances{};  ///< of `copy`
  std::vector<Contender> contenders{};
  Index parameters = 0;  ///< wanted of each

  /// Whether there is a task for each distance.
  bool by_distance() const { return !distances.empty(); }
};

namespace detail {

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

/// 0, 1, ... up to three past the farthest reach of shifts alone.
inline std::vector<Index> default_distances(const TaskPlan& plan) {
  double reach = 0;
  for (const Contender& contender : plan.contenders) reach = std::max(reach, contender.reach);
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
  if (o.name == "listops") return listops_task(o.context, o.items);
  return parity_task(o.context);
}

}  // namespace detail

/// Fills the defaults of the task into `options` and lists what to run. Throws std::invalid_argument for recipes,
/// sizes or a number of parameters that do not fit, into the memory of this process too.
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
  plan.contenders = contenders_of(options.layers, {options.schedule, options.positions, options.width});
  detail::check_once("--learning-rates", options.rates);
  detail::check_once("--seeds", options.seeds);
  detail::check_once("--distances", options.distances);
  if (options.name == "copy") {
    plan.distances = options.distances.empty() ? detail::default_distances(plan) : options.distances;
    std::sort(plan.distances.begin(), plan.distances.end());
    fill(options.context, 2 * plan.distances.back() + 2);
  }
  try {
    for (const Index k : plan.by_distance() ? plan.distances : std::vector<Index>{0})
      plan.tasks.push_back(detail::task_of(options, k));
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(options.name + ": " + without_name(error.what()));
  }

  plan.parameters =
      make_equal(plan.contenders, plan.tasks.front().vocabulary, options.context, options.parameters);
  constexpr double kCopies = 5;  // weights, gradients, two moments, and the weights before the last update
  for (const Contender& contender : plan.contenders)
    check_training_fits(contender.config, {.batch = options.batch}, kCopies);
  return plan;
}

}  // namespace hsm::examples
