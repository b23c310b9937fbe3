// SPDX-License-Identifier: MIT
//
// Streams of one session that come and go: prompts of different length, texts that end and make room, forks,
// tokens taken back, and restarts of one stream beside others that go on.
#include <gtest/gtest.h>

#include <hsm/model/session.hpp>
#include <limits>
#include <stdexcept>
#include <vector>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"
#include "support/message_of.hpp"
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
  const Logits before = copy(session.logits(0));
  session.next(Ids{9}, first);
  session.next(Ids{8}, first);
  expect_same_bits(copy(session.logits(0, 2)), before, "logits before the last two tokens");
  EXPECT_THROW(session.logits(0, 3), std::out_of_range) << "two tokens are spared";
  EXPECT_THROW(session.logits(0, -1), std::out_of_range);
  session.rewind(0, 2);
  EXPECT_EQ(session.position(0), 6);
  expect_same_bits(copy(session.logits(0)), before, "logits that survived a rewind");
  EXPECT_THROW(session.logits(0, 1), std::out_of_range) << "its place was taken";
  session.fork(1, 0);
  EXPECT_THROW(session.logits(0, 3), std::out_of_range);
  session.rewind(0, 1);
  expect_same_bits(copy(session.logits(0, 1)), copy(session.logits(1, 2)), "earlier logits of the fork");
  expect_logits(session, 0, text, model);
  session.next(Ids{4}, first);
  expect_same_bits(copy(session.logits(0)), copy(session.logits(1)), "rewound, and on the way of the fork");
  EXPECT_THROW(session.rewind(0, 3), std::out_of_range);
  EXPECT_THROW(session.rewind(2, 1), std::out_of_range);
  EXPECT_THROW(session.fork(0, 2), std::out_of_range);
  EXPECT_EQ(session.position(0), 7);
}

TEST(SessionStreams, KeepTheLogitsOfAsManyTokensAsCanBeTakenBack) {
  Random random(9);
  const Net model = make_model(Positions::kLearned);
  Workspace workspace;
  workspace.poison = true;
  GenerationSession session(model, workspace, {.streams = 2, .on_full = OnFull::kRestart, .spare = 3});
  const Ids a = random_ids(7, kVocabulary, random), b = random_ids(2, kVocabulary, random);
  Ids both = a;
  both.insert(both.end(), b.begin(), b.end());
  session.prefill(both, std::vector<Index>{0, 7, 9}, std::vector<Index>{1, 0});
  for (Index before = 0; before < 4; ++before) {
    expect_close_to_scale(copy(session.logits(1, before)), alone(model, Ids(a.begin(), a.end() - before)),
                          20 * Tolerance<double>::mode, "before " + std::to_string(before));
  }
  EXPECT_THROW(session.logits(1, 4), std::out_of_range);
  expect_close_to_scale(copy(session.logits(0, 1)), alone(model, Ids{b[0]}), 20 * Tolerance<double>::mode,
                        "the first token");
  EXPECT_THROW(session.logits(0, 2), std::out_of_range);
  session.reset(0);
  EXPECT_THROW(session.logits(0), std::out_of_range);
  // A restart reads half a context: what comes before that has no logits, and no trace of those it had.
  session.prefill(random_ids(6, kVocabulary, random), std::vector<Index>{0, 6}, std::vector<Index>{1});
  EXPECT_EQ(session.restarts(), 1);
  EXPECT_EQ(session.position(1), kContext / 2);
  EXPECT_NO_THROW(session.logits(1));
  EXPECT_THROW(session.logits(1, 1), std::out_of_range) << "read again, behind fewer tokens than before";
  session.rewind(1, 3);
  EXPECT_THROW(session.logits(1), std::out_of_range);
  session.next(std::vector<std::int32_t>{1}, std::vector<Index>{1});
  EXPECT_NO_THROW(session.logits(1));
  EXPECT_THROW(session.logits(1, 1), std::out_of_range);
}

TEST(SessionStreams, KeepFewerLogitsThanTheyHaveSpareTokensWhereAsked) {
  const Net model = make_model(Positions::kNone);
  Workspace workspace;
  GenerationSession session(model, workspace, {.spare = 4, .kept_logits = 2});
  session.prefill(Ids{1, 2, 3, 4, 5, 6});
  session.rewind(0, 1);
  expect_logits(session, 0, {1, 2, 3, 4, 5}, model);
  session.rewind(0, 2);
  EXPECT_EQ(message_of<std::out_of_range>([&] { session.logits(0); }),
            "GenerationSession::logits: expected a token of stream 0 whose logits are kept, of which there "
            "are 0, got "
            "the one 0 before the last of 3");
  for (const Index before : {std::numeric_limits<Index>::max(), std::numeric_limits<Index>::min(), Index{-1}})
    EXPECT_THROW(session.logits(0, before), std::out_of_range) << before;
  session.next(7);
  expect_logits(session, 0, {1, 2, 3, 7}, model);
  EXPECT_THROW(GenerationSession(model, workspace, {.kept_logits = -1}), std::invalid_argument);
}

TEST(SessionStreams, RefuseMoreSpareTokensThanCanBeCounted) {
  const Net attention = random_model<double>(small_config("attention:heads=2"), 7);
  Workspace workspace;
  for (const Index spare :
       {std::numeric_limits<Index>::max(), std::numeric_limits<Index>::max() / kVocabulary, Index{-1}}) {
    EXPECT_THROW(GenerationSession(attention, workspace, {.streams = 2, .spare = spare}),
                 std::invalid_argument)
        << spare;
  }
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
