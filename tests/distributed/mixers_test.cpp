// SPDX-License-Identifier: MIT
//
// A mixer over a sequence that is cut over ranks gives what it gives on one rank, forth and back, and sends what the
// formula says.
#include <array>

#include <hsm/attention/causal_attention.hpp>
#include <hsm/distributed/sharded_mixer.hpp>
#include <hsm/training/gradient_clip.hpp>

#include "attention/attention_cases.hpp"
#include "distributed/ranks.hpp"
#include "recurrent/recurrent_engine.hpp"
#include "shift/mixer_cases.hpp"

namespace hsm::test::distributed_mixers_test {
namespace {

/// Tokens first ... first + count - 1 of x, copied.
template <class Scalar>
std::vector<Scalar> part_of(const Activations<Scalar>& x, Index first, Index count) {
  const auto from = x.values.begin() + static_cast<std::ptrdiff_t>(first * x.channels);
  return {from, from + static_cast<std::ptrdiff_t>(count * x.channels)};
}

/// What this rank sends to its neighbours in a forward over `shards`, by the formula: for each ring the columns that its
/// tokens have reached.
template <class Mixer>
Index expected_bytes(const Mixer& mixer, Index seen) {
  const auto state = mixer.make_state();
  Index bytes = 0;
  for (std::size_t g = 0; g < state.ring_count(); ++g) {
    const RingShape& ring = state.ring_shape(g);
    bytes += (std::min)(seen, ring.reach) * ring.rows * static_cast<Index>(sizeof(typename Mixer::Scalar));
  }
  return bytes;
}

/// The same for attention, token by token: how many keys and values of tokens, and gradients of them, this rank sends. A token
/// is seen by the ranks up to the last that begins before its document ends and within its window.
struct TokensSent {
  Index forward = 0, backward = 0;
};
template <class Scalar>
TokensSent expected_tokens(const CausalAttention<Scalar>& mixer, const TokenShards& shards,
                           const std::vector<Index>& offsets) {
  const int rank = shards.ranks().rank(), n = shards.ranks().size();
  const Index window = mixer.layer().window();
  TokensSent sent;
  for (Index t = 0; t < shards.total(); ++t) {
    const Index end = *std::upper_bound(offsets.begin(), offsets.end(), t);
    const Index seen = window > 0 ? (std::min)(end, t + window) : end;
    int owner = 0, last = 0;
    for (int r = 1; r < n; ++r) {
      if (shards.first(r) <= t) owner = r;
      if (shards.first(r) < seen) last = r;
    }
    const bool goes_on = owner <= rank && rank < last;
    sent.forward += goes_on ? 1 : 0;
    sent.backward += goes_on ? 1 : 0;                       // again
    sent.backward += goes_on && rank > owner ? 1 : 0;       // with the gradients so far
    sent.backward += rank == last && last > owner ? 1 : 0;  // to the owner
  }
  return sent;
}

/// One cut and one list of documents: y, dx and the sums of all gradients, against packed on this rank alone.
template <class Mixer>
void expect_sharded(const Mixer& mixer, const Cut& cut, const std::vector<Index>& offsets, bool same_bits) {
  using Scalar = typename Mixer::Scalar;
  const Index T = offsets.back(), C = mixer.channels(), first = first_of(cut), own = own_of(cut);
  Random random(5);
  const Activations<Scalar> x(1, T, C, random), dy(1, T, C, random);
  Activations<Scalar> y(1, T, C, kGarbage<Scalar>), dx(1, T, C, kGarbage<Scalar>);
  Workspace workspace;
  workspace.poison = true;
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients(), sharded_gradients = mixer.make_gradients();
  mixer.packed(x.view(), offsets, y.view(), saved, workspace);
  mixer.backward(x.view(), saved, dy.view(), dx.view(), gradients, workspace);

  Communicator& ranks = *all_ranks;
  const TokenShards shards(ranks, own, offsets);
  ASSERT_EQ(shards.first(), first);
  ASSERT_EQ(shards.total(), T);
  ShardedSaved<typename Mixer::Saved> record;
  Activations<Scalar> own_y(1, own, C, kGarbage<Scalar>), alone_y = own_y, own_dx = own_y;
  const Traffic before = ranks.traffic();
  sharded_forward(mixer, shards, x.part(first, own), own_y.view(), record, workspace);
  const Traffic between = ranks.traffic();
  sharded_backward(mixer, shards, x.part(first, own), record, dy.part(first, own), own_dx.view(),
                   sharded_gradients, workspace);
  const Traffic after = ranks.traffic();
  sharded_forward(mixer, shards, x.part(first, own), alone_y.view(), workspace);
  sum_over_ranks(ranks, sharded_gradients);

  if constexpr (requires { mixer.make_state().ring_count(); }) {
    EXPECT_EQ(between.bytes - before.bytes, shards.sends() ? expected_bytes(mixer, shards.leaving()) : 0);
    EXPECT_EQ(between.messages - before.messages, shards.sends() ? 1 : 0);
    EXPECT_EQ(after.bytes - between.bytes, shards.receives() ? expected_bytes(mixer, shards.arriving()) : 0);
    EXPECT_EQ(after.messages - between.messages, shards.receives() ? 1 : 0);
  } else {
    const TokensSent sent = expected_tokens(mixer, shards, offsets);
    const Index each = 2 * C * static_cast<Index>(sizeof(Scalar));
    EXPECT_EQ(between.bytes - before.bytes, each * sent.forward);
    EXPECT_EQ(after.bytes - between.bytes, each * sent.backward);
  }
  using Bounds = Tolerance<Scalar>;
  const auto close = [](const auto& got, const auto& all, const auto& expected, double bound,
                        const char* what) { expect_close(got, expected, bound * largest(all), 0, what); };
  const auto expected_y = part_of(y, first, own), expected_dx = part_of(dx, first, own);
  if (same_bits) {
    expect_same_bits(own_y.values, expected_y, "y");
    expect_same_bits(alone_y.values, expected_y, "y without a record");
  } else {
    close(own_y.values, y.values, expected_y, Bounds::mode, "y");
    close(alone_y.values, y.values, expected_y, Bounds::mode, "y without a record");
  }
  close(own_dx.values, dx.values, expected_dx, Bounds::mode, "dx");
  expect_close_parameters(sharded_gradients, gradients, Bounds::mode);
}

/// Every cut, with every list of documents or with one of them in turn: ranks in turn on few processors take their time.
template <class Mixer>
void expect_sharded(const Mixer& mixer, bool same_bits, bool every_pair = false) {
  const Index T = 8 * all_ranks->size() + 13;
  std::size_t turn = 0;
  for (const Cut& cut : cuts_of(T)) {
    const auto lists = documents_of(cut, T);
    for (std::size_t i = 0; i < lists.size(); ++i) {
      if (!every_pair && i != turn % lists.size()) continue;
      SCOPED_TRACE("cut " + ::testing::PrintToString(cut) + " documents " +
                   ::testing::PrintToString(lists[i]));
      expect_sharded(mixer, cut, lists[i], same_bits);
    }
    ++turn;
  }
}

TEST(LayerExchange, TokensThatDoNotReadTheStateThatArrivesGoFirst) {
  using M = Mixer<ScalarPair<float>>;
  constexpr Index kOwn = 10, kChannels = 6;
  Random random(6);
  const M mixer(PolicyCase<ScalarPair<float>>::make(kChannels, 3, random), Shifts{1, 3, 2});
  const Index first = kOwn * all_ranks->rank();
  const Activations<float> x(1, kOwn * all_ranks->size(), kChannels, random);
  Activations<float> y = x, own_y(1, kOwn, kChannels, kGarbage<float>);
  Workspace workspace;
  mixer.forward(x.view(), y.view(), workspace);
  const TokenShards shards(*all_ranks, kOwn);
  auto state = mixer.make_state({.streams = shards.streams()});
  auto saved = mixer.make_saved();
  hsm::detail::EndRecords<M::Saved> ends;
  for (const bool recorded : {false, true}) {
    std::vector<std::array<Index, 2>> noted;
    state.reset();
    hsm::detail::LayerExchange<M::Layer>(mixer.layer(), shards)
        .forward(x.part(first, kOwn), own_y.view(), {0, kOwn, shards.segments()}, state,
                 recorded ? &saved : nullptr, recorded ? &ends : nullptr, workspace,
                 [&](const CallPart& part, M::State* own, M::Saved* record) {
                   noted.push_back({part.first, part.count});
                   mixer.layer().run(x.part(first, kOwn).slice(part.first, part.count), part.segments,
                                     own_y.view().slice(part.first, part.count), own, record, workspace);
                 });
    using Parts = std::vector<std::array<Index, 2>>;
    EXPECT_EQ(noted, all_ranks->rank() > 0 ? (Parts{{3, 7}, {0, 3}}) : (Parts{{0, kOwn}}));
    expect_same_bits(own_y.values, part_of(y, first, kOwn), "y");
    EXPECT_EQ(state.count(0), first + kOwn);
  }
  EXPECT_EQ(ends.head_tokens, all_ranks->rank() > 0 ? 3 : 0);
}

template <class Policy>
class ShardedMixer : public ::testing::Test {};
TYPED_TEST_SUITE(ShardedMixer, FloatPolicies);

TYPED_TEST(ShardedMixer, EqualsOneRank) {
  constexpr bool kSameBits = TypeParam::kStages.projected() == 0 && !TypeParam::kStages.output;
  Random random(1);
  const auto policy = PolicyCase<TypeParam>::make(6, 3, random);
  expect_sharded(Mixer<TypeParam>(policy, Shifts{1, 1, 7}), kSameBits, TypeParam::kName == "gated");
  expect_sharded(Mixer<TypeParam>(policy, Shifts{3, 2, 2}), kSameBits);
}

TEST(ShardedRecurrence, EqualsOneRank) {
  Random random(2);
  expect_sharded(MovingAverage<float>(EmaLayer<float>(Ema<float>(6, 2, random))), true);
  expect_sharded(
      CausalLinearAttention<float>(LinearAttentionLayer<float>(LinearAttention<float>(6, 2, random, 1))),
      false);
}

TEST(ShardedAttention, EqualsOneRank) {
  Random random(3);
  for (const auto& [rotary, window] : {std::pair<Index, Index>{0, 0}, {100, 0}, {100, 6}, {0, 25}})
    expect_sharded(
        CausalAttention<float>(Attention<float>(8, 2, random, {.rotary = rotary, .window = window})), false,
        rotary == 0);
}

/// A forward over these shards is recorded by one mixer; backward of the other refuses its record with nothing sent or
/// written.
template <class Mixer>
void expect_record_refused(const Mixer& recorded, const Mixer& other, const TokenShards& forth,
                           const TokenShards& back, const std::string& sentence) {
  const Index N = forth.tokens(), C = other.channels();
  Random random(7);
  const Activations<float> x(1, N, C, random), dy(1, N, C, random);
  Activations<float> y(1, N, C, kGarbage<float>), dx = y;
  const std::vector<float> untouched = dx.values;
  Workspace workspace;
  ShardedSaved<typename Mixer::Saved> record;
  sharded_forward(recorded, forth, x.view(), y.view(), record, workspace);
  auto gradients = other.make_gradients();
  const Traffic before = all_ranks->traffic();
  expect_refused(
      [&] { sharded_backward(other, back, x.view(), record, dy.view(), dx.view(), gradients, workspace); },
      "sharded_backward: saved must be the record of " + sentence + ", got another's");
  EXPECT_EQ(all_ranks->traffic().messages, before.messages);
  EXPECT_EQ(global_norm(gradients), 0);
  expect_same_bits(dx.values, untouched, "dx");
}

TEST(ShardedBackward, RefusesTheRecordOfAnotherLayer) {
  const TokenShards shards(*all_ranks, 6);
  const auto attention = [](Index heads, Index rotary, Index window) {
    Random random(3);
    return CausalAttention<float>(Attention<float>(8, heads, random, {.rotary = rotary, .window = window}));
  };
  const auto mixer = attention(2, 0, 0);
  for (const auto& other : {attention(4, 0, 0), attention(2, 100, 0), attention(2, 0, 3)})
    expect_record_refused(other, mixer, shards, shards, "this layer");
}

TEST(ShardedBackward, RefusesTheRecordOfOtherShards) {
  using M = Mixer<ScalarPair<float>>;
  Random random(6);
  const M mixer(PolicyCase<ScalarPair<float>>::make(6, 3, random), Shifts{1, 3, 2});
  const Index T = 10 * all_ranks->size();
  std::vector<Index> each;
  for (Index t = 0; t <= T; t += 10) each.push_back(t);
  const TokenShards one(*all_ranks, 10), apart(*all_ranks, 10, each);  // which sends nothing
  if (all_ranks->size() > 1) expect_record_refused(mixer, mixer, apart, one, "a call over these shards");
}

TEST(ShardedForward, RefusesTokensWithoutMemory) {
  Random random(3);
  const CausalAttention<float> mixer(Attention<float>(8, 2, random));
  const TokenShards shards(*all_ranks, 6);
  const Activations<float> x(1, 6, 8, random);
  Activations<float> y(1, 6, 8);
  Workspace workspace;
  Tokens<float> nothing(nullptr, 1, 6, 8);
  const Traffic before = all_ranks->traffic();
  expect_refused([&] { sharded_forward(mixer, shards, x.view(), nothing, workspace); },
                 "sharded_forward: y must be memory to write to, got none");
  expect_refused([&] { sharded_forward(mixer, shards, nothing, y.view(), workspace); },
                 "sharded_forward: x must be memory to read from, got none");
  EXPECT_EQ(all_ranks->traffic().messages, before.messages);
}

TEST(ShardedBackward, RefusesBuffersAndGradientsThatDoNotFit) {
  Random random(3);
  const CausalAttention<float> mixer(Attention<float>(8, 2, random));
  const TokenShards shards(*all_ranks, 6);
  Activations<float> x(1, 6, 8, random), y = x, dy = x, dx = x;
  Workspace workspace;
  ShardedSaved<AttentionSaved<float>> record;
  sharded_forward(mixer, shards, x.view(), y.view(), record, workspace);
  auto gradients = mixer.make_gradients();
  const Traffic before = all_ranks->traffic();
  const auto refused = [&](Activations<float>& to, const std::string& sentence) {
    expect_refused(
        [&] {
          sharded_backward(mixer, shards, x.view(), record, dy.view(), to.view(), gradients, workspace);
        },
        "sharded_backward: " + sentence);
  };
  refused(x, "x and dx must be apart in memory, got buffers that overlap");
  refused(dy, "dy and dx must be apart in memory, got buffers that overlap");
  gradients.output.weight.setZero(8, 4);
  refused(dx, "the gradient of output.weight must be [8,8], got [8,4]");
  EXPECT_EQ(all_ranks->traffic().messages, before.messages);
}

}  // namespace
}  // namespace hsm::test::distributed_mixers_test
