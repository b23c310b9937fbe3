// SPDX-License-Identifier: MIT
//
// hsm_lm compare: recipes at one number of parameters on one text, each at its best learning rate; losses, speeds and
// memory side by side.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/compare_report.hpp"
#include "examples/hsm_lm/compare_runs.hpp"
#include "examples/hsm_lm/experiment_options.hpp"
#include "examples/hsm_lm/report_files.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {
namespace {

constexpr const char* kCurves = "-curves.csv";
constexpr const char* kSpeeds = "-speeds.csv";

/// The files of a comparison; throws where they would overwrite the texts or what others made.
ReportFiles files_of(const CompareOptions& options) {
  std::vector<std::string> endings{kCurves,        ".md",       "-tokens.svg",
                                   "-seconds.svg", "-cost.svg", "-positions.svg"};
  ReportFiles without_speeds(options.out, "compare", endings);
  endings.insert(endings.begin() + 1, kSpeeds);
  ReportFiles files(options.out, "compare", std::move(endings));
  CommandFiles names;
  names.reads("--text", options.text);
  names.reads("--valid", options.valid);
  names.reads("--tokenizer", options.tokenizer);
  files.check(names);
  return options.speeds ? files : without_speeds;
}

/// The tables of a comparison.
struct CompareTables {
  CompareTables(const CompareOptions& options, const ComparePlan& plan, const ReportFiles& files) {
    // The runs first: without a table of them there are no others, so one that does not fit leaves all as it was.
    open_table(runs, files, ".csv", compare_columns(options, plan));
    if (files.any() && runs->size() > 0 && !ReportFiles::exists(files.with(kCurves))) {
      throw std::runtime_error(files.with(kCurves) + ": must have the curves of every run in " +
                               files.table() + ", got no such file");
    }
    open_table(curves, files, kCurves, curve_columns(options, plan));
    for (const Cells& key : runs->keys()) {
      if (curves->find(key) != nullptr) continue;
      throw std::runtime_error(files.with(kCurves) + ": must have the curves of every run in " +
                               files.table() + ", got none of " + hsm::detail::in_quotes(csv_line(key)));
    }
    if (options.speeds || (files.any() && ReportFiles::exists(files.with(kSpeeds))))
      open_table(speeds, files, kSpeeds, speed_columns(options, plan));
  }

  std::optional<RunTable> runs{}, curves{}, speeds{};
};

void report(const CompareOptions& options, const ComparePlan& plan, const CompareTables& tables,
            const ReportFiles& files) {
  const CompareData data(options, plan, *tables.runs, *tables.curves,
                         tables.speeds && tables.speeds->size() > 0 ? &*tables.speeds : nullptr);
  const TextReport text = compare_report(data);
  std::fputs(text.text().c_str(), stdout);
  if (!files.any()) return;
  files.write(".md", text.markdown());
  files.write("-tokens.svg", tokens_picture(data));
  files.write("-seconds.svg", seconds_picture(data));
  files.write("-cost.svg", cost_picture(data));
  files.write("-positions.svg", position_picture(data));
  std::printf("\n%s\n", shown(files.written()).c_str());
  settle_output();
}

void run_compare_command(CompareOptions& options) {
  const ReportFiles files = files_of(options);
  const ComparePlan plan = plan_compare(options);
  if (options.speeds) check_speeds_fit(options, plan);
  CompareTables tables(options, plan, files);
  if (options.speeds) check_speeds_machine(options, plan, *tables.speeds);
  Runtime runtime(options.threads);
  CompareRuns runs(options, plan, *tables.runs, *tables.curves, runtime.workspace);
  std::fprintf(stderr, "%s\n%s; at least %s of %s", plan.texts.what.c_str(),
               counted(plan.contenders.size(), "recipe").c_str(), counted(runs.all(), "run").c_str(),
               counted(plan.steps, "step").c_str());
  if (runs.done() > 0) std::fprintf(stderr, ", %zu of them in %s", runs.done(), shown(files.table()).c_str());
  std::fprintf(stderr, "%s\n", tables.runs->cut() ? ", where half a line at the end does not count" : "");
  const bool whole = runs.run() && (!options.speeds || measure_speeds(options, plan, *tables.speeds,
                                                                      runtime.workspace, runs.guard()));
  if (whole) return report(options, plan, tables, files);
  tell_interrupted(runs.done(), runs.all(), files);
  throw Exit{ended_by(runs.guard().signal())};
}

void add_sizes(CLI::App& command, CompareOptions& o) {
  constexpr Index kMost = Index{1} << 20;
  add_size(command, "--context", o.context, kMost, "tokens of a window");
  add_size(command, "--tokens", o.tokens, Index{1} << 40, "of training in each run, rounded to whole steps");
  add_size(command, "--batch", o.batch, kMost, "windows per step");
}

}  // namespace

void add_compare(CLI::App& app) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App* command = app.add_subcommand(
      "compare",
      "Compare recipes of equal size on a text; without --text on built-in stories, in some minutes");
  add_file(*command, "--text", options->text, "file to learn from");
  add_file(
      *command, "--valid", options->valid,
      "file to validate on; the last 5 % of the text if not given. Its first half chooses learning rates, "
      "the second is reported");
  add_file(*command, "--tokenizer", options->tokenizer,
           "tokenizer file of hsm_lm tokenize; a token is a byte if not given");
  add_recipe_options(*command, *options, "attention, every shift mixer and hybrids");
  add_sizes(*command, *options);
  command->add_flag("--quick", options->quick, "sizes so small that it takes seconds and tells nothing");
  command->add_flag("--speeds", options->speeds,
                    "measure speeds after all training, where the table of them has none yet; best while "
                    "nothing else runs");
  constexpr Bounds<Index> kContexts{1, Index{1} << 24};
  add_numbers(*command, "--speed-contexts", options->speed_contexts, kContexts,
              "tokens before the generated ones, separated by commas");
  add_numbers(*command, "--speed-windows", options->speed_windows, kContexts,
              "tokens of a training window, separated by commas; --context if not given");
  add_run_options(
      *command, *options, kSeeds,
      format("; where they are several, up to %d more for one whose best is the first or the last",
             RateSearch::kMostMore),
      "of first weights and windows; the first searches the rates");
  command->callback([options] { run_compare_command(*options); });
}

}  // namespace hsm::examples
