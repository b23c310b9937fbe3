// SPDX-License-Identifier: MIT
//
// The layers a stack can hold, and how a recipe's name becomes one. A stack's list of policies is a type:
//
//   hsm::LanguageModel<float>                                              what the library has, and attention
//   hsm::LanguageModel<float, hsm::PolicyList<hsm::ScalarPair, MyPolicy>>    one of your own: MyPolicy::kName
//
// A policy joins by its constructor: (channels), (channels, heads), (channels, random), (channels, random,
// heads) or (channels, random, heads, taps); a recipe may give the options that its constructor takes.
#pragma once

#include <span>
#include <string>
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

/// Heads of `attention` and `softmax-local` where the recipe names none: 32 channels each below 512
/// channels, else 64, as far as that divides.
constexpr Index default_heads(Index channels) {
  const Index width = channels < 512 ? 32 : 64;
  return channels % width == 0 ? channels / width : 1;
}

/// Heads of `ab` and `channel` where the recipe names none: 16 channels each from 32 channels on, as far as
/// that divides. Heads of `ab` that start with different b let what follows tell the token from its partner;
/// one head for all channels trains worse. The heads of `channel` matter where the schedule differs by head.
constexpr Index default_pair_heads(Index channels) {
  return channels >= 32 && channels % 16 == 0 ? channels / 16 : 1;
}

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

/// The policy of a layer, by the longest constructor it has.
template <class Policy>
Policy make_policy(const LayerRecipe& layer, Index channels, Random& random) {
  constexpr bool kTaps = std::is_constructible_v<Policy, Index, Random&, Index, Index>;
  constexpr bool kHeads = kTaps || std::is_constructible_v<Policy, Index, Random&, Index> ||
                          std::is_constructible_v<Policy, Index, Index>;
  if (layer.taps && !kTaps) fail_layer(layer, in_quotes(layer.name) + " takes no option taps");
  if (layer.heads && !kHeads) fail_layer(layer, in_quotes(layer.name) + " takes no option heads");
  if constexpr (kTaps) {
    return Policy(channels, random, layer.heads.value_or(default_heads(channels)), layer.taps.value_or(2));
  } else if constexpr (std::is_constructible_v<Policy, Index, Random&, Index>) {
    return Policy(channels, random, layer.heads.value_or(1));
  } else if constexpr (std::is_constructible_v<Policy, Index, Random&>) {
    return Policy(channels, random);
  } else if constexpr (std::is_constructible_v<Policy, Index, Index>) {
    return Policy(channels, layer.heads.value_or(default_pair_heads(channels)));
  } else {
    return Policy(channels);
  }
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

/// Makes the layer that a recipe describes. Head h mixes at head_shifts[h mod size], so that one shift is for
/// all heads; attention uses none. Throws std::invalid_argument for an unknown name, an option it does not
/// take, a value it refuses, or no shift.
template <class Scalar, template <class> class... Policies>
AnyMixer<Scalar, PolicyList<Policies...>> make_mixer(PolicyList<Policies...>, const LayerRecipe& layer,
                                                     Index channels, std::span<const Index> head_shifts,
                                                     Random& random) {
  using Variant = AnyMixer<Scalar, PolicyList<Policies...>>;
  detail::check_at_least("make_mixer", "the number of shifts", static_cast<Index>(head_shifts.size()), 1);
  std::optional<Variant> mixer;
  const auto attempt = [&]<class Policy>(std::type_identity<Policy>) {
    if (mixer || layer.name != Policy::kName) return;
    Policy policy = detail::make_policy<Policy>(layer, channels, random);
    std::vector<Index> shifts;
    for (std::size_t h = 0; h < static_cast<std::size_t>(policy.heads()); ++h)
      shifts.push_back(head_shifts[h % head_shifts.size()]);
    mixer.emplace(Mixer<Policy>(std::move(policy), shifts));
  };
  (attempt(std::type_identity<Policies<Scalar>>{}), ...);
  if (!mixer && layer.name == kAttentionName) {
    if (layer.taps) detail::fail_layer(layer, "'attention' takes no option taps");
    mixer.emplace(CausalAttention<Scalar>(
        Attention<Scalar>(channels, layer.heads.value_or(default_heads(channels)), random)));
  }
  if (!mixer) {
    detail::fail_layer(layer, "expected one of " +
                                  detail::MixerVariant<Scalar, PolicyList<Policies...>>::names() + ", got " +
                                  detail::in_quotes(layer.name));
  }
  return std::move(*mixer);
}

/// The same with all heads at one shift.
template <class Scalar, template <class> class... Policies>
AnyMixer<Scalar, PolicyList<Policies...>> make_mixer(PolicyList<Policies...> policies,
                                                     const LayerRecipe& layer, Index channels, Index shift,
                                                     Random& random) {
  return make_mixer<Scalar>(policies, layer, channels, std::span<const Index>(&shift, 1), random);
}

}  // namespace hsm::inline HSM_ABI
