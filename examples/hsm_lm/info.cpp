// SPDX-License-Identifier: MIT
//
// hsm_lm info: sizes, shifts, coverage and cost of a model file or a recipe, and a picture of it.

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/io/output_file.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/summary.hpp"
#include "examples/support/coverage_text.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/plot_axis.hpp"
#include "examples/support/stack_picture.hpp"
#include "examples/support/text.hpp"
#include "examples/support/text_table.hpp"

namespace hsm::examples {
namespace {

struct InfoOptions {
  ModelOptions model;
  std::string file, picture;
  Index vocabulary = 256;
};

/// The coverage of a model's context, or why it was not counted.
struct ModelCoverage {
  ModelCoverage(const std::vector<LayerSummary>& layers, Index context)
      : window(std::min(context, Coverage::kMostOffsets)) {
    std::vector<CoverageLayer> back;
    for (const LayerSummary& layer : layers) back.push_back(layer.back);
    try {
      coverage.emplace(back, window);
      text = coverage_text(*coverage, window, context);
    } catch (const std::invalid_argument& error) {
      text.coverage = "not counted: " + without_name(error.what());
    }
  }

  Index window;
  std::optional<Coverage> coverage;
  CoverageText text;
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

/// How many mixers of a rotated schedule have one head, and so stay as they are without it.
std::ptrdiff_t unrotated(const LanguageModelConfig& config, const std::vector<LayerSummary>& layers) {
  if (config.schedule.find("rotated:") == std::string::npos || layers.size() < 2) return 0;
  return std::count_if(layers.begin(), layers.end(), [](const LayerSummary& layer) {
    return layer.back.shifts.size() == 1 && !layer.cost.windowed();
  });
}

void print_info(const LanguageModelConfig& config, const std::vector<LayerSummary>& layers,
                const ModelCoverage& covered) {
  std::printf("layers %s, schedule %s\n", config.layers.c_str(), config.schedule.c_str());
  std::printf("vocabulary %td, width %td, feed-forward %td, context %td, positions %s\n\n", config.vocabulary,
              config.width, config.feed_forward, config.context,
              config.positions == Positions::kLearned ? "learned" : "none");
  print_layers(layers);
  double reach = 1, growth = 0, kept = 0;
  bool everything = false;
  for (const LayerSummary& layer : layers) {
    reach += layer.reach();
    everything = everything || layer.sees_all();
    if (layer.cost.unbounded()) {
      growth += layer.cost.token_bytes;
    } else {
      kept += layer.cost.state_bytes(std::numeric_limits<double>::max());
    }
  }
  std::printf("\nparameters  %td\n", parameters_of(config));
  std::printf("reach       %s%s, the one itself counted\n",
              everything ? "the whole context; that of the shifts is " : "", counted(reach, "token").c_str());
  std::printf("coverage    %s\n", covered.text.coverage.c_str());
  if (covered.coverage) std::printf("holes       %s\n", covered.text.holes.c_str());
  std::printf("state       %s per stream", bytes_text(kept).c_str());
  if (growth > 0) std::printf(" and %s more with each token", bytes_text(growth).c_str());
  std::printf("\n");
}

void print_warnings(const LanguageModelConfig& config, const std::vector<LayerSummary>& layers,
                    const ModelCoverage& covered) {
  for (const std::string& warning : covered.text.warnings) std::printf("warning     %s\n", warning.c_str());
  const auto alike = unrotated(config, layers);
  if (alike > 0) {
    std::printf("warning     rotated: changes nothing in %td of the %s, whose mixer has one head\n", alike,
                counted(layers.size(), "layer").c_str());
  }
}

/// Multiply-adds and state at several contexts, and where they become less than those of attention.
void print_cost(const LanguageModelConfig& config) {
  const ModelCost cost = cost_of(config);
  std::vector<double> contexts{100, 1000, 10'000, 100'000, static_cast<double>(config.context)};
  std::sort(contexts.begin(), contexts.end());
  contexts.erase(std::unique(contexts.begin(), contexts.end()), contexts.end());
  TextTable table{{"context", "training", "generation", "state"}, {}};
  for (const double T : contexts) {
    table.rows.push_back({format("%.0f", T), short_number(cost.at(CostKind::kTraining, T)),
                          short_number(cost.at(CostKind::kGeneration, T)),
                          bytes_text(cost.at(CostKind::kState, T))});
  }
  std::printf("\nmultiply-adds per token, and what a stream keeps\n%s", table.text().c_str());
  const std::vector<LayerCost>& layers = cost.layers;
  if (std::all_of(layers.begin(), layers.end(), [](const LayerCost& layer) { return layer.unbounded(); }))
    return;
  const auto equal = attention_of_equal_size(config);
  if (!equal) return;
  std::string less;
  const ModelCost attention = cost_of(*equal);
  for (const auto& [kind, name] :
       {std::pair(CostKind::kTraining, "training"), std::pair(CostKind::kGeneration, "generation"),
        std::pair(CostKind::kState, "state")}) {
    const auto context = overtaking_context(kind, cost, attention);
    less += (less.empty() ? "" : ", ") + std::string(name) +
            (context ? format(" from %.0f", *context) : std::string(" never"));
  }
  std::printf("no more than %s of as many parameters: %s\n", equal->layers.c_str(), less.c_str());
}

std::string draw(const LanguageModelConfig& config, const std::vector<LayerSummary>& layers,
                 const ModelCoverage& covered) {
  std::vector<PictureLayer> drawn;
  for (const LayerSummary& layer : layers) {  // the options are in the title; a label has room for the shifts
    drawn.push_back({layer.name.substr(0, layer.name.find(':')), layer.shifts_text(), layer.back});
  }
  const std::string title = config.layers + ", schedule " + config.schedule;
  return StackPicture({title, covered.text.coverage}, std::move(drawn), *covered.coverage).file();
}

/// `stored` tells how the weights of a file are stored; empty for a recipe.
void show_model(const LanguageModelConfig& config, const std::string& picture,
                const std::string& stored = "") {
  const std::vector<LayerSummary> layers = layers_of(config);
  const ModelCoverage covered(layers, config.context);
  if (!picture.empty()) {
    if (!covered.coverage)
      throw std::invalid_argument("there is no picture: coverage " + covered.text.coverage);
    OutputFile file(picture);
    file.write(draw(config, layers, covered));
    file.commit();
  }
  print_info(config, layers, covered);
  if (!stored.empty()) std::printf("weights     %s\n", stored.c_str());
  print_cost(config);
  print_warnings(config, layers, covered);
}

void run_info(const InfoOptions& options) {
  CommandFiles files;
  files.reads("--model", options.file);
  files.writes("--picture", options.picture);
  if (!options.file.empty()) {
    const Model model = load_described_model(options.file);
    return show_model(model.config(), options.picture,
                      bytes_text(static_cast<double>(parameter_bytes(model))) + ", matrices in " +
                          std::string(storage_name(model.storage())));
  }
  LanguageModelConfig config = options.model.described(options.vocabulary);
  const Recipe recipe = Recipe::parse(config.layers);
  config.layers = with_all_options(StandardLayers{}, recipe, config.width).text();
  config.schedule = ScheduleText::parse(config.schedule, static_cast<Index>(recipe.layers.size())).text();
  show_model(config, options.picture);
}

}  // namespace

void add_info(CLI::App& app) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command = app.add_subcommand("info", "Show the layers and sizes of a model file or a recipe");
  options->model.add_to(*command);
  CLI::Option* file = add_file(*command, "--model", options->file, "model file; instead of a description");
  add_number(*command, "--vocabulary", options->vocabulary, Bounds<Index>{1, Index{1} << 20},
             "different tokens; 256 for bytes");
  add_file(*command, "--picture", options->picture,
           "SVG file to write: the layers, their shifts and the paths into the last token");
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
