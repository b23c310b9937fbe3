// SPDX-License-Identifier: MIT
//
// The training loop of a language model. Each step:
//
//   B random windows of T tokens -> loss and gradients -> norm of all clipped (config.clip) -> AdamW (beta1 0.9,
//   beta2 0.95, see adamw.hpp) at the rate of warm-up and cosine (learning_rate.hpp)
//
// The warm-up is a share of the run, rounded to whole steps (half up): with 0.02 a run of up to
// 24 steps has none. A run by the clock begins its warm-up at rate 0.
// Model, texts and seed settle a run of a given number of steps bit for bit, whatever the number of threads; a
// run by the clock depends on the clock. Memory: gradients, two moments and a copy of the weights in the size
// of the model, and the record of one batch. A loss or norm that is not finite ends the run: the step before
// led there, so the model gets the weights from before that one, the last whose loss and norm were finite.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/core/executor.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/training/adamw.hpp>
#include <hsm/training/evaluation.hpp>
#include <hsm/training/gradient_clip.hpp>
#include <hsm/training/language_model_loss.hpp>
#include <hsm/training/learning_rate.hpp>
#include <hsm/training/token_windows.hpp>
#include <hsm/training/training_config.hpp>

namespace hsm::inline HSM_ABI {

/// Training ended because a loss, a norm or a weight was not finite. The model has the last weights that were
/// known to be good.
class TrainingDiverged : public std::runtime_error {
 public:
  /// `good_steps`: after how many steps the model had these weights.
  TrainingDiverged(const std::string& what, Index good_steps)
      : std::runtime_error(what), good_steps_(good_steps) {}

  /// The steps that led to the weights that the model has now; 0 for those it began with.
  Index good_steps() const { return good_steps_; }

 private:
  Index good_steps_;
};

namespace detail {

/// Throws std::out_of_range for a token id outside [0,V): before hours of training, not in between.
inline void check_text(const char* what, std::span<const std::int32_t> text, Index V) {
  const auto bad = std::find_if(text.begin(), text.end(), [V](std::int32_t id) { return id < 0 || id >= V; });
  if (bad == text.end()) return;
  detail::raise<std::out_of_range>("train: token " + std::to_string(bad - text.begin()) + " of the " + what +
                                   " text must be 0 to " + std::to_string(V - 1) + ", got " +
                                   std::to_string(*bad));
}

/// The state of one run of `train`.
template <class Model>
class TrainingRun {
 public:
  TrainingRun(Model& model, std::span<const std::int32_t> text, std::span<const std::int32_t> validation,
              const TrainingConfig& config, Workspace& workspace)
      : model_(model),
        validation_(validation),
        config_(config),
        workspace_(workspace),
        time_(model.config().context),
        rate_{config.learning_rate, 0, 1, config.final_rate},
        windows_(text, time_, Random(config.seed)),
        gradients_(zeros_like(model)),
        good_(model),
        optimizer_(model, {.weight_decay = config.weight_decay}),
        ids_(static_cast<std::size_t>(config.batch * time_)),
        targets_(ids_.size()) {
    rate_.total = by_clock() ? kClockTicks : config.steps;
    rate_.warmup = static_cast<Index>(std::llround(config.warmup * static_cast<double>(rate_.total)));
    progress_.steps = by_clock() ? 0 : config.steps;
    static_cast<void>(rate_.at_progress(0));  // its fields are checked where it is asked
    if (!(config.clip > 0)) fail("train", "clip", "above 0", std::to_string(config.clip));
  }

