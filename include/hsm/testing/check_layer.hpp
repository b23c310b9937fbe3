// SPDX-License-Identifier: MIT
//
// Tries a layer that mixes tokens (layer/mixing_layer.hpp) and tells what is wrong with it; see testing/check.hpp.
#pragma once

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/core/check.hpp>
#include <hsm/layer/token_mixer.hpp>
#include <hsm/testing/causality_checks.hpp>
#include <hsm/testing/check_result.hpp>
#include <hsm/testing/chunk_gradient_checks.hpp>
#include <hsm/testing/gradient_checks.hpp>
#include <hsm/testing/interruption_checks.hpp>
#include <hsm/testing/mode_checks.hpp>
#include <hsm/testing/state_checks.hpp>
#include <hsm/testing/tested_mixer.hpp>

namespace hsm::inline HSM_ABI {
namespace detail {

/// check(), or what it throws.
template <class F>
std::string sentence_of(F&& check) {
  std::string sentence;
#if defined(__cpp_exceptions)
  try {
    sentence = check();
  } catch (const std::exception& error) {
    sentence = std::string("a call throws: ") + error.what();
  }
#else
  sentence = check();
#endif
  return sentence;
}

/// Moves every value of the tensors, unless the layer does not bear it.
inline void move_tensors(TestedLayer& layer, LayerTrial& trial, double noise) {
  TensorGradients before = layer.zero_gradients();
  for (std::size_t k = 0; k < before.size(); ++k) {
    for (std::size_t i = 0; i < before[k].size(); ++i) {
      before[k][i] = layer.value(k, static_cast<Index>(i));
      layer.set_value(k, static_cast<Index>(i), before[k][i] + trial.random.normal(noise));
    }
  }
  bool bears = false;
  const std::string refusal = sentence_of([&] {
    const TokenValues y = layer.forward(trial.x);
    bears = std::all_of(y.values.begin(), y.values.end(), [](double value) { return is_finite(value); });
    return std::string();
  });
  for (std::size_t k = 0; k < before.size() && (!bears || !refusal.empty()); ++k) {
    for (std::size_t i = 0; i < before[k].size(); ++i)
      layer.set_value(k, static_cast<Index>(i), before[k][i]);
  }
}

/// All checks of a layer, up to the first that finds something.
inline std::string check_tested(LayerTrial& trial) {
  using Check = std::string (*)(LayerTrial&);
  constexpr Check kChecks[] = {check_forward,    check_documents,      check_future,  check_packed,
                               check_streaming,  check_chosen_streams, check_copies,  check_forks,
                               check_resets,     check_spoiled,        check_rewinds, check_taken_back,
                               check_interrupted};
  for (const Check check : kChecks) {
    std::string wrong = check(trial);
    if (!wrong.empty()) return wrong;
  }
  WholeGradients whole;
  std::string wrong = check_gradients(trial, whole);
  if (wrong.empty()) wrong = check_again(trial, whole);
  if (wrong.empty()) wrong = check_chunk_gradients(trial, whole);
  return wrong.empty() ? check_rewound_gradients(trial, whole) : wrong;
}

/// T of a check: as the options say, else at least `least`.
inline Index tokens_of(const char* who, const CheckOptions& options, Index least) {
  if (options.tokens == 0) return (std::max)(Index{16}, least);
  check_at_least(who, "tokens", options.tokens, 8);
  return options.tokens;
}

/// Tries what `make` makes, a TokenMixer<Layer>, with T tokens; then asks more(mixer, trial).
template <class Layer, class Make, class More>
CheckResult check_mixer(const std::string& name, const CheckOptions& options, Index tokens, Make&& make,
                        More&& more) {
  const std::string wrong = sentence_of([&] {
    TestedMixer<Layer> tested(make());
    LayerTrial trial(tested, options, tokens);
    move_tensors(tested, trial, options.noise);
    std::string sentence = check_tested(trial);
    return sentence.empty() ? more(tested.mixer(), trial) : sentence;
  });
  return wrong.empty() ? CheckResult() : CheckResult(name + ": " + wrong);
}

/// Tokens after which a layer has left behind what each of them sees, up to some 1,000 for a window or blocks.
template <class Layer>
Index tokens_seen(const Layer& layer) {
  constexpr Index kMost = 500;
  const LayerFootprint footprint = layer.footprint();
  const Index block = (std::min)(kMost, footprint.block), top = (std::min)(kMost, footprint.top);
  const Index chosen = (std::min)(kMost, (top + 1) * block);
  Index seen = (std::max)({footprint.reads, (std::min)(kMost, footprint.window), chosen});
  if constexpr (requires { layer.state_reach(); }) seen = (std::max)(seen, layer.state_reach());
  return 2 * seen + 5;
}

}  // namespace detail

/// Tries `layer`, a MixingLayer or a TokenMixer of one (CausalAttention, Mixer), as testing/check.hpp says. The layer is
/// copied. Throws std::invalid_argument for options out of range. Time: about 150 forwards of three sequences of T
/// tokens for each tensor.
template <class LayerOrMixer>
CheckResult check_layer(const LayerOrMixer& layer, const CheckOptions& options = {}) {
  if constexpr (requires { typename LayerOrMixer::Layer; }) {
    return check_layer(layer.layer(), options);
  } else {
    const Index tokens = detail::tokens_of("check_layer", options, detail::tokens_seen(layer));
    return detail::check_mixer<LayerOrMixer>(
        std::string(LayerOrMixer::kType), options, tokens, [&] { return TokenMixer<LayerOrMixer>(layer); },
        [](const auto&, const detail::LayerTrial&) { return std::string(); });
  }
}

}  // namespace hsm::inline HSM_ABI
