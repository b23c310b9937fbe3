// SPDX-License-Identifier: MIT
//
// hsm_lm trains, runs and examines language models of bytes or of pieces of words whose layers mix tokens by
// Hierarchical Shift Mixing, by attention, or by both.
//
//   hsm_lm train --text book.txt --layers 7*gated --out book.safetensors
//   hsm_lm generate --model book.safetensors --prompt "Once upon"
//
// Exit codes: kExitCodes of commands.hpp, which --help shows.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

#include <hsm/core/quote.hpp>
#include <hsm/version.hpp>
#include "examples/hsm_lm/command_line.hpp"
#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/help_pages.hpp"
#include "examples/hsm_lm/ranks.hpp"
#include "examples/support/limits.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/process.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace {

using namespace hsm::examples;

/// Prints the message as one line and returns the exit code.
int user_error(std::string message) {
  for (char& c : message) {
    if (c == '\n') c = ' ';
  }
  ranks().tell([&](const std::string& who) {
    std::fprintf(stderr, "hsm_lm: %s%s\n", who.c_str(), shown(message).c_str());
    std::fflush(stderr);
  });
  return kUserError;
}

/// "train, generate or info".
std::string command_names(const CLI::App& app) {
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  std::string names;
  for (std::size_t i = 0; i < commands.size(); ++i)
    names += (i == 0 ? "" : i + 1 < commands.size() ? ", " : " or ") + commands[i]->get_name();
  return names;
}

int run(int argc, char** argv) {
  CLI::App app{"Language models with Hierarchical Shift Mixing (arXiv 2601.22852).", "hsm_lm"};
  app.set_version_flag("--version", "hsm_lm " + std::string(hsm::kVersion));
  app.get_formatter()->column_width(32);
  std::string exit_codes = "Exit codes:";
  for (const auto& [code, meaning] : kExitCodes) exit_codes += format("\n  %-3d  %s", code, meaning);
  app.footer(exit_codes);
  const auto add_page = [&app](const char* name, std::string (*page)(const CLI::App&),
                               const char* description) {
    const auto print = [&app, page] {
      std::fputs(page(app).c_str(), stdout);
      throw Exit{0};
    };
    app.add_flag_callback(name, print, description);
  };
  add_page("--man", man_page, "Print the manual page, for man -l, and exit");
  add_page("--completion", bash_completion, "Print the completion for bash and exit");
  add_train(app);
  add_tokenize(app);
  add_generate(app);
  add_evaluate(app);
  add_info(app);
  add_convert(app);
  add_demo(app);
  add_task(app);
  add_compare(app);
  // CLI11 would not say which word it could not place.
  const std::string expected = "expected a command, " + command_names(app) + ", got ";
  if (argc < 2) return user_error(expected + "none (hsm_lm --help tells more)");
  const auto named = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  const auto commands = app.get_subcommands(named);
  if (argv[1][0] != '-' && commands.empty())
    return user_error(expected + hsm::detail::in_quotes(argv[1]) + " (hsm_lm --help tells more)");
  app.require_subcommand(1);
  try {
    app.parse(words_of(commands.empty() ? app : *commands.front(), argc, argv));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help and --version
    return user_error(std::string(error.what()) + " (hsm_lm --help tells more)");
  } catch (const Exit& end) {
    return end.code;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  prepare_process();
  use_one_blas_thread();
  int code = 0;
  try {
    if (argc > 1 && std::string_view(argv[1]) == "train") ranks().start();
    code = run(argc, argv);
  } catch (const std::bad_alloc&) {
    code = user_error("there is not enough memory for this");
  } catch (const std::length_error&) {  // more than a container can ever hold
    code = user_error("there is not enough memory for this");
  } catch (const std::exception& error) {
    code = user_error(error.what());
  }
  // A flush that failed before, as at the end of --version, has left nothing to flush.
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (!written && code == 0) code = user_error("cannot write to the standard output");
  code = ranks().leave(code);
  // OpenBLAS has threads of its own, which ask for their buffers as it is loaded, again and again where a limit does
  // not leave room for them; the end of the program would wait for them.
  if (std::isfinite(address_space_left())) std::_Exit(code);
  return code;
}
