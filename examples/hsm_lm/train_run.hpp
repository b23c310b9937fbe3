// SPDX-License-Identifier: MIT
//
// A run of hsm_lm train once everything is read and checked: training with progress, log and checkpoints, until
// its end or a signal, and the model saved whatever happens.
#pragma once

#include <cstdint>
#include <cstdio>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include <hsm/io/output_file.hpp>
#include <hsm/io/text_file.hpp>
#include <hsm/training/trainer.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/interrupt.hpp"
#include "examples/hsm_lm/ranks.hpp"
#include "examples/hsm_lm/rescue.hpp"
#include "examples/hsm_lm/step_log.hpp"
#include "examples/hsm_lm/texts.hpp"
#include "examples/hsm_lm/train_checkpoint.hpp"
#include "examples/hsm_lm/train_picture.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// What a run trains on, writes to and listens to.
struct TrainRun {
  const TrainOptions& options;
  const Texts& texts;
  Workspace& workspace;
  StepLog& log;
  const InterruptGuard& guard;
};

inline std::string step_text(const TrainingProgress& p) {
  const std::string done = p.steps > 0 ? format("step %td/%td", p.step, p.steps) : format("step %td", p.step);
  return format("%s (%.0f %%)  loss %.4f  %.0f tokens/s  %s left", done.c_str(), 100 * p.fraction,
                p.smoothed_loss, p.tokens_per_second, duration_text(p.seconds_left).c_str());
}

inline std::string validation_text(const TrainingProgress& p, const TrainRun& run) {
  const double bits = run.texts.validation_bits(*p.validation_loss, run.options.training.validation_tokens);
  return format("step %td: training loss %.4f, validation loss %.4f nats%s = %.4f bits per byte", p.step,
                p.smoothed_loss, *p.validation_loss, run.texts.tokenizer.is_bytes() ? "" : " per token",
                bits);
}

/// What is said behind "saved" of the weights that are kept.
inline std::string kept_text(const TrainingState<Model>& state) {
  if (!state.best) return {};
  return format(", the best of the run: step %td, validation loss %.4f", state.progress.best_step,
                *state.progress.best_loss);
}

/// hsm::train, by as many ranks as there are.
template <class AfterStep>
TrainingProgress train_alone_or_over_ranks(TrainingCheckpoint& at, const TrainRun& run,
                                           const AfterStep& after_step) {
  const std::span<const std::int32_t> text(run.texts.training), validation(run.texts.validation);
  const auto stop = [&] { return run.guard.signal() != 0; };
#ifdef HSM_USE_MPI
  if (Communicator* all = ranks().all()) {
    check_same_run(*all, at.model, at.state);
    ranks().apart();
    const TrainingProgress end =
        train_over_ranks(*all, at.model, at.state, text, validation, run.workspace, after_step, stop,
                         static_cast<int>(run.options.sequence_ranks));
    ranks().together();
    return end;
  }
#endif
  return train(at.model, at.state, text, validation, run.workspace, after_step, stop);
}

/// Trains until the end or a signal; returns whether it was the end.
inline bool train_with_progress(TrainingCheckpoint& at, const TrainRun& run) {
  ProgressLine line;
  CheckpointWriter checkpoint(run.options.checkpoint, run.options.checkpoint_every);
  const auto after_step = [&](const TrainingProgress& p) {
    run.log.write(p, line);
    if (p.validation_loss) {
      line.keep(validation_text(p, run));
    } else if (line.due()) {
      line.update(step_text(p));
    }
    const bool ending = ranks().signal(run.guard.signal()) != 0;
    checkpoint.after_step(at, ending, line);
    return !ending;
  };
  const TrainingProgress end = train_alone_or_over_ranks(at, run, after_step);
  line.clear();
  if (end.finished && end.fraction < 1)
    std::fprintf(stderr, "%s no better than that of step %td: training ends\n",
                 at.state.stale == 1 ? "1 validation was"
                                     : format("%td validations in a row were", at.state.stale).c_str(),
                 end.best_step);
  std::fprintf(stderr, "%s in %s, %.0f tokens/s\n", counted(end.step, "step").c_str(),
               duration_text(end.seconds).c_str(), end.tokens_per_second);
  return end.finished;
}

/// Saves the weights from before a run went wrong, and the best ones where they are kept, beside the file that they were
/// meant for, which stays as it was.
[[noreturn]] inline void save_good_weights(const TrainingCheckpoint& at, const TextTokenizer& tokenizer,
                                           const std::string& out, const TrainingDiverged& error) {
  const auto saved_beside = [&](const Model& model, const std::string& mark) {
    return hsm::detail::path_text(save_beside(
        out, mark, [&](const std::filesystem::path& path) { save_model(path, model, tokenizer); }));
  };
  std::string what = error.what();
  if (what.starts_with("train: ")) what.erase(0, 7);
  if (error.good_steps() == 0 && !at.state.best) throw std::runtime_error(what + "; nothing was saved");
  if (error.good_steps() > 0)
    what += "; these weights are saved as " +
            saved_beside(at.model, "step-" + std::to_string(error.good_steps()));
  if (at.state.best) {
    const std::string step = std::to_string(at.state.progress.best_step);
    what += (error.good_steps() > 0 ? ", and the best of the run, of step " + step + ", as "
                                    : "; the best of the run, of step " + step + ", is saved as ") +
            saved_beside(at.state.kept(at.model), "best-" + step);
  }
  throw std::runtime_error(what);
}

/// Trains and saves; the exit code.
inline int train_and_save(TrainingCheckpoint& at, const TrainRun& run) {
  const std::string& out = run.options.out;
  bool finished = false;
  try {
    finished = train_with_progress(at, run);
  } catch (const TrainingDiverged& error) {
    ranks().together();
    if (!ranks().first()) throw;
    run.guard.begin_saving();
    save_good_weights(at, run.texts.tokenizer, out, error);
  } catch (const std::bad_alloc&) {
    // A step takes its memory before it changes a weight.
    const TrainingState<Model>& state = at.state;
    const Index steps = state.progress.step;
    if (steps == 0 || !ranks().first()) throw;
    run.guard.begin_saving();
    save_trained(state.kept(at.model), run.texts.tokenizer, out);
    throw std::runtime_error(
        format("there is not enough memory for step %td; ", steps + 1) + out +
        format(": saved with the weights after step %td", state.best ? state.progress.best_step : steps));
  }
  run.guard.begin_saving();
  const int signal = finished ? 0 : ranks().signal(run.guard.signal());
  if (ranks().first()) save_trained(at.state.kept(at.model), run.texts.tokenizer, out);
  if (!finished) std::printf("ended by %s; ", signal_name(signal));
  std::printf("%s: saved%s\n", shown(out).c_str(), kept_text(at.state).c_str());
  if (!run.options.picture.empty()) {
    OutputFile picture(run.options.picture);
    picture.write(training_picture(read_text_file(run.options.log), at.model.config().layers));
    picture.commit();
  }
  settle_output();
  return finished ? 0 : ended_by(signal);
}

}  // namespace hsm::examples
