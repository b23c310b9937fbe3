// SPDX-License-Identifier: MIT
//
// What can be said of a model without building it: per layer its name, shifts, parameters and memory.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <hsm/model/parameter_budget.hpp>
#include <hsm/schedule/coverage.hpp>
#include <hsm/schedule/schedule_text.hpp>

namespace hsm::examples {

/// One layer of a model. Counts that could pass an integer are double.
struct LayerSummary {
  std::string name;           ///< its recipe
  CoverageLayer back;         ///< its distances: as many heads as differ, none of attention
  double reach = 0;           ///< (K-1) s of its largest s: how far back it looks, of a mixer
  double token_bytes = 0;     ///< what a stream's state keeps of a token; of a mixer per head
  std::vector<double> spans;  ///< of a mixer, for how many tokens each head keeps them: (K-1) s
  Index mixer_parameters = 0;
  Index parameters = 0;  ///< with norms and feed-forward

  bool attention() const { return back.shifts.empty(); }
  /// Bytes of a stream's state after `tokens` tokens.
  double state_bytes(double tokens) const {
    if (attention()) return tokens * token_bytes;
    double kept = 0;
    for (const double span : spans) kept += std::min(span, tokens);
    return kept * token_bytes;
  }
  /// "4", "1,2,4,8", the heads beyond the first four left out; "-" for attention.
  std::string shifts_text() const {
    constexpr std::size_t kMost = 4;
    if (attention()) return "-";
    std::string text;
    for (std::size_t h = 0; h < std::min(back.shifts.size(), kMost); ++h)
      text += (h > 0 ? "," : "") + std::to_string(back.shifts[h]);
    return text + (back.shifts.size() > kMost ? ",..." : "");
  }
};

/// All layers of a model of `config`, in order. Throws what its constructor throws.
inline std::vector<LayerSummary> layers_of(const LanguageModelConfig& config) {
  const Index C = config.width;
  const Recipe recipe = with_all_options(StandardPolicies{}, Recipe::parse(config.layers), C);
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
    const double values = static_cast<double>(C) * static_cast<double>(size.planes) * sizeof(float);
    summary.token_bytes = values;
    if (size.taps > 0) {
      const std::vector<Index> shifts = schedule.head_shifts(static_cast<Index>(l));
      const auto H = static_cast<std::size_t>(size.heads), differ = std::min(shifts.size(), H);
      summary.back.taps = size.taps;
      summary.back.shifts.assign(shifts.begin(), shifts.begin() + static_cast<std::ptrdiff_t>(differ));
      for (std::size_t h = 0; h < H; ++h)
        summary.spans.push_back(static_cast<double>(size.taps - 1) * static_cast<double>(shifts[h % differ]));
      summary.reach = *std::max_element(summary.spans.begin(), summary.spans.end());
      summary.token_bytes = values / static_cast<double>(size.heads);
    }
    layers.push_back(std::move(summary));
  }
  return layers;
}

/// Bytes of a stream's state after `tokens` tokens.
inline double state_bytes(const std::vector<LayerSummary>& layers, double tokens) {
  double bytes = 0;
  for (const LayerSummary& layer : layers) bytes += layer.state_bytes(tokens);
  return bytes;
}

}  // namespace hsm::examples
