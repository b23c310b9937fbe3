// SPDX-License-Identifier: MIT
//
// hsm_lm train.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>

#include <hsm/io/output_file.hpp>
#include <hsm/io/text_file.hpp>
#include <hsm/training/trainer.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/interrupt.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
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

/// A table that grows by a line per step. What cannot be written is told once; training goes on.
class StepLog {
 public:
  explicit StepLog(const std::string& path) : path_(path) {
    if (path.empty()) return;
    file_.open(path);
    file_ << "step,seconds,loss,smoothed_loss,learning_rate,gradient_norm,tokens_per_second,validation_loss\n"
          << std::flush;
    if (!file_) throw std::runtime_error(path + ": cannot write the log");
  }

  void write(const TrainingProgress& p, ProgressLine& line) {
    if (path_.empty()) return;
    file_ << format("%td,%.3f,%.6f,%.6f,%.6g,%.6g,%.1f,", p.step, p.seconds, p.loss, p.smoothed_loss,
                    p.learning_rate, p.gradient_norm, p.tokens_per_second)
          << (p.validation_loss ? format("%.6f", *p.validation_loss) : std::string()) << '\n'
          << std::flush;
    if (file_) return;
    line.keep("hsm_lm: " + path_ + ": cannot write the log any more; training goes on without");
    path_.clear();
  }

 private:
  std::string path_;
  std::ofstream file_;
};

void check_apart(const std::string& option, const std::string& output, const std::string& input) {
  std::error_code none;
  if (output.empty() || input.empty() || !std::filesystem::equivalent(output, input, none)) return;
  throw std::invalid_argument(option + " would overwrite " + input);
}

Texts read_texts(const TrainOptions& options) {
  const Index context = options.model.context;
  const std::string text = read_text_file(options.text);
  Texts texts;
  if (options.valid.empty()) {
    const std::size_t cut = text.size() - text.size() / 20;
    texts.training = ByteTokenizer::encode(std::string_view(text).substr(0, cut));
    texts.validation = ByteTokenizer::encode(std::string_view(text).substr(cut));
  } else {
    texts.training = ByteTokenizer::encode(text);
    texts.validation = ByteTokenizer::encode(read_text_file(options.valid));
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

/// Trains until the end or Ctrl-C; returns whether it was the end.
bool train_with_progress(Model& model, const Texts& texts, const TrainOptions& options,
                         Workspace& workspace) {
  StepLog log(options.log);
  ProgressLine line;
  const InterruptGuard guard;
  const auto after_step = [&](const TrainingProgress& p) {
    log.write(p, line);
    if (p.validation_loss) {
      line.keep(validation_text(p));
    } else if (line.due()) {
      line.update(step_text(p));
    }
    return !guard.interrupted();
  };
  const TrainingProgress end =
      train(model, std::span<const std::int32_t>(texts.training),
            std::span<const std::int32_t>(texts.validation), options.training, workspace, after_step);
  line.clear();
  std::fprintf(stderr, "%td steps in %s, %.0f tokens/s\n", end.step, duration_text(end.seconds).c_str(),
               end.tokens_per_second);
  return end.fraction >= 1;
}

void run_train(const TrainOptions& options) {
  check_apart("--out", options.out, options.text);
  check_apart("--out", options.out, options.valid);
  check_apart("--log", options.log, options.text);
  check_apart("--log", options.log, options.valid);
  check_apart("--log", options.log, options.out);
  {
    const OutputFile probe(options.out);
  }  // hours later would be too late to learn that it cannot be written
  const Texts texts = read_texts(options);
  Random random(options.training.seed);
  Model model(options.model.config(), random);
  Runtime runtime(options.threads);
  std::fprintf(stderr,
               "model: %s, width %td, feed-forward %td, context %td, %td parameters\n"
               "text: %zu bytes to train on, %zu to validate%s; batch %td, seed %llu\n",
               model.config().layers.c_str(), model.config().width, model.config().feed_forward,
               model.config().context, count_parameters(model), texts.training.size(),
               texts.validation.size(), options.valid.empty() ? ", the last 5 %" : "", options.training.batch,
               static_cast<unsigned long long>(options.training.seed));
  const bool finished = train_with_progress(model, texts, options, runtime.workspace);
  save_model(options.out, model);
  std::printf("%s%s: saved\n", finished ? "" : "ended by Ctrl-C; ", options.out.c_str());
  if (!finished) throw Exit{kInterrupted};
}

void add_schedule_options(CLI::App& command, TrainingConfig& training) {
  constexpr Index kMost = Index{1} << 40;
  CLI::Option* steps =
      add_number(command, "--steps", training.steps, Bounds<Index>{1, kMost}, "length of the run");
  add_number(command, "--minutes", training.minutes, Bounds<double>{1e-3, 1e6},
             "instead: length of the run by the clock")
      ->default_str("")
      ->excludes(steps);
  add_number(command, "--batch", training.batch, Bounds<Index>{1, Index{1} << 20}, "windows per step");
  add_number(command, "--learning-rate", training.learning_rate, Bounds<double>{1e-12, 1e3},
             "highest learning rate");
  add_number(command, "--warmup", training.warmup, Bounds<double>{0, 1},
             "share of the run in which the learning rate rises");
  add_number(command, "--weight-decay", training.weight_decay, Bounds<double>{0, 1e3}, "of AdamW");
  add_number(command, "--validate-every", training.validate_every, Bounds<Index>{0, kMost},
             "steps between validations; 0 = only at the end");
  add_number(command, "--validation-tokens", training.validation_tokens, Bounds<Index>{0, kMost},
             "bytes of the validation text that are predicted; 0 = all");
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  options->training.validation_tokens = 100'000;
  CLI::App* command = app.add_subcommand("train", "Train a model on a text; Ctrl-C ends early and saves");
  add_file(*command, "--text", options->text, "file to learn from")->required();
  add_file(*command, "--valid", options->valid, "file to validate on; the last 5 % of the text if not given");
  add_file(*command, "--out", options->out, "model file to write")->required();
  add_file(*command, "--log", options->log, "table of all steps to write, CSV");
  options->model.add_to(*command);
  add_schedule_options(*command, options->training);
  add_number(*command, "--seed", options->training.seed, kSeeds, "of first weights and windows");
  options->threads.add_to(*command);
  command->callback([options] { run_train(*options); });
}

}  // namespace hsm::examples
