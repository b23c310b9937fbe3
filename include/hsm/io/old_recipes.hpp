// SPDX-License-Identifier: MIT
//
// Recipes of files that were written before every option was stated. What such a recipe leaves out has the value
// of that time, whatever the rule for new recipes is now:
//
//   heads of attention, softmax-local   C / 32 below 512 channels, else C / 64, where that divides; else 1
//   heads of ab, channel                C / 16 where that divides, else 1
//   heads of others, taps               1, 2, as they are now
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include <hsm/model/any_mixer.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The heads of a layer of a file that does not say; none where the rule is that of new recipes.
inline std::optional<Index> old_heads(std::string_view name, Index channels) {
  const auto divided = [&](Index width) { return channels % width == 0 ? channels / width : 1; };
  if (name == kAttentionName || name == SoftmaxLocal<float>::kName) return divided(channels < 512 ? 32 : 64);
  if (name == ScalarPair<float>::kName || name == ChannelPair<float>::kName) return divided(16);
  return std::nullopt;
}

/// The recipe of a file with every option stated. Throws std::invalid_argument as with_all_options does.
template <class List>
Recipe with_old_options(List list, Recipe recipe, Index channels) {
  for (LayerRecipe& layer : recipe.layers) {
    const auto heads = old_heads(layer.name, channels);
    if (heads && !layer.options.find("heads")) layer.options.set("heads", *heads);
  }
  return with_all_options(list, std::move(recipe), channels);
}

/// The recipe as such a file stated it where nobody had asked for an option: what is left out there is left out.
/// Sessions of that time are told by it.
template <class List>
Recipe without_old_options(List list, Recipe recipe, Index channels) {
  for (LayerRecipe& layer : recipe.layers) {
    LayerRecipe bare;
    bare.name = layer.name;
    Recipe usual;
    usual.layers.push_back(bare);
    usual = with_old_options(list, usual, channels);
    for (const auto& [name, value] : usual.layers.front().options)
      if (layer.options.find(name) == value) layer.options.remove(name);
  }
  return recipe;
}

}  // namespace hsm::inline HSM_ABI::detail
