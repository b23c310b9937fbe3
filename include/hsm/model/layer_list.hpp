// SPDX-License-Identifier: MIT
//
// The list of layers that a stack can hold. Each entry is a template over the scalar: a mixing policy
// (shift/mixing_policy.hpp), which joins as a Mixer, or a layer that mixes tokens (layer/mixing_layer.hpp). Either
// states what recipes call it, what they may say of it, and its tensors:
//
//   static constexpr std::string_view kName           the name
//   static constexpr std::array kOptions, make(...)   options (layer/layer_options.hpp); may be left out
//   static TensorSpecs describe(channels, options)    every tensor of its visit (core/tensor_spec.hpp)
#pragma once

#include <concepts>
#include <type_traits>
#include <variant>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/hierarchical_attention/hierarchical_kernel_attention.hpp>
#include <hsm/layer/token_mixer.hpp>
#include <hsm/recurrent/causal_linear_attention.hpp>
#include <hsm/recurrent/moving_average.hpp>
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies.hpp>

namespace hsm::inline HSM_ABI {

/// Mixing policies, and attention.
template <template <class> class... Policies>
using PolicyList = LayerList<Policies..., AttentionLayer>;

namespace detail {
template <class First, class Second>
struct JoinedLists;
template <template <class> class... First, template <class> class... Second>
struct JoinedLists<LayerList<First...>, LayerList<Second...>> {
  using Type = LayerList<First..., Second...>;
};
}  // namespace detail

/// The layers of the library.
using StandardLayers = typename detail::JoinedLists<
    StandardPolicies,
    LayerList<EmaLayer, LinearAttentionLayer, HierarchicalAttentionLayer, AttentionLayer>>::Type;

/// The recipe name of dense causal softmax attention.
inline constexpr std::string_view kAttentionName = AttentionLayer<float>::kName;

namespace detail {

/// How an entry is run.
template <class Entry>
struct EntryMixer {
  using Type = Mixer<Entry>;
};
template <MixingLayer Layer>
struct EntryMixer<Layer> {
  using Type = TokenMixer<Layer>;
};
template <class Scalar>
struct EntryMixer<AttentionLayer<Scalar>> {
  using Type = CausalAttention<Scalar>;
};
template <class Entry>
using MixerOf = typename EntryMixer<Entry>::Type;

/// A variant of these types, each once.
template <class Variant, class... Types>
struct UniqueTypes {
  using Type = Variant;
};
template <class... Known, class First, class... Rest>
struct UniqueTypes<std::variant<Known...>, First, Rest...>
    : UniqueTypes<std::conditional_t<(std::same_as<First, Known> || ...), std::variant<Known...>,
                                     std::variant<Known..., First>>,
                  Rest...> {};

template <class Scalar, class List>
struct ListTypes;
template <class Scalar, template <class> class... Entries>
struct ListTypes<Scalar, LayerList<Entries...>> {
  using Mixers = std::variant<MixerOf<Entries<Scalar>>...>;
  using States = typename UniqueTypes<std::variant<>, typename MixerOf<Entries<Scalar>>::State...>::Type;
  using Records = typename UniqueTypes<std::variant<>, typename MixerOf<Entries<Scalar>>::Saved...>::Type;
};

}  // namespace detail

/// One mixing layer of a stack.
template <class Scalar, class List = StandardLayers>
using AnyMixer = typename detail::ListTypes<Scalar, List>::Mixers;
/// The state of any of them.
template <class Scalar, class List = StandardLayers>
using AnyState = typename detail::ListTypes<Scalar, List>::States;
/// The record for backward of any of them.
template <class Scalar, class List = StandardLayers>
using AnySaved = typename detail::ListTypes<Scalar, List>::Records;

}  // namespace hsm::inline HSM_ABI