  template <class Callback, class Stop>
  TrainingProgress run(Callback&& callback, Stop&& stop) {
    bool more = true;
    while (more && progress_.fraction < 1) {
      progress_.learning_rate =
          by_clock() ? rate_.at_progress((std::min)(1.0, clock_share())) : rate_.at(progress_.step);
      step();
      measure();
      progress_.validation_loss.reset();
      const bool due = config_.validate_every > 0 && progress_.step % config_.validate_every == 0;
      if (!validation_.empty() && (due || progress_.fraction >= 1)) validate(stop);
      more = callback(std::as_const(progress_));
    }
    check_weights();
    return progress_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Index kClockTicks = 1'000'000;  // the units in which a run by the clock is planned

  bool by_clock() const { return config_.minutes > 0; }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double clock_share() const { return seconds() / (60 * config_.minutes); }

  void step() {
    windows_.fill(ids_, targets_, config_.batch);
    set_zero(gradients_);
    progress_.loss = language_model_gradients(model_, std::span<const std::int32_t>(ids_),
                                              std::span<const std::int32_t>(targets_), config_.batch, time_,
                                              saved_, gradients_, workspace_)
                         .mean();
    check_finite("loss", progress_.loss);
    progress_.gradient_norm = clip_global_norm(gradients_, config_.clip);
    check_finite("gradient norm", progress_.gradient_norm);
    keep_weights();
    optimizer_.step(model_, gradients_, progress_.learning_rate, workspace_.executor());
    ++progress_.step;
    constexpr double kMemory = 0.98;
    smoothed_ = kMemory * smoothed_ + (1 - kMemory) * progress_.loss;
    progress_.smoothed_loss = smoothed_ / (1 - std::pow(kMemory, static_cast<double>(progress_.step)));
  }

  void measure() {
    progress_.seconds = seconds();
    const double training = (std::max)(progress_.seconds - validation_seconds_, 1e-9);
    const auto steps = static_cast<double>(progress_.step);
    progress_.tokens_per_second = steps * static_cast<double>(config_.batch * time_) / training;
    if (by_clock()) {
      progress_.fraction = (std::min)(1.0, clock_share());
      progress_.seconds_left = (std::max)(0.0, 60 * config_.minutes - progress_.seconds);
    } else {
      progress_.fraction = steps / static_cast<double>(config_.steps);
      progress_.seconds_left =
          progress_.seconds / steps * static_cast<double>(config_.steps - progress_.step);
    }
  }

  template <class Stop>
  void validate(Stop& stop) {
    const double before = seconds();
    auto part = validation_;
    if (config_.validation_tokens > 0) {
      part = part.first((std::min)(part.size(), static_cast<std::size_t>(config_.validation_tokens) + 1));
    }
    bool whole = true;
    const auto go_on = [&](Index done, Index all) {
      whole = done == all;
      return !stop();
    };
    const double loss = evaluate(model_, part, {.batch = config_.batch}, workspace_, go_on).nats();
    if (!detail::is_finite(loss)) diverged("the validation loss after step", progress_.step, loss);
    if (whole) progress_.validation_loss = loss;
    progress_.seconds = seconds();
    validation_seconds_ += progress_.seconds - before;
  }

  /// Notes the weights whose loss and norm have just been found finite.
  void keep_weights() {
    const auto keep = [&](std::string_view, const auto& from, auto& to) {
      constexpr Index kTaskElements = 16384;
      parallel_blocks(workspace_.executor(), from.size(), kTaskElements, [&](Index first, Index size, int) {
        std::copy_n(from.data() + first, size, to.data() + first);
      });
    };
    Model::visit(keep, std::as_const(model_), good_);
    good_steps_ = progress_.step;
  }

  void check_finite(const char* what, double value) {
    if (detail::is_finite(value)) return;
    diverged("the " + std::string(what) + " of step", progress_.step + 1, value);
  }

  /// No loss has been asked of the last weights where nothing was validated.
  void check_weights() {
    bool finite = true;
    Model::visit([&](std::string_view, const auto& tensor) { finite = finite && detail::all_finite(tensor); },
                 std::as_const(model_));
    if (!finite) diverged("the weights after step", progress_.step, std::numeric_limits<double>::infinity());
  }

  [[noreturn]] void diverged(const std::string& what, Index step, double value) {
    Model::visit([](std::string_view, auto& to, const auto& from) { to = from; }, model_,
                 std::as_const(good_));
    const char* got = detail::is_nan(value) ? "NaN" : "infinity";
    raise<TrainingDiverged>("train: " + what + " " + std::to_string(step) + " must be finite, got " + got +
                                "; the weights are those after step " + std::to_string(good_steps_) +
                                ", and a smaller learning rate may help",
                            good_steps_);
  }

  Model& model_;
  std::span<const std::int32_t> validation_;
  TrainingConfig config_;
  Workspace& workspace_;
  Index time_;
  WarmupCosine rate_;
  TokenWindows windows_;
  Model gradients_, good_;
  Index good_steps_ = 0;  // that led to good_
  AdamW<Model> optimizer_;
  std::vector<std::int32_t> ids_, targets_;
  typename Model::Saved saved_;
  TrainingProgress progress_;
  double smoothed_ = 0, validation_seconds_ = 0;
  Clock::time_point start_ = Clock::now();
};

}  // namespace detail

/// Trains `model` on `text`, both token ids; `validation` may be empty. callback(progress) is called after
/// each step and returns whether to go on; stopped by it, the last step is not validated. stop() is asked
/// between the windows of a validation: where it returns true the validation ends and gives no loss. Returns
/// the progress after the last step.
///
/// Throws, before the model is touched, std::invalid_argument for a config outside its bounds, a text that is
/// no longer than a window or a validation text of 1 token, and std::out_of_range for a token id outside
/// [0,V). Throws TrainingDiverged, naming the step, when a loss, the gradient norm or a last weight is not
/// finite.
template <class Model, class Callback, class Stop>
TrainingProgress train(Model& model, std::span<const std::int32_t> text,
                       std::span<const std::int32_t> validation, const TrainingConfig& config,
                       Workspace& workspace, Callback&& callback, Stop&& stop) {
  detail::check_training(config);
  detail::check_text("training", text, model.config().vocabulary);
  detail::check_text("validation", validation, model.config().vocabulary);
  if (validation.size() == 1)
    detail::fail("train", "validation", "empty or at least 2 tokens, one to read and one to predict", "1");
  if (config.batch >
      (std::numeric_limits<Index>::max)() / model.config().context / model.config().width / 64) {
    detail::fail("train", "batch", "small enough to address", std::to_string(config.batch));
  }
  detail::TrainingRun<Model> run(model, text, validation, config, workspace);
  return run.run(callback, stop);
}

/// The same, with validations that are never cut short.
template <class Model, class Callback>
TrainingProgress train(Model& model, std::span<const std::int32_t> text,
                       std::span<const std::int32_t> validation, const TrainingConfig& config,
                       Workspace& workspace, Callback&& callback) {
  return train(model, text, validation, config, workspace, callback, [] { return false; });
}

}  // namespace hsm::inline HSM_ABI
