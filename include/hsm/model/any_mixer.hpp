// SPDX-License-Identifier: MIT
//
// How a recipe's name becomes a layer of a list (model/layer_list.hpp):
//
//   hsm::LanguageModel<float>                                              what the library has
//   hsm::LanguageModel<float, hsm::PolicyList<hsm::ScalarPair, MyPolicy>>    one of your own, and attention
//
// An entry describes its tensors and joins by its constructor, (channels, random) or (channels); one that a recipe may tell more states
// its options and how it is made from them (layer/layer_options.hpp). with_all_options gives a recipe in which
// every option of every layer stands, so that nobody needs to know the defaults to read it.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <hsm/layer/layer_options.hpp>
#include <hsm/model/layer_list.hpp>
#include <hsm/model/recipe.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// "ab, channel, attention".
template <template <class> class... Entries>
std::string names_of(LayerList<Entries...>) {
  std::string names;
  ((names += (names.empty() ? "" : ", ") + std::string(Entries<float>::kName)), ...);
  return names;
}

[[noreturn]] inline void fail_layer(const LayerRecipe& layer, const std::string& what) {
  detail::raise<std::invalid_argument>("recipe: " + what + " in the layer at character " +
                                       std::to_string(layer.place));
}

template <class Entry>
concept HasOptions = requires {
  std::span<const PolicyOption>(Entry::kOptions);
};

template <class Entry>
concept HasMake = requires(Index channels, const OptionValues& options, Random& random) {
  { Entry::make(channels, options, random) } -> std::same_as<Entry>;
};

template <class Entry>
concept HasDescribe = requires(Index channels, const OptionValues& options) {
  { Entry::describe(channels, options) } -> std::same_as<TensorSpecs>;
};

/// The tensors of an entry whose options all have values.
template <class Entry>
[[gnu::cold]] TensorSpecs describe_entry(Index channels, const OptionValues& options) {
  static_assert(
      HasDescribe<Entry>,
      "hsm: a policy or layer of a list needs a static describe(Index channels, const OptionValues& "
      "options) that returns hsm::TensorSpecs: the name and shape of every tensor of its visit");
  if constexpr (HasDescribe<Entry>) return Entry::describe(channels, options);
}

/// What a recipe may say of an entry of a list.
template <class Entry>
constexpr std::span<const PolicyOption> options_of_entry() {
  if constexpr (requires { Entry::kOptions; }) {
    static_assert(HasOptions<Entry>, "hsm: kOptions of a policy must be a std::array of hsm::PolicyOption");
    if constexpr (HasOptions<Entry>) return Entry::kOptions;
  }
  return {};
}

/// The policy or layer whose options all have values.
template <class Policy>
[[gnu::cold]] Policy make_entry([[maybe_unused]] const OptionValues& options, Index channels,
                                [[maybe_unused]] Random& random) {
  constexpr bool kRandom = std::is_constructible_v<Policy, Index, Random&>;
  if constexpr (HasMake<Policy>) {
    static_assert(HasOptions<Policy>,
                  "hsm: a policy with make(channels, options, random) needs kOptions too");
    return Policy::make(channels, options, random);
  } else {
    static_assert(
        options_of_entry<Policy>().empty(),
        "hsm: a policy with kOptions needs a static make(Index channels, const OptionValues& options, "
        "Random& random) that returns the policy");
    static_assert(HasOptions<Policy> || (!std::is_constructible_v<Policy, Index, Index> &&
                                         !std::is_constructible_v<Policy, Index, Random&, Index>),
                  "hsm: this policy's constructor takes more than channels and a Random, and a recipe cannot "
                  "know what it means: state its options by kOptions and make(channels, options, random), or "
                  "that it has none by std::array<hsm::PolicyOption, 0> kOptions");
    static_assert(
        kRandom || std::is_constructible_v<Policy, Index>,
        "hsm: to be made from a recipe, a policy needs a constructor (channels, random) or (channels), "
        "or a static make(channels, options, random)");
    if constexpr (kRandom) {
      return Policy(channels, random);
    } else {
      return Policy(channels);
    }
  }
}

