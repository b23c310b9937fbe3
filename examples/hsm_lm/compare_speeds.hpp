// SPDX-License-Identifier: MIT
//
// How fast the contenders are: tokens per second in training, in windows of T tokens, and in generation, one token at
// a time after T others. All take turns, three times, so that a change of the machine's load meets all of them; what is
// told is the median. The weights are first ones: speed does not depend on them. A measurement that the table has is
// not made again.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/model/cost.hpp>
#include <hsm/training/trainer.hpp>

#include "examples/hsm_lm/compare_plan.hpp"
#include "examples/hsm_lm/interrupt.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_table.hpp"

namespace hsm::examples {

inline constexpr int kSpeedRounds = 3;
inline constexpr const char* kTrainingSpeed = "training";
inline constexpr const char* kGenerationSpeed = "generation";

/// The columns of the measurements.
inline RunColumns speed_columns(const CompareOptions& o, const ComparePlan& plan) {
  const auto number = [](auto value) { return std::to_string(value); };
  return {.settings = {{"vocabulary", number(plan.texts.vocabulary)},
                       {"width", number(o.width)},
                       {"trained_context", number(o.context)},
                       {"target_parameters", number(plan.parameters)},
                       {"schedule", o.schedule},
                       {"batch", number(o.batch)}},
          .keys = {"recipe", "what", "context", "round"},
          .results = {"tokens_per_second", "threads", "machine"},
          .forms = {{"tokens_per_second", kAmountCell}}};
}

inline Cells speed_key(const Contender& contender, const char* what, Index context, int round) {
  return {contender.name, what, std::to_string(context), std::to_string(round)};
}

/// The median of what was measured; nothing where nothing was.
inline std::optional<double> speed_of(const RunTable* table, const Contender& contender, const char* what,
                                      Index context) {
  std::vector<double> speeds;
  for (int round = 0; table != nullptr && round < kSpeedRounds; ++round) {
    const Cells key = speed_key(contender, what, context, round);
    if (table->find(key) != nullptr) speeds.push_back(table->number(key, "tokens_per_second"));
  }
  if (speeds.empty()) return std::nullopt;
  std::sort(speeds.begin(), speeds.end());
  return speeds[speeds.size() / 2];
}

namespace detail {

using SpeedClock = std::chrono::steady_clock;

inline double seconds_since(SpeedClock::time_point start) {
  return std::chrono::duration<double>(SpeedClock::now() - start).count();
}

/// `size` ids of a text, from its start on again and again.
inline std::vector<std::int32_t> ids_of(const std::vector<std::int32_t>& text, Index size) {
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < static_cast<std::size_t>(size); ++i) ids.push_back(text[i % text.size()]);
  return ids;
}

/// Windows of a step: as many tokens as in a step of the comparison, or one window.
inline Index speed_batch(const CompareOptions& o, Index window) {
  return std::max<Index>(1, o.batch * o.context / window);
}

/// Whole steps of training, optimizer and all; as many tokens in each as in a step of the comparison, or a window.
inline double training_speed(const CompareOptions& o, const ComparePlan& plan, LanguageModelConfig config,
                             Index window, Workspace& workspace, const InterruptGuard& guard) {
  config.context = window;
  TrainingConfig training;
  training.batch = speed_batch(o, window);
  training.steps = Index{1} << 30;  // the callback ends them
  training.learning_rate = 1e-6;
  Random random(1);
  Model model(config, random);
  const std::vector<std::int32_t> ids = ids_of(plan.texts.training, 2 * window + 2);
  SpeedClock::time_point start;
  double seconds = 0, steps = 0;
  static_cast<void>(train(model, std::span<const std::int32_t>(ids), {}, training, workspace,
                          [&](const TrainingProgress& p) {
                            if (p.step == 1) {  // which took its memory
                              start = SpeedClock::now();
                              return true;
                            }
                            steps = static_cast<double>(p.step - 1);
                            seconds = seconds_since(start);
                            return guard.signal() == 0 && (steps < 2 || seconds < plan.speed_seconds);
                          }));
  return steps * static_cast<double>(training.batch * window) / seconds;
}

/// Tokens that are generated before the stream is taken back.
inline constexpr Index kSpeedTokens = 16;

/// One token at a time after `context` tokens, to which the stream is taken back again and again.
inline double generation_speed(const ComparePlan& plan, LanguageModelConfig config, Index context,
                               Workspace& workspace, const InterruptGuard& guard) {
  constexpr Index kTokens = kSpeedTokens, kAtATime = 4096;  // between two looks at the guard
  config.context = std::max(config.context, context + kTokens);
  Random random(1);
  const Model model(config, random);
  Model::State state = model.make_state({.spare = kTokens});
  const Index V = config.vocabulary;
  std::vector<float> values(static_cast<std::size_t>(V));
  const Columns<float> logits(values.data(), V, 1, Eigen::OuterStride<>(V));
  const std::vector<std::int32_t> ids = ids_of(plan.texts.training, context);
  for (Index first = 0; first < context; first += kAtATime) {
    if (guard.signal() != 0) return 0;
    model.extend(std::span(ids).subspan(static_cast<std::size_t>(first),
                                        static_cast<std::size_t>(std::min(kAtATime, context - first))),
                 state, logits, workspace);
  }
  double seconds = 0, tokens = 0;
  for (bool warm = false; !warm || seconds < plan.speed_seconds; warm = true) {
    const auto start = SpeedClock::now();
    for (Index i = 0; i < kTokens; ++i) model.extend(std::span(ids).first(1), state, logits, workspace);
    if (warm) {
      seconds += seconds_since(start);
      tokens += static_cast<double>(kTokens);
    }
    state.rewind(0, kTokens);
  }
  return tokens / seconds;
}

}  // namespace detail

