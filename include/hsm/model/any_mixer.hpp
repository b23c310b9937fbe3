// SPDX-License-Identifier: MIT
//
// The layers a stack can hold, and how a recipe's name becomes one. A stack's list of policies is a type:
//
//   hsm::LanguageModel<float>                                              what the library has, and attention
//   hsm::LanguageModel<float, hsm::PolicyList<hsm::ScalarPair, MyPolicy>>    one of your own: MyPolicy::kName
//
// A policy joins by its constructor, (channels, random) or (channels); one that a recipe may tell more states
// its options and how it is made from them (mixing/policy_options.hpp). with_all_options gives a recipe in which
// every option of every layer stands, so that nobody needs to know the defaults to read it.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/mixing/mixer.hpp>
#include <hsm/mixing/policies/channel_pair.hpp>
#include <hsm/mixing/policies/fusion.hpp>
#include <hsm/mixing/policies/gated.hpp>
#include <hsm/mixing/policies/gated_pair.hpp>
#include <hsm/mixing/policies/matrix_pair.hpp>
#include <hsm/mixing/policies/scalar_pair.hpp>
#include <hsm/mixing/policies/softmax_local.hpp>
#include <hsm/mixing/policy_options.hpp>
#include <hsm/mixing/token_mixer.hpp>
#include <hsm/model/recipe.hpp>

namespace hsm::inline HSM_ABI {

/// The mixing policies a stack can hold.
template <template <class> class... Policies>
struct PolicyList {};

/// The policies of the library.
using StandardPolicies =
    PolicyList<ScalarPair, ChannelPair, MatrixPair, Gated, GatedPair, Fusion, SoftmaxLocal>;

/// The recipe name of dense causal softmax attention, which every stack can hold.
inline constexpr std::string_view kAttentionName = "attention";

/// What a recipe may say of `attention`: its heads, and the base of rotary positions (attention/rotary.hpp), 0 for
/// none. Of the values within the bounds the layer refuses 1, which is no base but somebody's "yes".
inline constexpr std::array kAttentionOptions{
    heads_option(default_heads),
    PolicyOption{
        .name = "rotary", .least = 0, .most = kMostOptionValue, .usual = [](Index) -> Index { return 0; }}};

namespace detail {

template <class Scalar, class List>
struct MixerVariant;

template <class Scalar, template <class> class... Policies>
struct MixerVariant<Scalar, PolicyList<Policies...>> {
  using Type = std::variant<Mixer<Policies<Scalar>>..., CausalAttention<Scalar>>;
  static_assert((TokenMixer<Mixer<Policies<Scalar>>> && ... && TokenMixer<CausalAttention<Scalar>>));

