// SPDX-License-Identifier: MIT
//
// Streams of one session that come and go: prompts of different length, texts that end and make room, forks,
// tokens taken back, and restarts of one stream beside others that go on.
#include <gtest/gtest.h>

#include <hsm/model/session.hpp>
#include <stdexcept>
#include <vector>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::session_streams_test {
namespace {

using Net = LanguageModel<double>;
using Logits = std::vector<double>;
constexpr Index kContext = 12;

Net make_model(Positions positions) {
  LanguageModelConfig config = small_config("2*ab,attention:heads=2,gated,softmax-local:heads=4");
  config.positions = positions;
  config.context = kContext;
  return random_model<double>(config, 7);
}

Logits copy(std::span<const double> logits) { return Logits(logits.begin(), logits.end()); }

/// The logits after the last of `ids`, by a session of their own.
Logits alone(const Net& model, const Ids& ids) {
  Workspace workspace;
  GenerationSession session(model, workspace);
  session.prefill(ids);
  return copy(session.logits());
}

void expect_logits(const GenerationSession<Net>& session, Index stream, const Ids& text, const Net& model) {
  expect_close_to_scale(copy(session.logits(stream)), alone(model, text), 20 * Tolerance<double>::mode,
                        "stream " + std::to_string(stream));
}

TEST(SessionStreams, HavePromptsOfDifferentLengthAndComeAndGo) {
  Random random(1);
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const Net model = make_model(positions);
    Workspace workspace;
    GenerationSession session(model, workspace, {.streams = 3});
    Ids a = random_ids(4, kVocabulary, random), b = random_ids(2, kVocabulary, random), both = b;
    both.insert(both.end(), a.begin(), a.end());
    session.prefill(both, std::vector<Index>{0, 2, 6}, std::vector<Index>{2, 0});
    EXPECT_THROW(session.logits(1), std::out_of_range);
    EXPECT_EQ(session.position(0), 4);
    EXPECT_EQ(session.position(1), 0);
    EXPECT_EQ(session.position(2), 2);
    expect_logits(session, 0, a, model);
    expect_logits(session, 2, b, model);
    const Logits before = copy(session.logits(0));
    session.next(Ids{5}, std::vector<Index>{2});
    b.push_back(5);
    expect_logits(session, 2, b, model);
    expect_same_bits(copy(session.logits(0)), before, "the logits of a stream that was not named");
    session.reset(2);  // its text is done; the next one takes its place
    EXPECT_THROW(session.logits(2), std::out_of_range);
    const Ids c = random_ids(7, kVocabulary, random);
    session.prefill(c, std::vector<Index>{0, 7}, std::vector<Index>{2});
    session.next(Ids{3, 1}, std::vector<Index>{0, 1});
    a.push_back(3);
    expect_logits(session, 0, a, model);
    expect_logits(session, 1, {1}, model);
    expect_logits(session, 2, c, model);
    if (positions == Positions::kLearned) {
      EXPECT_EQ(session.room(0), kContext - 5);
      EXPECT_EQ(session.room(), kContext - 7);
    }
  }
}

TEST(SessionStreams, ForksAndRewindsAreExact) {
  Random random(2);
  const Net model = make_model(Positions::kLearned);
  Workspace workspace;
  GenerationSession session(model, workspace, {.streams = 2, .spare = 2});
  const std::vector<Index> first{0}, second{1};
  Ids text = random_ids(6, kVocabulary, random);
  session.prefill(text, std::vector<Index>{0, 6}, first);
  session.fork(0, 1);
  expect_same_bits(copy(session.logits(1)), copy(session.logits(0)), "logits of the fork");
  session.next(Ids{4}, second);
  expect_logits(session, 0, text, model);
  session.next(Ids{9}, first);
  session.next(Ids{8}, first);
  session.rewind(0, 2);
  EXPECT_EQ(session.position(0), 6);
  EXPECT_THROW(session.logits(0), std::out_of_range);
  session.next(Ids{4}, first);
  expect_same_bits(copy(session.logits(0)), copy(session.logits(1)), "rewound, and on the way of the fork");
  EXPECT_THROW(session.rewind(0, 3), std::out_of_range);
  EXPECT_THROW(session.rewind(2, 1), std::out_of_range);
  EXPECT_THROW(session.fork(0, 2), std::out_of_range);
  EXPECT_EQ(session.position(0), 7);
}

TEST(SessionStreams, RestartOneWhileTheOthersGoOn) {
  Random random(3);
  const Net model = make_model(Positions::kLearned);
  Workspace workspace;
  GenerationSession session(model, workspace, {.streams = 2, .on_full = OnFull::kRestart});
  Ids long_text = random_ids(kContext, kVocabulary, random), short_text = random_ids(3, kVocabulary, random);
  Ids both = long_text;
  both.insert(both.end(), short_text.begin(), short_text.end());
  session.prefill(both, std::vector<Index>{0, kContext, kContext + 3}, std::vector<Index>{0, 1});
  const Logits before = copy(session.logits(0));
  EXPECT_THROW(session.next(Ids{1, kVocabulary}), std::out_of_range);
  expect_same_bits(copy(session.logits(0)), before, "logits after a refused restart");
  EXPECT_EQ(session.restarts(), 0);
  session.next(Ids{1, 2});
  long_text.push_back(1);
  short_text.push_back(2);
  EXPECT_EQ(session.restarts(), 1);
  EXPECT_EQ(session.position(0), kContext / 2);
  EXPECT_EQ(session.position(1), 4);
  expect_logits(session, 0, Ids(long_text.end() - kContext / 2, long_text.end()), model);
  expect_logits(session, 1, short_text, model);
}

TEST(SessionStreams, RefuseListsThatCannotBe) {
  const Net model = make_model(Positions::kLearned);
  Workspace workspace;
  GenerationSession session(model, workspace, {.streams = 2});
  const auto refused = [&](const Ids& ids, std::vector<Index> offsets, std::vector<Index> streams) {
    EXPECT_ANY_THROW(session.prefill(ids, offsets, streams));
    EXPECT_EQ(session.position(0), 0);
    EXPECT_EQ(session.position(1), 0);
  };
  refused({1, 2}, {0, 1, 2}, {0, 0});
  refused({1, 2}, {0, 1, 2}, {0, 2});
  refused({1, 2}, {0, 2}, {0, 1});
  refused({1, 2}, {0, 2, 2}, {0, 1});
  refused({1, 2}, {0, 1, 3}, {0, 1});
  EXPECT_THROW(session.next(Ids{1, 2}, std::vector<Index>{0}), std::invalid_argument);
  EXPECT_THROW(session.next(Ids{1, 2, 3}, std::vector<Index>{0, 1, 0}), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::test::session_streams_test
