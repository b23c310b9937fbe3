// SPDX-License-Identifier: MIT
//
// What a training run is told and what it tells: plain values. A run ends after a number of steps, or, where
// minutes are given, by the clock; with patience, earlier. The fields are walked by name, as tensors are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/model/dropout.hpp>

namespace hsm::inline HSM_ABI {

/// How to train. The length of a window, T, is the context of the model.
struct TrainingConfig {
  Index batch = 16;             ///< B, windows per step
  Index steps = 1000;           ///< length of the run
  double minutes = 0;           ///< > 0: length of the run by the clock, and `steps` does not count
  double learning_rate = 1e-3;  ///< highest rate of the warmup and cosine schedule
  double warmup = 0.02;  ///< share of the run over which the rate rises, in [0, 1]; in whole steps, rounded
  double final_rate = 0.1;      ///< last rate / highest rate, in [0, 1]
  double weight_decay = 0.1;    ///< of AdamW, per unit of learning rate
  double clip = 1.0;            ///< largest norm of all gradients together; infinity never scales
  Index validate_every = 0;     ///< steps between validations; 0 = only at the end
  Index validation_tokens = 0;  ///< at most that many predictions from the start of the text; 0 = all
  std::uint64_t seed = 1;       ///< of the windows: their starts are drawn step by step, one each
  double dropout = 0;           ///< p of model/dropout.hpp in [0, 1), in training steps only
  bool keep_best = false;       ///< what is kept is the model of the lowest validation loss, not the last one
  Index patience = 0;  ///< > 0: ends after so many validations that were no better in a row; keeps the best

  /// Whether the best model is what is kept.
  bool keeps_best() const { return keep_best || patience > 0; }

  /// Calls f(name, field, more...) for each field.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("batch", self.batch, more.batch...);
    f("steps", self.steps, more.steps...);
    f("minutes", self.minutes, more.minutes...);
    f("learning_rate", self.learning_rate, more.learning_rate...);
    f("warmup", self.warmup, more.warmup...);
    f("final_rate", self.final_rate, more.final_rate...);
    f("weight_decay", self.weight_decay, more.weight_decay...);
    f("clip", self.clip, more.clip...);
    f("validate_every", self.validate_every, more.validate_every...);
    f("validation_tokens", self.validation_tokens, more.validation_tokens...);
    f("seed", self.seed, more.seed...);
    f("dropout", self.dropout, more.dropout...);
    f("keep_best", self.keep_best, more.keep_best...);
    f("patience", self.patience, more.patience...);
  }
};

/// Where a training run stands after a step. Losses are in nats per token.
struct TrainingProgress {
  Index step = 0;                         ///< steps done
  Index steps = 0;                        ///< steps of the run; 0 where the clock decides
  double fraction = 0;                    ///< of the run that is done, in [0, 1]
  double loss = 0;                        ///< of the last batch, before its update
  double smoothed_loss = 0;               ///< mean over about the last 50 steps
  double learning_rate = 0;               ///< of the last update
  double gradient_norm = 0;               ///< before clipping
  double tokens_per_second = 0;           ///< over all steps, validation not counted
  double seconds = 0;                     ///< since the start, validation counted; over all parts of a run
  double seconds_left = 0;                ///< estimated
  std::optional<double> validation_loss;  ///< where this step was followed by a validation
  std::optional<double> best_loss;        ///< the lowest validation loss so far
  Index best_step = 0;                    ///< after so many steps
  bool finished = false;  ///< nothing is left to do: all steps, or patience, and the validation behind

  /// Calls f(name, field, more...) for each field.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("step", self.step, more.step...);
    f("steps", self.steps, more.steps...);
    f("fraction", self.fraction, more.fraction...);
    f("loss", self.loss, more.loss...);
    f("smoothed_loss", self.smoothed_loss, more.smoothed_loss...);
    f("learning_rate", self.learning_rate, more.learning_rate...);
    f("gradient_norm", self.gradient_norm, more.gradient_norm...);
    f("tokens_per_second", self.tokens_per_second, more.tokens_per_second...);
    f("seconds", self.seconds, more.seconds...);
    f("seconds_left", self.seconds_left, more.seconds_left...);
    f("validation_loss", self.validation_loss, more.validation_loss...);
    f("best_loss", self.best_loss, more.best_loss...);
    f("best_step", self.best_step, more.best_step...);
    f("finished", self.finished, more.finished...);
  }
};

namespace detail {

/// Throws std::invalid_argument for a field outside its bounds.
inline void check_training(const TrainingConfig& config) {
  constexpr const char* kWho = "train";
  check_at_least(kWho, "batch", config.batch, 1);
  const auto check = [](bool good, const char* what, const char* expected, double got) {
    check_number(kWho, good, what, expected, got);
  };
  const auto finite = [](double value) { return is_finite(value); };
  check(config.minutes >= 0 && finite(config.minutes), "minutes", "at least 0 and finite", config.minutes);
  if (config.minutes == 0) check_at_least(kWho, "steps", config.steps, 1);
  check(config.warmup >= 0 && config.warmup <= 1, "warmup", "a share of the run, in [0, 1]", config.warmup);
  check(config.learning_rate > 0 && finite(config.learning_rate), "learning_rate", "above 0 and finite",
        config.learning_rate);
  check(config.final_rate >= 0 && config.final_rate <= 1, "final_rate",
        "a share of the learning rate, in [0, 1]", config.final_rate);
  check(config.weight_decay >= 0 && finite(config.weight_decay), "weight_decay", "at least 0 and finite",
        config.weight_decay);
  check(config.clip > 0, "clip", "above 0", config.clip);
  check_at_least(kWho, "validate_every", config.validate_every, 0);
  check_at_least(kWho, "validation_tokens", config.validation_tokens, 0);
  Dropout{config.dropout}.check(kWho);
  check_at_least(kWho, "patience", config.patience, 0);
  if (config.patience > 0 && config.validate_every == 0)
    fail(kWho, "validate_every", "at least 1 where patience counts validations", "0");
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
