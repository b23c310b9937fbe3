// SPDX-License-Identifier: MIT
//
// All that `info` tells of a model, counted once: for people (info.cpp), as JSON (stack_json.hpp) and as a picture.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "examples/hsm_lm/summary.hpp"
#include "examples/support/coverage_text.hpp"
#include "examples/support/stack_picture.hpp"

namespace hsm::examples {

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

/// A model beside attention of as many parameters.
struct EqualAttention {
  LanguageModelConfig config;
  ModelCost cost;
  /// From which context on the model costs no more, by kind; nothing where it never does.
  std::optional<double> training, generation, state;
};

/// What is told of one model.
struct StackReport {
  /// Throws what the constructor of the model throws.
  explicit StackReport(const LanguageModelConfig& model)
      : config(model),
        layers(layers_of(config)),
        covered(layers, config.context),
        parameters(parameters_of(config)),
        cost(cost_of(config)) {
    for (const LayerSummary& layer : layers) {
      reach += layer.reach();
      sees_all = sees_all || layer.sees_all();
      if (layer.cost.unbounded()) {
        growth += layer.cost.token_bytes;
      } else {
        kept += layer.cost.state_bytes(std::numeric_limits<double>::max());
      }
    }
    warnings = covered.text.warnings;
    if (const auto alike = unrotated(); alike > 0) {
      warnings.push_back(format("rotated: changes nothing in %td of the %s, whose mixer has one head", alike,
                                counted(layers.size(), "layer").c_str()));
    }
    compare();
  }

  /// The contexts that costs are told of.
  std::vector<double> contexts() const {
    std::vector<double> all{100, 1000, 10'000, 100'000, static_cast<double>(config.context)};
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

  /// The picture under this title. Throws std::invalid_argument where the coverage was not counted.
  StackPicture picture(PictureTitle title, PictureOptions options = {}) const {
    if (!covered.coverage)
      throw std::invalid_argument("there is no picture: coverage " + covered.text.coverage);
    std::vector<PictureLayer> drawn;
    for (const LayerSummary& layer :
         layers) {  // the options are in the title; a label has room for the shifts
      drawn.push_back({layer.name.substr(0, layer.name.find(':')), layer.shifts_text(), layer.back});
    }
    return StackPicture(std::move(title), std::move(drawn), *covered.coverage, options);
  }

  LanguageModelConfig config;
  std::vector<LayerSummary> layers;
  ModelCoverage covered;
  Index parameters;
  ModelCost cost;
  double reach = 1;       ///< tokens that shifts reach, the one itself counted
  bool sees_all = false;  ///< whether some layer looks back to the start
  double kept = 0;        ///< bytes of a stream's state once it is full
  double growth = 0;      ///< bytes more with each token
  std::vector<std::string> warnings;
  std::optional<EqualAttention> attention;  ///< nothing for attention itself, or a model that is too small

 private:
  /// How many mixers of a rotated schedule have one head, and so stay as they are without it.
  std::ptrdiff_t unrotated() const {
    if (config.schedule.find("rotated:") == std::string::npos || layers.size() < 2) return 0;
    return std::count_if(layers.begin(), layers.end(), [](const LayerSummary& layer) {
      return layer.back.shifts.size() == 1 && !layer.cost.windowed();
    });
  }

  void compare() {
    const auto unbounded = [](const LayerCost& layer) { return layer.unbounded(); };
    if (std::all_of(cost.layers.begin(), cost.layers.end(), unbounded)) return;
    const auto equal = attention_of_equal_size(config);
    if (!equal) return;
    ModelCost other = cost_of(*equal);
    const auto from = [&](CostKind kind) { return overtaking_context(kind, cost, other); };
    const auto training = from(CostKind::kTraining), generation = from(CostKind::kGeneration),
               state = from(CostKind::kState);
    attention = EqualAttention{*equal, std::move(other), training, generation, state};
  }
};

}  // namespace hsm::examples
