// SPDX-License-Identifier: MIT
//
// The training loop of a language model. Each step:
//
//   B random windows of T tokens -> loss and gradients, with dropout (config.dropout) -> norm of all clipped
//   (config.clip) -> AdamW (beta1 0.9, beta2 0.95, see adamw.hpp) at the rate of warm-up and cosine
//   (learning_rate.hpp)
//
// The warm-up is a share of the run, rounded to whole steps (half up): with 0.02 a run of up to
// 24 steps has none. A run by the clock begins its warm-up at rate 0.
// Model, texts and seed settle a run of a given number of steps bit for bit, whatever the number of threads and
// in however many parts it is run (training_state.hpp); a run by the clock depends on the clock. Memory:
// gradients, two moments and a copy of the weights in the size of the model, another copy where the best ones
// are kept, and the record of one batch. A loss or norm that is not finite ends the run: the step before
// led there, so the model gets the weights from before that one, the last whose loss and norm were finite.
#pragma once

#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <hsm/training/training_run.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// What a run is told, before anything of its size is made.
template <class Model>
void check_run(const Model& model, std::span<const std::int32_t> text,
               std::span<const std::int32_t> validation, const TrainingConfig& config) {
  check_training(config);
  check_wide("train", model.embedding().narrow);
  const Index V = model.config().vocabulary;
  check_token_ids("train", text, V, " of the training text");  // before hours of training, not in between
  check_token_ids("train", validation, V, " of the validation text");
  if (validation.size() == 1)
    fail("train", "validation", "empty or at least 2 tokens, one to read and one to predict", "1");
  if (validation.empty() && config.keeps_best())
    fail("train", "validation", "at least 2 tokens where the best model is kept", "0");
  if (config.batch >
      (std::numeric_limits<Index>::max)() / model.config().context / model.config().width / 64) {
    fail("train", "batch", "small enough to address", std::to_string(config.batch));
  }
}

/// `train` below, by these processes.
template <class Model, class Processes, class Callback, class Stop>
TrainingProgress train_by(Processes&& processes, Model& model, TrainingState<Model>& state,
                          std::span<const std::int32_t> text, std::span<const std::int32_t> validation,
                          Workspace& workspace, Callback& callback, Stop& stop) {
  check_run(model, text, validation, state.config);
  if (state.updating)
    fail("train", "the state", "whole", "one whose last update threw; go on from a copy or a checkpoint");
  state.check_optimizer("train");
  state.optimizer.check_rate("train", state.config.learning_rate);
  state.check_model("train", model);
  const auto check = [](const char* what, const TextMark& expected, const TextMark& got) {
    if (got != expected) fail("train", what, "the one of the run, " + expected.text(), got.text());
  };
  check("the training text", state.text, TextMark(text));
  check("the validation text", state.validation, TextMark(validation));
  TrainingRun<Model, std::remove_reference_t<Processes>> run(model, state, text, validation, workspace,
                                                             processes);
  return run.run(callback, stop);
}

}  // namespace detail

/// Goes on with the run that stands at `model` and `state`, fresh or saved, to its end. callback(progress) is
/// called after each step, with both as they are to be saved, and returns whether to go on; stopped by it, the
/// last step is not validated. stop() is asked between the windows of a validation: where it returns true the
/// validation ends and gives no loss, and the run ends after its callback; one that goes on from there begins with it and
/// a callback of the same step.
/// Returns the progress after the last step; `state.kept(model)` is what was to be kept. Where the config has changed, such
/// as to more steps, it counts from here on: the best model, where it was not kept before, is the best from here on.
///
/// Throws, before anything is touched, std::invalid_argument for a config outside its bounds, another model or
/// other texts than the state's, a state whose last update threw or whose optimizer is not that of its config, a
/// text that is no longer than a window or a validation text of 1 token, or of none where the best model is kept,
/// and std::out_of_range for a token id outside [0,V). Throws TrainingDiverged, naming the step, when a loss, the
/// gradient norm or a last weight is not finite; such a state is not to be gone on from.
template <class Model, class Callback, class Stop>
TrainingProgress train(Model& model, TrainingState<Model>& state, std::span<const std::int32_t> text,
                       std::span<const std::int32_t> validation, Workspace& workspace, Callback&& callback,
                       Stop&& stop) {
  return detail::train_by(detail::OneProcess<Model>{}, model, state, text, validation, workspace, callback,
                          stop);
}

/// The same, with validations that are never cut short.
template <class Model, class Callback>
TrainingProgress train(Model& model, TrainingState<Model>& state, std::span<const std::int32_t> text,
                       std::span<const std::int32_t> validation, Workspace& workspace, Callback&& callback) {
  return train(model, state, text, validation, workspace, callback, [] { return false; });
}

/// Trains `model` on `text`, both token ids; `validation` may be empty. Otherwise as above, but for the model
/// that is left: the best one where the config keeps it, also of a run that was stopped. Where TrainingDiverged is thrown
/// it is the last good one all the same; who wants the best then holds the state, as above.
template <class Model, class Callback, class Stop>
TrainingProgress train(Model& model, std::span<const std::int32_t> text,
                       std::span<const std::int32_t> validation, const TrainingConfig& config,
                       Workspace& workspace, Callback&& callback, Stop&& stop) {
  detail::check_run(model, text, validation, config);
  TrainingState<Model> state(model, config, TextMark(text), TextMark(validation));
  const TrainingProgress end = train(model, state, text, validation, workspace, callback, stop);
  if (state.best) model = *std::move(state.best);
  return end;
}

/// The same, with validations that are never cut short.
template <class Model, class Callback>
TrainingProgress train(Model& model, std::span<const std::int32_t> text,
                       std::span<const std::int32_t> validation, const TrainingConfig& config,
                       Workspace& workspace, Callback&& callback) {
  return train(model, text, validation, config, workspace, callback, [] { return false; });
}

}  // namespace hsm::inline HSM_ABI
