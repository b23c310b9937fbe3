// SPDX-License-Identifier: MIT
//
// What can be said of a model without running it: per layer its name, shifts, parameters and memory.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <hsm/core/parameters.hpp>
#include <hsm/schedule/coverage.hpp>

#include "examples/hsm_lm/model.hpp"

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

namespace detail {

template <class Policy>
void describe(const Mixer<Policy>& mixer, const std::vector<Index>& head_shifts, LayerSummary& summary) {
  using Scalar = typename Policy::Scalar;
  const Index H = mixer.heads();
  const auto differ = std::min(head_shifts.size(), static_cast<std::size_t>(H));
  summary.back.taps = mixer.taps();
  summary.back.shifts.assign(head_shifts.begin(), head_shifts.begin() + static_cast<std::ptrdiff_t>(differ));
  const auto taps = static_cast<double>(mixer.taps() - 1);
  for (Index h = 0; h < H; ++h)
    summary.spans.push_back(taps * static_cast<double>(head_shifts[static_cast<std::size_t>(h) % differ]));
  summary.reach = *std::max_element(summary.spans.begin(), summary.spans.end());
  summary.token_bytes = static_cast<double>(mixer.channels() / H * Policy::kStages.planes()) * sizeof(Scalar);
}

template <class Scalar>
void describe(const CausalAttention<Scalar>& attention, const std::vector<Index>&, LayerSummary& summary) {
  summary.token_bytes = 2.0 * static_cast<double>(attention.channels()) * sizeof(Scalar);
}

}  // namespace detail

/// All layers of `model`, in order.
inline std::vector<LayerSummary> layers_of(const Model& model) {
  const std::vector<LayerRecipe> recipes = Recipe::parse(model.config().layers).layers;
  std::vector<LayerSummary> layers;
  for (Index l = 0; l < model.layer_count(); ++l) {
    LayerSummary summary;
    Recipe alone;
    alone.layers.push_back(recipes[static_cast<std::size_t>(l)]);
    summary.name = alone.text();
    const auto& block = model.block(l);
    summary.parameters = count_parameters(block);
    std::visit(
        [&](const auto& mixer) {
          summary.mixer_parameters = count_parameters(mixer);
          detail::describe(mixer, model.schedule().head_shifts(l), summary);
        },
        block.mixer);
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
