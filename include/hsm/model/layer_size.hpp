// SPDX-License-Identifier: MIT
//
// What a layer of a recipe would be, without building it: a layer of width 2^20 is told as fast as one of 16.
//
// With the options of a layer fixed, the number of its values is a polynomial of degree 2 in C/H and of degree 2
// in H (C^2 = (C/H)^2 H^2, and so on), so nine small layers determine it, and a tenth shows that it is one: of a
// policy of your own that is none, the layer itself is made and counted.
#pragma once

#include <array>
#include <initializer_list>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
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

/// The differences of a polynomial of degree 2 that has these values at 1, 2 and 3.
inline std::array<Index, 3> differences(const std::array<Index, 3>& f) {
  return {f[0], f[1] - f[0], f[2] - 2 * f[1] + f[0]};
}

/// "x - 1 over i", by which its value at x is the sum of its differences.
inline Index newton_term(Index x, std::size_t i) {
  return i == 0 ? 1 : i == 1 ? x - 1 : (x - 1) % 2 == 0 ? (x - 1) / 2 * (x - 2) : (x - 2) / 2 * (x - 1);
}

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

/// The sizes of the layer that `layer` describes for so many channels. Throws std::invalid_argument where
/// make_mixer would, and for more parameters than can be counted.
template <class List = StandardLayers>
LayerSize layer_size(LayerRecipe layer, Index channels) {
  constexpr const char* kWho = "layer_size";
  detail::check_at_least(kWho, "channels", channels, 1);
  layer = with_all_options(List{}, std::move(layer), channels);
  const std::optional<Index> given = layer.options.find("heads");
  const Index heads = given.value_or(1);
  if (channels % heads != 0) {
    detail::fail_layer(layer, "heads of " + detail::in_quotes(layer.name) + " must be a divisor of the " +
                                  detail::counted(channels, "channel") + ", got " + std::to_string(heads));
  }
  if (layer.name == kAttentionName) {  // no tensor depends on rotary positions, which odd widths refuse
    if (const auto rotary = layer.options.find("rotary"))
      detail::check_rotary("recipe: layer 'attention'", *rotary, heads, channels);
    layer.options.remove("rotary");
  }
  const auto sample = [&](Index width, Index h) {  // width = C / H
    LayerRecipe scaled = layer;
    if (given) scaled.options.set("heads", h);
    return detail::measured_layer<List>(scaled, width * h);
  };
  const auto predicted = [&](const std::array<std::array<Index, 3>, 3>& d, Index width, Index h) {
    detail::SizeSum sum(kWho);
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < 3; ++j)
        if (d[i][j] != 0) sum.add({d[i][j], detail::newton_term(width, i), detail::newton_term(h, j)});
    }
    return sum.value();
  };
  std::array<std::array<Index, 3>, 3> d{};  // by heads at first, then differences in both
  const Index more = given ? 5 : 1;
  LayerSize size;
  bool refused = false;  // by a policy that takes no so few channels
  const auto take = [&] {
    for (Index h = 1; h <= (given ? 3 : 1); ++h) {
      d[static_cast<std::size_t>(h - 1)] =
          detail::differences({sample(1, h).parameters, sample(2, h).parameters, sample(3, h).parameters});
    }
    size = sample(7, more);
  };
  detail::guarded(take, [&] { refused = true; });
  if (refused) return detail::measured_layer<List>(layer, channels);
  std::array<std::array<Index, 3>, 3> both{};
  for (std::size_t i = 0; i < 3; ++i) {
    both[i] = given ? detail::differences({d[0][i], d[1][i], d[2][i]}) : std::array<Index, 3>{d[0][i], 0, 0};
  }
  if (size.parameters != predicted(both, 7, more) || size.heads != more)
    return detail::measured_layer<List>(layer, channels);
  size.heads = heads;
  size.parameters = predicted(both, channels / heads, heads);
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
