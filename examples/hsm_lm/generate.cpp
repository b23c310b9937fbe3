// SPDX-License-Identifier: MIT
//
// hsm_lm generate. A session that it saves holds the state of the model, the last token, which the model has
// not read yet, the generator of the choices, and the bytes of a character that the text was cut in: a text that
// is resumed goes on as if it had never stopped.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include <hsm/io/output_file.hpp>
#include <hsm/io/session_file.hpp>
#include <hsm/model/sampler.hpp>
#include <hsm/model/session.hpp>

#include "examples/hsm_lm/commands.hpp"
#include "examples/hsm_lm/interrupt.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/options.hpp"
#include "examples/hsm_lm/rescue.hpp"
#include "examples/hsm_lm/session_text.hpp"
#include "examples/hsm_lm/state_memory.hpp"
#include "examples/hsm_lm/text_output.hpp"
#include "examples/hsm_lm/texts.hpp"
#include "examples/hsm_lm/writer.hpp"
#include "examples/support/paths.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {
namespace {

struct GenerateOptions {
  std::string model, prompt, prompt_file, on_full = "stop", session, save_session, draft;
  Index tokens = 500, chunk = 1024, draft_tokens = 4;
  SamplerOptions sampler{.temperature = 0.8};
  std::optional<std::uint64_t> seed;
  bool stats = false;
  ThreadOptions threads;
};

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

double rate(Index tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

/// A prompt of any length, from a file or "-", the standard input.
std::string read_prompt(const std::string& path) {
  if (path != "-") return read_text(path);
  std::string text;
  char part[1 << 16];
  for (std::size_t n = 0; (n = std::fread(part, 1, sizeof part, stdin)) > 0;) text.append(part, n);
  if (std::ferror(stdin)) throw std::runtime_error("cannot read the standard input");
  return text;
}

/// Where a text begins: a fresh session, or one from a file.
struct Beginning {
  Writer writer;
  Random random;
  std::vector<std::int32_t> unread;  // tokens that the model is to read before the first choice
  std::string pending;               // of a character that an earlier part was cut in
};

Beginning begin(const GenerateOptions& options, const std::string& prompt, const TextModel& from,
                const std::optional<TextModel>& draft, Workspace& workspace) {
  const auto& [model, tokenizer] = from;
  const OnFull on_full = options.on_full == "restart" ? OnFull::kRestart : OnFull::kRefuse;
  const auto seed = [&] { return options.seed.value_or(std::random_device{}()); };
  auto unread = tokenizer.encode(prompt);
  const auto length = [&] {
    return static_cast<double>(unread.size()) + static_cast<double>(options.tokens);
  };
  if (options.session.empty()) {
    check_state_fits(model.config(), length());
    Random random(seed());
    if (!draft)
      return {
          Writer(GenerationSession(model, workspace, {.on_full = on_full})), random, std::move(unread), {}};
    // Both states, and the large model's logits of a round.
    const double logits = (static_cast<double>(options.draft_tokens) + 1) *
                          static_cast<double>(model.config().vocabulary) * sizeof(float);
    check_state_fits(draft->model.config(), length(), grown_state_bytes(model.config(), length()) + logits);
    const SpeculationOptions together{.draft_tokens = options.draft_tokens, .on_full = on_full};
    return {Writer(model, draft->model, workspace, together), random, std::move(unread), {}};
  }
  check_regular(options.session);
  auto saved = load_session(options.session, model);
  if (saved.memory.state.streams() != 1) {
    throw std::runtime_error(options.session + ": must hold one stream to be generated from, got " +
                             std::to_string(saved.memory.state.streams()));
  }
  check_state_fits(model.config(), static_cast<double>(saved.memory.state.count(0)) + length());
  const SessionText text(saved.notes, tokenizer, options.session);
  if (text.last) unread.insert(unread.begin(), static_cast<std::int32_t>(*text.last));
  if (unread.empty() && !saved.memory.has_logits(0)) {
    throw std::invalid_argument(
        "the prompt must have at least 1 byte, since the session has read no token, got none");
  }
  return {Writer(GenerationSession(model, workspace, std::move(saved.memory), on_full)),
          Random(options.seed || !text.random ? seed() : *text.random), std::move(unread), text.pending};
}

/// Reads `unread`, and tells how fast; a signal that the guard has noted ends the program.
std::string prefill(const GenerateOptions& options, Writer& writer, std::span<const std::int32_t> unread,
                    const std::string& unit, const InterruptGuard* guard) {
  const GenerationSession<Model>& session = writer.session();
  const auto count = static_cast<Index>(unread.size());
  const Index context = session.model().config().context, restarts = session.restarts();
  if (count > session.room() && options.on_full == "stop") {
    throw std::invalid_argument("the model has learned " + counted(context, "position") + " and " +
                                std::to_string(session.position()) + " are used, got " +
                                std::to_string(count) +
                                " more to read; --on-full restart goes on from the last of them");
  }
  const Stopwatch watch;
  for (Index first = 0; first < count; first += options.chunk) {
    if (guard && guard->signal() != 0) {
      std::fprintf(stderr, "hsm_lm: %td of %s of the prompt were read; nothing was saved\n", first,
                   counted(count, "token").c_str());
      throw Exit{ended_by(guard->signal())};
    }
    writer.prefill(unread.subspan(static_cast<std::size_t>(first),
                                  static_cast<std::size_t>(std::min(count - first, options.chunk))));
  }
  const double seconds = watch.seconds();
  if (session.restarts() > restarts) {
    std::fprintf(stderr,
                 "hsm_lm: the text is longer than the context of %td; what follows rests on its last %s\n",
                 context, counted(session.position(), unit).c_str());
  }
  return "prefill " + counted(session.tokens_read(), "token") +
         format(", %.0f tokens/s", rate(session.tokens_read(), seconds));
}

/// Throws unless a token can be chosen by these logits.
void check_logits(const GenerateOptions& options, std::span<const float> logits, Index position,
                  const std::string& unit) {
  if (std::all_of(logits.begin(), logits.end(), [](float z) { return hsm::detail::is_finite(z); })) return;
  throw std::runtime_error(options.model + (options.draft.empty() ? "" : " or " + options.draft) +
                           ": what it predicts after " + counted(position, unit) +
                           " is not a number; its weights" +
                           (options.session.empty() ? "" : " or the state in " + options.session) +
                           " are too large to compute with");
}

/// The model that drafts, if there is one.
std::optional<TextModel> load_draft(const GenerateOptions& options, const TextTokenizer& tokenizer) {
  if (options.draft.empty()) return std::nullopt;
  std::optional<TextModel> draft(load_text_model(options.draft));
  const TextTokenizer& own = draft->tokenizer;
  if (own.is_bytes() != tokenizer.is_bytes() || (!own.is_bytes() && own.model() != tokenizer.model()))
    throw std::runtime_error(options.draft + ": a draft must have the tokenizer of " + options.model);
  return draft;
}

void run_generate(const GenerateOptions& options) {
  CommandFiles files;
  files.reads("--model", options.model);
  files.reads("--draft", options.draft);
  // A session may be replaced by the one that goes on from it.
  if (options.save_session.empty() || !same_file(options.session, options.save_session))
    files.reads("--session", options.session);
  if (options.prompt_file != "-") files.reads("--prompt-file", options.prompt_file);
  files.writes("--save-session", options.save_session);
  // After all is generated would be too late to learn that it cannot be written.
  std::optional<OutputFile> probe;
  if (!options.save_session.empty()) probe.emplace(options.save_session);
  const bool from_file = !options.prompt_file.empty();
  const std::string prompt = from_file ? read_prompt(options.prompt_file) : options.prompt;
  if (prompt.empty() && options.session.empty()) {
    throw std::invalid_argument(
        (from_file ? "--prompt-file " + options.prompt_file : std::string("--prompt")) +
        " must have at least 1 byte, got none");
  }
  const TextModel from = load_text_model(options.model);
  const TextTokenizer& tokenizer = from.tokenizer;
  const std::string unit = unit_of(tokenizer);
  if (options.sampler.top_k > tokenizer.vocabulary()) {
    throw std::invalid_argument(format("--top-k must be at most the %d tokens of %s, got %td",
                                       static_cast<int>(tokenizer.vocabulary()), options.model.c_str(),
                                       options.sampler.top_k));
  }
  const std::optional<TextModel> draft = load_draft(options, tokenizer);
  Sampler sampler(options.sampler);
  Runtime runtime(options.threads);
  Beginning beginning = begin(options, prompt, from, draft, runtime.workspace);
  Writer& writer = beginning.writer;
  Random& random = beginning.random;
  const GenerationSession<Model>& session = writer.session();
  const std::uint64_t seed = random.state();
  const bool saves = !options.save_session.empty();
  if (saves) {
    const double tokens = static_cast<double>(session.position()) +
                          static_cast<double>(beginning.unread.size()) + static_cast<double>(options.tokens);
    constexpr double kBeside = 1 << 16;  // names, the end of the text
    const double bytes = state_bytes(from.model.config(), tokens) + kBeside +
                         static_cast<double>(from.model.config().vocabulary) * sizeof(float);
    probe->reserve(static_cast<std::uint64_t>(std::min(bytes, 0x1p62)));
    probe.reset();
  }
  std::optional<InterruptGuard> guard;
  if (saves) guard.emplace(kPromptWords);
  const std::string prefilled = prefill(options, writer, beginning.unread, unit, guard ? &*guard : nullptr);
  if (guard) guard->use(kTextWords);
  TextOutput output(beginning.pending, saves);
  output.push(prompt);
  const auto choose = [&](std::span<const float> logits, Random& draws) {
    check_logits(options, logits, session.position(), unit);
    return sampler(logits, draws);
  };
  const Stopwatch decode;
  TokenTimes times(options.stats);
  Index count = 0;
  std::int32_t id = 0;
  bool short_of_memory = false;
  while (count < options.tokens) {
    // At least one: a session goes on from a token that it has not read.
    const bool ends = output.is_over() || (guard && guard->signal() != 0);
    const bool full = session.room() == 0 && options.on_full == "stop";
    if (count > 0 && (ends || full)) break;
    try {
      for (const std::int32_t next : writer.next(choose, random, options.tokens - count)) {
        id = next;
        output.push(tokenizer.piece(id));
        ++count;
      }
    } catch (const std::bad_alloc&) {
      // It was to read the last token; the text up to there is whole.
      if (!saves || count == 0 || draft || !session.memory().state.is_whole(0)) throw;
      short_of_memory = true;
      break;
    }
    times.at(count, decode.seconds());
  }
  const double decode_seconds = decode.seconds();
  if (guard) guard->begin_saving();
  output.finish();
  times.finish(count, decode_seconds);
  const int signal = guard ? guard->signal() : 0;
  if (count < options.tokens && signal == 0 && !output.is_over() && !short_of_memory) {
    std::fprintf(stderr, "hsm_lm: stopped after %s, the context of %td is full; --on-full restart goes on\n",
                 counted(count, "token").c_str(), from.model.config().context);
  }
  // The first token is the prompt's.
  const std::string speed = count > 1 ? format(", %.0f tokens/s", rate(count - 1, decode_seconds)) : "";
  std::fprintf(stderr, "%s; decode %s%s%s; seed %llu\n", prefilled.c_str(), counted(count, "token").c_str(),
               speed.c_str(), writer.draft_text().c_str(), static_cast<unsigned long long>(seed));
  if (saves) {
    save_or_rescue(options.save_session, "the session", [&](const std::filesystem::path& path) {
      save_session(path, session, SessionText::notes(tokenizer, id, random.state(), output.pending()));
    });
    std::fprintf(stderr, "%s: saved, %s read\n", shown(options.save_session).c_str(),
                 counted(session.position(), "token").c_str());
    output.settle();
  }
  if (short_of_memory)
    throw std::runtime_error("there is not enough memory for token " + std::to_string(count + 1) + "; " +
                             options.save_session + ": saved with what came before");
  if (signal != 0) throw Exit{ended_by(signal)};
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Let a model go on from a prompt");
  add_file(*command, "--model", options->model, "model file")->required();
  CLI::Option* session =
      add_file(*command, "--session", options->session, "go on with a text that --save-session left");
  CLI::Option* prompt = command->add_option("--prompt", options->prompt,
                                            "text to go on from; needed unless there is a session");
  add_file(*command, "--prompt-file", options->prompt_file,
           "instead: file with that text, of any length; - for the standard input")
      ->excludes(prompt);
  add_file(*command, "--save-session", options->save_session,
           "file for what is needed to go on later; may be that of --session");
  constexpr Index kMost = Index{1} << 40;
  add_number(*command, "--chunk", options->chunk, Bounds<Index>{1, kMost},
             "tokens of the prompt to read at a time; changes the speed, and results within rounding");
  add_number(*command, "--tokens", options->tokens, Bounds<Index>{1, kMost}, "tokens to generate");
  add_number(*command, "--temperature", options->sampler.temperature, Bounds<double>{0, 1e6},
             "0 takes the most probable token");
  add_number(*command, "--top-k", options->sampler.top_k, Bounds<Index>{0, Index{1} << 20},
             "choose from the k most probable, of a model of bytes at most 256; 0 = all");
  add_number(*command, "--top-p", options->sampler.top_p, Bounds<double>{0, 1, true},
             "choose from the fewest that have this probability");
  add_number(*command, "--seed", options->seed, kSeeds,
             "of the choices; drawn, or gone on with from a session, if not given");
  command
      ->add_option(
          "--on-full", options->on_full,
          "where learned positions are used up: stop, or restart, which reads the last half context of "
          "the text again and goes on from that alone, as often as it is needed; of a longer prompt only "
          "the end is read")
      ->check(CLI::IsMember({"stop", "restart"}))
      ->capture_default_str();
  CLI::Option* draft =
      add_file(
          *command, "--draft", options->draft,
          "smaller model of the same tokenizer, which proposes tokens that --model then reads in one call; "
          "the text is the same but where two tokens are as close as rounding, and sooner where the draft is "
          "fast and "
          "often right")
          ->excludes(session);
  add_number(*command, "--draft-tokens", options->draft_tokens, Bounds<Index>{1, 1024},
             "tokens that the draft proposes at a time")
      ->needs(draft);
  command->add_flag("--stats", options->stats,
                    "tell how long a token takes as the text grows, on the standard error output");
  options->threads.add_to(*command);
  command->callback([options] { run_generate(*options); });
}

}  // namespace hsm::examples
