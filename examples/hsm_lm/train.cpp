// SPDX-License-Identifier: MIT
//
// hsm_lm train.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include <hsm/io/output_file.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/interrupt.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/ranks.hpp"
#include "examples/hsm_lm/texts.hpp"
#include "examples/hsm_lm/train_checkpoint.hpp"
#include "examples/hsm_lm/train_options.hpp"
#include "examples/hsm_lm/train_run.hpp"
#include "examples/hsm_lm/training_memory.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/terminal.hpp"

namespace hsm::examples {
namespace {

/// What can be known to fail before hours of training is found out before.
void check_before(const TrainOptions& options) {
  CommandFiles files;
  files.reads("--text", options.text);
  files.reads("--valid", options.valid);
  files.reads("--tokenizer", options.tokenizer);
  files.writes("--out", options.out);
  files.writes("--log", options.log);
  files.writes("--picture", options.picture);
  files.writes("--checkpoint", options.checkpoint);
  // The usual --resume is the --checkpoint of before.
  const bool again =
      !options.resume.empty() && !options.checkpoint.empty() && same_file(options.resume, options.checkpoint);
  if (!again) files.reads("--resume", options.resume);
  const OutputFile probe(options.out);
  if (!options.picture.empty()) {
    std::error_code none;
    if (std::filesystem::exists(options.log, none) && !std::filesystem::is_regular_file(options.log, none))
      throw std::invalid_argument("--picture is drawn from the --log, which must be a file, got " +
                                  options.log);
    static_cast<void>(OutputFile(options.picture));
  }
  if (!options.log.empty()) StepLog::probe(options.log);
  if (!options.checkpoint.empty()) static_cast<void>(OutputFile(options.checkpoint));
}

/// The same once the size of the files is known.
void check_room(const TrainOptions& options, const Model& model, const TextTokenizer& tokenizer) {
  constexpr std::uint64_t kHeader = std::uint64_t{1} << 16;
  const std::uint64_t bytes = static_cast<std::uint64_t>(count_parameters(model)) * sizeof(float);
  OutputFile probe(options.out);
  probe.reserve(bytes + kHeader + tokenizer.model().size());
  if (options.checkpoint.empty()) return;
  OutputFile other(options.checkpoint);
  other.reserve(bytes * (options.training.keeps_best() ? 5 : 4) + kHeader);
}

/// Whether the checkpoint is of a run on these texts, told with its name.
void check_texts(const TrainOptions& options, const TrainingState<Model>& state, const TextMark& text,
                 const TextMark& validation) {
  const auto check = [&](const std::string& what, const TextMark& expected, const TextMark& got) {
    if (got == expected) return;
    throw std::invalid_argument(options.resume + ": the run is to go on with its own " + what + ", " +
                                expected.text() + ", got " + got.text());
  };
  check("training text", state.text, text);
  check("validation text", state.validation, validation);
}

/// The run that --resume names, or a fresh one.
TrainingCheckpoint begin_training(const TrainOptions& options, std::optional<TrainingCheckpoint> resumed,
                                  const Texts& texts) {
  const TextMark text(texts.training), validation(texts.validation);
  if (resumed) {
    check_texts(options, resumed->state, text, validation);
    return *std::move(resumed);
  }
  Random random(options.training.seed);
  Model model(options.model.config(texts.tokenizer.vocabulary()), random);
  TrainingState<Model> state(model, options.training, text, validation);
  return {std::move(model), std::move(state)};
}

/// " over 3 groups of 2 ranks", "" for a program alone.
std::string ranks_text(const TrainOptions& options) {
  const Index n = ranks().size(), each = options.sequence_ranks;
  if (n == 1) return {};
  return each == 1 ? format(" over %td ranks", n)
                   : format(" over %s of %td ranks", counted(n / each, "group").c_str(), each);
}

void print_run(const TrainOptions& options, const TrainingCheckpoint& at, const Texts& texts) {
  const LanguageModelConfig& config = at.model.config();
  const std::string dropout =
      options.training.dropout > 0 ? format(", dropout %g", options.training.dropout) : std::string();
  std::fprintf(stderr,
               "model: %s, width %td, feed-forward %td, context %td, %td parameters\n"
               "text: %s to train on, %s to validate%s; batch %td%s, seed %llu%s\n",
               config.layers.c_str(), config.width, config.feed_forward, config.context,
               count_parameters(at.model), texts.training_size().c_str(), texts.validation_size().c_str(),
               options.valid.empty() ? ", the last 5 %" : "", options.training.batch,
               ranks_text(options).c_str(), static_cast<unsigned long long>(options.training.seed),
               dropout.c_str());
  if (!options.resume.empty())
    std::fprintf(stderr, "%s: goes on after step %td\n", shown(options.resume).c_str(),
                 at.state.progress.step);
}

/// Throws std::invalid_argument unless windows can be shared as the options ask.
void check_ranks(const TrainOptions& options) {
  const Index n = ranks().size(), groups = n / options.sequence_ranks;
  if (n % options.sequence_ranks != 0) {
    throw std::invalid_argument("--sequence-ranks must divide the number of ranks, " + std::to_string(n) +
                                ", got " + std::to_string(options.sequence_ranks));
  }
  if (options.training.batch % groups != 0) {
    throw std::invalid_argument("--batch must be a multiple of the " + std::to_string(groups) +
                                (options.sequence_ranks > 1 ? " groups of" : "") + " ranks, got " +
                                std::to_string(options.training.batch));
  }
}

/// What a rank takes its share of: of each batch, and of the tokens of its windows. A checkpoint that was read holds
/// all that is of the size of the model but the gradients.
void check_share_fits(const TrainOptions& options, const std::optional<TrainingCheckpoint>& resumed,
                      Index vocabulary) {
  LanguageModelConfig config = options.model.config(vocabulary);
  TrainingConfig training = options.training;
  training.batch /= ranks().size() / options.sequence_ranks;
  config.context = (config.context - 1) / options.sequence_ranks + 1;
  const double copies = resumed && resumed->state.best ? 5 : 4;
  const double held =
      resumed ? copies * sizeof(float) * static_cast<double>(count_parameters(resumed->model)) : 0;
  check_training_fits(config, training, 0, held);
}

void run_train(TrainOptions options) {
  if (ranks().first()) {
    check_before(options);
  } else {
    options.log.clear();
    options.picture.clear();
    options.checkpoint.clear();
  }
  std::optional<TrainingCheckpoint> resumed;
  TextTokenizer tokenizer = load_tokenizer_file(options.tokenizer);
  const Index V = tokenizer.vocabulary();
  if (!options.resume.empty()) resumed = resume_training(options, V);
  if (options.training.patience > 0 && options.training.validate_every == 0)
    throw std::invalid_argument("--patience counts validations: it needs --validate-every STEPS");
  if (options.training.keep_best && options.training.validate_every == 0 && !resumed)
    throw std::invalid_argument("--keep-best compares validations: it needs --validate-every STEPS");
  check_ranks(options);
  check_share_fits(options, resumed, V);
  const Texts texts = read_texts(options.text, options.valid, options.model.context, std::move(tokenizer));
  // From here on a signal is answered between two steps.
  const InterruptGuard guard(ranks().size() > 1 ? kRanksWords : kTrainingWords);
  TrainingCheckpoint at = begin_training(options, std::move(resumed), texts);
#ifdef HSM_USE_MPI
  if (options.sequence_ranks > 1) check_can_be_cut("--sequence-ranks", at.model);
#endif
  if (ranks().first()) check_room(options, at.model, texts.tokenizer);
  Runtime runtime(options.threads);
  print_run(options, at, texts);
  // A validation that was cut short is made up for, and its line with it.
  const TrainingState<Model>& state = at.state;
  StepLog log = options.resume.empty() ? StepLog(options.log)
                                       : StepLog(options.log, state.progress, state.validation_due);
  ranks().ready();
  if (const int signal = ranks().signal(guard.signal()); signal != 0) {
    std::printf("ended by %s before the first step; nothing was saved\n", signal_name(signal));
    settle_output();
    throw Exit{ended_by(signal)};
  }
  const TrainRun run{options, texts, runtime.workspace, log, guard};
  if (const int code = train_and_save(at, run); code != 0) throw Exit{code};
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command = app.add_subcommand("train",
                                         "Train a model on a text. Ctrl-C, SIGTERM or SIGHUP ends early and "
                                         "saves: exit code 130, 143 or 129. mpirun -np N hsm_lm train ... "
                                         "shares each batch between N processes, where the tool is built "
                                         "with MPI");
  options->add_to(*command);
  command->callback([options] { run_train(*options); });
}

}  // namespace hsm::examples
