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
// run by the clock depends on the clock. Memory: gradients and two moments in the size of the model, and the
// record of one batch. A loss or norm that is not finite ends the run with the weights as they were before
// that step.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/core/parameters.hpp>
#include <hsm/training/adamw.hpp>
#include <hsm/training/evaluation.hpp>
#include <hsm/training/gradient_clip.hpp>
#include <hsm/training/language_model_loss.hpp>
#include <hsm/training/learning_rate.hpp>
#include <hsm/training/token_windows.hpp>
#include <hsm/training/training_config.hpp>

namespace hsm::inline HSM_ABI {

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
        optimizer_(model, {.weight_decay = config.weight_decay}),
        ids_(static_cast<std::size_t>(config.batch * time_)),
        targets_(ids_.size()) {
    rate_.total = by_clock() ? kClockTicks : config.steps;
    rate_.warmup = static_cast<Index>(std::llround(config.warmup * static_cast<double>(rate_.total)));
    progress_.steps = by_clock() ? 0 : config.steps;
    static_cast<void>(rate_.at_progress(0));  // its fields are checked where it is asked
    if (!(config.clip > 0)) fail("train", "clip", "above 0", std::to_string(config.clip));
  }

  template <class Callback>
  TrainingProgress run(Callback&& callback) {
    bool more = true;
    while (more && progress_.fraction < 1) {
      progress_.learning_rate =
          by_clock() ? rate_.at_progress((std::min)(1.0, clock_share())) : rate_.at(progress_.step);
      step();
      measure();
      progress_.validation_loss.reset();
      const bool due = config_.validate_every > 0 && progress_.step % config_.validate_every == 0;
      if (!validation_.empty() && (due || progress_.fraction >= 1)) validate();
      more = callback(std::as_const(progress_));
    }
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

  void validate() {
    const double before = seconds();
    auto part = validation_;
    if (config_.validation_tokens > 0) {
      part = part.first((std::min)(part.size(), static_cast<std::size_t>(config_.validation_tokens) + 1));
    }
    progress_.validation_loss = evaluate(model_, part, {.batch = config_.batch}, workspace_).nats();
    progress_.seconds = seconds();
    validation_seconds_ += progress_.seconds - before;
  }

  void check_finite(const char* what, double value) const {
    if (detail::is_finite(value)) return;
    detail::raise<std::runtime_error>(
        "train: the " + std::string(what) + " of step " + std::to_string(progress_.step + 1) +
        " must be finite, got " + std::to_string(value) +
        "; the weights are those before it, and a smaller learning rate may help");
  }

  Model& model_;
  std::span<const std::int32_t> validation_;
  TrainingConfig config_;
  Workspace& workspace_;
  Index time_;
  WarmupCosine rate_;
  TokenWindows windows_;
  Model gradients_;
  AdamW<Model> optimizer_;
  std::vector<std::int32_t> ids_, targets_;
  typename Model::Saved saved_;
  TrainingProgress progress_;
  double smoothed_ = 0, validation_seconds_ = 0;
  Clock::time_point start_ = Clock::now();
};

}  // namespace detail

/// Trains `model` on `text`, both token ids; `validation` may be empty. callback(progress) is called after
/// each step and returns whether to go on; stopped by it, the last step is not validated. Returns the progress
/// after the last step.
///
/// Throws, before the model is touched, std::invalid_argument for a config outside its bounds, a text that is
/// no longer than a window or a validation text of 1 token, and std::out_of_range for a token id outside
/// [0,V). Throws std::runtime_error, naming the step, when loss or gradient norm is not finite.
template <class Model, class Callback>
TrainingProgress train(Model& model, std::span<const std::int32_t> text,
                       std::span<const std::int32_t> validation, const TrainingConfig& config,
                       Workspace& workspace, Callback&& callback) {
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
  return run.run(callback);
}

}  // namespace hsm::inline HSM_ABI
