// SPDX-License-Identifier: MIT
//
// hsm_lm train.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <new>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <hsm/io/output_file.hpp>
#include <hsm/io/text_file.hpp>
#include <hsm/training/trainer.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/interrupt.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/save_trained.hpp"
#include "examples/hsm_lm/step_log.hpp"
#include "examples/hsm_lm/training_memory.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/progress.hpp"

namespace hsm::examples {
namespace {

struct TrainOptions {
  ModelOptions model;
  ThreadOptions threads;
  TrainingConfig training;
  std::string text, valid, out, log;
};

/// The texts as token ids.
struct Texts {
  std::vector<std::int32_t> training, validation;
};

/// Reads a text; tells that it waits where it may have to.
std::string read_text(const std::string& path) {
  std::error_code none;
  if (std::filesystem::is_fifo(path, none))
    std::fprintf(stderr, "hsm_lm: reading the pipe %s until its end\n", path.c_str());
  return read_text_file(path);
}

Texts read_texts(const TrainOptions& options) {
  const Index context = options.model.context;
  const std::string text = read_text(options.text);
  Texts texts;
  if (options.valid.empty()) {
    const std::size_t cut = text.size() - text.size() / 20;
    texts.training = ByteTokenizer::encode(std::string_view(text).substr(0, cut));
    texts.validation = ByteTokenizer::encode(std::string_view(text).substr(cut));
  } else {
    texts.training = ByteTokenizer::encode(text);
    texts.validation = ByteTokenizer::encode(read_text(options.valid));
  }
  const auto got = static_cast<Index>(texts.training.size());
  if (got <= context) {
    throw std::invalid_argument(options.text + ": a context of " + std::to_string(context) +
                                " needs more than " + std::to_string(context) + " bytes to train on, got " +
                                std::to_string(got) + (options.valid.empty() ? " without the last 5 %" : ""));
  }
  if (texts.validation.size() < 2) {
    throw std::invalid_argument(
        (options.valid.empty() ? options.text + ": the last 5 %, for validation," : options.valid) +
        " must have at least 2 bytes, got " + std::to_string(texts.validation.size()));
  }
  return texts;
}

std::string step_text(const TrainingProgress& p) {
  const std::string done = p.steps > 0 ? format("step %td/%td", p.step, p.steps) : format("step %td", p.step);
  return format("%s (%.0f %%)  loss %.4f  %.0f tokens/s  %s left", done.c_str(), 100 * p.fraction,
                p.smoothed_loss, p.tokens_per_second, duration_text(p.seconds_left).c_str());
}

std::string validation_text(const TrainingProgress& p) {
  return format("step %td: training loss %.4f, validation loss %.4f nats = %.4f bits per byte", p.step,
                p.smoothed_loss, *p.validation_loss, *p.validation_loss / std::numbers::ln2);
}

/// Trains until the end or a signal; returns whether it was the end. `steps` counts those done, whatever happens.
bool train_with_progress(Model& model, const Texts& texts, const TrainOptions& options, Workspace& workspace,
                         StepLog& log, const InterruptGuard& guard, Index& steps) {
  ProgressLine line;
  const auto after_step = [&](const TrainingProgress& p) {
    steps = p.step;
    log.write(p, line);
    if (p.validation_loss) {
      line.keep(validation_text(p));
    } else if (line.due()) {
      line.update(step_text(p));
    }
    return guard.signal() == 0;
  };
  const TrainingProgress end = train(model, std::span<const std::int32_t>(texts.training),
                                     std::span<const std::int32_t>(texts.validation), options.training,
                                     workspace, after_step, [&] { return guard.signal() != 0; });
  line.clear();
  std::fprintf(stderr, "%td steps in %s, %.0f tokens/s\n", end.step, duration_text(end.seconds).c_str(),
               end.tokens_per_second);
  return end.fraction >= 1 && end.validation_loss.has_value();
}

/// Saves the weights from before a run went wrong beside the file that they were meant for, which stays as it was.
[[noreturn]] void save_good_weights(const Model& model, const std::string& out,
                                    const TrainingDiverged& error) {
  std::string what = error.what();
  if (what.starts_with("train: ")) what.erase(0, 7);
  if (error.good_steps() == 0) throw std::runtime_error(what + "; nothing was saved");
  const std::string mark = "step-" + std::to_string(error.good_steps());
  throw std::runtime_error(what + "; these weights are saved as " +
                           hsm::detail::path_text(save_beside(model, out, mark)));
}

/// Trains and saves; the exit code.
int train_and_save(Model& model, const Texts& texts, const TrainOptions& options, Workspace& workspace,
                   StepLog& log, const InterruptGuard& guard) {
  Index steps = 0;
  bool finished = false;
  try {
    finished = train_with_progress(model, texts, options, workspace, log, guard, steps);
  } catch (const TrainingDiverged& error) {
    guard.begin_saving();
    save_good_weights(model, options.out, error);
  } catch (const std::bad_alloc&) {
    // A step takes its memory before it changes a weight.
    if (steps == 0) throw;
    guard.begin_saving();
    save_trained(model, options.out);
    throw std::runtime_error(format("there is not enough memory for step %td; ", steps + 1) + options.out +
                             format(": saved with the weights after step %td", steps));
  }
  guard.begin_saving();
  save_trained(model, options.out);
  if (finished) {
    std::printf("%s: saved\n", options.out.c_str());
  } else {
    std::printf("ended by %s; %s: saved\n", signal_name(guard.signal()), options.out.c_str());
  }
  settle_output();
  return finished ? 0 : ended_by(guard.signal());
}

/// What can be known to fail before hours of training is found out before.
void check_before(const TrainOptions& options) {
  CommandFiles files;
  files.reads("--text", options.text);
  files.reads("--valid", options.valid);
  files.writes("--out", options.out);
  files.writes("--log", options.log);
  const OutputFile probe(options.out);
}

/// The same once the size of the model file is known.
void check_room(const std::string& out, const Model& model) {
  constexpr std::uint64_t kHeader = std::uint64_t{1} << 16;
  OutputFile probe(out);
  probe.reserve(static_cast<std::uint64_t>(count_parameters(model)) * sizeof(float) + kHeader);
}

void run_train(const TrainOptions& options) {
  check_before(options);
  const LanguageModelConfig config = options.model.config();
  check_training_fits(config, options.training.batch);
  const Texts texts = read_texts(options);
  const InterruptGuard guard;  // from here on a signal is answered between two steps
  Random random(options.training.seed);
  Model model(config, random);
  check_room(options.out, model);
  Runtime runtime(options.threads);
  std::fprintf(stderr,
               "model: %s, width %td, feed-forward %td, context %td, %td parameters\n"
               "text: %zu bytes to train on, %zu to validate%s; batch %td, seed %llu\n",
               model.config().layers.c_str(), model.config().width, model.config().feed_forward,
               model.config().context, count_parameters(model), texts.training.size(),
               texts.validation.size(), options.valid.empty() ? ", the last 5 %" : "", options.training.batch,
               static_cast<unsigned long long>(options.training.seed));
  StepLog log(options.log);
  if (guard.signal() != 0) {
    std::printf("ended by %s before the first step; nothing was saved\n", signal_name(guard.signal()));
    settle_output();
    throw Exit{ended_by(guard.signal())};
  }
  if (const int code = train_and_save(model, texts, options, runtime.workspace, log, guard); code != 0)
    throw Exit{code};
}

void add_schedule_options(CLI::App& command, TrainingConfig& training) {
  constexpr Index kMost = Index{1} << 40;
  CLI::Option* steps = command.add_option("--steps", training.steps, "length of the run")
                           ->check(CLI::Range(Index{1}, kMost))
                           ->capture_default_str();
  command.add_option("--minutes", training.minutes, "instead: length of the run by the clock")
      ->check(between(1e-3, 1e6))
      ->excludes(steps);
  command.add_option("--batch", training.batch, "windows per step")
      ->check(CLI::Range(Index{1}, Index{1} << 20))
      ->capture_default_str();
  command.add_option("--learning-rate", training.learning_rate, "highest learning rate")
      ->check(between(1e-12, 1e3))
      ->capture_default_str();
  command.add_option("--warmup", training.warmup, "share of the run in which the learning rate rises")
      ->check(between(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--weight-decay", training.weight_decay, "of AdamW")
      ->check(between(0.0, 1e3))
      ->capture_default_str();
  command
      .add_option("--validate-every", training.validate_every,
                  "steps between validations; 0 = only at the end")
      ->check(CLI::Range(Index{0}, kMost))
      ->capture_default_str();
  command
      .add_option("--validation-tokens", training.validation_tokens,
                  "bytes of the validation text that are predicted; 0 = all")
      ->check(CLI::Range(Index{0}, kMost))
      ->capture_default_str();
}

/// Accepts any text but none: an empty name is a variable of a script that was not set.
CLI::Validator file_name() {
  const auto check = [](const std::string& text) {
    return text.empty() ? std::string("must name a file, got an empty name") : std::string();
  };
  return CLI::Validator(check, "", "file_name");
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  options->training.validation_tokens = 100'000;
  CLI::App* command = app.add_subcommand("train",
                                         "Train a model on a text. Ctrl-C, SIGTERM or SIGHUP ends early and "
                                         "saves: exit code 130, 143 or 129");
  command->add_option("--text", options->text, "file to learn from")->required()->check(file_name());
  command->add_option("--valid", options->valid, "file to validate on; the last 5 % of the text if not given")
      ->check(file_name());
  command->add_option("--out", options->out, "model file to write")->required()->check(file_name());
  command->add_option("--log", options->log, "table of all steps to write, CSV")->check(file_name());
  options->model.add_to(*command);
  add_schedule_options(*command, options->training);
  add_seed(*command, options->training.seed, "of first weights and windows")->capture_default_str();
  options->threads.add_to(*command);
  command->callback([options] { run_train(*options); });
}

}  // namespace hsm::examples
