// SPDX-License-Identifier: MIT
//
// Recipes: any text is refused with std::invalid_argument or has a canonical text that means the same layers
// and is its own canonical text. Each kind of layer is then made at 8 channels, or refused.
#pragma once

#include <stdexcept>
#include <string>

#include <hsm/model/any_mixer.hpp>

#include "fuzz/property.hpp"

namespace hsm::test {

/// Returns whether `input` is a recipe.
inline bool fuzz_recipe(Input input) {
  const std::string text = text_of(input);
  Recipe recipe;
  if (!accepts<std::invalid_argument>("recipe: ", [&] { recipe = Recipe::parse(text); })) return false;

  const std::size_t L = recipe.layers.size();
  require(L >= 1 && static_cast<Index>(L) <= Recipe::kMostLayers, "a recipe must have 1 to 256 layers");
  const std::string canonical = recipe.text();
  const Recipe again = Recipe::parse(canonical);
  require(again.layers.size() == L, "the canonical text must have as many layers");
  for (std::size_t l = 0; l < L; ++l)
    require(again.layers[l].same_as(recipe.layers[l]), "the canonical text must mean the same layers");
  require(again.text() == canonical, "the canonical text must be its own canonical text");

  for (std::size_t l = 0; l < L; ++l) {
    if (l > 0 && recipe.layers[l].same_as(recipe.layers[l - 1])) continue;
    accepts<std::invalid_argument>("", [&] {
      constexpr Index C = 8, s = 3;
      Random random(1);
      const auto mixer = make_mixer<float>(StandardLayers{}, recipe.layers[l], C, s, random);
      std::visit(
          [&](const auto& made) {
            require(made.channels() == C, "a layer must have the channels asked for");
          },
          mixer);
    });
  }
  return true;
}

}  // namespace hsm::test
