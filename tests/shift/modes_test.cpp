// SPDX-License-Identifier: MIT
//
// One policy, every execution mode: step, extend, packed and forward give the same results under any cut of
// time, batch and documents; policies without a product the same bits, the others within Tolerance::mode of
// the largest value.
#include <algorithm>

#include "shift/mixer_cases.hpp"

namespace hsm::test::modes_test {
namespace {

template <class Policy>
class MixerModes : public ::testing::Test {
 protected:
  static constexpr Index kChannels = 12, kHeads = 3;

  using Number = typename Policy::Scalar;
  using Buffers = Activations<Number>;

  static Mixer<Policy> make_mixer(Shifts shifts, Random& random) {
    return Mixer<Policy>(PolicyCase<Policy>::make(kChannels, kHeads, random), shifts);
  }

  template <class Got, class Reference>
  static void expect_same_result(const Got& got, const Reference& reference, std::string_view label) {
    test::expect_same_result<Policy>(got, reference, label);
  }

  /// All of x through extend, each cut ending a call; the last one is x.time.
  static Buffers extended(const Mixer<Policy>& mixer, const Buffers& x, const std::vector<Index>& cuts,
                          Workspace& workspace, Index spare = 0) {
    Buffers y(x.batch, x.time, x.channels, kGarbage<Number>);
    auto state = mixer.make_state({.streams = x.batch, .spare = spare});
    Index first = 0;
    for (const Index cut : cuts) {
      mixer.extend(x.part(first, cut - first), state, y.part(first, cut - first), workspace);
      first = cut;
    }
    for (Index b = 0; b < x.batch; ++b) EXPECT_EQ(state.count(b), x.time);
    return y;
  }

  static Buffers stepped(const Mixer<Policy>& mixer, const Buffers& x, Workspace& workspace) {
    Buffers y(x.batch, x.time, x.channels, kGarbage<Number>);
    auto state = mixer.make_state({.streams = x.batch});
    for (Index t = 0; t < x.time; ++t) mixer.step(x.part(t, 1), state, y.part(t, 1), workspace);
    return y;
  }

