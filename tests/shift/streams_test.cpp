// SPDX-License-Identifier: MIT
//
// Calls on chosen streams, each with its own number of tokens: every stream goes on as if it were alone, and no
// other one changes a bit. A state after any split of the tokens is that of one run.
#include <hsm/core/threaded_executor.hpp>

#include "shift/state_cases.hpp"

namespace hsm::test::streams_test {
namespace {

constexpr Index kChannels = 12, kStreams = 5;

template <class Policy>
Mixer<Policy> make_mixer(const Shifts& shifts, Random& random) {
  return Mixer<Policy>(PolicyCase<Policy>::make(kChannels, 3, random), shifts);
}

template <class Policy>
class MixerStreams : public ::testing::Test {};
TYPED_TEST_SUITE(MixerStreams, AllPolicies);

TYPED_TEST(MixerStreams, ChosenOnesGoOnAloneAndTheOthersKeepEachBit) {
  using Scalar = typename TypeParam::Scalar;
  constexpr Index T = 80;
  Random random(1);
  ThreadedExecutor threads(2);
  Workspace workspace(threads);
  workspace.poison = true;
  for (const Index s : {1, 4, 30}) {
    const auto mixer = make_mixer<TypeParam>({s, 2 * s, s}, random);
    const Activations<Scalar> x(kStreams, T, kChannels, random);
    Activations<Scalar> y(kStreams, T, kChannels, kGarbage<Scalar>);
    auto state = mixer.make_state({.streams = kStreams, .spare = s % 3});
    const auto done = [&] {
      for (Index b = 0; b < kStreams; ++b) {
        if (state.count(b) < T) return false;
      }
      return true;
    };
    for (int round = 0; !done(); ++round) {
      const bool one_each = round % 2 == 0;
      Chosen<Scalar> chosen;
      const Chosen<Scalar> drawn = draw_chosen(state, T, 25, random);
      for (std::size_t i = 0; i < drawn.streams.size(); ++i) {
        if (one_each && drawn.positions[i] == T) continue;
        chosen.add(drawn.streams[i], drawn.positions[i], one_each ? 1 : drawn.length(i));
      }
      const auto before = state;
      const Activations<Scalar> part = chosen.gather(x);
      Activations<Scalar> result(1, chosen.count(), kChannels, kGarbage<Scalar>);
      if (one_each) {
        mixer.step(part.view(), chosen.streams, state, result.view(), workspace);
      } else {
        mixer.extend(part.view(), chosen.offsets, chosen.streams, state, result.view(), workspace);
      }
      chosen.scatter(result, y);
      for (Index b = 0; b < kStreams; ++b) {
        const auto found = std::find(chosen.streams.begin(), chosen.streams.end(), b);
        const Index more = found == chosen.streams.end()
                               ? 0
                               : chosen.length(static_cast<std::size_t>(found - chosen.streams.begin()));
        EXPECT_EQ(state.count(b), before.count(b) + more);
        if (more == 0) expect_same_bits(kept_of(state, b), kept_of(before, b), "a stream without tokens");
      }
    }
    expect_same_result<TypeParam>(y.values, forward(mixer, x).values, "y");
  }
}

// The same products over the same columns: the list names no other mode, so not one bit differs.
TYPED_TEST(MixerStreams, AllOfThemChosenAreACallWithoutAList) {
  using Scalar = typename TypeParam::Scalar;
  Random random(2);
  Workspace workspace;
  const auto mixer = make_mixer<TypeParam>({3, 7, 3}, random);
  const std::vector<Index> streams{0, 1, 2}, offsets{0, 9, 18, 27};
  auto state = mixer.make_state({.streams = 3}), listed = state;
  for (int round = 0; round < 3; ++round) {
    const Activations<Scalar> x(3, 9, kChannels, random), one(3, 1, kChannels, random);
    Activations<Scalar> y(3, 9, kChannels), again = y, y_one(3, 1, kChannels), again_one = y_one;
    mixer.step(one.view(), state, y_one.view(), workspace);
    mixer.step(one.view(), streams, listed, again_one.view(), workspace);
    mixer.extend(x.view(), state, y.view(), workspace);
    mixer.extend(Tokens<const Scalar>(x.values.data(), 1, 27, kChannels), offsets, streams, listed,
                 Tokens<Scalar>(again.values.data(), 1, 27, kChannels), workspace);
    expect_same_bits(again_one.values, y_one.values, "step");
    expect_same_bits(again.values, y.values, "extend");
  }
  EXPECT_TRUE(listed == state);
}

TYPED_TEST(MixerStreams, LeaveTheSameStateHoweverTheyWereCut) {
  using Scalar = typename TypeParam::Scalar;
  constexpr Index T = 70;
  Random random(3);
  Workspace workspace;
  for (const Index s : {1, 6, 40}) {
    const auto mixer = make_mixer<TypeParam>({s, s, s + 2}, random);
    const Activations<Scalar> x(2, T, kChannels, random);
    Activations<Scalar> y(2, T, kChannels);
    auto once = mixer.make_state({.streams = 2});
    mixer.extend(x.view(), once, y.view(), workspace);
    for (const Index chunk : {Index{1}, Index{2}, s, s + 1, Index{64}}) {
      auto state = mixer.make_state({.streams = 2});
      for (Index first = 0; first < T; first += chunk) {
        const Index n = std::min(chunk, T - first);
        mixer.extend(x.part(first, n), state, y.part(first, n), workspace);
      }
      for (Index b = 0; b < 2; ++b) {
        EXPECT_EQ(state.count(b), T);
        expect_same_result<TypeParam>(kept_of(state, b), kept_of(once, b),
                                      "chunks of " + std::to_string(chunk));
      }
    }
  }
}

TYPED_TEST(MixerStreams, ThatHoldNaNSpoilNoOther) {
  using Scalar = typename TypeParam::Scalar;
  Random random(4);
  Workspace workspace;
  const auto mixer = make_mixer<TypeParam>({2, 5, 2}, random);
  Activations<Scalar> x(1, 24, kChannels, random), y(1, 24, kChannels), bad = x, spoiled = y;
  const std::vector<Index> offsets{0, 8, 16, 24}, streams{2, 0, 1};
  std::fill(bad.view().at(0, 8), bad.view().at(0, 16), kGarbage<Scalar>);
  auto state = mixer.make_state({.streams = 3}), other = state;
  for (int call = 0; call < 2; ++call) {
    mixer.extend(x.view(), offsets, streams, state, y.view(), workspace);
    mixer.extend(bad.view(), offsets, streams, other, spoiled.view(), workspace);
    for (const Index first : {0, 16}) {
      const auto tokens = [&](const Activations<Scalar>& of) {
        return std::vector<Scalar>(of.view().at(0, first), of.view().at(0, first) + 8 * kChannels);
      };
      expect_same_bits(tokens(spoiled), tokens(y), "y beside a stream of NaN");
    }
  }
  for (const Index b : {1, 2}) expect_same_bits(kept_of(other, b), kept_of(state, b), "state");
}

TYPED_TEST(MixerStreams, PassTheirGradientsThroughChunksOfAnyLength) {
  using Scalar = typename TypeParam::Scalar;
  constexpr Index T = 40;
  Random random(5);
  Workspace workspace;
  workspace.poison = true;
  for (const Index s : {1, 5, 60}) {
    const auto mixer = make_mixer<TypeParam>({s, s + 1, 2 * s}, random);
    const Activations<Scalar> x(kStreams, T, kChannels, random), dy(kStreams, T, kChannels, random);
    Activations<Scalar> y(kStreams, T, kChannels), dx(kStreams, T, kChannels, kGarbage<Scalar>),
        whole_dx = dx;
    auto whole = mixer.make_saved();
    auto reference = mixer.make_gradients(), gradients = reference;
    mixer.forward(x.view(), y.view(), whole, workspace);
    mixer.backward(x.view(), whole, dy.view(), whole_dx.view(), reference, workspace);

    auto state = mixer.make_state({.streams = kStreams, .spare = 1}), state_gradient = state;
    std::vector<Chosen<Scalar>> calls;
    std::vector<MixerSaved<Scalar>> saved;
    for (bool more = true; more;) {
      calls.push_back(draw_chosen(state, T, 13, random));
      saved.emplace_back();
      Activations<Scalar> result(1, calls.back().count(), kChannels);
      mixer.extend(calls.back().gather(x).view(), calls.back().offsets, calls.back().streams, state,
                   result.view(), saved.back(), workspace);
      more = false;
      for (Index b = 0; b < kStreams; ++b) more = more || state.count(b) < T;
    }
    for (std::size_t i = calls.size(); i-- > 0;) {
      Activations<Scalar> part(1, calls[i].count(), kChannels, kGarbage<Scalar>);
      mixer.backward(calls[i].gather(x).view(), saved[i], calls[i].gather(dy).view(), part.view(), gradients,
                     workspace, &state_gradient);
      calls[i].scatter(part, dx);
    }
    expect_close_to_scale(dx.values, whole_dx.values, Tolerance<Scalar>::gradient, "dx");
    expect_close_parameters(gradients, reference, Tolerance<Scalar>::gradient);
  }
}

TEST(MixerStreamErrors, ListsThatCannotBeAreRefusedAndChangeNothing) {
  Random random(6);
  Workspace workspace;
  const Mixer mixer(ScalarPair<float>(4, 2), 3);
  const Activations<float> x(1, 6, 4, random);
  Activations<float> y(1, 6, 4, -7.0f);
  const auto y_before = y.values;
  auto state = mixer.make_state({.streams = 3});
  const auto before = state;
  const auto message = [&](std::vector<Index> offsets, std::vector<Index> streams) -> std::string {
    try {
      mixer.extend(x.view(), offsets, streams, state, y.view(), workspace);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "taken";
  };
  EXPECT_EQ(message({0, 2, 6}, {1, 3}), "Mixer::extend: a stream must be 0 to 2, got 3");
  EXPECT_EQ(message({0, 2, 6}, {-1, 2}), "Mixer::extend: a stream must be 0 to 2, got -1");
  EXPECT_EQ(message({0, 2, 2, 6}, {1, 0, 1}),
            "Mixer::extend: the streams must be different ones, got stream 1 twice");
  EXPECT_EQ(message({0, 2, 6}, {1, 1}),
            "Mixer::extend: the streams must be different ones, got stream 1 twice");
  EXPECT_EQ(message({0, 2, 6}, {1}),
            "Mixer::extend: the number of streams must be 2, one for each part of x, got 1");
  EXPECT_EQ(message({0, 2, 5}, {1, 2}), "Mixer::extend: the last offset must be 6, the tokens of x, got 5");
  EXPECT_THROW(mixer.step(x.part(0, 2), std::vector<Index>{2, 2}, state, y.part(0, 2), workspace),
               std::invalid_argument);
  EXPECT_THROW(mixer.step(x.part(0, 2), std::vector<Index>{2}, state, y.part(0, 2), workspace),
               std::invalid_argument);
  EXPECT_TRUE(state == before);
  expect_same_bits(y.values, y_before, "y");
  mixer.extend(x.part(0, 0), std::vector<Index>{0}, std::vector<Index>{}, state, y.part(0, 0), workspace);
  EXPECT_TRUE(state == before) << "no streams are no work";
}

}  // namespace
}  // namespace hsm::test::streams_test
