// SPDX-License-Identifier: MIT
//
// What a layer of a recipe would be, without building it: a layer of width 2^20 is told as fast as one of 16.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/model/any_mixer.hpp>

namespace hsm::inline HSM_ABI {

/// The sizes of a layer that mixes tokens.
struct LayerSize {
  Index parameters = 0;        ///< values in all its tensors
  Index heads = 1;             ///< H
  Index taps = 0;              ///< K of a shift mixer; 0 of other layers
  LayerFootprint footprint{};  ///< what a token costs
};

namespace detail {

/// A sum of products of sizes. Throws std::invalid_argument where it passes what an Index holds.
class SizeSum {
 public:
  explicit SizeSum(const char* who) : who_(who) {}

  void add(std::initializer_list<Index> factors) {
    constexpr double kMost = static_cast<double>((std::numeric_limits<Index>::max)() / 4);
    double estimate = 1;
    for (const Index factor : factors) estimate *= static_cast<double>(factor);
    estimate_ += estimate < 0 ? -estimate : estimate;
    if (!(estimate_ <= kMost))
      fail(who_, "the number of parameters", "small enough to count", "more than " + std::to_string(kMost));
    Index product = 1;
    for (const Index factor : factors) product *= factor;
    value_ += product;
  }
  Index value() const { return value_; }

 private:
  const char* who_;
  Index value_ = 0;
  double estimate_ = 0;
};

/// Builds a layer and measures it.
template <class List>
LayerSize measured_layer(const LayerRecipe& layer, Index channels) {
  Random random(1);
  LayerSize size;
  std::visit(
      [&](const auto& mixer) {
        size.parameters = count_parameters(mixer);
        size.footprint = mixer.layer().footprint();
        if constexpr (requires { mixer.heads(); }) size.heads = mixer.heads();
        if constexpr (requires { mixer.taps(); }) size.taps = mixer.taps();
      },
      make_mixer<float>(List{}, layer, channels, 1, random));
  return size;
}

}  // namespace detail

/// The sizes of the layer that `layer` describes for so many channels: its parameters by what it says of its tensors, the
/// rest from one of its kind of at most 8 channels a head. Throws std::invalid_argument where make_mixer would, and for
/// more parameters than can be counted.
template <class List = StandardLayers>
LayerSize layer_size(LayerRecipe layer, Index channels) {
  constexpr const char* kWho = "layer_size";
  detail::check_at_least(kWho, "channels", channels, 1);
  layer = with_all_options(List{}, std::move(layer), channels);
  detail::SizeSum sum(kWho);
  for (const TensorSpec& spec : describe_mixer<float>(List{}, layer, channels))
    sum.add({spec.rows, spec.columns});
  const Index heads = std::max<Index>(1, layer.options.find("heads").value_or(1)), width = channels / heads;
  constexpr Index kNarrow = 8;
  LayerSize size;
  bool refused = false;  // so few channels, or what is wrong with so many too
  detail::guarded(
      [&] {
        LayerRecipe few = layer;
        if (few.options.find("heads")) few.options.set("heads", (std::min)(heads, kNarrow));
        const Index narrow = width <= kNarrow ? width : kNarrow - width % 2;  // even where `width` is
        size = detail::measured_layer<List>(few, narrow * (std::min)(heads, kNarrow));
        if (few.options.find("heads")) size.heads = heads;
      },
      [&] { refused = true; });
  if (refused) size = detail::measured_layer<List>(layer, channels);
  size.parameters = sum.value();
  return size;
}

/// The sizes of all layers of a recipe.
template <class List = StandardLayers>
std::vector<LayerSize> layer_sizes(const Recipe& recipe, Index channels) {
  std::vector<LayerSize> sizes;
  for (std::size_t l = 0; l < recipe.layers.size(); ++l) {
    std::size_t same = 0;
    while (!recipe.layers[same].same_as(recipe.layers[l])) ++same;
    sizes.push_back(same < l ? sizes[same] : layer_size<List>(recipe.layers[l], channels));
  }
  return sizes;
}

}  // namespace hsm::inline HSM_ABI
