// SPDX-License-Identifier: MIT
//
// hsm_lm info.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/summary.hpp"

namespace hsm::examples {
namespace {

struct InfoOptions {
  ModelOptions model;
  std::string file;
};

void print(const Model& model) {
  const LanguageModelConfig& config = model.config();
  const std::vector<LayerSummary> layers = layers_of(model);
  std::printf("layers %s, schedule %s\n", config.layers.c_str(), config.schedule.c_str());
  std::printf("vocabulary %td, width %td, feed-forward %td, context %td, positions %s\n\n", config.vocabulary,
              config.width, config.feed_forward, config.context,
              config.positions == Positions::kLearned ? "learned" : "none");
  int name_width = 5;
  for (const LayerSummary& layer : layers)
    name_width = std::max(name_width, static_cast<int>(layer.name.size()));
  std::printf("layer  %-*s  %10s  %12s  %12s\n", name_width, "mixer", "shift", "of the mixer", "parameters");
  double reach = 1, growth = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const LayerSummary& layer = layers[l];
    std::printf("%5zu  %-*s  %10s  %12td  %12td\n", l, name_width, layer.name.c_str(),
                layer.shift ? std::to_string(*layer.shift).c_str() : "-", layer.mixer_parameters,
                layer.parameters);
    reach += layer.reach;
    if (!layer.shift) growth += layer.state_bytes;
  }
  const bool everything = std::any_of(layers.begin(), layers.end(), [](const auto& l) { return !l.shift; });
  std::printf("\nparameters  %td\n", count_parameters(model));
  if (everything) {
    std::printf("reach       the whole context\n");
  } else {
    std::printf("reach       %.0f tokens, the one itself counted\n", reach);
  }
  std::printf("state       %s per stream", bytes_text(state_bytes(layers, 0)).c_str());
  if (everything) std::printf(" and %s more with each token", bytes_text(growth).c_str());
  std::printf("\n");
}

void run_info(const InfoOptions& options) {
  if (!options.file.empty()) return print(load_byte_model(options.file));
  Random random(1);
  print(Model(options.model.config(), random));
}

}  // namespace

void add_info(CLI::App& app) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command = app.add_subcommand("info", "Show the layers and sizes of a model file or a recipe");
  options->model.add_to(*command);
  CLI::Option* file = command->add_option("--model", options->file, "model file; instead of a description");
  for (const char* name :
       {"--layers", "--schedule", "--positions", "--width", "--context", "--feed-forward", "--parameters"}) {
    file->excludes(command->get_option(name));
  }
  command->callback([options, command] {
    if (options->file.empty() && command->count("--layers") == 0)
      throw std::invalid_argument("info needs --model or --layers");
    run_info(*options);
  });
}

}  // namespace hsm::examples
