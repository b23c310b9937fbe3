// SPDX-License-Identifier: MIT
//
// The subcommands of hsm_lm. Each add_ function declares one, with its options and a callback that does the
// work while main parses the command line; main calls them all.
//
// A command that cannot do what it was asked throws std::invalid_argument, std::out_of_range or
// std::runtime_error: main prints `hsm_lm: <what()>` and exits with kUserError. A command that did its work
// but must not exit with 0 throws Exit. Results go to stdout; progress and remarks go to stderr.
#pragma once

#include <CLI/CLI.hpp>

namespace hsm::examples {

inline constexpr int kUserError = 2;  ///< exit code of every error

/// Exit code after a signal asked for the end, as shells use it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
constexpr int ended_by(int signal) { return 128 + signal; }

/// An exit code, and what it tells.
struct ExitCode {
  int code;
  const char* meaning;
};

/// All of them.
inline constexpr ExitCode kExitCodes[] = {
    {0, "done"},
    {kUserError, "an error, told in one sentence on the standard error output"},
    {130,
     "ended by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP, 152 by the limit of processor time; train saves the "
     "model first, "
     "generate --save-session the session once the prompt is read"}};

/// Ends the program with this code and no further message.
struct Exit {
  int code;
};

/// hsm_lm train: a text becomes a model file.
void add_train(CLI::App& app);
/// hsm_lm tokenize: a text becomes a tokenizer file.
void add_tokenize(CLI::App& app);
/// hsm_lm generate: a model file goes on from a prompt.
void add_generate(CLI::App& app);
/// hsm_lm evaluate: the loss of a model file on a text.
void add_evaluate(CLI::App& app);
/// hsm_lm info: what is in a model file, or what a recipe would make.
void add_info(CLI::App& app);
/// hsm_lm convert: a model file whose matrices take fewer bytes.
void add_convert(CLI::App& app);
/// hsm_lm demo: trains on built-in stories and shows what the model learned.
void add_demo(CLI::App& app);
/// hsm_lm task: recipes at small tasks that tell token mixers apart.
void add_task(CLI::App& app);
/// hsm_lm compare: recipes of equal size on a text, each at its best learning rate.
void add_compare(CLI::App& app);

}  // namespace hsm::examples