  static std::string names() {
    return ((std::string(Policies<Scalar>::kName) + ", ") + ...) + std::string(kAttentionName);
  }
};

[[noreturn]] inline void fail_layer(const LayerRecipe& layer, const std::string& what) {
  detail::raise<std::invalid_argument>("recipe: " + what + " at character " + std::to_string(layer.place));
}

template <class Policy>
concept HasOptions = requires {
  std::span<const PolicyOption>(Policy::kOptions);
};

template <class Policy>
concept HasMake = requires(Index channels, const OptionValues& options, Random& random) {
  { Policy::make(channels, options, random) } -> std::same_as<Policy>;
};

/// What a recipe may say of a policy's layer.
template <class Policy>
constexpr std::span<const PolicyOption> options_of_policy() {
  if constexpr (requires { Policy::kOptions; }) {
    static_assert(HasOptions<Policy>, "hsm: kOptions of a policy must be a std::array of hsm::PolicyOption");
    if constexpr (HasOptions<Policy>) return Policy::kOptions;
  }
  return {};
}

/// The policy of a layer whose options all have values.
template <class Policy>
Policy make_policy([[maybe_unused]] const OptionValues& options, Index channels,
                   [[maybe_unused]] Random& random) {
  constexpr bool kRandom = std::is_constructible_v<Policy, Index, Random&>;
  if constexpr (HasMake<Policy>) {
    static_assert(HasOptions<Policy>,
                  "hsm: a policy with make(channels, options, random) needs kOptions too");
    return Policy::make(channels, options, random);
  } else {
    static_assert(
        options_of_policy<Policy>().empty(),
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
inline LayerRecipe with_usual_options(LayerRecipe layer, std::span<const PolicyOption> options,
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
  for (const PolicyOption& option : options)
    if (!layer.options.find(option.name)) layer.options.set(option.name, option.usual(channels));
  return layer;
}

}  // namespace detail

/// One mixing layer of a stack.
template <class Scalar, class List = StandardPolicies>
using AnyMixer = typename detail::MixerVariant<Scalar, List>::Type;

/// Whether the layer of that name multiplies by matrices, as attention does; those that do not have O(C)
/// parameters.
template <class Scalar, template <class> class... Policies>
constexpr bool has_products(PolicyList<Policies...>, std::string_view name) {
  const auto has = []<class Policy>(std::type_identity<Policy>) {
    return Policy::kStages.projected() > 0 || Policy::kStages.output;
  };
  return name == kAttentionName ||
         ((name == Policies<Scalar>::kName && has(std::type_identity<Policies<Scalar>>{})) || ...);
}

/// The state of any mixing layer. It depends on the scalar alone.
template <class Scalar>
using AnyState = std::variant<MixerState<Scalar>, AttentionState<Scalar>>;

/// The record for backward of any mixing layer.
template <class Scalar>
using AnySaved = std::variant<MixerSaved<Scalar>, AttentionSaved<Scalar>>;

/// What a recipe may say of the layer of that name, nothing where there is none of that name.
template <template <class> class... Policies>
constexpr std::span<const PolicyOption> options_of(PolicyList<Policies...>, std::string_view name) {
  std::span<const PolicyOption> options;
  const auto attempt = [&]<class Policy>(std::type_identity<Policy>) {
    if (name == Policy::kName) options = detail::options_of_policy<Policy>();
    return name == Policy::kName;
  };
  if (!(attempt(std::type_identity<Policies<float>>{}) || ...) && name == kAttentionName)
    options = kAttentionOptions;
  return options;
}

/// The layer with a value for each of its options, the usual ones for `channels` where it has none. Throws
/// std::invalid_argument for an unknown name, an option that the layer does not take, or one outside its bounds.
template <template <class> class... Policies>
LayerRecipe with_all_options(PolicyList<Policies...> policies, LayerRecipe layer, Index channels) {
  if (layer.name != kAttentionName && ((layer.name != Policies<float>::kName) && ...)) {
    detail::fail_layer(layer, "expected one of " +
                                  detail::MixerVariant<float, PolicyList<Policies...>>::names() + ", got " +
                                  detail::in_quotes(layer.name));
  }
  const std::span<const PolicyOption> options = options_of(policies, layer.name);  // before the layer moves
  return detail::with_usual_options(std::move(layer), options, channels);
}

/// The same for all layers: the recipe that a model's config and its file state.
template <template <class> class... Policies>
Recipe with_all_options(PolicyList<Policies...> policies, Recipe recipe, Index channels) {
  for (LayerRecipe& layer : recipe.layers) layer = with_all_options(policies, std::move(layer), channels);
  return recipe;
}

/// Makes the layer that a recipe describes. Head h mixes at head_shifts[h mod size], so that one shift is for
/// all heads; attention uses none. Throws std::invalid_argument for what with_all_options refuses, a value that
/// the layer refuses, or no shift.
template <class Scalar, template <class> class... Policies>
AnyMixer<Scalar, PolicyList<Policies...>> make_mixer(PolicyList<Policies...> policies, LayerRecipe layer,
                                                     Index channels, std::span<const Index> head_shifts,
                                                     Random& random) {
  using Variant = AnyMixer<Scalar, PolicyList<Policies...>>;
  detail::check_at_least("make_mixer", "channels", channels, 1);
  detail::check_at_least("make_mixer", "the number of shifts", static_cast<Index>(head_shifts.size()), 1);
  layer = with_all_options(policies, std::move(layer), channels);
  std::optional<Variant> mixer;
  const auto attempt = [&]<class Policy>(std::type_identity<Policy>) {
    if (mixer || layer.name != Policy::kName) return;
    Policy policy = detail::make_policy<Policy>(layer.options, channels, random);
    std::vector<Index> shifts;
    for (std::size_t h = 0; h < static_cast<std::size_t>(policy.heads()); ++h)
      shifts.push_back(head_shifts[h % head_shifts.size()]);
    mixer.emplace(Mixer<Policy>(std::move(policy), shifts));
  };
  (attempt(std::type_identity<Policies<Scalar>>{}), ...);
  if (!mixer) {
    mixer.emplace(CausalAttention<Scalar>(
        Attention<Scalar>(channels, layer.options["heads"], random, layer.options["rotary"])));
  }
  return std::move(*mixer);
}

/// The same with all heads at one shift.
template <class Scalar, template <class> class... Policies>
AnyMixer<Scalar, PolicyList<Policies...>> make_mixer(PolicyList<Policies...> policies, LayerRecipe layer,
                                                     Index channels, Index shift, Random& random) {
  return make_mixer<Scalar>(policies, std::move(layer), channels, std::span<const Index>(&shift, 1), random);
}

}  // namespace hsm::inline HSM_ABI
