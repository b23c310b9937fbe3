// SPDX-License-Identifier: MIT
//
// A session against the forward pass over the whole text, and what it does where learned positions end.
#include <gtest/gtest.h>

#include <hsm/model/session.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/matchers.hpp"
#include "support/message_of.hpp"
#include "support/models.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::session_test {
namespace {

using Net = LanguageModel<double>;
using Ids = std::vector<std::int32_t>;
using Logits = std::vector<double>;

constexpr Index kVocabulary = 23, kContext = 12;

Net make_model(Positions positions,
               const std::string& layers = "2*ab,attention:heads=2,gated,softmax-local:heads=4") {
  Random random(7);
  Net model({.vocabulary = kVocabulary,
             .width = 16,
             .feed_forward = 24,
             .context = kContext,
             .positions = positions,
             .layers = layers},
            random);
  // Larger weights than fresh ones, so that a wrong token is seen in the logits.
  Net::visit([&](std::string_view, auto& tensor) { tensor *= 2; }, model);
  return model;
}

Ids tokens(Index count, std::uint64_t seed = 3) {
  Random random(seed);
  Ids ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(random.below(kVocabulary)));
  return ids;
}

Ids part(const Ids& ids, Index first, Index count) {
  return Ids(ids.begin() + first, ids.begin() + first + count);
}

/// The logits after the last of `ids`, by the forward pass over all of them.
Logits full_logits(const Net& model, const Ids& ids) {
  Workspace workspace;
  Net::Saved saved;
  const auto T = static_cast<Index>(ids.size());
  model.hidden(ids, 1, T, saved, workspace);
  const auto& E = model.embedding().weight;
  Logits logits(static_cast<std::size_t>(kVocabulary));
  for (Index v = 0; v < kVocabulary; ++v) {
    for (Index c = 0; c < E.cols(); ++c)
      logits[static_cast<std::size_t>(v)] += E(v, c) * saved.hidden(c, T - 1);
  }
  return logits;
}

Logits copy(std::span<const double> logits) { return Logits(logits.begin(), logits.end()); }

void expect_logits(std::span<const double> got, const Logits& reference, const std::string& label) {
  expect_close_to_scale(copy(got), reference, Tolerance<double>::mode * 10, label);
}

TEST(GenerationSession, AgreesWithTheForwardPassAfterEachToken) {
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const Net model = make_model(positions);
    const Ids ids = tokens(kContext);
    Workspace workspace;
    workspace.poison = true;
    GenerationSession session(model, workspace);
    session.prefill(part(ids, 0, 5));
    expect_logits(session.logits(), full_logits(model, part(ids, 0, 5)), "prompt");
    for (Index t = 5; t < kContext; ++t) {
      session.next(ids[static_cast<std::size_t>(t)]);
      EXPECT_EQ(session.position(), t + 1);
      expect_logits(session.logits(), full_logits(model, part(ids, 0, t + 1)), "t = " + std::to_string(t));
    }
  }
}

TEST(GenerationSession, ReadsAPromptInAnyPieces) {
  const Net model = make_model(Positions::kNone);
  const Ids ids = tokens(70);
  const Logits reference = full_logits(model, ids);
  Workspace workspace;
  for (const Index cut : {1, 9, 35, 69}) {
    GenerationSession session(model, workspace);
    session.prefill(part(ids, 0, cut));
    session.prefill(part(ids, cut, 70 - cut));
    expect_logits(session.logits(), reference, "cut at " + std::to_string(cut));
    EXPECT_EQ(session.position(), 70);
    EXPECT_EQ(session.room(), MixerState<double>::kMostTokens - 70);
  }
}

TEST(GenerationSession, KeepsItsStreamsApart) {
  const Net model = make_model(Positions::kLearned);
  const Ids first = tokens(6, 1), second = tokens(6, 2);
  Workspace workspace;
  GenerationSession session(model, workspace, {.streams = 2});
  Ids both = part(first, 0, 5);
  both.insert(both.end(), second.begin(), second.begin() + 5);
  session.prefill(both);
  const Ids last{first[5], second[5]};
  session.next(last);
  EXPECT_EQ(session.position(), 6);
  expect_logits(session.logits(0), full_logits(model, first), "stream 0");
  expect_logits(session.logits(1), full_logits(model, second), "stream 1");
}

