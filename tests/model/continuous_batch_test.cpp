// SPDX-License-Identifier: MIT
//
// Texts that share the streams of a session are those that each would be alone, whenever they come, end and fork.
#include <gtest/gtest.h>

#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/model/continuous_batch.hpp>
#include <hsm/model/sampler.hpp>

#include "model/language_model_cases.hpp"
#include "support/failing_executor.hpp"
#include "support/message_of.hpp"

namespace hsm::test::continuous_batch_test {
namespace {

using Net = LanguageModel<double>;

Net make_model(Positions positions = Positions::kNone) {
  LanguageModelConfig config = small_config("2*ab,attention:heads=2,gated,softmax-local:heads=4");
  config.positions = positions;
  config.context = 12;
  return random_model<double>(config, 7);
}

/// Token `place` of a text, drawn so that what else has been read shows.
std::int32_t drawn(std::span<const double> logits, std::size_t place) {
  Random random(place);
  return Sampler({.temperature = 0.5})(logits, random);
}

/// `length` tokens behind a prompt, by a session of its own.
Ids alone(const Net& model, const Ids& prompt, std::size_t length) {
  Workspace workspace;
  GenerationSession session(model, workspace, {.on_full = OnFull::kRestart});
  session.prefill(prompt);
  Ids text;
  while (text.size() < length) {
    text.push_back(drawn(session.logits(), text.size()));
    session.next(text.back());
  }
  return text;
}

/// Texts that end at a length of their own.
struct Texts {
  std::map<std::int64_t, Ids> written{};
  std::map<std::int64_t, std::size_t> lengths{};
  std::int32_t operator()(std::int64_t text, std::span<const double> logits) {
    if (written[text].size() == lengths[text]) return -1;
    written[text].push_back(drawn(logits, written[text].size()));
    return written[text].back();
  }
};

TEST(ContinuousBatch, WritesTheTextsOfSessionsOfTheirOwn) {
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const Net model = make_model(positions);
    Random random(3);
    Workspace workspace;
    ContinuousBatch batch(model, workspace, {.streams = 3, .prompt_tokens = 5});
    Texts texts;
    std::map<std::int64_t, Ids> prompts;
    const auto add = [&] {
      const Ids prompt = random_ids(1 + static_cast<Index>(random.below(17)), kVocabulary, random);
      const std::int64_t text = batch.add(prompt);
      EXPECT_EQ(text, static_cast<std::int64_t>(prompts.size()));
      prompts[text] = prompt;
      texts.lengths[text] = static_cast<std::size_t>(random.below(25));
    };
    for (int i = 0; i < 5; ++i) add();
    Index before = 0;
    while (batch.turn(texts)) {
      EXPECT_LE(batch.running(), 3);
      if (positions == Positions::kNone) {
        EXPECT_LE(batch.session().tokens_read() - before, 3 + 5);
        before = batch.session().tokens_read();
      }
      if (prompts.size() < 20 && random.below(3) == 0) add();
    }
    EXPECT_EQ(batch.running() + batch.waiting(), 0);
    ASSERT_GE(prompts.size(), 8u);
    for (const auto& [text, prompt] : prompts)
      EXPECT_EQ(texts.written[text], alone(model, prompt, texts.lengths[text])) << "text " << text;
  }
}

TEST(ContinuousBatch, ALongPromptHoldsNobodyUp) {
  const Net model = make_model();
  Random random(5);
  Workspace workspace;
  ContinuousBatch batch(model, workspace, {.streams = 2, .prompt_tokens = 4});
  batch.add(random_ids(3, kVocabulary, random));
  batch.turn([](auto, auto) { return 0; });
  batch.add(random_ids(40, kVocabulary, random));
  int first = 0, second = 0;
  for (int turn = 0; turn < 10; ++turn)
    batch.turn([&](std::int64_t text, auto) { return ++(text == 0 ? first : second), 1; });
  EXPECT_EQ(first, 10);
  EXPECT_EQ(second, 0);
  batch.turn([&](std::int64_t text, auto) { return ++(text == 0 ? first : second), 1; });
  EXPECT_EQ(second, 1);
}

TEST(ContinuousBatch, AForkGoesOnAlone) {
  const Net model = make_model();
  Random random(4);
  Workspace workspace;
  ContinuousBatch batch(model, workspace, {.streams = 3, .prompt_tokens = 4});
  const Ids prompt = random_ids(10, kVocabulary, random);
  Texts texts;
  const std::int64_t text = batch.add(prompt);
  texts.lengths[text] = 20;
  batch.turn(texts);
  batch.turn(texts);  // within the prompt
  const std::int64_t early = batch.fork(text);
  texts.lengths[early] = 9;
  for (int i = 0; i < 5; ++i) batch.turn(texts);
  const std::int64_t late = batch.fork(text);
  texts.written[late] = texts.written[text];
  texts.lengths[late] = 12;
  EXPECT_EQ(message_of<std::out_of_range>([&] { batch.fork(text); }),
            "ContinuousBatch::fork: expected a free stream, got 3 streams in use");
  while (batch.turn(texts)) {
  }
  for (const std::int64_t each : {text, early, late})
    EXPECT_EQ(texts.written[each], alone(model, prompt, texts.lengths[each])) << "text " << each;
}

TEST(ContinuousBatch, TextsAreEndedWhereverTheyAre) {
  const Net model = make_model();
  Workspace workspace;
  ContinuousBatch batch(model, workspace, {.streams = 1});
  const std::int64_t runs = batch.add(Ids{1, 2}), waits = batch.add(Ids{3}), other = batch.add(Ids{4, 1});
  Texts texts;
  texts.lengths[other] = 6;
  batch.turn(texts);
  EXPECT_EQ(batch.running(), 1);
  EXPECT_EQ(batch.waiting(), 2);
  batch.end(waits);
  batch.end(runs);
  EXPECT_EQ(message_of<std::out_of_range>([&] { batch.end(runs); }),
            "ContinuousBatch::end: expected the number of a text that runs, got 0");
  while (batch.turn(texts)) {
  }
  EXPECT_EQ(texts.written[other], alone(model, {4, 1}, 6));
  EXPECT_TRUE(texts.written[waits].empty());
}

TEST(ContinuousBatch, WithinATurnTextsAreAddedButNotForkedOrEnded) {
  const Net model = make_model();
  Workspace workspace;
  ContinuousBatch batch(model, workspace, {.streams = 3});
  batch.add(Ids{1});
  batch.turn([](auto, auto) { return 0; });
  int asked = 0;
  batch.turn([&](std::int64_t text, auto) {
    ++asked;
    const std::string end = ": expected a call between turns, got one from within a turn";
    EXPECT_EQ(message_of<std::logic_error>([&] { batch.fork(text); }), "ContinuousBatch::fork" + end);
    EXPECT_EQ(message_of<std::logic_error>([&] { batch.end(text); }), "ContinuousBatch::end" + end);
    EXPECT_EQ(message_of<std::logic_error>([&] { batch.turn([](auto, auto) { return 0; }); }),
              "ContinuousBatch::turn" + end);
    EXPECT_EQ(batch.add(Ids{2}), 1);
    return 3;
  });
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(batch.running(), 2);
  batch.end(0);
  EXPECT_EQ(batch.running(), 1);
}

// Those that the call left in part have ended, all others are as if it had not been.
TEST(ContinuousBatch, GoesOnAfterATurnThatThrew) {
  const Net model = random_model<double>(small_config("2*ab,gated"), 7);
  int ended = 0, failures = 0;
  for (Index fails_at = 0;; ++fails_at, ++failures) {
    SCOPED_TRACE(fails_at);
    FailingExecutor executor;
    Workspace workspace(executor);
    ContinuousBatch batch(model, workspace, {.streams = 2, .prompt_tokens = 40});
    Texts texts;
    const Ids prompts[] = {{2}, Ids(78, 3), {4, 1}};
    for (const Ids& prompt : prompts) texts.lengths[batch.add(prompt)] = 4;
    batch.turn(texts);  // the first prompt, and half of the second
    executor.loops = 0;
    executor.fails_at = fails_at;
    bool threw = false;
    try {
      batch.turn(texts);
    } catch (const std::bad_alloc&) {
      threw = true;
      texts.written[0].pop_back();  // it is asked again, or has ended
    }
    executor.fails_at = -1;
    std::vector<std::int64_t> there;
    for (std::int64_t text = 0; text < 3; ++text) {
      if (batch.has(text)) there.push_back(text);
    }
    ended += there.size() < 3 ? 1 : 0;
    EXPECT_EQ(static_cast<Index>(there.size()), batch.running() + batch.waiting());
    while (batch.turn(texts)) {
    }
    for (const std::int64_t text : there)
      EXPECT_EQ(texts.written[text], alone(model, prompts[text], 4)) << text;
    for (std::int64_t text = 0; text < 4; ++text) EXPECT_FALSE(batch.has(text));
    if (!threw) break;
  }
  EXPECT_GT(ended, 0);
  EXPECT_LT(ended, failures);
}

TEST(ContinuousBatch, RefusesWhatCannotBeAndIsAsItWas) {
  const Net model = make_model();
  Workspace workspace;
  EXPECT_EQ(
      message_of<std::invalid_argument>([&] { ContinuousBatch(model, workspace, {.prompt_tokens = 0}); }),
      "ContinuousBatch: prompt_tokens must be at least 1, got 0");
  ContinuousBatch batch(model, workspace, {.streams = 2});
  EXPECT_EQ(message_of<std::invalid_argument>([&] { batch.add({}); }),
            "ContinuousBatch::add: the prompt must be at least one token, got none");
  EXPECT_EQ(message_of<std::out_of_range>([&] {
              batch.add(Ids{0, kVocabulary});
            }),
            "ContinuousBatch::add: token id 1 must be 0 to " + std::to_string(kVocabulary - 1) + ", got " +
                std::to_string(kVocabulary));
  Texts texts;
  const std::int64_t text = batch.add(Ids{2});
  texts.lengths[text] = 8;
  for (int i = 0; i < 4; ++i) batch.turn(texts);
  EXPECT_THROW(batch.turn([](auto, auto) { return 1000; }), std::out_of_range);
  EXPECT_THROW(batch.turn([](auto, auto) -> std::int32_t { throw std::runtime_error("no"); }),
               std::runtime_error);
  while (batch.turn(texts)) {
  }
  EXPECT_EQ(texts.written[text], alone(model, {2}, 8));
}

}  // namespace
}  // namespace hsm::test::continuous_batch_test
