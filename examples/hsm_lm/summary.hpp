// SPDX-License-Identifier: MIT
//
// What can be said of a model without running it: per layer its name, shift, parameters and memory.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <hsm/core/parameters.hpp>

#include "examples/hsm_lm/model.hpp"

namespace hsm::examples {

/// One layer of a model. Counts that could pass an integer are double.
struct LayerSummary {
  std::string name;            ///< its recipe
  std::optional<Index> shift;  ///< s, of a mixer
  double reach = 0;            ///< (K-1) s: how far back it looks, of a mixer
  double state_bytes = 0;      ///< per stream; per stream and token where there is no shift
  Index mixer_parameters = 0;
  Index parameters = 0;  ///< with norms and feed-forward
};

namespace detail {

template <class Policy>
void describe(const Mixer<Policy>& mixer, LayerSummary& summary) {
  using Scalar = typename Policy::Scalar;
  summary.shift = mixer.shift();
  summary.reach = static_cast<double>(mixer.taps() - 1) * static_cast<double>(mixer.shift());
  summary.state_bytes = summary.reach * static_cast<double>(mixer.channels()) * Policy::kStages.planes() *
                        static_cast<double>(sizeof(Scalar));
}

template <class Scalar>
void describe(const CausalAttention<Scalar>& attention, LayerSummary& summary) {
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
          detail::describe(mixer, summary);
        },
        block.mixer);
    layers.push_back(std::move(summary));
  }
  return layers;
}

/// Bytes of a stream's state after `tokens` tokens.
inline double state_bytes(const std::vector<LayerSummary>& layers, double tokens) {
  double bytes = 0;
  for (const LayerSummary& layer : layers) bytes += layer.state_bytes * (layer.shift ? 1 : tokens);
  return bytes;
}

}  // namespace hsm::examples
