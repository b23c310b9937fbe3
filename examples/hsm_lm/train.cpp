// SPDX-License-Identifier: MIT
//
// hsm_lm train.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include <hsm/io/output_file.hpp>
#include <hsm/training/trainer.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/interrupt.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/save_trained.hpp"
#include "examples/hsm_lm/step_log.hpp"
#include "examples/hsm_lm/texts.hpp"
#include "examples/hsm_lm/training_memory.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/progress.hpp"

namespace hsm::examples {
namespace {

struct TrainOptions {
  ModelOptions model;
  ThreadOptions threads;
  TrainingConfig training;
  std::string text, valid, tokenizer, out, log;
};

std::string step_text(const TrainingProgress& p) {
  const std::string done = p.steps > 0 ? format("step %td/%td", p.step, p.steps) : format("step %td", p.step);
  return format("%s (%.0f %%)  loss %.4f  %.0f tokens/s  %s left", done.c_str(), 100 * p.fraction,
                p.smoothed_loss, p.tokens_per_second, duration_text(p.seconds_left).c_str());
}

/// `bits`: the validation loss per byte.
std::string validation_text(const TrainingProgress& p, const TextTokenizer& tokenizer, double bits) {
  return format("step %td: training loss %.4f, validation loss %.4f nats%s = %.4f bits per byte", p.step,
                p.smoothed_loss, *p.validation_loss, tokenizer.is_bytes() ? "" : " per token", bits);
}

/// Trains until the end or a signal; returns whether it was the end. `steps` counts those done, whatever happens.
bool train_with_progress(Model& model, const Texts& texts, const TrainOptions& options, Workspace& workspace,
                         StepLog& log, const InterruptGuard& guard, Index& steps) {
  ProgressLine line;
  const auto after_step = [&](const TrainingProgress& p) {
    steps = p.step;
    log.write(p, line);
    if (p.validation_loss) {
      const double bits = texts.validation_bits(*p.validation_loss, options.training.validation_tokens);
      line.keep(validation_text(p, texts.tokenizer, bits));
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
[[noreturn]] void save_good_weights(const Model& model, const TextTokenizer& tokenizer,
                                    const std::string& out, const TrainingDiverged& error) {
  std::string what = error.what();
  if (what.starts_with("train: ")) what.erase(0, 7);
  if (error.good_steps() == 0) throw std::runtime_error(what + "; nothing was saved");
  const std::string mark = "step-" + std::to_string(error.good_steps());
  throw std::runtime_error(what + "; these weights are saved as " +
                           hsm::detail::path_text(save_beside(model, tokenizer, out, mark)));
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
    save_good_weights(model, texts.tokenizer, options.out, error);
  } catch (const std::bad_alloc&) {
    // A step takes its memory before it changes a weight.
    if (steps == 0) throw;
    guard.begin_saving();
    save_trained(model, texts.tokenizer, options.out);
    throw std::runtime_error(format("there is not enough memory for step %td; ", steps + 1) + options.out +
                             format(": saved with the weights after step %td", steps));
  }
  guard.begin_saving();
  save_trained(model, texts.tokenizer, options.out);
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
  files.reads("--tokenizer", options.tokenizer);
  files.writes("--out", options.out);
  files.writes("--log", options.log);
  const OutputFile probe(options.out);
}

/// The same once the size of the model file is known.
void check_room(const std::string& out, const Model& model, const TextTokenizer& tokenizer) {
  constexpr std::uint64_t kHeader = std::uint64_t{1} << 16;
  OutputFile probe(out);
  probe.reserve(static_cast<std::uint64_t>(count_parameters(model)) * sizeof(float) + kHeader +
                tokenizer.model().size());
}

void run_train(const TrainOptions& options) {
  check_before(options);
  TextTokenizer tokenizer = load_tokenizer_file(options.tokenizer);
  const LanguageModelConfig config = options.model.config(tokenizer.vocabulary());
  check_training_fits(config, options.training.batch);
  const Texts texts = read_texts(options.text, options.valid, options.model.context, std::move(tokenizer));
  const InterruptGuard guard;  // from here on a signal is answered between two steps
  Random random(options.training.seed);
  Model model(config, random);
  check_room(options.out, model, texts.tokenizer);
  Runtime runtime(options.threads);
  std::fprintf(stderr,
               "model: %s, width %td, feed-forward %td, context %td, %td parameters\n"
               "text: %s to train on, %s to validate%s; batch %td, seed %llu\n",
               model.config().layers.c_str(), model.config().width, model.config().feed_forward,
               model.config().context, count_parameters(model), texts.training_size().c_str(),
               texts.validation_size().c_str(), options.valid.empty() ? ", the last 5 %" : "",
               options.training.batch, static_cast<unsigned long long>(options.training.seed));
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
  CLI::Option* steps =
      add_number(command, "--steps", training.steps, Bounds<Index>{1, kMost}, "length of the run");
  add_number(command, "--minutes", training.minutes, Bounds<double>{1e-3, 1e6},
             "instead: length of the run by the clock")
      ->default_str("")
      ->excludes(steps);
  add_number(command, "--batch", training.batch, Bounds<Index>{1, Index{1} << 20}, "windows per step");
  const AdamWConfig adam;
  add_number(command, "--learning-rate", training.learning_rate, Bounds<double>{1e-12, 1e3},
             format("highest learning rate; half a cosine brings it down to %g of that at the end. "
                    "Gradients are scaled down to a norm of %g where theirs is larger",
                    training.final_rate, training.clip));
  add_number(command, "--warmup", training.warmup, Bounds<double>{0, 1},
             "share of the run in which the learning rate rises, rounded to whole steps");
  add_number(command, "--weight-decay", training.weight_decay, Bounds<double>{0, 1e3},
             format("of AdamW, whose betas are %g and %g", adam.beta1, adam.beta2));
  add_number(command, "--validate-every", training.validate_every, Bounds<Index>{0, kMost},
             "steps between validations; 0 = only at the end");
  add_number(command, "--validation-tokens", training.validation_tokens, Bounds<Index>{0, kMost},
             "tokens of the validation text that are predicted; 0 = all");
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  options->training.validation_tokens = 100'000;
  CLI::App* command = app.add_subcommand("train",
                                         "Train a model on a text. Ctrl-C, SIGTERM or SIGHUP ends early and "
                                         "saves: exit code 130, 143 or 129");
  add_file(*command, "--text", options->text, "file to learn from")->required();
  add_file(*command, "--valid", options->valid, "file to validate on; the last 5 % of the text if not given");
  add_file(
      *command, "--tokenizer", options->tokenizer,
      "tokenizer file of hsm_lm tokenize; a token is a byte if not given. It becomes part of the model file");
  add_file(*command, "--out", options->out, "model file to write")->required();
  add_file(*command, "--log", options->log, "table of all steps to write, CSV");
  options->model.add_to(*command);
  add_schedule_options(*command, options->training);
  add_number(*command, "--seed", options->training.seed, kSeeds, "of first weights and windows");
  options->threads.add_to(*command);
  command->callback([options] { run_train(*options); });
}

}  // namespace hsm::examples
