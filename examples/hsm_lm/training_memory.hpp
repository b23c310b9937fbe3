// SPDX-License-Identifier: MIT
//
// What training takes at least, from the sizes alone: weights, gradients, two moments and a copy of the weights,
// another one where the best are kept, and what each token of a batch leaves for the way back. The mixers' own part
// is not counted, so what is refused would not have fitted.
#pragma once

#include <cmath>
#include <stdexcept>
#include <string>

#include <hsm/model/language_model_config.hpp>
#include <hsm/model/recipe.hpp>
#include <hsm/training/training_config.hpp>

#include "examples/support/limits.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// Bytes that training takes at least.
struct TrainingMemory {
  double parameters = 0;  ///< five or six times the size of the model
  double batch = 0;       ///< the record of one batch

  double total() const { return parameters + batch; }
};

/// Of a model of floats. `config` must hold a recipe. `copies`: as many times the size of the model, where it is not
/// `train` that trains.
inline TrainingMemory training_memory(const LanguageModelConfig& config, const TrainingConfig& training,
                                      double copies = 0) {
  const double L = static_cast<double>(Recipe::parse(config.layers).layers.size());
  const double C = static_cast<double>(config.width), F = static_cast<double>(config.feed_forward);
  const double tokens = static_cast<double>(training.batch) * static_cast<double>(config.context);
  if (copies == 0) copies = training.keeps_best() ? 6 : 5;
  return {.parameters = copies * sizeof(float) * (2 * L * C * F + static_cast<double>(config.vocabulary) * C),
          .batch = tokens * sizeof(float) * (L * (4 * C + 2 * F) + 3 * C)};
}

/// Throws std::invalid_argument if the memory that this process can have is less than that. `held`: bytes of it that the
/// process has taken already.
inline void check_training_fits(const LanguageModelConfig& config, const TrainingConfig& training,
                                double copies = 0, double held = 0) {
  const TrainingMemory memory = training_memory(config, training, copies);
  const double left = memory_left() + held;
  if (memory.total() <= left) return;
  const bool by_batch = memory.batch > memory.parameters;
  throw std::invalid_argument("training would take at least " + bytes_text(memory.total()) + " of memory, " +
                              bytes_text(memory.parameters) + " for the weights and their optimizer and " +
                              bytes_text(memory.batch) + " for a batch of " +
                              counted(training.batch, "window") + " of " + counted(config.context, "token") +
                              ", and " + bytes_text(left) + " can be had" +
                              (by_batch ? "; a smaller --batch takes less" : "; a smaller model takes less"));
}

}  // namespace hsm::examples
