// SPDX-License-Identifier: MIT
//
// What can be said of a model without building it: per layer its name, shifts, parameters and cost, and what
// attention of equal size would cost.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <hsm/model/cost.hpp>
#include <hsm/schedule/coverage.hpp>
#include <hsm/schedule/schedule_text.hpp>

namespace hsm::examples {

/// One layer of a model. Counts that could pass an integer are double.
struct LayerSummary {
  std::string name;  ///< its recipe
  /// Its distances: as many heads as differ, 1 in each place of a window; none of a layer that sees everything.
  CoverageLayer back;
  LayerCost cost;
  Index mixer_parameters = 0;
  Index parameters = 0;  ///< with norms and feed-forward

  /// Whether it has no shifts, and looks back to the start: attention, or a recurrence.
  bool sees_all() const { return back.shifts.empty(); }
  /// (K-1) s of its largest s, or W-1: how far back it looks; 0 where it sees everything.
  double reach() const {
    double reach = 0;
    if (sees_all()) return reach;
    for (const KeptSpan& span : cost.spans) reach = std::max(reach, span.tokens);
    return reach;
  }
  /// "4", "1,2,4,8", the heads beyond the first four left out; "1-63" for a window of 64, "-" where there are none.
  std::string shifts_text() const {
    constexpr std::size_t kMost = 4;
    if (sees_all() || back.taps == 1) return "-";
    if (cost.windowed()) return back.taps == 2 ? "1" : "1-" + std::to_string(back.taps - 1);
    std::string text;
    for (std::size_t h = 0; h < std::min(back.shifts.size(), kMost); ++h)
      text += (h > 0 ? "," : "") + std::to_string(back.shifts[h]);
    return text + (back.shifts.size() > kMost ? ",..." : "");
  }
};

/// The config with every option of its layers, and its schedule as a model states it. Throws std::invalid_argument for a
/// recipe or schedule that is not one.
inline LanguageModelConfig stated(LanguageModelConfig config) {
  const Recipe recipe = Recipe::parse(config.layers);
  config.layers = with_all_options(StandardLayers{}, recipe, config.width).text();
  config.schedule = ScheduleText::parse(config.schedule, static_cast<Index>(recipe.layers.size())).text();
  return config;
}

/// All layers of a model of `config`, in order. Throws what its constructor throws.
inline std::vector<LayerSummary> layers_of(const LanguageModelConfig& config) {
  const Index C = config.width;
  const Recipe recipe = with_all_options(StandardLayers{}, Recipe::parse(config.layers), C);
  const std::vector<LayerSize> sizes = layer_sizes(recipe, C);
  const ScheduleText schedule = ScheduleText::parse(config.schedule, static_cast<Index>(sizes.size()));
  std::vector<LayerSummary> layers;
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    const LayerSize& size = sizes[l];
    LayerSummary summary;
    Recipe alone;
    alone.layers.push_back(recipe.layers[l]);
    summary.name = alone.text();
    summary.mixer_parameters = size.parameters;
    summary.parameters = block_parameters(size.parameters, C, config.feed_forward);
    const std::vector<Index> shifts = schedule.head_shifts(static_cast<Index>(l));
    summary.cost = layer_cost(size, C, config.feed_forward, shifts);
    if (summary.cost.windowed()) {  // every place of the window is a distance
      summary.back = {.shifts = {1}, .taps = size.footprint.window};
    } else if (size.taps > 0) {
      const auto H = static_cast<std::size_t>(size.heads), differ = std::min(shifts.size(), H);
      summary.back.taps = size.taps;
      summary.back.shifts.assign(shifts.begin(), shifts.begin() + static_cast<std::ptrdiff_t>(differ));
    }
    layers.push_back(std::move(summary));
  }
  return layers;
}

/// Attention alone, with learned positions, in as many layers and of as many parameters as `config`: what recipes
/// are measured against. Nothing where the smallest such model has more.
inline std::optional<LanguageModelConfig> attention_of_equal_size(LanguageModelConfig config) {
  const Index parameters = parameters_of(config);
  config.layers =
      std::to_string(Recipe::parse(config.layers).layers.size()) + "*" + std::string(kAttentionName);
  config.schedule = "cyclic=1";  // which as many layers as one likes can have; attention reads none
  config.positions = Positions::kLearned;
  config.feed_forward = 1;
  if (parameters_of(config) > parameters) return std::nullopt;
  config.feed_forward = feed_forward_for(config, parameters);
  return config;
}

}  // namespace hsm::examples
