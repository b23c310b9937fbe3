// SPDX-License-Identifier: MIT
//
// The loop behind `train` (trainer.hpp), from a state to the end of the run.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/executor.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/training/gradient_clip.hpp>
#include <hsm/training/learning_rate.hpp>
#include <hsm/training/processes.hpp>
#include <hsm/training/token_windows.hpp>
#include <hsm/training/training_diverged.hpp>
#include <hsm/training/training_state.hpp>

namespace hsm::inline HSM_ABI::detail {

/// A run that goes on from a state, which stays whole at every callback.
template <class Model, class Processes = OneProcess<Model>>
class TrainingRun {
 public:
  TrainingRun(Model& model, TrainingState<Model>& state, std::span<const std::int32_t> text,
              std::span<const std::int32_t> validation, Workspace& workspace, Processes& processes)
      : processes_(processes),
        model_(model),
        state_(state),
        config_(state.config),
        progress_(state.progress),
        validation_(validation),
        workspace_(workspace),
        time_(model.config().context),
        rate_{config_.learning_rate, 0, 1, config_.final_rate},
        windows_(text, time_, state.windows),
        gradients_(zeros_like(model)),
        ids_(static_cast<std::size_t>(config_.batch * time_)),
        targets_(ids_.size()),
        seconds_before_(progress_.seconds) {
    rate_.total = by_clock() ? kClockTicks : config_.steps;
    rate_.warmup = static_cast<Index>(std::llround(config_.warmup * static_cast<double>(rate_.total)));
    progress_.steps = by_clock() ? 0 : config_.steps;
    if (progress_.step == 0) return;
    // The config may have changed since the last step: to a longer or shorter run, to more patience, to keep the best
    // model or not; and the clock may have run out in a validation.
    if (!config_.keeps_best()) {
      state_.best.reset();
    } else if (!state_.best) {  // what is kept is the best from here on
      progress_.best_loss.reset();
      progress_.best_step = state_.stale = 0;
    }
    measure_share();
    progress_.finished = !state_.validation_due && (progress_.fraction >= 1 || impatient());
  }

