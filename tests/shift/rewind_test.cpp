// SPDX-License-Identifier: MIT
//
// Tokens taken back and streams forked: a rewind leaves no trace, it is refused where columns that are needed
// again are gone, and a fork and its parent go on as if the other were not there.
#include "shift/state_cases.hpp"

namespace hsm::test::rewind_test {
namespace {

constexpr Index kChannels = 12;

template <class Policy>
class MixerRewind : public ::testing::Test {
 protected:
  using Scalar = typename Policy::Scalar;
  using Buffers = Activations<Scalar>;

  static Mixer<Policy> make_mixer(const Shifts& shifts, Random& random) {
    return Mixer<Policy>(PolicyCase<Policy>::make(kChannels, 3, random), shifts);
  }
  static Buffers extend(const Mixer<Policy>& mixer, MixerState<Scalar>& state, const Buffers& x) {
    Workspace workspace;
    Buffers y(x.batch, x.time, kChannels, kGarbage<Scalar>);
    mixer.extend(x.view(), state, y.view(), workspace);
    return y;
  }
};
TYPED_TEST_SUITE(MixerRewind, AllPolicies);

// A twin never sees the tokens that are taken back.
TYPED_TEST(MixerRewind, AndReplayIsNeverHavingRun) {
  using Data = typename TestFixture::Buffers;
  Random random(1);
  for (const Index s : {1, 4, 25}) {
    for (const Index spare : {1, 3, 8}) {
      SCOPED_TRACE(::testing::Message() << "s=" << s << " spare=" << spare);
      const auto mixer = this->make_mixer({s, 2 * s, s}, random);
      auto state = mixer.make_state({.streams = 2, .spare = spare}), twin = state;
      for (int round = 0; round < 40; ++round) {
        const Data x(2, static_cast<Index>(random.below(9)), kChannels, random);
        expect_same_bits(this->extend(mixer, state, x).values, this->extend(mixer, twin, x).values, "y");
        Index ahead = 0;  // up to `spare` other tokens, in several calls with rewinds between them
        for (int call = 0; call < 4; ++call) {
          const auto more = static_cast<Index>(random.below(static_cast<std::uint64_t>(spare - ahead) + 1));
          this->extend(mixer, state, Data(2, more, kChannels, random));
          ahead += more;
          const auto back = static_cast<Index>(random.below(static_cast<std::uint64_t>(ahead) + 1));
          for (const Index b : {0, 1}) state.rewind(b, back);
          ahead -= back;
        }
        for (const Index b : {0, 1}) {
          state.rewind(b, ahead);
          EXPECT_EQ(state.count(b), twin.count(b));
        }
      }
    }
  }
}

TYPED_TEST(MixerRewind, LetsOtherTokensTakeThePlaceOfOldOnes) {
  using Data = typename TestFixture::Buffers;
  constexpr Index T = 60;
  Random random(2);
  for (const Index s : {1, 5}) {
    const auto mixer = this->make_mixer({s, 3 * s, s}, random);
    auto state = mixer.make_state({.streams = 1, .spare = 6});
    Data text(1, T, kChannels, random), y = text;
    Index n = 0;
    while (n < T) {
      const Index count = std::min<Index>(T - n, 1 + static_cast<Index>(random.below(7)));
      for (Index t = n; t < n + count; ++t) {
        for (Index c = 0; c < kChannels; ++c)
          text.view().at(0, t)[c] = static_cast<typename TestFixture::Scalar>(random.normal());
      }
      Workspace workspace;
      mixer.extend(text.part(n, count), state, y.part(n, count), workspace);
      n += count;
      if (random.below(2) == 0 && n < T) {
        Index back = static_cast<Index>(random.below(7));
        while (!state.can_rewind(0, back)) --back;
        state.rewind(0, back);
        n -= back;
      }
    }
    expect_same_result<TypeParam>(y.values, forward(mixer, text).values, "y");
  }
}

TYPED_TEST(MixerRewind, IsRefusedExactlyWhereColumnsAreGone) {
  using Data = typename TestFixture::Buffers;
  Random random(3);
  const auto mixer = this->make_mixer({2, 2, 5}, random);
  const Index reach = (mixer.taps() - 1) * 2;  // of the group with the shortest ring
  for (const Index spare : {0, 2}) {
    auto state = mixer.make_state({.streams = 1, .spare = spare});
    this->extend(mixer, state, Data(1, reach + spare, kChannels, random));
    for (Index k = 0; k <= reach + spare; ++k) EXPECT_TRUE(state.can_rewind(0, k)) << "nothing is gone yet";
    this->extend(mixer, state, Data(1, 1, kChannels, random));
    const Index n = reach + spare + 1;
    for (Index k = 0; k <= n + 1; ++k) EXPECT_EQ(state.can_rewind(0, k), k <= spare || k == n) << k;
    const auto before = state;
    EXPECT_THROW(state.rewind(0, spare + 1), std::out_of_range);
    EXPECT_THROW(state.rewind(0, n + 1), std::out_of_range);
    EXPECT_THROW(state.rewind(0, -1), std::out_of_range);
    EXPECT_THROW(state.rewind(1, 0), std::out_of_range);
    EXPECT_TRUE(state == before);
    state.rewind(0, spare);
    EXPECT_EQ(state.can_rewind(0, 1), n - spare == 1) << "rewinds add up";
    this->extend(mixer, state, Data(1, spare, kChannels, random));
    EXPECT_TRUE(state.can_rewind(0, spare)) << "what was replayed can be taken back again";
    state.rewind(0, n);
    EXPECT_TRUE(state.is_sound());
    const Data x(1, 20, kChannels, random);
    auto fresh = mixer.make_state({.streams = 1, .spare = spare});
    expect_same_bits(this->extend(mixer, state, x).values, this->extend(mixer, fresh, x).values,
                     "all taken back");
  }
}

// To the last value, since a fresh state is also the gradient 0 of one.
TYPED_TEST(MixerRewind, OfAllTokensAndResetLeaveAFreshStream) {
  using Data = typename TestFixture::Buffers;
  Random random(5);
  const auto mixer = this->make_mixer({2, 5, 2}, random);
  const StateOptions options{.streams = 2, .spare = 3};
  const auto fresh = mixer.make_state(options);
  for (const Index count : {1, 4, 8, 30}) {
    auto state = fresh;
    this->extend(mixer, state, Data(2, count, kChannels, random));
    if (count <= 3) {
      for (const Index b : {0, 1}) state.rewind(b, count);
      EXPECT_TRUE(state == fresh) << count << " rewound";
      this->extend(mixer, state, Data(2, count, kChannels, random));
    }
    state.reset(0);
    EXPECT_FALSE(state == fresh);
    state.reset(1);
    EXPECT_TRUE(state == fresh) << count;
  }
}

TEST(MixerRewindErrors, SayWhatIsPossible) {
  const Mixer mixer(ScalarPair<float>(4, 2), 3);
  auto state = mixer.make_state({.spare = 2});
  Activations<float> x(1, 9, 4), y(1, 9, 4);
  Workspace workspace;
  mixer.extend(x.view(), state, y.view(), workspace);
  const auto message = [&](Index k) -> std::string {
    try {
      state.rewind(0, k);
    } catch (const std::out_of_range& error) {
      return error.what();
    }
    return "done";
  };
  EXPECT_EQ(message(10),
            "RingState::rewind: the number of tokens must be 0 to 9, the tokens of stream 0, got 10");
  EXPECT_EQ(
      message(3),
      "RingState::rewind: the number of tokens must be at most 2, or all 9, since the state was made with 2 "
      "spare slots, got 3");
  EXPECT_EQ(message(2), "done");
  state.spoil(0);
  EXPECT_EQ(message(1),
            "RingState::rewind: stream 0 must be whole, got one that a call which threw has left in part; "
            "reset it");
  EXPECT_EQ(message(7), "done") << "all of it, which is a reset";
}

TEST(MixerRewindErrors, OfNoTokensLeavesAGradientAsItIs) {
  Random random(6);
  const Mixer mixer(ScalarPair<float>(4, 2), 3);
  const Activations<float> x(1, 5, 4, random);
  Activations<float> y(1, 5, 4), dx(1, 5, 4);
  Workspace workspace;
  auto state = mixer.make_state(), gradient = mixer.make_state();
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.extend(x.view(), state, y.view(), workspace);
  mixer.extend(x.view(), state, y.view(), saved, workspace);
  mixer.backward(x.view(), saved, x.view(), dx.view(), gradients, workspace, &gradient);
  const auto before = gradient;
  EXPECT_NE(before, mixer.make_state());
  gradient.rewind(0, 0);
  EXPECT_EQ(gradient, before);
}

TYPED_TEST(MixerRewind, AForkAndItsParentGoOnAlone) {
  using Data = typename TestFixture::Buffers;
  Random random(4);
  Workspace workspace;
  const auto mixer = this->make_mixer({3, 3, 5}, random);
  const Data prompt(3, 17, kChannels, random);
  auto state = mixer.make_state({.streams = 3, .spare = 2});
  this->extend(mixer, state, prompt);
  const auto parent = state;
  state.copy_stream(0, 2);
  for (const Index b : {0, 1}) expect_same_bits(kept_of(state, b), kept_of(parent, b), "the others");
  expect_same_bits(kept_of(state, 2), kept_of(parent, 0), "the copy");
  const std::vector<Index> child{2}, offsets{0, 9};
  const Data x(1, 9, kChannels, random);
  Data y(1, 9, kChannels), again = y;
  mixer.extend(x.view(), offsets, child, state, y.view(), workspace);
  for (const Index b : {0, 1}) {
    EXPECT_EQ(state.count(b), 17);
    expect_same_bits(kept_of(state, b), kept_of(parent, b), "the parent after its fork has moved on");
  }
  mixer.extend(x.view(), offsets, std::vector<Index>{0}, state, again.view(), workspace);
  expect_same_bits(again.values, y.values, "the parent on the way of its fork");
  state.copy_stream(1, 1);
  expect_same_bits(kept_of(state, 1), kept_of(parent, 1), "a copy onto itself");
  state.rewind(0, 2);
  state.copy_stream(0, 1);
  EXPECT_EQ(state.count(1), 24);
  for (const Index k : {0, 1, 3, 24})
    EXPECT_EQ(state.can_rewind(1, k), state.can_rewind(0, k)) << "a fork has the same columns, and no more";
  EXPECT_THROW(state.copy_stream(0, 3), std::out_of_range);
  EXPECT_THROW(state.copy_stream(-1, 0), std::out_of_range);
}

}  // namespace
}  // namespace hsm::test::rewind_test
