// SPDX-License-Identifier: MIT
//
// hsm_lm info: sizes, shifts, coverage and cost of a model file or a recipe, and a picture of it.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/io/output_file.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/stack_json.hpp"
#include "examples/hsm_lm/stack_report.hpp"
#include "examples/hsm_lm/summary.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/plot_axis.hpp"
#include "examples/support/text.hpp"
#include "examples/support/text_table.hpp"

namespace hsm::examples {
namespace {

struct InfoOptions {
  ModelOptions model;
  std::string file, picture;
  Index vocabulary = 256;
  bool json = false;
};

void print_layers(const std::vector<LayerSummary>& layers) {
  int name_width = 5, shift_width = 10;
  for (const LayerSummary& layer : layers) {
    name_width = std::max(name_width, static_cast<int>(layer.name.size()));
    shift_width = std::max(shift_width, static_cast<int>(layer.shifts_text().size()));
  }
  std::printf("layer  %-*s  %*s  %12s  %12s\n", name_width, "mixer", shift_width, "shift", "of the mixer",
              "parameters");
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const LayerSummary& layer = layers[l];
    std::printf("%5zu  %-*s  %*s  %12td  %12td\n", l, name_width, layer.name.c_str(), shift_width,
                layer.shifts_text().c_str(), layer.mixer_parameters, layer.parameters);
  }
}

void print_info(const StackReport& report) {
  const LanguageModelConfig& config = report.config;
  std::printf("layers %s, schedule %s\n", config.layers.c_str(), config.schedule.c_str());
  std::printf("vocabulary %td, width %td, feed-forward %td, context %td, positions %s\n\n", config.vocabulary,
              config.width, config.feed_forward, config.context,
              config.positions == Positions::kLearned ? "learned" : "none");
  print_layers(report.layers);
  std::printf("\nparameters  %td\n", report.parameters);
  std::printf("reach       %s%s, the one itself counted\n",
              report.sees_all ? "the whole context; that of the shifts is " : "",
              counted(report.reach, "token").c_str());
  const ModelCoverage& covered = report.covered;
  std::printf("coverage    %s\n", covered.text.coverage.c_str());
  if (covered.coverage) std::printf("holes       %s\n", covered.text.holes.c_str());
  std::printf("state       %s per stream", bytes_text(report.kept).c_str());
  if (report.growth > 0) std::printf(" and %s more with each token", bytes_text(report.growth).c_str());
  std::printf("\n");
}

/// Multiply-adds and state at several contexts, and where they become less than those of attention.
void print_cost(const StackReport& report) {
  TextTable table{{"context", "training", "generation", "state"}, {}};
  for (const double T : report.contexts()) {
    table.rows.push_back({format("%.0f", T), short_number(report.cost.at(CostKind::kTraining, T)),
                          short_number(report.cost.at(CostKind::kGeneration, T)),
                          bytes_text(report.cost.at(CostKind::kState, T))});
  }
  std::printf("\nmultiply-adds per token, and what a stream keeps\n%s", table.text().c_str());
  if (!report.attention) return;
  const auto from = [](const std::optional<double>& context) {
    return context ? format("from %.0f", *context) : std::string("never");
  };
  std::printf("no more than %s of as many parameters: training %s, generation %s, state %s\n",
              report.attention->config.layers.c_str(), from(report.attention->training).c_str(),
              from(report.attention->generation).c_str(), from(report.attention->state).c_str());
}

/// `stored` tells how the weights of a file are stored; empty for a recipe.
void show_model(const LanguageModelConfig& config, const InfoOptions& options,
                const std::string& stored = "") {
  const StackReport report(config);
  if (!options.picture.empty()) {
    const std::string title = config.layers + ", schedule " + config.schedule;
    const std::string drawing = report.picture({title, report.covered.text.coverage}).file();
    OutputFile file(options.picture);
    file.write(drawing);
    file.commit();
  }
  if (options.json) {
    std::printf("%s\n", stack_json(report, stored).dump(2).c_str());
    return;
  }
  print_info(report);
  if (!stored.empty()) std::printf("weights     %s\n", stored.c_str());
  print_cost(report);
  for (const std::string& warning : report.warnings) std::printf("warning     %s\n", warning.c_str());
}

void run_info(const InfoOptions& options) {
  CommandFiles files;
  files.reads("--model", options.file);
  files.writes("--picture", options.picture);
  if (!options.file.empty()) {
    const Model model = load_described_model(options.file);
    return show_model(model.config(), options,
                      bytes_text(static_cast<double>(parameter_bytes(model))) + ", matrices in " +
                          std::string(storage_name(model.storage())));
  }
  show_model(stated(options.model.described(options.vocabulary)), options);
}

}  // namespace

void add_info(CLI::App& app) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command = app.add_subcommand("info", "Show the layers and sizes of a model file or a recipe");
  options->model.add_to(*command);
  command->get_option("--layers")->default_str("");  // one of it and --model must be given
  CLI::Option* file = add_file(*command, "--model", options->file, "model file; instead of a description");
  add_number(*command, "--vocabulary", options->vocabulary, Bounds<Index>{1, Index{1} << 20},
             "different tokens; 256 for bytes");
  add_file(*command, "--picture", options->picture,
           "SVG file to write: the layers, their shifts and the paths into the last token");
  command->add_flag("--json", options->json,
                    "print all that is told, and the paths of every offset, as JSON");
  for (const char* name : {"--layers", "--schedule", "--positions", "--width", "--context", "--feed-forward",
                           "--parameters", "--vocabulary"}) {
    file->excludes(command->get_option(name));
  }
  command->callback([options, command] {
    if (options->file.empty() && command->count("--layers") == 0)
      throw std::invalid_argument("info needs --model or --layers");
    run_info(*options);
  });
}

}  // namespace hsm::examples