  static std::vector<Index> even_cuts(Index T, Index chunk) {
    std::vector<Index> cuts;
    for (Index cut = chunk; cut < T; cut += chunk) cuts.push_back(cut);
    cuts.push_back(T);
    return cuts;
  }
};
TYPED_TEST_SUITE(MixerModes, AllPolicies);

TYPED_TEST(MixerModes, StepsAndExtendsOfAnyLengthAgreeWithForward) {
  using Data = typename TestFixture::Buffers;
  Random random(1);
  Workspace workspace;
  constexpr Index T = 150;
  for (const Index s : {1, 2, 5, 64, 200}) {
    const auto mixer = this->make_mixer({s, s, 2 * s + 1}, random);
    const Data x(2, T, this->kChannels, random);
    const auto reference = forward(mixer, x).values;
    this->expect_same_result(this->stepped(mixer, x, workspace).values, reference, "step");
    for (const Index chunk : {Index{1}, Index{2}, Index{3}, s - 1, s, s + 1, Index{7}, Index{64}, T}) {
      if (chunk == 0) continue;
      SCOPED_TRACE(::testing::Message() << "s=" << s << " chunk=" << chunk);
      this->expect_same_result(this->extended(mixer, x, this->even_cuts(T, chunk), workspace).values,
                               reference, "extend");
    }
    for (int round = 0; round < 5; ++round) {
      std::vector<Index> cuts{T};
      for (int i = 0; i < 6; ++i) cuts.push_back(static_cast<Index>(random.below(T + 1)));
      std::sort(cuts.begin(), cuts.end());  // some calls get no token at all
      SCOPED_TRACE(::testing::Message() << "s=" << s << " cuts " << ::testing::PrintToString(cuts));
      this->expect_same_result(this->extended(mixer, x, cuts, workspace).values, reference, "extend");
    }
  }
}

TYPED_TEST(MixerModes, SpareSlotsAndPoisonedScratchChangeNoBit) {
  using Data = typename TestFixture::Buffers;
  Random random(2);
  Workspace workspace, poisoned;
  poisoned.poison = true;
  const auto mixer = this->make_mixer({3, 4, 4}, random);
  const Data x(2, 60, this->kChannels, random);
  const auto cuts = this->even_cuts(60, 7);
  const auto reference = this->extended(mixer, x, cuts, workspace).values;
  expect_same_bits(this->extended(mixer, x, cuts, workspace, 5).values, reference, "spare slots");
  expect_same_bits(this->extended(mixer, x, cuts, poisoned).values, reference, "poisoned extend");
  expect_same_bits(this->stepped(mixer, x, poisoned).values, this->stepped(mixer, x, workspace).values,
                   "poisoned step");
}

TYPED_TEST(MixerModes, PackedAgreesWithEachDocumentAlone) {
  using Data = typename TestFixture::Buffers;
  Random random(3);
  Workspace workspace;
  for (const Index s : {1, 3, 16, 80}) {
    const auto mixer = this->make_mixer({s, s + 2, s}, random);
    std::vector<Index> offsets{0};
    for (const Index length : {Index{0}, Index{1}, s - 1, Index{0}, Index{0}, s, s + 1, Index{70}, 2 * s + 1,
                               Index{2}, Index{0}}) {
      offsets.push_back(offsets.back() + length);
    }
    const Index N = offsets.back();
    const Data x(1, N, this->kChannels, random);
    Data y(1, N, this->kChannels, kGarbage<typename TestFixture::Number>), alone = y;
    mixer.packed(x.view(), offsets, y.view(), workspace);
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      const Index first = offsets[i], count = offsets[i + 1] - first;
      mixer.forward(x.part(first, count), alone.part(first, count), workspace);
    }
    this->expect_same_result(y.values, alone.values, "packed");
  }
}

TYPED_TEST(MixerModes, StreamsMayStandAtDifferentPositions) {
  using Data = typename TestFixture::Buffers;
  Random random(4);
  Workspace workspace;
  for (const Index s : {1, 4, 30}) {
    const auto mixer = this->make_mixer({s, 2 * s, s}, random);
    const Data x(3, 90, this->kChannels, random);
    Data y(3, 90, this->kChannels, kGarbage<typename TestFixture::Number>);
    auto state = mixer.make_state({.streams = 3});
    for (Index t = 0;
         t < 90;) {  // steps and extends by turns; stream 1 begins again at 20 and 63, stream 2 at 41
      if (t == 20 || t == 63) state.reset(1);
      if (t == 41) state.reset(2);
      const Index count = t % 3 == 0 ? 1
                                     : std::min<Index>(7, (t < 20   ? 20
                                                           : t < 41 ? 41
                                                           : t < 63 ? 63
                                                                    : 90) -
                                                              t);
      if (count == 1) {
        mixer.step(x.part(t, 1), state, y.part(t, 1), workspace);
      } else {
        mixer.extend(x.part(t, count), state, y.part(t, count), workspace);
      }
      t += count;
    }
    EXPECT_EQ(state.count(0), 90);
    EXPECT_EQ(state.count(1), 27);
    EXPECT_EQ(state.count(2), 49);
    Data alone = y;
    const auto document = [&](Index b, Index first, Index count) {
      mixer.forward(x.view().sequence(b).slice(first, count), alone.view().sequence(b).slice(first, count));
    };
    document(0, 0, 90);
    document(1, 0, 20), document(1, 20, 43), document(1, 63, 27);
    document(2, 0, 41), document(2, 41, 49);
    this->expect_same_result(y.values, alone.values, "streams");
  }
}

TYPED_TEST(MixerModes, AStepOfOneStreamDoesNotDependOnTheOthers) {
  using Data = typename TestFixture::Buffers;
  Random random(5);
  Workspace workspace;
  const auto mixer = this->make_mixer({2, 7, 7}, random);
  const Data x(5, 40, this->kChannels, random);
  Data other(5, 40, this->kChannels, random);
  std::copy(x.view().at(2, 0), x.view().at(3, 0), other.view().at(2, 0));  // stream 2 is the same
  const Data y = this->stepped(mixer, x, workspace), y_other = this->stepped(mixer, other, workspace);
  const std::ptrdiff_t size = 40 * this->kChannels;
  using Values = std::vector<typename TestFixture::Number>;
  expect_same_bits(Values(y.values.begin() + 2 * size, y.values.begin() + 3 * size),
                   Values(y_other.values.begin() + 2 * size, y_other.values.begin() + 3 * size), "stream 2");
  expect_same_bits(this->stepped(mixer, x, workspace).values, y.values, "the same steps again");
}

TYPED_TEST(MixerModes, ACopiedStateGoesOnAsTheOriginal) {
  using Data = typename TestFixture::Buffers;
  Random random(6);
  Workspace workspace;
  const auto mixer = this->make_mixer({3, 3, 5}, random);
  const Data x(2, 30, this->kChannels, random);
  const Data garbage(2, 30, this->kChannels, kGarbage<typename TestFixture::Number>);
  Data y = garbage, copied = garbage, fresh = garbage;
  auto state = mixer.make_state({.streams = 2});
  mixer.extend(x.part(0, 11), state, y.part(0, 11), workspace);
  auto copy = state;
  mixer.extend(x.part(11, 19), state, y.part(11, 19), workspace);
  mixer.extend(x.part(11, 19), copy, copied.part(11, 19), workspace);
  copy.reset();
  mixer.extend(x.part(0, 11), copy, fresh.part(0, 11), workspace);
  const auto tokens = [](Data& data, Index first, Index count) {
    std::vector<typename TestFixture::Number> values;
    for (Index b = 0; b < 2; ++b)
      values.insert(values.end(), data.view().at(b, first), data.view().at(b, first) + count * data.channels);
    return values;
  };
  EXPECT_FALSE(std::isnan(tokens(y, 29, 1)[0]));
  expect_same_bits(tokens(copied, 11, 19), tokens(y, 11, 19), "copy");
  expect_same_bits(tokens(fresh, 0, 11), tokens(y, 0, 11), "reset");
}

// Calls without a record work in chunks of at most 2048 tokens, calls with one in a single chunk.
TYPED_TEST(MixerModes, LongSequencesAreTheSameInOneChunkAndInMany) {
  using Data = typename TestFixture::Buffers;
  constexpr Index T = 5000;
  Random random(7);
  Workspace workspace;
  workspace.poison = true;
  auto saved = MixerSaved<typename TestFixture::Number>();
  for (const Index s : {1, 700, 4096, 6000}) {
    SCOPED_TRACE(s);
    const auto mixer = this->make_mixer({s, 700, 1}, random);
    const Data x(2, T, this->kChannels, random);
    Data whole(2, T, this->kChannels, kGarbage<typename TestFixture::Number>), y = whole;
    mixer.forward(x.view(), whole.view(), saved, workspace);
    mixer.forward(x.view(), y.view(), workspace);
    this->expect_same_result(y.values, whole.values, "forward");
    this->expect_same_result(this->extended(mixer, x, {3001, 3002, T}, workspace).values, whole.values,
                             "extend");

    const std::vector<Index> offsets{0, 1500, 1500, 4500, 4503, 2 * T};
    const Tokens<const typename TestFixture::Number> flat(x.values.data(), 1, 2 * T, this->kChannels);
    Data packed(1, 2 * T, this->kChannels, kGarbage<typename TestFixture::Number>), chunked = packed;
    mixer.packed(flat, offsets, packed.view(), saved, workspace);
    mixer.packed(flat, offsets, chunked.view(), workspace);
    this->expect_same_result(chunked.values, packed.values, "packed");
  }
}

TYPED_TEST(MixerModes, NoTokensAreNoWork) {
  using Data = typename TestFixture::Buffers;
  Random random(8);
  Workspace workspace;
  const auto mixer = this->make_mixer({3, 3, 5}, random);
  Data none(2, 0, this->kChannels), no_batch(0, 4, this->kChannels), nothing(0, 1, this->kChannels);
  mixer.forward(none.view(), none.view(), workspace);
  mixer.forward(no_batch.view(), no_batch.view(), workspace);
  const std::vector<Index> offsets{0}, empty_documents{0, 0, 0};
  mixer.packed(none.view().sequence(0), offsets, none.view().sequence(0), workspace);
  mixer.packed(none.view().sequence(0), empty_documents, none.view().sequence(0), workspace);
  auto state = mixer.make_state({.streams = 2}), no_streams = mixer.make_state({.streams = 0});
  mixer.extend(none.view(), state, none.view(), workspace);
  EXPECT_EQ(state.count(1), 0);
  mixer.step(nothing.view(), no_streams, nothing.view(), workspace);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.forward(none.view(), none.view(), saved, workspace);
  mixer.backward(none.view(), saved, none.view(), none.view(), gradients, workspace);
  expect_same_parameters(gradients, mixer.make_gradients());
}

}  // namespace
}  // namespace hsm::test::modes_test
