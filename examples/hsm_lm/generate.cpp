// SPDX-License-Identifier: MIT
//
// hsm_lm generate. A session that it saves holds the state of the model, the last token, which the model has
// not read yet, and the generator of the choices: a text that is resumed goes on as if it had never stopped.

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>

#include <hsm/io/session_file.hpp>
#include <hsm/io/utf8_stream.hpp>
#include <hsm/model/sampler.hpp>
#include <hsm/model/session.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/summary.hpp"

namespace hsm::examples {
namespace {

struct GenerateOptions {
  std::string model, prompt, on_full = "stop", session, save_session;
  Index tokens = 500, chunk = 1024;
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

/// The number in a note of a session; nothing where it has no such note.
std::optional<std::uint64_t> number_in(const SessionNotes& notes, const std::string& key,
                                       const std::string& file) {
  const auto found = notes.find(key);
  if (found == notes.end()) return std::nullopt;
  const std::string& text = found->second;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw std::runtime_error(file + ": the note '" + key + "' must be a number, got '" + text + "'");
  return value;
}

/// Where a text begins: a fresh session, or one from a file.
struct Beginning {
  GenerationSession<Model> session;
  Random random;
  std::vector<std::int32_t> unread;  // tokens that the model is to read before the first choice
};

Beginning begin(const GenerateOptions& options, const Model& model, Workspace& workspace) {
  const OnFull on_full = options.on_full == "restart" ? OnFull::kRestart : OnFull::kRefuse;
  const auto seed = [&] { return options.seed.value_or(std::random_device{}()); };
  const auto prompt = ByteTokenizer::encode(options.prompt);
  if (options.session.empty()) {
    return {GenerationSession(model, workspace, {.on_full = on_full}), Random(seed()), prompt};
  }
  auto saved = load_session(options.session, model);
  if (saved.memory.state.streams() != 1) {
    throw std::runtime_error(options.session + ": must hold one stream to be generated from, got " +
                             std::to_string(saved.memory.state.streams()));
  }
  const auto choices = number_in(saved.notes, "random", options.session);
  const auto last = number_in(saved.notes, "last", options.session);
  if (last && *last > 255) {
    throw std::runtime_error(options.session + ": the note 'last' must be a byte, got " +
                             std::to_string(*last));
  }
  std::vector<std::int32_t> unread;
  if (last) unread.push_back(static_cast<std::int32_t>(*last));
  unread.insert(unread.end(), prompt.begin(), prompt.end());
  if (unread.empty() && !saved.memory.ready[0])
    throw std::invalid_argument(
        "--prompt must have at least 1 byte, since the session has read no token, got none");
  return {GenerationSession(model, workspace, std::move(saved.memory), on_full),
          Random(options.seed || !choices ? seed() : *choices), std::move(unread)};
}

void run_generate(const GenerateOptions& options) {
  if (options.prompt.empty() && options.session.empty())
    throw std::invalid_argument("--prompt must have at least 1 byte, got none");
  const Model model = load_byte_model(options.model);
  check_state_fits(model);
  Sampler sampler(options.sampler);
  Runtime runtime(options.threads);
  auto [session, random, unread] = begin(options, model, runtime.workspace);
  const std::uint64_t seed = random.state();
  const Stopwatch prefill;
  for (std::size_t first = 0; first < unread.size();) {
    const std::size_t count = std::min(unread.size() - first, static_cast<std::size_t>(options.chunk));
    session.prefill(std::span(unread).subspan(first, count));
    first += count;
  }
  const double prefill_seconds = prefill.seconds();
  TextOutput output;
  for (const char byte : options.prompt) output.push(byte);
  const Stopwatch decode;
  Index count = 0, steps = 0;
  std::int32_t id = 0;
  while (count < options.tokens) {
    id = sampler(session.logits(), random);
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
  if (!options.save_session.empty()) {
    save_session(options.save_session, session,
                 {{"last", std::to_string(id)}, {"random", std::to_string(random.state())}});
    std::fprintf(stderr, "%s: saved, %td tokens read\n", options.save_session.c_str(), session.position());
  }
  std::fprintf(stderr, "prefill %zu tokens, %.0f tokens/s; decode %td tokens, %.0f tokens/s; seed %llu\n",
               unread.size(), rate(static_cast<Index>(unread.size()), prefill_seconds), count,
               rate(steps, decode_seconds), static_cast<unsigned long long>(seed));
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Let a model go on from a prompt");
  command->add_option("--model", options->model, "model file")->required();
  command->add_option("--session", options->session, "go on with a text that --save-session left");
  command->add_option("--prompt", options->prompt, "text to go on from; needed unless there is a session");
  command->add_option("--save-session", options->save_session, "file for what is needed to go on later");
  command->add_option("--chunk", options->chunk, "bytes of the prompt to read at a time")
      ->check(CLI::Range(Index{1}, Index{1} << 40))
      ->capture_default_str();
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
  add_seed(*command, options->seed, "of the choices; drawn, or gone on with from a session, if not given");
  command->add_option("--on-full", options->on_full, "where learned positions end: stop or restart")
      ->check(CLI::IsMember({"stop", "restart"}))
      ->capture_default_str();
  options->threads.add_to(*command);
  command->callback([options] { run_generate(*options); });
}

}  // namespace hsm::examples