/// Throws std::invalid_argument where a model of a measurement could not be held: before the training, which comes first.
inline void check_speeds_fit(const CompareOptions& o, const ComparePlan& plan) {
  const double left = memory_left();
  for (const Contender& contender : plan.contenders) {
    LanguageModelConfig config = contender.config;
    for (const Index window : o.speed_windows) {
      config.context = window;
      check_training_fits(config, {.batch = detail::speed_batch(o, window)});
    }
    for (const Index context : o.speed_contexts) {
      const Index tokens = context + detail::kSpeedTokens;
      config.context = std::max(contender.config.context, tokens);
      const double bytes = static_cast<double>(parameters_of(config)) * sizeof(float) +
                           cost_of(config).at(CostKind::kState, static_cast<double>(tokens));
      if (bytes <= left) continue;
      throw std::invalid_argument(contender.name + ": to measure its speed after " +
                                  counted(context, "token") + " would take " + bytes_text(bytes) +
                                  " of memory, and " + bytes_text(left) +
                                  " can be had; smaller --speed-contexts take less");
    }
  }
}

/// Throws std::invalid_argument where the table lacks measurements, and has some of another machine or number of threads:
/// they would stand beside each other.
inline void check_speeds_machine(const CompareOptions& o, const ComparePlan& plan, const RunTable& table) {
  const std::string here = machine_line(o.threads.threads);
  const auto lacks = [&](const char* what, const std::vector<Index>& contexts) {
    return std::any_of(contexts.begin(), contexts.end(), [&](Index context) {
      return std::any_of(plan.contenders.begin(), plan.contenders.end(), [&](const Contender& contender) {
        return table.find(speed_key(contender, what, context, kSpeedRounds - 1)) == nullptr;
      });
    });
  };
  if (!lacks(kTrainingSpeed, o.speed_windows) && !lacks(kGenerationSpeed, o.speed_contexts)) return;
  for (const Cells& key : table.keys()) {
    const std::string& there = table.cell(key, "machine");
    if (there == here) continue;
    throw std::invalid_argument(
        "--speeds: the table of speeds was measured on " + hsm::detail::in_quotes(there) + ", and this is " +
        hsm::detail::in_quotes(here) + "; go on there, or delete it to measure all here");
  }
}

/// Measures what the table lacks; returns false after a signal.
inline bool measure_speeds(const CompareOptions& o, const ComparePlan& plan, RunTable& table,
                           Workspace& workspace, const InterruptGuard& guard) {
  ProgressLine line;
  const std::string machine = machine_line(o.threads.threads);
  const auto measure = [&](const char* what, Index context, int round) {
    for (const Contender& contender : plan.contenders) {
      const Cells key = speed_key(contender, what, context, round);
      if (table.find(key) != nullptr) continue;
      if (guard.signal() != 0) return false;
      line.update(format("speed, round %d/%d: %s of %s, context %td", round + 1, kSpeedRounds, what,
                         contender.name.c_str(), context));
      const double speed = std::string_view(what) == kTrainingSpeed
                               ? detail::training_speed(o, plan, contender.config, context, workspace, guard)
                               : detail::generation_speed(plan, contender.config, context, workspace, guard);
      if (guard.signal() != 0) return false;  // it was cut short
      table.add(key, {format("%.1f", speed), std::to_string(o.threads.threads), machine});
    }
    return true;
  };
  for (int round = 0; round < kSpeedRounds; ++round) {
    for (const Index window : o.speed_windows) {
      if (!measure(kTrainingSpeed, window, round)) return false;
    }
    for (const Index context : o.speed_contexts) {
      if (!measure(kGenerationSpeed, context, round)) return false;
    }
  }
  return true;
}

}  // namespace hsm::examples
