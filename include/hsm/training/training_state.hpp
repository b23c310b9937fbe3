// SPDX-License-Identifier: MIT
//
// All that a training run carries from step to step besides the model, as a plain value: it can be copied, saved
// (io/checkpoint_file.hpp) and gone on from, here or in a loop of one's own.
//
//   TrainingState state(model, config, TextMark(text), TextMark(validation));
//   train(model, state, text, validation, workspace, [&](const TrainingProgress& p) {
//     if (p.step % 100 == 0) save_checkpoint("run.checkpoint", model, state);
//     return true;
//   });
//
// A run that goes on from (model, state) as they were at a callback has the bits of one that was never stopped.
// Memory: two moments and the last good weights in the size of the model, and the best ones where they are kept.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <hsm/core/check.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/random.hpp>
#include <hsm/training/adamw.hpp>
#include <hsm/training/text_mark.hpp>
#include <hsm/training/training_config.hpp>

namespace hsm::inline HSM_ABI {

/// Where a training run stands; see the file comment. The fields are those of the last callback.
template <class Model>
struct TrainingState {
  TrainingConfig config;          ///< how it trains
  TextMark text;                  ///< what it trains on
  TextMark validation;            ///< what it is validated on
  AdamW<Model> optimizer;         ///< both moments and the number of updates
  Random windows;                 ///< draws the windows of the next step
  Random dropout;                 ///< draws the key of the next step's dropout
  Model good;                     ///< the last weights whose loss and norm were finite
  Index good_steps = 0;           ///< the steps that led to them
  std::optional<Model> best;      ///< the weights of the lowest validation loss, where they are kept
  Index stale = 0;                ///< validations since then
  TrainingProgress progress;      ///< what the callback was told
  double smoothed = 0;            ///< the sum behind progress.smoothed_loss
  double validation_seconds = 0;  ///< of progress.seconds
  bool validation_due = false;  ///< the validation after the last step was cut short: going on begins with it
  bool updating = false;        ///< true after an update that threw: model and moments have it in part

  /// The start of a run of `model`. Throws std::invalid_argument for a weight decay outside its bounds; the rest of
  /// the config is looked at when training begins.
  TrainingState(const Model& model, const TrainingConfig& how, TextMark text_mark, TextMark validation_mark)
      : config(how),
        text(text_mark),
        validation(validation_mark),
        optimizer(model, {.weight_decay = how.weight_decay}),
        windows(how.seed),
        dropout(Random(how.seed ^ kDropoutSeed).bits()),
        good(model) {}

  /// The weights that are to be kept of a run that stands at `model` and this: the best ones, or the last.
  const Model& kept(const Model& model) const { return best ? *best : model; }

  /// Calls f(name, tensor) for each tensor: optimizer.first_moment.*, optimizer.second_moment.*, good.* and, where
  /// there are best weights, best.*, each in the model's order.
  template <class F, class Self>
  static void visit(F&& f, Self& self) {
    AdamW<Model>::visit(named("optimizer", f), self.optimizer);
    Model::visit(named("good", f), self.good);
    if (self.best) Model::visit(named("best", f), *self.best);
  }

  /// Throws std::invalid_argument, which `who` begins, unless this is a state of a run of `model`, all its tensors: what
  /// belongs together is walked in step.
  void check_model(const char* who, const Model& model) const {
    const bool same = model.config() == good.config() && (!best || model.config() == best->config());
    if (!same) detail::fail(who, "the state", "that of a run of this model", "one of another config");
    optimizer.check_like(who, model);
  }

  /// Throws std::invalid_argument, which `who` begins, unless the optimizer is the one that the config asks for: a file
  /// holds its moments and its steps alone.
  void check_optimizer(const char* who) const {
    if (optimizer.config() == AdamWConfig{.weight_decay = config.weight_decay}) return;
    detail::fail(who, "the optimizer of the state",
                 "that of its config, AdamW with the usual betas and epsilon and a decay of " +
                     std::to_string(config.weight_decay),
                 "another");
  }

 private:
  static constexpr std::uint64_t kDropoutSeed = 0x64726F706F7574ull;  // apart from the windows' stream
};

}  // namespace hsm::inline HSM_ABI