TEST(GenerationSession, RefusesMoreThanTheLearnedPositionsAndGoesOnAsIfNothingHappened) {
  const Net model = make_model(Positions::kLearned);
  const Ids ids = tokens(kContext + 1);
  Workspace workspace;
  GenerationSession session(model, workspace);
  EXPECT_THROW(session.prefill(ids), std::out_of_range);
  EXPECT_EQ(session.position(), 0);
  session.prefill(part(ids, 0, kContext - 1));
  EXPECT_EQ(session.room(), 1);
  EXPECT_THROW(session.prefill(part(ids, 0, 2)), std::out_of_range);
  session.next(ids[kContext - 1]);
  expect_logits(session.logits(), full_logits(model, part(ids, 0, kContext)), "the last position");
  EXPECT_EQ(session.room(), 0);
  try {
    session.next(1);
    ADD_FAILURE() << "a token past the last position was taken";
  } catch (const std::out_of_range& error) {
    EXPECT_NE(std::string(error.what()).find("12 positions and 12 are used, got 1"), std::string::npos)
        << error.what();
  }
  expect_logits(session.logits(), full_logits(model, part(ids, 0, kContext)), "after the refusal");
}

TEST(GenerationSession, RestartsWithTheLastHalfOfTheContext) {
  const Net model = make_model(Positions::kLearned);
  const Ids ids = tokens(3 * kContext);
  Workspace workspace;
  GenerationSession session(model, workspace, {.on_full = OnFull::kRestart});
  Index start = 0;  // of what the session has in view, by its documentation
  for (Index t = 0; t < 3 * kContext; ++t) {
    session.next(ids[static_cast<std::size_t>(t)]);
    if (t + 1 - start > kContext) start = t + 1 - kContext / 2;
    EXPECT_EQ(session.position(), t + 1 - start);
    expect_logits(session.logits(), full_logits(model, part(ids, start, t + 1 - start)),
                  "t = " + std::to_string(t));
  }
  EXPECT_EQ(session.restarts(), 4);
}

TEST(GenerationSession, RestartsForALongPromptInEveryStream) {
  const Net model = make_model(Positions::kLearned);
  const Index T = 2 * kContext + 3;
  const Ids first = tokens(T, 1), second = tokens(T, 2);
  Workspace workspace;
  GenerationSession session(model, workspace, {.streams = 2, .on_full = OnFull::kRestart});
  session.prefill(Ids{1, 2, 3, 4});
  Ids both = first;
  both.insert(both.end(), second.begin(), second.end());
  session.prefill(both);
  // Two tokens are there, ten more fill the stream, and each restart leaves half a context and its token.
  const Index view = kContext / 2 + (T - (kContext - 2) - 1) % (kContext / 2 + 1);
  EXPECT_EQ(session.position(), view);
  expect_logits(session.logits(0), full_logits(model, part(first, T - view, view)), "stream 0");
  expect_logits(session.logits(1), full_logits(model, part(second, T - view, view)), "stream 1");
  EXPECT_EQ(session.tokens_read(), 2 * (2 + view));
}

TEST(GenerationSession, ReadsItsOwnHistoryAgain) {
  const Net model = make_model(Positions::kLearned);
  Workspace workspace;
  GenerationSession session(model, workspace), expected(model, workspace);
  session.prefill(Ids{1, 2});
  session.prefill(session.memory().history[0]);
  session.prefill(std::span(session.memory().history[0]).last(3));
  expected.prefill(Ids{1, 2, 1, 2, 2, 1, 2});
  EXPECT_EQ(session.memory().history[0], expected.memory().history[0]);
  expect_logits(session.logits(), full_logits(model, Ids{1, 2, 1, 2, 2, 1, 2}), "its own history");
}

TEST(GenerationSession, RestartsWhereTheTextSaysWhateverListsItComesIn) {
  const Net model = make_model(Positions::kLearned);
  for (const Index T : {kContext, kContext + 1, 2 * kContext, 5 * kContext + 4}) {
    const Ids ids = tokens(T);
    Workspace workspace;
    GenerationSession one_by_one(model, workspace, {.on_full = OnFull::kRestart});
    for (const std::int32_t id : ids) one_by_one.next(id);
    for (const Index chunk : {Index{2}, Index{3}, kContext - 1, kContext, kContext + 1, T}) {
      SCOPED_TRACE(std::to_string(T) + " tokens by " + std::to_string(chunk));
      GenerationSession session(model, workspace, {.on_full = OnFull::kRestart});
      for (Index first = 0; first < T; first += chunk)
        session.prefill(part(ids, first, std::min(chunk, T - first)));
      EXPECT_EQ(session.position(), one_by_one.position());
      EXPECT_EQ(session.restarts(), one_by_one.restarts());
      EXPECT_EQ(session.memory().history, one_by_one.memory().history);
      expect_logits(session.logits(), copy(one_by_one.logits()), "logits");
    }
    Ids wrong = ids;
    wrong[0] = kVocabulary;
    GenerationSession session(model, workspace, {.on_full = OnFull::kRestart});
    EXPECT_THROW(session.prefill(wrong), std::out_of_range) << "in a part that is not read";
  }
}

