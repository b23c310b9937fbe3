// SPDX-License-Identifier: MIT
//
// A text that is drafted by another model is the one that is not, whatever the draft, the sampler and the room.
#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>
#include <vector>

#include <hsm/model/sampler.hpp>
#include <hsm/model/speculation.hpp>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"
#include "support/message_of.hpp"

namespace hsm::test::speculation_test {
namespace {

using Net = LanguageModel<double>;
constexpr Index kContext = 24, kTokens = 70;

Net make_model(const std::string& layers, Positions positions, std::uint64_t seed) {
  LanguageModelConfig config = small_config(layers);
  config.positions = positions;
  config.context = kContext;
  return random_model<double>(config, seed);
}

/// A text and where its draws ended.
struct Text {
  Ids ids;
  std::uint64_t random;
  bool operator==(const Text&) const = default;
};

/// Until so many tokens are there, or no position is left; in the middle come tokens of others.
Text write_alone(const Net& model, const Ids& prompt, SamplerOptions options, OnFull on_full) {
  Workspace workspace;
  GenerationSession session(model, workspace, {.on_full = on_full});
  Sampler sampler(options);
  Random random(3);
  Text text{prompt, 0};
  session.prefill(prompt);
  while (static_cast<Index>(text.ids.size()) < kTokens) {
    text.ids.push_back(sampler(session.logits(), random));
    if (text.ids.size() == 15) {
      session.prefill(Ids{text.ids.back(), 1, 2});
      text.ids.insert(text.ids.end(), {1, 2});
      continue;
    }
    if (session.room() == 0 && on_full == OnFull::kRefuse) break;
    if (static_cast<Index>(text.ids.size()) < kTokens) session.next(text.ids.back());
  }
  text.random = random.state();
  return text;
}

Text write_together(const Net& model, const Net& draft, const Ids& prompt, SamplerOptions options,
                    OnFull on_full, Index k, Index* rounds = nullptr) {
  Workspace workspace;
  workspace.poison = true;
  SpeculativeSession session(model, draft, workspace, {.draft_tokens = k, .on_full = on_full});
  Sampler sampler(options);
  Random random(3);
  Text text{prompt, 0};
  session.prefill(prompt);
  for (;;) {
    const auto size = static_cast<Index>(text.ids.size());
    const Index most = (size < 15 ? 15 : kTokens) - size;
    if (session.session().room() == 0 && on_full == OnFull::kRefuse) break;
    const auto more = session.next(sampler, random, most);
    EXPECT_GE(more.size(), std::size_t{1});
    EXPECT_LE(static_cast<Index>(more.size()), std::min(k + 1, most));
    text.ids.insert(text.ids.end(), more.begin(), more.end());
    if (rounds) ++*rounds;
    if (text.ids.size() == 15) {
      session.prefill(Ids{1, 2});
      text.ids.insert(text.ids.end(), {1, 2});
    }
    if (static_cast<Index>(text.ids.size()) == kTokens) break;
  }
  EXPECT_LE(session.accepted(), session.drafted());
  text.random = random.state();
  return text;
}

TEST(SpeculativeSession, WritesTheTextOfTheLargeModel) {
  const Ids prompt{4, 0, 7};
  for (const auto& [positions, on_full] :
       {std::pair{Positions::kNone, OnFull::kRefuse}, std::pair{Positions::kLearned, OnFull::kRefuse},
        std::pair{Positions::kLearned, OnFull::kRestart}}) {
    const Net model = make_model(kEveryKind, positions, 7);
    const Net drafts[] = {model, make_model("2*ab", Positions::kNone, 8),
                          make_model("ab,attention:heads=2", Positions::kLearned, 9)};
    for (const SamplerOptions& options :
         {SamplerOptions{.temperature = 0}, SamplerOptions{.temperature = 0.9, .top_k = 6, .top_p = 0.95}}) {
      const Text alone = write_alone(model, prompt, options, on_full);
      for (const Net& draft : drafts) {
        for (const Index k : {1, 2, 5, 40}) {
          EXPECT_EQ(write_together(model, draft, prompt, options, on_full, k).ids, alone.ids) << k;
          EXPECT_EQ(write_together(model, draft, prompt, options, on_full, k), alone) << k;
        }
      }
    }
  }
}

TEST(SpeculativeSession, KeepsAllThatADraftOfTheSameMindProposes) {
  const Net model = make_model("2*ab,attention:heads=2,gated", Positions::kNone, 7);
  Workspace workspace;
  SpeculativeSession session(model, model, workspace, {.draft_tokens = 3});
  Sampler sampler(SamplerOptions{});
  Random random(5);
  session.prefill(Ids{1, 2});
  EXPECT_EQ(session.next(sampler, random).size(), 1u) << "there is nothing to draft behind";
  for (int round = 0; round < 10; ++round) EXPECT_EQ(session.next(sampler, random).size(), 4u);
  EXPECT_EQ(session.next(sampler, random, 2).size(), 2u);
  EXPECT_EQ(session.next(sampler, random, 1).size(), 1u);
  EXPECT_EQ(session.next(sampler, random).size(), 4u) << "the draft has caught up";
  EXPECT_EQ(session.drafted(), 10 * 3 + 1 + 3);
  EXPECT_EQ(session.accepted(), session.drafted());
  EXPECT_EQ(session.session().position(), 2 + 1 + 40 + 2 + 1 + 4 - 1) << "all but the last token";
}

TEST(SpeculativeSession, RefusesWhatCannotBe) {
  const Net model = make_model("2*ab", Positions::kLearned, 7);
  LanguageModelConfig config = small_config("ab");
  config.vocabulary = kVocabulary + 1;
  const Net other = random_model<double>(config, 1);
  Workspace workspace;
  EXPECT_EQ(message_of([&] { SpeculativeSession(model, other, workspace); }),
            "SpeculativeSession: the vocabulary of the draft must be 11, got 12");
  EXPECT_EQ(message_of([&] { SpeculativeSession(model, model, workspace, {.draft_tokens = 0}); }),
            "SpeculativeSession: draft_tokens must be at least 1, got 0");
  SpeculativeSession session(model, model, workspace, {.draft_tokens = 2});
  Sampler sampler(SamplerOptions{});
  Random random(5);
  EXPECT_THROW(session.next(sampler, random), std::out_of_range) << "no prompt";
  EXPECT_THROW(session.prefill(Ids{}), std::invalid_argument);
  EXPECT_THROW(session.prefill(Ids{kVocabulary}), std::out_of_range);
  session.prefill(Ids(kContext - 1, 3));
  EXPECT_THROW(session.next(sampler, random, 0), std::invalid_argument);
  EXPECT_EQ(session.next(sampler, random).size(), 1u);
  EXPECT_THROW(session.prefill(Ids{1}), std::out_of_range) << "the last token and one more";
  EXPECT_EQ(session.next(sampler, random).size(), 1u);
  const std::uint64_t state = random.state();
  EXPECT_THROW(session.next(sampler, random), std::out_of_range) << "it is full";
  EXPECT_EQ(random.state(), state);
  session.reset();
  session.prefill(Ids{1});
  EXPECT_EQ(session.next(sampler, random).size(), 1u);
  int calls = 0;
  const auto fails = [&](std::span<const double> logits, Random& draws) {
    if (++calls == 3) throw std::domain_error("no token");
    return sampler(logits, draws);
  };
  EXPECT_THROW(session.next(fails, random), std::domain_error);
  EXPECT_EQ(message_of([&] { session.next(sampler, random); }),
            "SpeculativeSession::next: the text must be reset after a call that threw, got one in the middle "
            "of it");
  session.reset();
  session.prefill(Ids{1});
  EXPECT_EQ(session.next(sampler, random).size(), 1u);
  EXPECT_EQ(session.next(sampler, random).size(), 3u);
}

}  // namespace
}  // namespace hsm::test::speculation_test
