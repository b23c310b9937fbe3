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
  std::string name;        ///< its recipe
  CoverageLayer back;      ///< its distances: as many heads as differ, none of attention
  double reach = 0;        ///< (K-1) s of its largest s: how far back it looks, of a mixer
  double state_bytes = 0;  ///< per stream; of attention per stream and token
  Index mixer_parameters = 0;
  Index parameters = 0;  ///< with norms and feed-forward

  bool attention() const { return back.shifts.empty(); }
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
  double shifts = 0;  // of all heads
  for (Index h = 0; h < H; ++h)
    shifts += static_cast<double>(head_shifts[static_cast<std::size_t>(h) % differ]);
  const auto taps = static_cast<double>(mixer.taps() - 1);
  const auto values = static_cast<double>(mixer.channels() / H * Policy::kStages.planes());
  summary.reach =
      taps * static_cast<double>(*std::max_element(summary.back.shifts.begin(), summary.back.shifts.end()));
  summary.state_bytes = taps * shifts * values * static_cast<double>(sizeof(Scalar));
}

template <class Scalar>
void describe(const CausalAttention<Scalar>& attention, const std::vector<Index>&, LayerSummary& summary) {
  summary.state_bytes = 2.0 * static_cast<double>(attention.channels()) * sizeof(Scalar);
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
  for (const LayerSummary& layer : layers) bytes += layer.state_bytes * (layer.attention() ? tokens : 1);
  return bytes;
}

}  // namespace hsm::examples