/// Checks what a layer says against its options, and gives the others their usual values.
[[gnu::cold]] inline LayerRecipe with_usual_options(LayerRecipe layer, std::span<const PolicyOption> options,
                                                    Index channels) {
  for (const auto& [name, value] : layer.options) {
    const std::string& asked = name;  // clang 14 captures no structured binding
    const auto found = std::find_if(options.begin(), options.end(),
                                    [&](const PolicyOption& option) { return option.name == asked; });
    if (found == options.end()) {
      std::string names;
      for (const PolicyOption& option : options)
        names += (names.empty() ? "" : ", ") + std::string(option.name);
      fail_layer(layer, in_quotes(layer.name) + " takes " +
                            (names.empty() ? "no option" : names + " and no other option") + ", got " +
                            in_quotes(name));
    }
    if (value < found->least || value > found->most) {
      fail_layer(layer, name + " of " + in_quotes(layer.name) + " must be " + std::to_string(found->least) +
                            " to " + std::to_string(found->most) + ", got " + std::to_string(value));
    }
  }
  for (const PolicyOption& option : options) {
    if (layer.options.find(option.name)) continue;
    const Index usual = option.usual(channels);
    if (usual < option.least || usual > option.most) {
      fail_layer(layer, "the usual " + std::string(option.name) + " of " + in_quotes(layer.name) + " for " +
                            counted(channels, "channel") + " must be " + std::to_string(option.least) +
                            " to " + std::to_string(option.most) + ", as its kOptions say, got " +
                            std::to_string(usual));
    }
    layer.options.set(option.name, usual);
  }
  return layer;
}

/// Whether a recipe can say it: letters a-z, then also digits and '-'.
constexpr bool is_recipe_word(std::string_view word) {
  const auto letter = [](char c) { return c >= 'a' && c <= 'z'; };
  if (word.empty() || !letter(word.front())) return false;
  for (const char c : word) {
    if (!letter(c) && !(c >= '0' && c <= '9') && c != '-') return false;
  }
  return true;
}

/// Whether the names of a list are different, and words of recipes.
template <template <class> class... Entries>
constexpr bool can_be_named(LayerList<Entries...>) {
  const std::array<std::string_view, sizeof...(Entries)> names{Entries<float>::kName...};
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!is_recipe_word(names[i])) return false;
    for (std::size_t j = 0; j < i; ++j) {
      if (names[i] == names[j]) return false;
    }
  }
  return true;
}

}  // namespace detail

/// What a recipe may say of the layer of that name, nothing where there is none of that name.
template <template <class> class... Entries>
constexpr std::span<const PolicyOption> options_of(LayerList<Entries...>, std::string_view name) {
  std::span<const PolicyOption> options;
  ((name == Entries<float>::kName ? void(options = detail::options_of_entry<Entries<float>>()) : void()),
   ...);
  return options;
}

/// The layer with a value for each of its options, the usual ones for `channels` where it has none. Throws
/// std::invalid_argument for an unknown name, an option that the layer does not take, or one outside its bounds.
template <template <class> class... Entries>
LayerRecipe with_all_options(LayerList<Entries...> list, LayerRecipe layer, Index channels) {
  static_assert(detail::can_be_named(LayerList<Entries...>{}),
                "hsm: the kNames of a list must differ, each letters a-z, then also digits and '-'");
  detail::check_at_least("with_all_options", "channels", channels, 1);
  if (((layer.name != Entries<float>::kName) && ...)) {
    detail::fail_layer(
        layer, "expected one of " + detail::names_of(list) + ", got " + detail::in_quotes(layer.name));
  }
  const std::span<const PolicyOption> options = options_of(list, layer.name);  // before the layer moves
  return detail::with_usual_options(std::move(layer), options, channels);
}

