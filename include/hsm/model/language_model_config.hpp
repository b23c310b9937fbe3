// SPDX-License-Identifier: MIT
//
// What a language model is made from: sizes, and its layers as text. A plain value, checked by the model's
// constructor; with its weights it is all that a model file holds.
#pragma once

#include <string>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// What tells a model where in the sequence a token is.
enum class Positions { kNone, kLearned };

/// The sizes and the layers of a language model.
struct LanguageModelConfig {
  /// V.
  Index vocabulary = 256;
  Index width = 128;         ///< C
  Index feed_forward = 512;  ///< F
  Index context = 128;       ///< T of training; the most positions where they are learned
  /// Whether a token is told its place.
  Positions positions = Positions::kNone;
  std::string layers = "7*ab";      ///< a recipe, see model/recipe.hpp; a model states all options in its own
  std::string schedule = "dyadic";  ///< see schedule/schedule_text.hpp

  /// Whether all is equal.
  bool operator==(const LanguageModelConfig&) const = default;
};

}  // namespace hsm::inline HSM_ABI
