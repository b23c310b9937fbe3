// SPDX-License-Identifier: MIT
//
// hsm_lm task: small tasks that tell token mixers apart, each recipe with the same number of parameters, the same
// data and the same learning rates.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/experiment_options.hpp"
#include "examples/hsm_lm/report_files.hpp"
#include "examples/hsm_lm/task_report.hpp"
#include "examples/hsm_lm/task_runs.hpp"
#include "examples/support/numbers.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {
namespace {

ReportFiles files_of(const TaskOptions& options, const TaskPlan& plan) {
  std::vector<std::string> endings{".md", ".svg"};
  if (!plan.by_distance()) endings.emplace_back("-places.svg");
  return ReportFiles(options.out, options.name, std::move(endings));
}

/// Prints the outcome, and writes it where it is wanted.
void report_task(const TaskOptions& options, const TaskPlan& plan, const RunTable& table,
                 const ReportFiles& files) {
  const TaskResults results = results_of(table, options, plan);
  const Task& task = plan.tasks.front();
  TextReport report{
      .title =
          task.name + ": " +
          (plan.by_distance() ? "the symbol so many places before; a model for each distance" : task.sizes),
      .notes = task_notes(options, plan, results)};
  if (plan.by_distance()) {
    report.tables = {distance_table(plan, results), each_distance_table(plan, results)};
  } else {
    report.tables = {task_table(plan, results)};
  }
  std::fputs(report.text().c_str(), stdout);
  if (!files.any()) return;
  files.write(".md", report.markdown());
  if (plan.by_distance()) {
    files.write(".svg", distance_picture(options, plan, results));
  } else {
    files.write(".svg", task_picture(options, plan, results));
    files.write("-places.svg", place_picture(options, plan, results));
  }
  std::printf("\n%s\n", shown(files.written()).c_str());
  settle_output();
}

void run_task_command(TaskOptions& options) {
  const TaskPlan plan = plan_task(options);
  const ReportFiles files = files_of(options, plan);
  CommandFiles names;
  files.check(names);
  std::optional<RunTable> table;
  open_table(table, files, ".csv", task_columns(options, plan));
  Runtime runtime(options.threads);
  TaskRuns runs(options, plan, *table, runtime.workspace);
  std::fprintf(stderr, "%s: %s; %s of %s", options.name.c_str(),
               plan.by_distance() ? "a model for each distance" : plan.tasks.front().sizes.c_str(),
               counted(runs.all(), "run").c_str(), counted(options.steps, "step").c_str());
  if (runs.done() > 0) std::fprintf(stderr, ", %zu of them in %s", runs.done(), shown(files.table()).c_str());
  std::fprintf(stderr, "%s\n", table->cut() ? ", where half a line at the end does not count" : "");
  if (runs.run()) return report_task(options, plan, *table, files);
  tell_interrupted(runs.done(), runs.all(), files);
  throw Exit{ended_by(runs.signal())};
}

void add_task_sizes(CLI::App& command, TaskOptions& o) {
  constexpr Index kMost = Index{1} << 20;
  const auto size = [&](const char* name, Index& value, Index most, const char* description) {
    add_size(command, name, value, most, description);
  };
  size("--context,--length", o.context, kMost, "ids of a sequence");
  size("--items", o.items, kMost,
       "pairs of recall, symbols to copy of selective-copy, or most arguments of listops");
  size("--symbols", o.symbols, kMost, "different symbols; of recall different keys, and as many values");
  size("--steps", o.steps, kMost, "of training");
  size("--batch", o.batch, kMost, "sequences per step");
  size("--test-sequences", o.sequences, kMost, "to test on; half as many choose the rate");
  add_numbers(command, "--distances", o.distances, Bounds<Index>{0, kMost},
              "of copy, separated by commas; 0 to 3 past the reach of the shifts if not given");
}

}  // namespace

void add_task(CLI::App& app) {
  auto options = std::make_shared<TaskOptions>();
  CLI::App* command =
      app.add_subcommand("task", "Compare recipes at small tasks that tell token mixers apart");
  command->add_option("name", options->name, "recall, selective-copy, copy, induction, parity or listops")
      ->check(CLI::IsMember(task_names()))
      ->required();
  add_recipe_options(*command, *options, "attention, ab, gated, softmax-local and a hybrid");
  add_task_sizes(*command, *options);
  add_run_options(*command, *options, Bounds<std::uint64_t>{0, kTaskSeeds - 1}, "",
                  "of first weights and data");
  command->callback([options] { run_task_command(*options); });
}

}  // namespace hsm::examples
