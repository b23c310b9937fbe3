// SPDX-License-Identifier: MIT
//
// One token of one stream through a whole model, and through a session, allocates nothing once such a call has
// run: nor on chosen streams, nor after a rewind. With attention only a cache that has to grow allocates.
#include <gtest/gtest.h>

#include <hsm/model/session.hpp>

#include "model/language_model_cases.hpp"
#include "support/count_allocations.hpp"

namespace hsm::test::allocation_test {
namespace {

LanguageModelConfig wide_config(const std::string& layers, Positions positions) {
  return {.vocabulary = 64,
          .width = 256,
          .feed_forward = 512,
          .context = 128,
          .positions = positions,
          .layers = layers};
}

TEST(LanguageModelAllocations, AStepMakesNone) {
  Random random(1);
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const LanguageModel<float> model(wide_config("ab,gated,gated-pair,softmax-local:taps=3", positions),
                                     random);
    Workspace workspace;
    GenerationSession session(model, workspace, {.streams = 2, .spare = 2});
    const std::vector<Index> chosen{1};
    const Ids one{3};
    const auto steps = [&] {
      for (int t = 0; t < 9; ++t) {
        session.next(one, chosen);
        if (t % 3 == 2) session.rewind(1, 2);
      }
      session.reset(1);
    };
    steps();
    EXPECT_EQ(allocations_of(steps), 0);
  }
}

TEST(LanguageModelAllocations, AStepWithAttentionMakesNoneWhereItsCacheHasRoom) {
  Random random(2);
  const LanguageModel<float> model(wide_config("ab,attention", Positions::kNone), random);
  Workspace workspace;
  auto state = model.make_state({.capacity = 40});
  Matrix<float> logits(64, 1);
  const Ids one{3};
  const auto steps = [&] {
    for (int t = 0; t < 9; ++t) model.extend(one, state, block_of(logits), workspace);
  };
  steps();
  EXPECT_EQ(allocations_of(steps), 0);
}

TEST(LanguageModelAllocations, AnExtendOfSmallLayersMakesNone) {
  Random random(3);
  const auto model = random_model<float>(small_config("ab,gated,softmax-local"), 4);
  Workspace workspace;
  auto state = model.make_state({.streams = 3});
  Matrix<float> logits(11, 2);
  const Ids ids = random_ids(12, 11, random);
  const std::vector<Index> offsets{0, 5, 12}, streams{2, 0};
  const auto call = [&] { model.extend(ids, offsets, streams, state, block_of(logits), workspace); };
  call();
  EXPECT_EQ(allocations_of(call), 0);
}

}  // namespace
}  // namespace hsm::test::allocation_test