  template <class Callback, class Stop>
  TrainingProgress run(Callback&& callback, Stop&& stop) {
    bool more = true;
    if (state_.validation_due) more = end_step(callback, stop);
    while (more && progress_.fraction < 1 && !progress_.finished) {
      progress_.learning_rate = by_clock()
                                    ? rate_.at_progress(processes_.of_first((std::min)(1.0, clock_share())))
                                    : rate_.at(progress_.step);
      step();
      measure();
      progress_.validation_loss.reset();
      const bool due = config_.validate_every > 0 && progress_.step % config_.validate_every == 0;
      state_.validation_due = !validation_.empty() && (due || progress_.fraction >= 1);
      more = end_step(callback, stop);
    }
    check_weights();
    return progress_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Index kClockTicks = 1'000'000;  // the units in which a run by the clock is planned

  bool by_clock() const { return config_.minutes > 0; }
  double seconds() const {
    return seconds_before_ + std::chrono::duration<double>(Clock::now() - start_).count();
  }
  double clock_share() const { return seconds() / (60 * config_.minutes); }

  void step() {
    windows_.fill(ids_, targets_, config_.batch);
    Random drawn = state_.dropout;
    const Index rows = config_.batch / processes_.groups(), first = processes_.group() * rows * time_;
    Dropout dropout{.probability = config_.dropout, .first = first};
    if (dropout.drops()) dropout.key = drawn.bits();
    set_zero(gradients_);
    CrossEntropy loss = processes_.gradients(model_, windows_from(first, rows, time_), dropout,
                                             count_targets(targets_), gradients_, workspace_);
    processes_.sum(loss);
    check_finite("loss", loss.mean());
    const double norm = clip_global_norm(gradients_, config_.clip);
    check_finite("gradient norm", norm);
    using Scalar = typename Model::Scalar;
    const double clipped = (std::min)(norm, config_.clip);  // AdamW squares it in the scalar of the model
    if (clipped > std::sqrt(static_cast<double>((std::numeric_limits<Scalar>::max)())))
      check_finite("square of the gradient norm", std::numeric_limits<double>::infinity());
    progress_.loss = loss.mean();
    progress_.gradient_norm = norm;
    copy_weights(model_, state_.good);
    state_.good_steps = progress_.step;
    state_.updating = true;
    state_.optimizer.step(model_, gradients_, progress_.learning_rate, workspace_.executor());
    state_.updating = false;
    state_.windows = windows_.random();
    state_.dropout = drawn;
    ++progress_.step;
    constexpr double kMemory = 0.98;
    state_.smoothed = kMemory * state_.smoothed + (1 - kMemory) * progress_.loss;
    progress_.smoothed_loss = state_.smoothed / (1 - std::pow(kMemory, static_cast<double>(progress_.step)));
  }

  void measure() {
    progress_.seconds = by_clock() ? processes_.of_first(seconds()) : seconds();
    const double training = (std::max)(progress_.seconds - state_.validation_seconds, 1e-9);
    const auto steps = static_cast<double>(progress_.step);
    progress_.tokens_per_second = steps * static_cast<double>(config_.batch * time_) / training;
    measure_share();
  }

  /// How much of the run is done, and what is left.
  void measure_share() {
    if (by_clock()) {
      progress_.fraction = (std::min)(1.0, progress_.seconds / (60 * config_.minutes));
      progress_.seconds_left = (std::max)(0.0, 60 * config_.minutes - progress_.seconds);
      return;
    }
    const auto steps = static_cast<double>(progress_.step), left = static_cast<double>(config_.steps) - steps;
    progress_.fraction = (std::min)(1.0, steps / static_cast<double>(config_.steps));
    progress_.seconds_left = progress_.seconds / steps * (std::max)(0.0, left);
  }
  bool impatient() const { return config_.patience > 0 && state_.stale >= config_.patience; }

  /// What follows a step: its validation, where that is due, and the callback.
  template <class Callback, class Stop>
  bool end_step(Callback& callback, Stop& stop) {
    if (state_.validation_due) validate(stop);
    progress_.finished = !state_.validation_due && (progress_.fraction >= 1 || impatient());
    // A validation that was cut short is the first thing of a run that goes on.
    return processes_.all(callback(std::as_const(progress_))) && !state_.validation_due;
  }

  template <class Stop>
  void validate(Stop& stop) {
    const double before = seconds();
    auto part = validation_;
    if (config_.validation_tokens > 0) {
      part = part.first((std::min)(part.size(), static_cast<std::size_t>(config_.validation_tokens) + 1));
    }
    bool whole = true;
    const double loss = validation_loss(part, stop, whole);
    if (!is_finite(loss)) diverged("the validation loss after step", progress_.step, loss);
    progress_.seconds = by_clock() ? processes_.of_first(seconds()) : seconds();
    state_.validation_seconds += progress_.seconds - before;
    if (!whole) return;
    const bool better = !progress_.best_loss || loss < *progress_.best_loss;
    if (better && config_.keeps_best()) {  // what throws here is made up for: the validation is still due
      if (state_.best) {
        copy_weights(model_, *state_.best);
      } else {
        state_.best = model_;
      }
    }
    state_.validation_due = false;
    progress_.validation_loss = loss;
    state_.stale = better ? 0 : state_.stale + 1;
    if (!better) return;
    progress_.best_loss = loss;
    progress_.best_step = progress_.step;
  }

  /// The loss of all windows, of which each group takes some in a row; `whole` tells whether none was left out. All
  /// processes ask as often whether to go on.
  template <class Stop>
  double validation_loss(std::span<const std::int32_t> part, Stop& stop, bool& whole) {
    const Index predictions = static_cast<Index>(part.size()) - 1, T = (std::min)(time_, predictions);
    const ValidationWindows windows(part, T);
    const Index n = processes_.groups(), batch = config_.batch / n, each = windows.count() / n;
    const auto begin = [&](Index group) { return each * group + (std::min)(group, windows.count() % n); };
    const Index rounds = (begin(1) - 1) / batch + 1, end = begin(processes_.group() + 1);
    CrossEntropy loss;
    Index round = 0, next = begin(processes_.group());
    for (bool more = true; more && round < rounds; ++round) {
      if (const Index count = (std::min)(batch, end - next); count > 0) {
        const auto size = static_cast<std::size_t>(count * T);
        windows.fill(std::span(ids_).first(size), std::span(targets_).first(size), next, count);
        loss += processes_.loss(model_, windows_from(0, count, T), workspace_);
        next += count;
      }
      more = processes_.all(!stop());
    }
    whole = round == rounds;
    processes_.sum(loss);
    return loss.mean();
  }

  /// Those that begin with token `first` of the buffers.
  WindowBatch windows_from(Index first, Index count, Index T) const {
    const auto from = static_cast<std::size_t>(first), size = static_cast<std::size_t>(count * T);
    return {std::span(ids_).subspan(from, size), std::span(targets_).subspan(from, size), count, T};
  }

  void copy_weights(const Model& source, Model& target) {
    const auto copy = [&](std::string_view, const auto& from, auto& to) {
      constexpr Index kTaskElements = 16384;
      parallel_blocks(workspace_.executor(), from.size(), kTaskElements, [&](Index first, Index size, int) {
        std::copy_n(from.data() + first, size, to.data() + first);
      });
    };
    Model::visit(copy, source, target);
  }

  void check_finite(const char* what, double value) {
    if (is_finite(value)) return;
    diverged("the " + std::string(what) + " of step", progress_.step + 1, value);
  }

  /// No loss has been asked of the last weights where nothing was validated.
  void check_weights() {
    bool finite = true;
    Model::visit([&](std::string_view, const auto& tensor) { finite = finite && all_finite(tensor); },
                 std::as_const(model_));
    if (!finite) diverged("the weights after step", progress_.step, std::numeric_limits<double>::infinity());
  }

  [[noreturn]] void diverged(const std::string& what, Index step, double value) {
    Model::visit([](std::string_view, auto& to, const auto& from) { to = from; }, model_,
                 std::as_const(state_.good));
    const char* got = is_nan(value) ? "NaN" : "infinity";
    raise<TrainingDiverged>("train: " + what + " " + std::to_string(step) + " must be finite, got " + got +
                                "; the weights are those after step " + std::to_string(state_.good_steps) +
                                ", and a smaller learning rate may help",
                            state_.good_steps);
  }

  Processes& processes_;
  Model& model_;
  TrainingState<Model>& state_;
  const TrainingConfig& config_;
  TrainingProgress& progress_;
  std::span<const std::int32_t> validation_;
  Workspace& workspace_;
  Index time_;
  WarmupCosine rate_;
  TokenWindows windows_;
  Model gradients_;
  std::vector<std::int32_t> ids_, targets_;
  double seconds_before_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace hsm::inline HSM_ABI::detail
