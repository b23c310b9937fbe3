// SPDX-License-Identifier: MIT
//
// The options of hsm_lm train.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include <hsm/training/adamw.hpp>
#include <hsm/training/training_config.hpp>

#include "examples/hsm_lm/options.hpp"

namespace hsm::examples {

/// What hsm_lm train is told.
struct TrainOptions {
  ModelOptions model;
  ThreadOptions threads;
  TrainingConfig training{.validation_tokens = 100'000};
  std::string text, valid, tokenizer, out, log, picture, checkpoint, resume;
  Index checkpoint_every = 1000, sequence_ranks = 1;
  const CLI::App* command = nullptr;

  /// Whether the option stands on the command line.
  bool given(const std::string& option) const {
    const CLI::Option* found = command->get_option_no_throw(option);
    return found != nullptr && found->count() > 0;
  }

  /// `app` must outlive this.
  void add_to(CLI::App& app) {
    command = &app;
    add_file(app, "--text", text, "file to learn from")->required();
    add_file(app, "--valid", valid, "file to validate on; the last 5 % of the text if not given");
    add_file(app, "--tokenizer", tokenizer,
             "tokenizer file of hsm_lm tokenize; a token is a byte if not given. It becomes part of the "
             "model file");
    add_file(app, "--out", out, "model file to write")->required();
    CLI::Option* table = add_file(app, "--log", log, "table of all steps to write, CSV");
    add_file(app, "--picture", picture, "SVG to draw the losses of the --log in, at the end")->needs(table);
    CLI::Option* to =
        add_file(app, "--checkpoint", checkpoint,
                 "file to keep the whole state of the run in, for --resume; it takes 4 to 5 times "
                 "the size of the model");
    add_number(app, "--checkpoint-every", checkpoint_every, Bounds<Index>{1, kMost},
               "steps between checkpoints; one is written at the end and when a signal ends the run too")
        ->needs(to);
    add_file(
        app, "--resume", resume,
        "checkpoint to go on from, to the same bits as a run of --steps that was never stopped; the "
        "model and how it is trained are its own, and an option that says otherwise is refused. It may "
        "be the file of --checkpoint. The run's own --log is cut after the step of the checkpoint and gone "
        "on with");
    model.add_to(app);
    add_schedule(app);
    add_number(app, "--seed", training.seed, kSeeds, "of first weights, windows and dropout");
    threads.add_to(app);
    add_number(app, "--sequence-ranks", sequence_ranks, Bounds<Index>{1, Index{1} << 20},
               "of the ranks of mpirun: so many in a row share their windows, cut along time, which serves "
               "where few windows are long; --batch is shared by the groups");
  }

 private:
  static constexpr Index kMost = Index{1} << 40;

  void add_schedule(CLI::App& app) {
    CLI::Option* steps =
        add_number(app, "--steps", training.steps, Bounds<Index>{1, kMost}, "length of the run");
    add_number(app, "--minutes", training.minutes, Bounds<double>{1e-3, 1e6},
               "instead: length of the run by the clock")
        ->default_str("")
        ->excludes(steps);
    add_number(app, "--batch", training.batch, Bounds<Index>{1, Index{1} << 20}, "windows per step");
    const AdamWConfig adam;
    add_number(app, "--learning-rate", training.learning_rate, Bounds<double>{1e-12, 1e3},
               format("highest learning rate; half a cosine brings it down to %g of that at the end. "
                      "Gradients are scaled down to a norm of %g where theirs is larger",
                      training.final_rate, training.clip));
    add_number(app, "--warmup", training.warmup, Bounds<double>{0, 1},
               "share of the run in which the learning rate rises, rounded to whole steps");
    add_number(app, "--weight-decay", training.weight_decay, Bounds<double>{0, 1e3},
               format("of AdamW, whose betas are %g and %g", adam.beta1, adam.beta2));
    add_number(app, "--dropout", training.dropout, Bounds<double>{0, 0.99},
               "share of the embedding and of each layer's outputs that is left out in a training step");
    add_number(app, "--validate-every", training.validate_every, Bounds<Index>{0, kMost},
               "steps between validations; 0 = only at the end");
    add_number(app, "--validation-tokens", training.validation_tokens, Bounds<Index>{0, kMost},
               "tokens of the validation text that are predicted; 0 = all");
    app.add_flag(
        "--keep-best", training.keep_best,
        "save the model of the lowest validation loss instead of the last one; needs --validate-every");
    add_number(app, "--patience", training.patience, Bounds<Index>{1, kMost},
               "end after so many validations in a row that were no better, and keep the best; needs "
               "--validate-every")
        ->default_str("");
  }
};

}  // namespace hsm::examples
