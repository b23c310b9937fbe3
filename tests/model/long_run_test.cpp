// SPDX-License-Identifier: MIT
//
// A language model of shift mixers without positions after a million tokens, one at a time: its logits are
// those of a fresh stream of the last reach + 1 tokens, bit for bit.
#include <gtest/gtest.h>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"

namespace hsm::test::long_run_test {
namespace {

TEST(LanguageModelLongRun, EndsWhereAFreshStreamOfItsReachEnds) {
  constexpr Index kSteps = 1'000'000, kFewIds = 5;
  const LanguageModelConfig config{.vocabulary = kFewIds,
                                   .width = 4,
                                   .feed_forward = 4,
                                   .context = 8,
                                   .layers = "ab,gated,softmax-local:heads=2:taps=3",
                                   .schedule = "list=1,2,3"};
  constexpr Index kWindow = 1 + 2 + 2 * 3 + 1;  // K - 1 shifts of each layer, and the token itself
  const auto model = random_model<float>(config, 3);
  Random random(1);
  Workspace workspace;
  auto state = model.make_state(), fresh = model.make_state();
  Matrix<float> logits(kFewIds, 1), expected = logits;
  Ids last(kWindow);  // token t in slot t mod kWindow
  const auto read_one = [&](LanguageModelState<float>& to, const std::int32_t& id, Matrix<float>& out) {
    model.extend(std::span(&id, 1), to, block_of(out), workspace);
  };
  for (Index t = 0; t < kSteps; ++t) {
    auto& id = last[static_cast<std::size_t>(t % kWindow)];
    id = static_cast<std::int32_t>(random.below(kFewIds));
    read_one(state, id, logits);
    if (t + 1 != kWindow && t != kSteps / 3 && t + 1 != kSteps) continue;
    fresh.reset();
    for (Index u = t + 1 - kWindow; u <= t; ++u)
      read_one(fresh, last[static_cast<std::size_t>(u % kWindow)], expected);
    expect_same_bits(logits, expected, "after token " + std::to_string(t));
    EXPECT_TRUE(logits.allFinite());
    // One token fewer is not enough: the window is the reach, not more.
    fresh.reset();
    for (Index u = t + 2 - kWindow; u <= t; ++u)
      read_one(fresh, last[static_cast<std::size_t>(u % kWindow)], expected);
    EXPECT_FALSE((logits.array() == expected.array()).all());
  }
  EXPECT_EQ(state.count(0), kSteps);
}

}  // namespace
}  // namespace hsm::test::long_run_test
