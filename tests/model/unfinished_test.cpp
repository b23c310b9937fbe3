// SPDX-License-Identifier: MIT
//
// Calls of a model that throw after their checks, at every loop: a stream then goes on as if the call had not been, or
// is refused until it is reset; records and sessions likewise.
#include <gtest/gtest.h>

#include <new>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/model/session.hpp>

#include "model/language_model_cases.hpp"
#include "support/failing_executor.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::unfinished_test {
namespace {

using Model = LanguageModel<float>;

// Norms run in loops of 32 tokens a task: each of them can throw, before, between and after the layers.
constexpr Index kBefore = 40, kMore = 50;
const std::string kPart =
    "LanguageModel::extend: stream 0 of the state must be whole, got one that a call which threw has left in "
    "part; "
    "reset it";

struct Outcome {
  int failures = 0, refused = 0;
};

/// Fails at one loop after another; what is whole must go on with the same logits, what is not must be refused.
Outcome fail_everywhere(const Model& model, Index spare) {
  Random random(1);
  FailingExecutor executor;
  Workspace workspace, failing(executor);
  const Ids prompt = random_ids(kBefore, kVocabulary, random), text = random_ids(kMore, kVocabulary, random);
  Matrix<float> logits(kVocabulary, 1), expected = logits;
  auto start = model.make_state({.streams = 1, .spare = spare});
  model.extend(prompt, start, block_of(logits), workspace);
  auto after = start;
  model.extend(text, after, block_of(expected), workspace);
  Outcome outcome;
  for (executor.fails_at = 0;; ++executor.fails_at) {
    SCOPED_TRACE(executor.fails_at);
    auto state = start;
    executor.loops = 0;
    try {
      model.extend(text, state, block_of(logits), failing);
      break;
    } catch (const std::bad_alloc&) {
    }
    ++outcome.failures;
    EXPECT_EQ(state.count(0), kBefore);
    if (!state.is_whole(0)) {
      ++outcome.refused;
      expect_refused([&] { model.extend(text, state, block_of(logits), workspace); }, kPart);
      state.reset(0);
      model.extend(prompt, state, block_of(logits), workspace);
    }
    logits.setConstant(std::numeric_limits<float>::quiet_NaN());
    model.extend(text, state, block_of(logits), workspace);
    expect_close_to_scale(logits, expected, Tolerance<float>::mode, "logits");
  }
  return outcome;
}

TEST(UnfinishedExtend, LeavesEachStreamAsItWasOrRefusesIt) {
  const Outcome outcome = fail_everywhere(random_model<float>(small_config(), 1), 0);
  EXPECT_GT(outcome.failures, 9);
  EXPECT_GT(outcome.refused, 0);                 // after the first layer has read the tokens
  EXPECT_LT(outcome.refused, outcome.failures);  // before it
}

TEST(UnfinishedExtend, LeavesEachStreamAsItWasWhereSlotsAreSpare) {
  const Outcome outcome = fail_everywhere(random_model<float>(small_config(), 1), kMore);
  EXPECT_GT(outcome.failures, 9);
  EXPECT_EQ(outcome.refused, 0);
}

TEST(UnfinishedExtend, OfAttentionLeavesEachStreamAsItWas) {
  const Outcome outcome = fail_everywhere(random_model<float>(small_config("3*attention:heads=2"), 1), 0);
  EXPECT_GT(outcome.failures, 3);
  EXPECT_EQ(outcome.refused, 0);
}

TEST(UnfinishedRecord, IsRefusedByBackward) {
  Random random(2);
  FailingExecutor executor;
  Workspace workspace, failing(executor);
  const Model model = random_model<float>(small_config(), 1);
  const Ids ids = random_ids(kMore, kVocabulary, random);
  Model gradients = zeros_like(model);
  const Matrix<float> slope = Matrix<float>::Ones(8, kMore);
  for (executor.fails_at = 0;; executor.fails_at += 3) {
    Model::Saved saved;
    model.hidden(ids, 1, kMore, saved, workspace);
    executor.loops = 0;
    try {
      model.hidden(ids, 1, kMore, saved, failing);
      break;
    } catch (const std::bad_alloc&) {
    }
    expect_refused(
        [&] { model.backward(ids, saved, read(slope), gradients, workspace); },
        "LanguageModel::backward: saved must be the record of a call that ended, got one of a call that "
        "threw");
    Matrix<float> logits(kVocabulary, kMore);
    expect_refused(
        [&] { model.logits(saved, block_of(logits), workspace); },
        "LanguageModel::logits: saved must be the record of a call that ended, got one of a call that threw");
  }
  EXPECT_GT(executor.fails_at, 9);
}

// Whatever the layers, and in whichever of them backward ends.
TEST(UnfinishedBackward, LeavesAStateGradientThatIsRefused) {
  Random random(4);
  for (const char* layers : {"2*ab", "gated,fusion", "2*attention:heads=2", "attention:heads=2:window=4",
                             "2*ema", "2*linear-attention", "2*hkt"}) {
    SCOPED_TRACE(layers);
    const Model model = random_model<float>(small_config(layers), 1);
    FailingExecutor executor;
    Workspace workspace, failing(executor);
    const Ids ids = random_ids(kMore, kVocabulary, random);
    const Matrix<float> slope = Matrix<float>::Ones(8, kMore);
    auto state = model.make_state();
    Model::Saved saved;
    model.extend(ids, state, saved, workspace);
    model.extend(ids, state, saved, workspace);  // a chunk with a past
    const Model zeros = zeros_like(model);
    Model gradients = zeros, expected = zeros;
    auto whole = model.make_state();
    model.backward(ids, saved, read(slope), expected, workspace, &whole);
    for (executor.fails_at = 0;; ++executor.fails_at) {
      auto d = model.make_state();
      executor.loops = 0;
      try {
        model.backward(ids, saved, read(slope), gradients, failing, &d);
        EXPECT_TRUE(d.is_whole(0));
        break;
      } catch (const std::bad_alloc&) {
      }
      EXPECT_FALSE(d.is_whole(0));
      EXPECT_THROW(model.backward(ids, saved, read(slope), gradients, workspace, &d), std::invalid_argument);
      d.reset();  // to the gradient 0
      gradients = zeros;
      model.backward(ids, saved, read(slope), gradients, workspace, &d);
      EXPECT_TRUE(d.is_whole(0));
      Model::visit([](std::string_view name, const auto& a,
                      const auto& b) { expect_same_bits(a, b, std::string(name)); },
                   std::as_const(gradients), std::as_const(expected));
    }
    EXPECT_GT(executor.fails_at, 3);
  }
}

TEST(UnfinishedSession, KeepsItsLogitsAndItsPlace) {
  Random random(3);
  FailingExecutor executor;
  Workspace workspace, failing(executor);
  LanguageModelConfig config = small_config("2*attention:heads=2");
  config.positions = Positions::kLearned;
  config.context = kBefore + kMore;
  const Model model = random_model<float>(config, 1);
  const Ids prompt = random_ids(kBefore, kVocabulary, random), text = random_ids(kMore, kVocabulary, random);
  GenerationSession<Model> reference(model, workspace), session(model, failing);
  reference.prefill(prompt);
  executor.fails_at = -1;
  session.prefill(prompt);
  const auto logits_of_session = [](const GenerationSession<Model>& s) {
    return std::vector<float>(s.logits().begin(), s.logits().end());
  };
  int failures = 0;
  for (executor.fails_at = 0;; ++executor.fails_at, ++failures) {
    executor.loops = 0;
    try {
      session.prefill(text);
      break;
    } catch (const std::bad_alloc&) {
    }
    EXPECT_EQ(session.position(), kBefore);
    expect_same_bits(logits_of_session(session), logits_of_session(reference), "logits");
  }
  EXPECT_GT(failures, 3);
  reference.prefill(text);
  expect_same_bits(logits_of_session(session), logits_of_session(reference), "logits after all");
}

// A restart reads anew what the stream holds, which after a call that threw nobody knows.
TEST(UnfinishedSession, IsNotRestartedUntilItIsReset) {
  Random random(4);
  FailingExecutor executor;
  Workspace failing(executor);
  LanguageModelConfig config = small_config("ab,attention:heads=2");
  config.positions = Positions::kLearned;
  config.context = kBefore + kMore;
  const Model model = random_model<float>(config, 1);
  const Ids prompt = random_ids(kBefore, kVocabulary, random), text = random_ids(kMore, kVocabulary, random);
  GenerationSession<Model> session(model, failing, {.on_full = OnFull::kRestart});
  session.prefill(prompt);
  for (executor.fails_at = 0; session.memory().state.is_whole(0); ++executor.fails_at) {
    executor.loops = 0;
    try {
      session.prefill(text);
      FAIL() << "no call left the stream in part";
    } catch (const std::bad_alloc&) {
    }
  }
  executor.fails_at = -1;
  const Ids more = random_ids(2 * kMore, kVocabulary, random);  // more than there is room for
  const std::string part =
      "GenerationSession::prefill: stream 0 of the state must be whole, got one that a call which "
      "threw has left in part; reset it";
  expect_refused([&] { session.prefill(more); }, part);
  expect_refused([&] { session.prefill(text); }, part);
  session.reset(0);
  session.prefill(more);
  EXPECT_GT(session.restarts(), 0);
}

}  // namespace
}  // namespace hsm::test::unfinished_test