/// The same for all layers: the recipe that a model's config and its file state.
template <template <class> class... Entries>
Recipe with_all_options(LayerList<Entries...> list, Recipe recipe, Index channels) {
  for (LayerRecipe& layer : recipe.layers) layer = with_all_options(list, std::move(layer), channels);
  return recipe;
}

/// The tensors that such a layer has, without making it. Throws std::invalid_argument as with_all_options does, and for
/// heads that do not divide the channels.
template <class Scalar, template <class> class... Entries>
[[gnu::cold]] TensorSpecs describe_mixer(LayerList<Entries...> list, LayerRecipe layer, Index channels) {
  constexpr int kMostBits = kIndexBits / 2;  // a matrix C x C has a size
  detail::check_at_least("describe_mixer", "channels", channels, 1);
  if (channels > Index{1} << kMostBits)
    detail::fail("describe_mixer", "channels", "at most 2^" + std::to_string(kMostBits),
                 std::to_string(channels));
  layer = with_all_options(list, std::move(layer), channels);
  if (const auto heads = layer.options.find("heads"); heads && *heads > 0 && channels % *heads != 0) {
    detail::fail_layer(layer, "heads of " + detail::in_quotes(layer.name) + " must be a divisor of the " +
                                  detail::counted(channels, "channel") + ", got " + std::to_string(*heads));
  }
  TensorSpecs specs;
  ((layer.name == Entries<Scalar>::kName
        ? void(specs = detail::describe_entry<Entries<Scalar>>(channels, layer.options))
        : void()),
   ...);
  return specs;
}

/// Makes the layer that a recipe describes. Head h of a shift mixer mixes at head_shifts[h mod size], so that one shift
/// is for all heads; other layers use none. Throws std::invalid_argument for what with_all_options refuses, a value
/// that the layer refuses, or no shift.
template <class Scalar, template <class> class... Entries>
[[gnu::cold]] AnyMixer<Scalar, LayerList<Entries...>> make_mixer(LayerList<Entries...> list,
                                                                 LayerRecipe layer, Index channels,
                                                                 std::span<const Index> head_shifts,
                                                                 Random& random) {
  detail::check_at_least("make_mixer", "channels", channels, 1);
  detail::check_at_least("make_mixer", "the number of shifts", static_cast<Index>(head_shifts.size()), 1);
  layer = with_all_options(list, std::move(layer), channels);
  std::optional<AnyMixer<Scalar, LayerList<Entries...>>> made;
  const auto attempt = [&]<class Entry>(std::type_identity<Entry>) {
    if (made || layer.name != Entry::kName) return;
    Entry entry = detail::make_entry<Entry>(layer.options, channels, random);
    const TensorSpecs specs = detail::describe_entry<Entry>(channels, layer.options);
    const std::string who = "recipe: layer " + detail::in_quotes(layer.name);
    if constexpr (MixingLayer<Entry>) {
      detail::check_described(who.c_str(), specs, entry.parameters());
      made.emplace(detail::MixerOf<Entry>(std::move(entry)));
    } else {
      detail::check_described(who.c_str(), specs, entry);
      std::vector<Index> shifts;
      for (std::size_t h = 0; h < static_cast<std::size_t>(entry.heads()); ++h)
        shifts.push_back(head_shifts[h % head_shifts.size()]);
      made.emplace(Mixer<Entry>(std::move(entry), shifts));
    }
  };
  (attempt(std::type_identity<Entries<Scalar>>{}), ...);
  return std::move(*made);
}

/// The same with all heads at one shift.
template <class Scalar, template <class> class... Entries>
AnyMixer<Scalar, LayerList<Entries...>> make_mixer(LayerList<Entries...> list, LayerRecipe layer,
                                                   Index channels, Index shift, Random& random) {
  return make_mixer<Scalar>(list, std::move(layer), channels, std::span<const Index>(&shift, 1), random);
}

}  // namespace hsm::inline HSM_ABI
