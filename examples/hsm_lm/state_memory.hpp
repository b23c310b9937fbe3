// SPDX-License-Identifier: MIT
//
// Whether the state of a stream fits into memory, from the sizes alone, before anything is read.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include <hsm/model/cost.hpp>
#include <hsm/model/language_model_config.hpp>

#include "examples/support/limits.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// Bytes of the state of a model of floats in a text of so many tokens; with learned positions it never holds more than
/// those.
inline double state_bytes(const LanguageModelConfig& config, double tokens) {
  if (config.positions == Positions::kLearned) tokens = std::min(tokens, static_cast<double>(config.context));
  return cost_of(config).at(CostKind::kState, tokens);
}

/// What such a state takes when it has grown to that, about: the memory of attention doubles as it grows, here from that of
/// 1,024 tokens on.
inline double grown_state_bytes(const LanguageModelConfig& config, double tokens) {
  if (config.positions == Positions::kLearned) tokens = std::min(tokens, static_cast<double>(config.context));
  double room = std::min(tokens, 1024.0);
  while (room < tokens) room *= 2;
  return cost_of(config).at(CostKind::kState, room);
}

/// Throws std::runtime_error if the memory that this process can have is less than that state and `beside` bytes.
inline void check_state_fits(const LanguageModelConfig& config, double tokens, double beside = 0) {
  const double bytes = grown_state_bytes(config, tokens) + beside, left = memory_left();
  if (bytes <= left) return;
  throw std::runtime_error("a text of " + counted(tokens, "token") + " needs up to " + bytes_text(bytes) +
                           " of memory for its state, and " + bytes_text(left) + " can be had");
}

}  // namespace hsm::examples
