// SPDX-License-Identifier: MIT
//
// hsm_lm task: small tasks that tell token mixers apart, each recipe with the same number of parameters, the same
// data and the same learning rates.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/io/output_file.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/task_report.hpp"
#include "examples/hsm_lm/task_runs.hpp"
#include "examples/support/numbers.hpp"

namespace hsm::examples {
namespace {

/// Where the outcome is kept, or empty names.
struct TaskFiles {
  std::string table{}, text{}, picture{}, places{};

  /// In the directory `out`, with the name of the task, or beginning with `out`.
  static TaskFiles of(const TaskOptions& options) {
    if (options.out.empty()) return {};
    const bool directory = options.out.ends_with('/') || std::filesystem::is_directory(options.out);
    const std::string stem =
        directory ? (std::filesystem::path(options.out) / options.name).string() : options.out;
    return {stem + ".csv", stem + ".md", stem + ".svg", stem + "-places.svg"};
  }

  /// Throws std::runtime_error for files that another program made.
  void check() const {
    if (table.empty() || std::filesystem::exists(table)) return;
    for (const std::string& file : {text, picture, places}) {
      if (std::filesystem::exists(file))
        throw std::runtime_error("--out would overwrite " + file + ", which is there without " + table);
    }
  }
};

void write_file(const std::string& path, const std::string& content) {
  OutputFile file(path);
  file.write(content);
  file.commit();
}

/// Prints the outcome, and writes it where it is wanted.
void report_task(const TaskOptions& options, const TaskPlan& plan, const RunTable& table,
                 const TaskFiles& files) {
  const TaskResults results = results_of(table, options, plan);
  const Task& task = plan.tasks.front();
  const std::string title =
      task.name + ": " +
      (plan.by_distance() ? "the symbol so many places before; a model for each distance" : task.sizes);
  std::vector<TextTable> tables;
  if (plan.by_distance()) {
    tables = {distance_table(plan, results), each_distance_table(plan, results)};
  } else {
    tables = {task_table(plan, results)};
  }
  const std::vector<std::string> notes = task_notes(options, plan, results);
  std::string text = title + "\n", markdown = "# " + title + "\n";
  for (const TextTable& each : tables) {
    text += "\n" + each.text();
    markdown += "\n" + each.markdown();
  }
  text += "\n";
  markdown += "\n";
  for (const std::string& note : notes) {
    text += note + "\n";
    markdown += "- " + note + "\n";
  }
  std::fputs(text.c_str(), stdout);
  if (files.table.empty()) return;
  write_file(files.text, markdown);
  if (plan.by_distance()) {
    write_file(files.picture, distance_picture(options, plan, results));
  } else {
    write_file(files.picture, task_picture(options, plan, results));
    write_file(files.places, place_picture(options, plan, results));
  }
  std::printf("\n%s, %s, %s%s%s: written\n", files.table.c_str(), files.text.c_str(), files.picture.c_str(),
              plan.by_distance() ? "" : ", ", plan.by_distance() ? "" : files.places.c_str());
}

void run_task_command(TaskOptions& options) {
  const TaskPlan plan = plan_task(options);
  const TaskFiles files = TaskFiles::of(options);
  files.check();
  std::optional<RunTable> table;
  if (files.table.empty()) {
    table.emplace(task_columns(options, plan));
  } else {
    table.emplace(files.table, task_columns(options, plan));
  }
  Runtime runtime(options.threads);
  TaskRuns runs(options, plan, *table, runtime.workspace);
  std::fprintf(stderr, "%s: %s; %zu runs of %td steps", options.name.c_str(),
               plan.by_distance() ? "a model for each distance" : plan.tasks.front().sizes.c_str(),
               runs.all(), options.steps);
  if (runs.done() > 0) std::fprintf(stderr, ", %zu of them in %s", runs.done(), files.table.c_str());
  std::fprintf(stderr, "%s\n", table->cut() ? ", where half a line at the end was cut off" : "");
  if (runs.run()) return report_task(options, plan, *table, files);
  std::printf("ended by a signal: %zu of %zu runs are finished", runs.done(), runs.all());
  if (files.table.empty()) {
    std::printf(" and lost; with --out they are kept\n");
  } else {
    std::printf(" and in %s; the same command goes on from there\n", files.table.c_str());
  }
  throw Exit{ended_by(runs.signal())};
}

void add_task_sizes(CLI::App& command, TaskOptions& o) {
  constexpr Index kMost = Index{1} << 20;
  // A 0 is the default of the task, which the help does not show.
  const auto size = [&](const char* name, Index& value, Index most, const char* description) {
    CLI::Option* option = add_number(command, name, value, Bounds<Index>{1, most}, description);
    if (value == 0) option->default_str("");
    return option;
  };
  size("--depth", o.depth, 64, "layers of the recipes, where none are given")->excludes("--layers");
  size("--width", o.width, 8192, "channels of a token");
  size("--context,--length", o.context, kMost, "ids of a sequence");
  size("--items", o.items, kMost, "pairs of recall, or symbols to copy of selective-copy");
  size("--symbols", o.symbols, kMost, "different symbols; of recall different keys, and as many values");
  size(
      "--parameters", o.parameters, Index{1} << 40,
      "of each recipe, by the width of its feed-forward networks; those of attention with 4 times --width if "
      "not given");
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
  command->add_option("name", options->name, "recall, selective-copy, copy, induction or parity")
      ->check(CLI::IsMember(task_names()))
      ->required();
  command
      ->add_option(
          "--layers", options->layers,
          "a recipe, such as 5*ab or attention@learned; give it once for each; attention, ab, gated, "
          "softmax-local and a hybrid if not given")
      ->allow_extra_args(false);
  command->add_option("--positions", options->positions, "of recipes without @: none or learned")
      ->check(CLI::IsMember({"none", "learned"}))
      ->capture_default_str();
  command->add_option("--schedule", options->schedule, "shifts of the layers, as for train")
      ->capture_default_str();
  add_task_sizes(*command, *options);
  add_numbers(*command, "--learning-rates", options->rates, Bounds<double>{1e-12, 1e3},
              "the same for every recipe, separated by commas");
  add_numbers(*command, "--seeds", options->seeds, Bounds<std::uint64_t>{0, kTaskSeeds - 1},
              "of first weights and data, separated by commas");
  add_file(*command, "--out", options->out,
           "directory, or beginning of the names, of files to write: .csv to go on from, .md, .svg");
  options->threads.add_to(*command);
  command->callback([options] { run_task_command(*options); });
}

}  // namespace hsm::examples