TEST(GenerationSession, RestartsAModelOfOnePosition) {
  Random random(1);
  const Net model({.vocabulary = 5,
                   .width = 4,
                   .feed_forward = 4,
                   .context = 1,
                   .positions = Positions::kLearned,
                   .layers = "ab"},
                  random);
  Workspace workspace;
  GenerationSession session(model, workspace, {.on_full = OnFull::kRestart});
  for (const std::int32_t id : {3, 1, 4}) session.next(id);
  GenerationSession fresh(model, workspace);
  fresh.next(4);
  expect_same_bits(copy(session.logits()), copy(fresh.logits()), "the last token alone");
}

TEST(GenerationSession, NeverRestartsWithoutLearnedPositions) {
  const Net model = make_model(Positions::kNone, "3*ab");
  const Ids ids = tokens(3 * kContext);
  Workspace workspace;
  GenerationSession session(model, workspace, {.on_full = OnFull::kRestart});
  for (const std::int32_t id : ids) session.next(id);
  EXPECT_EQ(session.position(), 3 * kContext);
  EXPECT_EQ(session.restarts(), 0);
  expect_logits(session.logits(), full_logits(model, ids), "all tokens");
}

TEST(GenerationSession, AStateThatEndsBeforeThePositionsIsNotRestarted) {
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const Net model = make_model(positions, "ab,attention:heads=2");
    Workspace workspace;
    auto memory = GenerationSession(model, workspace).memory();
    memory.state = model.make_state({.streams = 1, .capacity = 4});
    GenerationSession session(model, workspace, memory, OnFull::kRestart);
    session.prefill(Ids{1, 2, 3});
    const Logits before = copy(session.logits());
    const std::string got = message_of<std::out_of_range>([&] { session.prefill(Ids{4, 5}); });
    EXPECT_EQ(got, "GenerationSession: the state of stream 0 has room for 1 more token, got 2 more tokens");
    EXPECT_EQ(session.position(), 3);
    expect_same_bits(copy(session.logits()), before, "logits");
    session.next(4);
    EXPECT_THROW(session.next(5), std::out_of_range);
    EXPECT_EQ(session.restarts(), 0);
  }
}

TEST(GenerationSession, LeavesEverythingAsItWasWhenATokenIsRefused) {
  const Net model = make_model(Positions::kLearned);
  const Ids ids = tokens(kContext);
  Workspace workspace;
  GenerationSession session(model, workspace, {.on_full = OnFull::kRestart});
  session.prefill(ids);
  const Logits before = copy(session.logits());
  EXPECT_THROW(session.next(kVocabulary), std::out_of_range);  // on the way to a restart
  EXPECT_THROW(session.next(-1), std::out_of_range);
  EXPECT_THROW(session.prefill(Ids{}), std::invalid_argument);
  EXPECT_EQ(session.position(), kContext);
  EXPECT_EQ(session.restarts(), 0);
  expect_same_bits(copy(session.logits()), before, "logits");
  session.next(2);
  Ids last = part(ids, kContext / 2 + 1, kContext / 2 - 1);
  last.push_back(2);
  expect_logits(session.logits(), full_logits(model, last), "the restart that follows");
}

TEST(GenerationSession, RefusesWhatItCannotDo) {
  const Net model = make_model(Positions::kNone);
  Workspace workspace;
  EXPECT_THROW(GenerationSession(model, workspace, {.streams = 0}), std::invalid_argument);
  GenerationSession session(model, workspace, {.streams = 2});
  EXPECT_THROW(session.logits(), std::out_of_range);
  EXPECT_THROW(session.prefill(Ids{1, 2, 3}), std::invalid_argument);
  EXPECT_THROW(session.next(1), std::invalid_argument);
  EXPECT_THROW(session.next(Ids{1, 2, 3, 4}), std::invalid_argument);
  session.next(Ids{1, 2});
  EXPECT_THROW(session.logits(2), std::out_of_range);
  EXPECT_THROW(session.logits(-1), std::out_of_range);
  const GenerationSession taken = std::move(session);
  EXPECT_EQ(
      message_of<std::invalid_argument>([&] { session.prefill(Ids{1}); }),  // what was moved from
      "GenerationSession::prefill: the number of token ids must be a multiple of 0 streams above 0, got 1");
}

}  // namespace
}  // namespace hsm::test::session_test
