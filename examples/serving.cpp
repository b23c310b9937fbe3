// SPDX-License-Identifier: MIT
//
// Serving: 1,000 texts at once from one model of shift mixers, on two threads. As soon as one ends another comes with a
// prompt of its own, which is read in parts beside the tokens of the others, so nobody waits long. A text keeps the same few
// hundred kilobytes however long it grows. The program prints how long texts wait from token to token, how many tokens
// all get in a second, and the memory. The model is not trained: what it writes is noise.
#include <hsm/core/parameters.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/model/continuous_batch.hpp>
#include <hsm/model/sampler.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <unordered_map>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr hsm::Index kTexts = 1000, kVocabulary = 256, kTurns = 60;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double quantile(std::vector<double>& values, double share) {
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / (1024 * 1024); }

}  // namespace

int main() {
  hsm::Random random(1);
  const hsm::LanguageModel<float> model({.width = 256, .feed_forward = 1024, .layers = "8*ab"}, random);
  hsm::ThreadedExecutor executor(2);
  hsm::Workspace workspace(executor);
  hsm::ContinuousBatch batch(model, workspace, {.streams = kTexts, .prompt_tokens = 512});
  hsm::Sampler sampler({.temperature = 0.8, .top_k = 40});

  const auto come = [&] {
    std::vector<std::int32_t> prompt(10 + static_cast<std::size_t>(random.below(60)));
    for (auto& id : prompt) id = static_cast<std::int32_t>(random.below(kVocabulary));
    batch.add(prompt);
  };
  for (hsm::Index i = 0; i < kTexts; ++i) come();

  std::unordered_map<std::int64_t, Clock::time_point> last;  // when each text got its last token
  std::vector<double> waits;
  std::size_t tokens = 0, ended = 0;
  hsm::Index turns = 0;
  Clock::time_point start;
  while (turns < kTurns) {
    hsm::Index left = 0;
    batch.turn([&](std::int64_t text, std::span<const float> logits) {
      const auto now = Clock::now();
      const auto [at, first] = last.try_emplace(text, now);
      if (turns > 0 && !first) waits.push_back(std::chrono::duration<double>(now - at->second).count());
      at->second = now;
      tokens += turns > 0;
      if (random.below(300) > 0) return sampler(logits, random);
      last.erase(text);
      ++left;
      return -1;
    });
    for (; left > 0; --left, ++ended) come();
    // The clock runs as soon as nearly every text has read its prompt once.
    if (turns > 0 || static_cast<hsm::Index>(last.size()) > kTexts - 20) {
      if (turns++ == 0) start = Clock::now();
    }
  }
  const double seconds = seconds_since(start);
  std::printf("%td texts at once, %zu came to their end and made room for others\n", kTexts, ended);
  std::printf("%.0f tokens/s in all, and their prompts beside them\n", static_cast<double>(tokens) / seconds);
  std::printf("from token to token: half wait %.0f ms, 99 %% at most %.0f ms, the longest %.0f ms\n",
              1e3 * quantile(waits, 0.5), 1e3 * quantile(waits, 0.99), 1e3 * quantile(waits, 1.0));
  std::printf("memory: %.1f MiB of weights, %.1f MiB of states, %.0f KiB a text\n",
              mebibytes(4 * static_cast<std::size_t>(hsm::count_parameters(model))),
              mebibytes(batch.session().state_bytes()),
              static_cast<double>(batch.session().state_bytes()) / 1024 / static_cast<double>(kTexts));
}
