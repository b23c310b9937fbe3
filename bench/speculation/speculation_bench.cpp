// SPDX-License-Identifier: MIT
//
// Tokens a second with a draft and without (bench/speculation/README.md):
//
//   hsm_bench_speculation MODEL DRAFT TEXT [PROMPTS [TOKENS [K]]]
//
// Cuts PROMPTS (1000) prompts of 64 tokens from a text, evenly spread, and writes TOKENS (32) tokens after each, alone and
// with K (4) drafted tokens a round, in turns. Time is that of writing: the model reads a prompt before, the draft when it
// is first asked, and that counts. Prints what it ran on and a table in Markdown; ends with 1 where a text is not the one that the model writes alone.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/io/model_file.hpp>
#include <hsm/io/text_file.hpp>
#include <hsm/io/text_tokenizer.hpp>
#include <hsm/model/sampler.hpp>
#include <hsm/model/speculation.hpp>

#include "bench/support/machine.hpp"
#include "bench/support/whole_number.hpp"

#ifdef HSM_USE_BLAS
#include <cblas.h>
#endif

namespace {

using namespace hsm;
using Model = LanguageModel<float>;
using Ids = std::vector<std::int32_t>;
using Clock = std::chrono::steady_clock;

constexpr Index kPromptTokens = 64;

struct Written {
  Ids text;
  double seconds = 0;
};

/// `write(text)` fills an empty text; the time it takes.
template <class Write>
Written timed(Write&& write) {
  Written written;
  const Clock::time_point start = Clock::now();
  write(written.text);
  written.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return written;
}

Written write_alone(GenerationSession<Model>& session, const Ids& prompt, Sampler sampler, Random random,
                    std::size_t tokens) {
  session.reset(0);
  session.prefill(prompt);
  return timed([&](Ids& text) {
    for (;;) {
      text.push_back(sampler(session.logits(), random));
      if (text.size() == tokens) return;
      session.next(text.back());
    }
  });
}

Written write_together(SpeculativeSession<Model>& session, const Ids& prompt, Sampler sampler, Random random,
                       std::size_t tokens) {
  session.reset();
  session.prefill(prompt);
  return timed([&](Ids& text) {
    while (text.size() < tokens) {
      const auto given = session.next(sampler, random, static_cast<Index>(tokens - text.size()));
      text.insert(text.end(), given.begin(), given.end());
    }
  });
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 3 || arguments.size() > 6)
    throw std::invalid_argument("expected MODEL DRAFT TEXT [PROMPTS [TOKENS [K]]], got " +
                                std::to_string(arguments.size()) + " arguments");
  const auto number = [&](std::size_t at, const char* what, std::size_t otherwise) {
    return arguments.size() > at ? bench::whole_number(what, arguments[at]) : otherwise;
  };
  const std::size_t prompts = number(3, "PROMPTS", 1000), tokens = number(4, "TOKENS", 32),
                    draft_tokens = number(5, "K", 4);
  const Model model = load_model<Model>(arguments[0]), draft = load_model<Model>(arguments[1]);
  const Ids ids = load_tokenizer(arguments[0]).encode(read_text_file(arguments[2]));
  if (static_cast<Index>(ids.size()) < kPromptTokens)
    throw std::invalid_argument("TEXT must have 64 tokens or more, got " + std::to_string(ids.size()));

  for (const auto& [name, value] : bench::machine()) std::printf("%s: %s\n", name.c_str(), value.c_str());
  const auto megabytes = [](const Model& of) { return 1e-6 * static_cast<double>(parameter_bytes(of)); };
  std::printf(
      "threads: 1\nmodel: %s, %.1f MB\ndraft: %s, %.1f MB\nprompts: %zu of 64 tokens, %zu after each\n\n",
      model.config().layers.c_str(), megabytes(model), draft.config().layers.c_str(), megabytes(draft),
      prompts, tokens);
  std::printf(
      "| temperature | drafted in a round | kept | tokens/s alone | with the draft | faster | same texts "
      "|\n");
  std::printf("|---:|---:|---:|---:|---:|---:|---:|\n");

  Workspace workspace;
  bool all_same = true;
  for (const float temperature : {0.0F, 0.8F}) {
    GenerationSession<Model> alone(model, workspace);
    SpeculativeSession<Model> together(model, draft, workspace,
                                       {.draft_tokens = static_cast<Index>(draft_tokens)});
    const Sampler sampler({.temperature = temperature});
    double alone_seconds = 0, together_seconds = 0;
    std::size_t same = 0;
    for (std::size_t i = 0; i < prompts; ++i) {
      const std::size_t room = ids.size() - static_cast<std::size_t>(kPromptTokens);
      const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(i * room / prompts);
      const Ids prompt(begin, begin + kPromptTokens);
      const Random random(1 + i);
      Written expected, got;
      const auto first = [&] { expected = write_alone(alone, prompt, sampler, random, tokens); };
      const auto second = [&] { got = write_together(together, prompt, sampler, random, tokens); };
      if (i % 2 == 0) {
        first(), second();
      } else {
        second(), first();
      }
      alone_seconds += expected.seconds;
      together_seconds += got.seconds;
      same += expected.text == got.text;
    }
    const double all = static_cast<double>(prompts * tokens);
    const double kept = together.drafted() == 0 ? 0
                                                : static_cast<double>(together.accepted()) /
                                                      static_cast<double>(together.drafted());
    std::printf("| %.1f | %zu | %.0f %% | %.0f | %.0f | %.2f | %zu of %zu |\n",
                static_cast<double>(temperature), draft_tokens, 100 * kept, all / alone_seconds,
                all / together_seconds, alone_seconds / together_seconds, same, prompts);
    std::fflush(stdout);
    all_same = all_same && same == prompts;
  }
  return all_same ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
#ifdef HSM_USE_BLAS
  openblas_set_num_threads(1);
#endif
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hsm_bench_speculation: %s\n", error.what());
    return 2;
  }
}
