// SPDX-License-Identifier: MIT
//
// Options that several subcommands share, and what they stand for.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
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
#include "examples/support/text.hpp"

namespace hsm::examples {

/// Accepts numbers from `low` to `high`; CLI::Range would take NaN too.
inline CLI::Validator between(double low, double high) {
  const std::string bounds = format("%g to %g", low, high);
  const auto check = [low, high, bounds](const std::string& text) {
    double value = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, value);
    const bool good = error == std::errc() && end == last && value >= low && value <= high;
    return good ? std::string() : "must be " + bounds + ", got " + text;
  };
  return CLI::Validator(check, "in [" + format("%g - %g", low, high) + "]", "between");
}

/// An option for a seed, digits alone: CLI11 would take -1 for a large number.
template <class Seed>
CLI::Option* add_seed(CLI::App& app, Seed& seed, const std::string& description) {
  const auto check = [](const std::string& text) {
    std::uint64_t value = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, value);
    return error == std::errc() && end == last ? std::string() : "must be 0 to 2^64 - 1, got " + text;
  };
  return app.add_option("--seed", seed, description)->check(CLI::Validator(check, "", "seed"));
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
    app.add_option("--width", width, "channels of a token")
        ->check(CLI::Range(Index{1}, kMost))
        ->capture_default_str();
    app.add_option("--context", context, "bytes of a training window")
        ->check(CLI::Range(Index{1}, kMost))
        ->capture_default_str();
    CLI::Option* forward = app.add_option("--feed-forward", feed_forward,
                                          "width of the feed-forward networks; 4 times --width if not given")
                               ->check(CLI::Range(Index{1}, kMost));
    app.add_option("--parameters", parameters, "instead: choose that width for about so many parameters")
        ->check(CLI::Range(Index{1}, Index{1} << 40))
        ->excludes(forward);
  }

  /// Throws std::invalid_argument for a recipe or schedule that is not one, too few parameters, or a model that
  /// this machine could not hold.
  LanguageModelConfig config() const {
    LanguageModelConfig config{.vocabulary = 256,
                               .width = width,
                               .feed_forward = feed_forward > 0 ? feed_forward : 4 * width,
                               .context = context,
                               .positions = positions == "learned" ? Positions::kLearned : Positions::kNone,
                               .layers = layers,
                               .schedule = schedule};
    if (parameters > 0) config.feed_forward = feed_forward_for(config, parameters);
    check_fits(config);
    return config;
  }

 private:
  // Counts the feed-forward networks alone: enough to stop a slip of the keyboard before the system has to.
  static void check_fits(const LanguageModelConfig& config) {
    const double layer_count = static_cast<double>(Recipe::parse(config.layers).layers.size());
    const double bytes = 2.0 * sizeof(float) * layer_count * static_cast<double>(config.width) *
                         static_cast<double>(config.feed_forward);
    const double memory = memory_bytes();
    if (memory > 0 && bytes > memory) {
      throw std::invalid_argument("the model would take at least " + bytes_text(bytes) +
                                  ", and this machine has a memory of " + bytes_text(memory));
    }
  }
};

/// The option --threads, and the executor and workspace that it asks for.
struct ThreadOptions {
  int threads = hardware_threads();

  void add_to(CLI::App& app) {
    app.add_option("--threads", threads, "threads that compute; they change no result")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
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
