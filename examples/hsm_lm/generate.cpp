// SPDX-License-Identifier: MIT
//
// hsm_lm generate.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>

#include <hsm/io/utf8_stream.hpp>
#include <hsm/model/sampler.hpp>
#include <hsm/model/session.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/summary.hpp"

namespace hsm::examples {
namespace {

struct GenerateOptions {
  std::string model, prompt, on_full = "stop";
  Index tokens = 500;
  SamplerOptions sampler{.temperature = 0.8};
  std::optional<std::uint64_t> seed;
  ThreadOptions threads;
};

/// Text on stdout while it grows, byte by byte.
class TextOutput {
 public:
  void push(char byte) { show(stream_.push(byte)); }
  void finish() {
    show(stream_.finish());
    show("\n");
  }

 private:
  void show(std::string_view text) {
    // A terminal would obey control characters; a file keeps what came.
    const bool control = text.size() == 1 && text[0] != '\n' && text[0] != '\t' &&
                         (static_cast<unsigned char>(text[0]) < 0x20 || text[0] == 0x7F);
    if (control && terminal_) text = Utf8Stream::kReplacement;
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
      throw std::runtime_error("cannot write to the standard output");
  }

  Utf8Stream stream_;
  bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
};

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

double rate(Index tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

void check_state_fits(const Model& model) {
  const double bytes = state_bytes(layers_of(model), 0), memory = memory_bytes();
  if (memory > 0 && bytes > memory) {
    throw std::runtime_error("the shifts of the model need a state of " + bytes_text(bytes) +
                             ", and this machine has a memory of " + bytes_text(memory));
  }
}

void run_generate(const GenerateOptions& options) {
  if (options.prompt.empty()) throw std::invalid_argument("--prompt must have at least 1 byte, got none");
  const std::uint64_t seed = options.seed.value_or(std::random_device{}());
  const Model model = load_byte_model(options.model);
  check_state_fits(model);
  Sampler sampler(options.sampler);
  Random random(seed);
  Runtime runtime(options.threads);
  GenerationSession session(model, runtime.workspace,
                            {.on_full = options.on_full == "restart" ? OnFull::kRestart : OnFull::kRefuse});
  const auto prompt = ByteTokenizer::encode(options.prompt);
  const Stopwatch prefill;
  session.prefill(prompt);
  const double prefill_seconds = prefill.seconds();
  TextOutput output;
  for (const char byte : options.prompt) output.push(byte);
  const Stopwatch decode;
  Index count = 0, steps = 0;
  while (count < options.tokens) {
    const std::int32_t id = sampler(session.logits(), random);
    output.push(static_cast<char>(id));
    if (++count == options.tokens) break;
    if (session.room() == 0 && options.on_full == "stop") break;
    session.next(id);
    ++steps;
  }
  const double decode_seconds = decode.seconds();
  output.finish();
  if (count < options.tokens) {
    std::fprintf(stderr,
                 "hsm_lm: stopped after %td tokens, the context of %td is full; --on-full restart goes on\n",
                 count, model.config().context);
  }
  std::fprintf(stderr, "prefill %zu tokens, %.0f tokens/s; decode %td tokens, %.0f tokens/s; seed %llu\n",
               prompt.size(), rate(static_cast<Index>(prompt.size()), prefill_seconds), count,
               rate(steps, decode_seconds), static_cast<unsigned long long>(seed));
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Let a model go on from a prompt");
  command->add_option("--model", options->model, "model file")->required();
  command->add_option("--prompt", options->prompt, "text to go on from")->required();
  command->add_option("--tokens", options->tokens, "bytes to generate")
      ->check(CLI::Range(Index{1}, Index{1} << 40))
      ->capture_default_str();
  command->add_option("--temperature", options->sampler.temperature, "0 takes the most probable byte")
      ->check(between(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--top-k", options->sampler.top_k, "choose from the k most probable; 0 = all")
      ->check(CLI::Range(Index{0}, Index{256}))
      ->capture_default_str();
  command->add_option("--top-p", options->sampler.top_p, "choose from the fewest that have this probability")
      ->check(between(0.0, 1.0))
      ->capture_default_str();
  add_seed(*command, options->seed, "of the choices; drawn and shown if not given");
  command->add_option("--on-full", options->on_full, "where learned positions end: stop or restart")
      ->check(CLI::IsMember({"stop", "restart"}))
      ->capture_default_str();
  options->threads.add_to(*command);
  command->callback([options] { run_generate(*options); });
}

}  // namespace hsm::examples
