// SPDX-License-Identifier: MIT
//
// Recipes of files that were written before every option was stated. What such a recipe leaves out has the value
// of that time, whatever the rule for new recipes is now:
//
//   heads of attention, softmax-local   C / 32 below 512 channels, else C / 64, where that divides; else 1
//   heads of ab, channel                C / 16 where that divides, else 1
//   heads of others, taps               1, 2, as they are now
//   rotary, window, block, top of attention   0: there were none
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

/// The recipe as it was stated before attention had these options, where it does not use them: sessions of that time
/// are told by it.
inline Recipe without_attention_options(Recipe recipe, std::initializer_list<std::string_view> names) {
  for (LayerRecipe& layer : recipe.layers) {
    for (const std::string_view name : names) {
      if (layer.name == kAttentionName && layer.options.find(name) == Index{0}) layer.options.remove(name);
    }
  }
  return recipe;
}

/// The recipes as such a file may have stated them: each option of a kind of layer that has its usual value was
/// left out, or given all the same. All left out come first; at most 64. Sessions of that time are told by them.
template <class List>
std::vector<Recipe> without_old_options(List list, const Recipe& present, Index channels) {
  const Recipe recipe = without_attention_options(present, {"rotary", "window", "block", "top"});
  std::vector<std::pair<std::string, std::string>> usual;  // names of layers and of their options
  const auto usual_options = [&](const LayerRecipe& layer) {
    Recipe bare;
    bare.layers.emplace_back();
    bare.layers.front().name = layer.name;
    return with_old_options(list, bare, channels).layers.front().options;
  };
  for (const LayerRecipe& layer : recipe.layers) {
    for (const auto& [name, value] : usual_options(layer)) {
      const std::pair key(layer.name, name);
      if (layer.options.find(name) == value && std::find(usual.begin(), usual.end(), key) == usual.end())
        usual.push_back(key);
    }
  }
  constexpr std::size_t kMost = 6;
  std::vector<Recipe> recipes;
  for (std::size_t given = 0; given < std::size_t{1} << (std::min)(kMost, usual.size()); ++given) {
    Recipe& stated = recipes.emplace_back(recipe);
    for (LayerRecipe& layer : stated.layers) {
      const auto values = usual_options(layer);
      for (std::size_t i = 0; i < usual.size(); ++i) {
        const auto& [name, option] = usual[i];
        if (layer.name != name || (i < kMost && (given >> i & 1) != 0)) continue;
        if (layer.options.find(option) == values.find(option)) layer.options.remove(option);
      }
    }
  }
  return recipes;
}

}  // namespace hsm::inline HSM_ABI::detail
