// SPDX-License-Identifier: MIT
//
// Checkpoints of hsm_lm train: written while it trains, and taken up by a later run.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include <hsm/io/checkpoint_file.hpp>
#include <hsm/io/output_file.hpp>

#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/train_options.hpp"
#include "examples/support/progress.hpp"

namespace hsm::examples {

/// Where a run stands.
using TrainingCheckpoint = Checkpoint<Model>;

/// Writes checkpoints. One that cannot be written leaves the former one as it was; this is told, and training goes
/// on, or ends as it was asked to. An empty path writes nothing.
class CheckpointWriter {
 public:
  CheckpointWriter(std::string path, Index every) : path_(std::move(path)), every_(every) {}

  /// Writes one where the step asks for it, at the end of the run, and where `ending` says that the run is to stop.
  void after_step(const TrainingCheckpoint& run, bool ending, ProgressLine& line) {
    const TrainingProgress& p = run.state.progress;
    if (path_.empty() || !(ending || p.finished || p.step % every_ == 0)) return;
    try {
      save_checkpoint(path_, run.model, run.state);
      told_ = false;
    } catch (const CommitError& error) {
      std::error_code none;
      std::filesystem::remove(error.complete(), none);  // or one more would stay each time
      tell(path_ + ": cannot replace the file", ending, line);
    } catch (const std::runtime_error& error) {
      tell(error.what(), ending, line);
    }
  }

 private:
  /// Once, until one could be written again, and at the end.
  void tell(const std::string& what, bool ending, ProgressLine& line) {
    if (std::exchange(told_, true) && !ending) return;
    line.keep("hsm_lm: " + what + "; the checkpoint before stays as it was" +
              (ending ? "" : ", and training goes on"));
  }

  std::string path_;
  Index every_;
  bool told_ = false;
};

/// `expected` is empty where the option cannot say what the run does.
[[noreturn]] inline void refuse_other(const TrainOptions& options, const std::string& option,
                                      const std::string& expected, const std::string& got) {
  throw std::invalid_argument(option + " must be " + expected + (expected.empty() ? "" : " or ") +
                              "left out to go on from " + options.resume + ", got " + got);
}

/// The options that describe the model become those of the checkpoint. Throws std::invalid_argument for one on the
/// command line that says otherwise.
inline void take_model_options(TrainOptions& options, const LanguageModelConfig& config) {
  ModelOptions& asked = options.model;
  struct Shown {
    std::string operator()(const std::string& text) const { return text; }
    std::string operator()(Index number) const { return std::to_string(number); }
  } const told;
  const auto same = [&](const std::string& option, const auto& got, const auto& expected) {
    if (options.given(option) && got != expected) refuse_other(options, option, told(expected), told(got));
  };
  try {
    same("--width", asked.width, config.width);
    same("--context", asked.context, config.context);
    same("--feed-forward", asked.feed_forward, config.feed_forward);
    same("--positions", asked.positions,
         std::string(config.positions == Positions::kLearned ? "learned" : "none"));
    const Recipe own = Recipe::parse(config.layers);
    if (options.given("--layers")) {
      same("--layers", with_all_options(StandardLayers{}, Recipe::parse(asked.layers), config.width).text(),
           config.layers);
    }
    if (options.given("--schedule")) {
      same("--schedule", ScheduleText::parse(asked.schedule, static_cast<Index>(own.layers.size())).text(),
           config.schedule);
    }
    if (options.given("--parameters") && feed_forward_for(config, asked.parameters) != config.feed_forward) {
      refuse_other(options, "--parameters", "about " + std::to_string(parameters_of(config)),
                   std::to_string(asked.parameters));
    }
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(without_name(error.what()));
  }
  asked.layers = config.layers;
  asked.schedule = config.schedule;
  asked.positions = config.positions == Positions::kLearned ? "learned" : "none";
  asked.width = config.width;
  asked.context = config.context;
  asked.feed_forward = config.feed_forward;
  asked.parameters = 0;
}

/// The same for those that say how to train.
inline void take_training_options(TrainOptions& options, const TrainingConfig& run) {
  if (options.given("--steps") && run.minutes > 0)
    refuse_other(options, "--steps", "", std::to_string(options.training.steps));
  const auto take = [&](std::string_view name, auto& asked, const auto& own) {
    std::string option = "--" + std::string(name);
    for (char& c : option) {
      if (c == '_') c = '-';
    }
    if (options.given(option) && asked != own) {
      const bool none = (name == "minutes" || name == "patience" || name == "keep_best") &&
                        own == std::remove_cvref_t<decltype(own)>{};
      refuse_other(options, option, none ? "" : hsm::detail::field_text(own), hsm::detail::field_text(asked));
    }
    asked = own;
  };
  TrainingConfig::visit(take, options.training, run);
}

/// The checkpoint of --resume; the options become its own. Throws std::runtime_error or std::invalid_argument for a
/// file that is not there or not whole, or does not fit the options or the `vocabulary` of the tokenizer.
inline TrainingCheckpoint resume_training(TrainOptions& options, Index vocabulary) {
  std::error_code none;
  if (!std::filesystem::exists(options.resume, none)) {
    throw std::runtime_error(options.resume +
                             ": there is no checkpoint to go on from; without --resume the run begins");
  }
  check_regular(options.resume);
  TrainingCheckpoint run = load_checkpoint<Model>(options.resume);
  if (const Index got = run.model.config().vocabulary; got != vocabulary) {
    throw std::runtime_error(options.resume + ": the model must have the vocabulary of the tokenizer, " +
                             std::to_string(vocabulary) + ", got " + std::to_string(got));
  }
  take_model_options(options, run.model.config());
  take_training_options(options, run.state.config);
  return run;
}

}  // namespace hsm::examples
