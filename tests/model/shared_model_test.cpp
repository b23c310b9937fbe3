// SPDX-License-Identifier: MIT
//
// One const model serves many threads: two sessions, each with a workspace of its own, run at the same time
// and give the tokens and the bits that each gives alone. Under the thread sanitizer this also shows that
// nothing of the model is written.
#include <gtest/gtest.h>

#include <hsm/core/threaded_executor.hpp>
#include <hsm/model/sampler.hpp>
#include <hsm/model/session.hpp>
#include <latch>
#include <memory>
#include <string>
#include <thread>

#include "model/language_model_cases.hpp"

namespace hsm::test::shared_model_test {
namespace {

using Net = LanguageModel<float>;

/// What a session gave.
struct Text {
  Ids tokens;
  std::string logits;  // their bits
  Index restarts = 0;

  bool operator==(const Text&) const = default;
};

/// A prompt and 80 drawn tokens of two streams. They pass the learned positions several times.
Text generate(const Net& model, std::uint64_t seed, Executor& executor) {
  Workspace workspace(executor);
  GenerationSession session(model, workspace, {.streams = 2, .on_full = OnFull::kRestart});
  Random random(seed);
  Sampler sampler({.temperature = 0.8});
  Text text;
  session.prefill(random_ids(2 * 9, kVocabulary, random));
  for (int t = 0; t < 80; ++t) {
    Ids next;
    for (Index s = 0; s < session.streams(); ++s) {
      const auto logits = session.logits(s);
      text.logits.append(reinterpret_cast<const char*>(logits.data()), logits.size_bytes());
      next.push_back(sampler(logits, random));
    }
    text.tokens.insert(text.tokens.end(), next.begin(), next.end());
    session.next(next);
  }
  text.restarts = session.restarts();
  return text;
}

/// Both texts at the same time, each in a thread of its own.
void expect_same_texts_together(const Net& model, bool threaded) {
  SerialExecutor serial;
  const Text alone[] = {generate(model, 1, serial), generate(model, 2, serial)};
  ASSERT_FALSE(alone[0] == alone[1]) << "two equal texts would hide one session writing to the other";
  Text together[2];
  std::latch start(2);
  const auto run = [&](std::size_t i) {
    std::unique_ptr<Executor> executor;
    if (threaded) {
      executor = std::make_unique<ThreadedExecutor>(2);
    } else {
      executor = std::make_unique<SerialExecutor>();
    }
    start.arrive_and_wait();
    together[i] = generate(model, i + 1, *executor);
  };
  std::thread first(run, 0), second(run, 1);
  first.join();
  second.join();
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(together[i].tokens, alone[i].tokens) << "session " << i;
    EXPECT_TRUE(together[i] == alone[i]) << "session " << i << ": the bits of the logits differ";
  }
}

TEST(SharedModel, TwoSessionsInTwoThreadsGiveTheSameTextsAsAlone) {
  expect_same_texts_together(random_model<float>(small_config(), 5), false);
}

TEST(SharedModel, AlsoWithLearnedPositionsAndRestarts) {
  LanguageModelConfig config = small_config();
  config.positions = Positions::kLearned;
  const Net model = random_model<float>(config, 5);
  SerialExecutor serial;
  EXPECT_GT(generate(model, 1, serial).restarts, 2);
  expect_same_texts_together(model, false);
}

TEST(SharedModel, AlsoWithAnExecutorEach) {
  LanguageModelConfig config = small_config("2*ab:heads=2,gated,softmax-local:heads=4,attention:heads=2");
  config.width = 64;
  config.feed_forward = 256;
  expect_same_texts_together(random_model<float>(config, 5), true);
}

}  // namespace
}  // namespace hsm::test::shared_model_test
