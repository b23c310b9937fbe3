// SPDX-License-Identifier: MIT
//
// Calls that throw after their checks, at every place where they can: a stream then goes on as if the call had not
// been, or is refused until it is reset; a record of such a call is refused.
#include <new>

#include <hsm/shift/stack.hpp>

#include "shift/mixer_cases.hpp"
#include "support/failing_executor.hpp"

namespace hsm::test::unfinished_test {
namespace {

using Data = Activations<float>;

template <class Policy>
class Unfinished : public ::testing::Test {};
TYPED_TEST_SUITE(Unfinished, FloatPolicies);

// 4096 channels: few tokens to a task, so that every loop has several.
constexpr Index kChannels = 4096, kTime = 70;

/// Goes on with `state` and with one that knows no failure; where the stream is refused, resets it first.
template <class Go>
void expect_as_if_never_called(bool whole, const Go& go, const Data& expected) {
  Data y(1, kTime, kChannels, kGarbage<float>);
  if (!whole) {
    EXPECT_THROW(go(y), std::invalid_argument);
    return;
  }
  go(y);
  expect_close_to_scale(y.values, expected.values, Tolerance<float>::mode, "what follows");
}

TYPED_TEST(Unfinished, ExtendLeavesTheStreamAsItWasOrRefusesIt) {
  if (TypeParam::kStages.projected() > 0 || TypeParam::kStages.output)
    GTEST_SKIP() << "these are in the stack below";
  Random random(1);
  FailingExecutor executor;
  Workspace workspace, failing(executor);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(kChannels, 2, random), Shifts{3, 40});
  const Data x(1, 2 * kTime, kChannels, random);
  Data y(1, kTime, kChannels), expected = y;
  auto start = mixer.make_state(), after = start;
  mixer.extend(x.part(0, kTime), start, y.view(), workspace);
  after = start;
  mixer.extend(x.part(kTime, kTime), after, expected.view(), workspace);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  int whole = 0, refused = 0;
  for (executor.fails_at = 0;; ++executor.fails_at) {
    auto state = start;
    executor.loops = 0;
    mixer.forward(x.part(0, kTime), y.view(), saved, workspace);
    try {
      mixer.extend(x.part(kTime, kTime), state, y.view(), saved, failing);
      break;
    } catch (const std::bad_alloc&) {
    }
    expect_refused(
        [&] { mixer.backward(x.part(kTime, kTime), saved, expected.view(), y.view(), gradients, workspace); },
        "Mixer::backward: saved must be the record of a forward, packed or extend, got one that "
        "nothing was saved in");
    ++(state.is_whole(0) ? whole : refused);
    EXPECT_EQ(state.is_sound(), state.is_whole(0));
    expect_as_if_never_called(
        state.is_whole(0), [&](Data& to) { mixer.extend(x.part(kTime, kTime), state, to.view(), workspace); },
        expected);
    state.reset(0);
    mixer.extend(x.part(0, kTime), state, y.view(), workspace);
    mixer.step(x.part(kTime, 1), state, y.part(0, 1), workspace);
    EXPECT_EQ(state.count(0), kTime + 1);
  }
  EXPECT_GE(whole, 1);
  EXPECT_GE(refused, 1);  // the loop that writes the rings
}

// The layers of a stack: those that had read the tokens are taken back, where slots are spare, or refused.
TYPED_TEST(Unfinished, AStackIsAsItWasOrRefused) {
  constexpr Index C = 300, T = 900, kLayers = 3;
  Random random(2);
  FailingExecutor executor;
  Workspace workspace, failing(executor);
  failing.chunk_bytes = workspace.chunk_bytes = 1 << 19;
  // Without products and at one shift a stack runs by channels, and moves its states on at its very end.
  constexpr bool kProducts = TypeParam::kStages.projected() > 0 || TypeParam::kStages.output;
  std::vector<Mixer<TypeParam>> layers;
  for (Index l = 0; l < kLayers; ++l) {
    const Index s = Index{1} << l;
    layers.emplace_back(PolicyCase<TypeParam>::make(C, 2, random), Shifts{s, kProducts ? 5 : s});
  }
  const Data x(1, T, C, random);
  for (const Index spare : {Index{0}, T}) {
    Data y(1, T, C), expected = y;
    auto start = make_states(layers, {.streams = 1, .spare = spare});
    extend(layers, x.part(0, 20), start, y.part(0, 20), workspace);
    auto after = start;
    extend(layers, x.part(20, T - 20), after, expected.part(20, T - 20), workspace);
    int refused = 0, failures = 0;
    for (executor.fails_at = 0;; executor.fails_at = executor.fails_at * 3 / 2 + 1) {
      auto states = start;
      executor.loops = 0;
      try {
        extend(layers, x.part(20, T - 20), states, y.part(20, T - 20), failing);
        break;
      } catch (const std::bad_alloc&) {
      }
      ++failures;
      bool whole = true;
      for (auto& state : states) {
        EXPECT_EQ(state.count(0), 20);
        whole = whole && state.is_whole(0);
      }
      if (!whole) {
        ++refused;
        EXPECT_THROW(extend(layers, x.part(20, 1), states, y.part(20, 1), workspace), std::invalid_argument);
        for (auto& state : states) EXPECT_EQ(state.count(0), 20);  // and nothing moved
        continue;
      }
      Data again(1, T, C);
      extend(layers, x.part(20, T - 20), states, again.part(20, T - 20), workspace);
      expect_close_to_scale(again.values, expected.values, Tolerance<float>::mode, "what follows");
    }
    EXPECT_GE(failures, kProducts || spare == 0 ? 2 : 0);
    EXPECT_GE(refused, kProducts && spare == 0 ? 1 : 0);
  }
}

// More streams and layers than fit into a line of scratch: each of their counts is kept until the end.
TEST(UnfinishedStack, TakesEveryStreamBack) {
  constexpr Index C = 64, S = 9, T = 40, kLayers = 4;
  Random random(5);
  FailingExecutor executor;
  Workspace failing(executor);
  std::vector<Mixer<Gated<float>>> layers;
  for (Index l = 0; l < kLayers; ++l)
    layers.emplace_back(PolicyCase<Gated<float>>::make(C, 2, random), Index{1} << l);
  auto start = make_states(layers, {.streams = S, .spare = T});
  const Data x(S, T, C, random);
  Data y(S, T, C);
  int failures = 0;
  for (executor.fails_at = 0;; ++executor.fails_at) {
    auto states = start;
    executor.loops = 0;
    try {
      extend(layers, x.view(), states, y.view(), failing);
      break;
    } catch (const std::bad_alloc&) {
    }
    ++failures;
    for (const auto& state : states)
      for (Index s = 0; s < S; ++s) EXPECT_EQ(state.count(s), 0) << "stream " << s;
  }
  EXPECT_GE(failures, kLayers);
}

// A gradient of a state that a backward which threw has left in part is refused too.
TEST(UnfinishedBackward, SpoilsTheGradientOfTheState) {
  Random random(3);
  FailingExecutor executor;
  Workspace workspace, failing(executor);
  const Mixer<ScalarPair<float>> mixer(ScalarPair<float>(kChannels, 2), 3);
  const Data x(1, kTime, kChannels, random);
  Data y(1, kTime, kChannels), dx = y;
  auto state = mixer.make_state(), gradient = mixer.make_state();
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.extend(x.view(), state, y.view(), saved, workspace);
  executor.fails_at = 0;
  EXPECT_THROW(mixer.backward(x.view(), saved, y.view(), dx.view(), gradients, failing, &gradient),
               std::bad_alloc);
  expect_refused(
      [&] { mixer.backward(x.view(), saved, y.view(), dx.view(), gradients, workspace, &gradient); },
      "Mixer::backward: stream 0 of the state must be whole, got one that a call which threw has left "
      "in part; reset it");
  EXPECT_THROW(gradient.rewind(0, 0), std::out_of_range);  // which makes nothing whole
  gradient.reset();
  EXPECT_EQ(gradient, mixer.make_state());
  mixer.backward(x.view(), saved, y.view(), dx.view(), gradients, workspace, &gradient);
}

}  // namespace
}  // namespace hsm::test::unfinished_test
