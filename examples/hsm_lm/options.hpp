// SPDX-License-Identifier: MIT
//
// Options that several subcommands share, and what they stand for.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include <hsm/core/threaded_executor.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/model/parameter_budget.hpp>

#include "examples/support/compute_threads.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/numbers.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// What the help calls the name of a file.
inline constexpr const char* kFileType = "FILE";

/// An option that names a file; an empty name is an error, not an option that was not given.
inline CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& path,
                             const std::string& description) {
  const auto check = [](const std::string& text) {
    return text.empty() ? std::string("must name a file, got ''") : std::string();
  };
  return app.add_option(name, path, description)
      ->check(CLI::Validator(check, "", "file"))
      ->type_name(kFileType);
}

/// The options that describe a model.
struct ModelOptions {
  std::string layers = "7*ab";
  std::string schedule = "dyadic";
  std::string positions = "none";
  Index width = 128;
  Index feed_forward = 0;  ///< 0 = 4 * width, or by `parameters`
  Index parameters = 0;    ///< 0 = no target
  Index context = 128;

  void add_to(CLI::App& app) {
    constexpr Index kMost = Index{1} << 20;
    app.add_option("--layers", layers, "the mixers, such as 7*ab or ab,ab,attention:heads=4,ab")
        ->capture_default_str();
    app.add_option(
           "--schedule", schedule,
           "shifts of the layers: dyadic, cyclic=P, geometric=B or list=1,2,4; after reversed: from the "
           "last layer to the first, after rotated: another one in each head, for layers with :heads=N")
        ->capture_default_str();
    app.add_option("--positions", positions, "none, or learned: then the context is also the limit")
        ->check(CLI::IsMember({"none", "learned"}))
        ->capture_default_str();
    constexpr Bounds<Index> kSizes{1, kMost};
    add_number(app, "--width", width, kSizes, "channels of a token");
    add_number(app, "--context", context, kSizes, "tokens of a training window");
    CLI::Option* forward = add_number(app, "--feed-forward", feed_forward, kSizes,
                                      "width of the feed-forward networks; 4 times --width if not given");
    forward->default_str("");
    add_number(app, "--parameters", parameters, Bounds<Index>{1, Index{1} << 40},
               "instead: choose that width for about so many parameters")
        ->default_str("")
        ->excludes(forward);
  }

  /// What the options say, for a model of `vocabulary` different tokens. Throws std::invalid_argument for a recipe or schedule that is not one, or too few
  /// parameters.
  LanguageModelConfig described(Index vocabulary = 256) const {
    LanguageModelConfig config{.vocabulary = vocabulary,
                               .width = width,
                               .feed_forward = feed_forward > 0 ? feed_forward : 4 * width,
                               .context = context,
                               .positions = positions == "learned" ? Positions::kLearned : Positions::kNone,
                               .layers = layers,
                               .schedule = schedule};
    try {
      if (parameters > 0) config.feed_forward = feed_forward_for(config, parameters);
      static_cast<void>(parameters_of(config));
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(without_name(error.what()));
    }
    return config;
  }

  /// The same for a model that is to be built: throws std::invalid_argument too for one that this machine could
  /// not hold.
  LanguageModelConfig config(Index vocabulary = 256) const {
    LanguageModelConfig config = described(vocabulary);
    const double bytes = static_cast<double>(parameters_of(config)) * sizeof(float), memory = memory_bytes();
    if (memory > 0 && bytes > memory) {
      throw std::invalid_argument("the model would take " + bytes_text(bytes) +
                                  ", and this machine has a memory of " + bytes_text(memory));
    }
    return config;
  }
};

/// The option --threads, and the executor and workspace that it asks for.
struct ThreadOptions {
  int threads = hardware_threads();

  void add_to(CLI::App& app) {
    add_number(app, "--threads", threads, Bounds<int>{1, 1024},
               "threads that compute, all that the process may use if not given; they change no result")
        ->default_str("");
  }
};

/// Threads and scratch of a command; says on stderr what it runs on.
struct Runtime {
  explicit Runtime(const ThreadOptions& options)
      : executor(start_threads(options.threads)), workspace(*executor) {
    take_product_buffers(*executor);
    std::fprintf(stderr, "hsm_lm: %s\n", machine_line(options.threads).c_str());
  }

  std::unique_ptr<ThreadedExecutor> executor;
  Workspace workspace;
};

}  // namespace hsm::examples
