// SPDX-License-Identifier: MIT
//
// What may depend on what: nothing on later tokens, no document on another one; and what a stack of (a,b)
// layers reaches.
#include <algorithm>
#include <hsm/schedule/dyadic.hpp>

#include "shift/mixer_cases.hpp"

namespace hsm::test::causality_test {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
using Data = Activations<float>;

Data stack(const ScalarPair<float>& policy, const Shifts& shifts, Data x) {
  for (const Index s : shifts) x = forward(Mixer<ScalarPair<float>>(policy, s), x);
  return x;
}

Shifts dyadic(Index layers) {
  const DyadicSchedule schedule{.layers = layers};
  Shifts shifts;
  for (Index l = 0; l < layers; ++l) shifts.push_back(schedule.shift(l));
  return shifts;
}

ScalarPair<float> pair(Index C, float a, float b) {
  ScalarPair<float> policy(C);
  policy.a.setConstant(a);
  policy.b.setConstant(b);
  return policy;
}

template <class Policy>
class MixerCausality : public ::testing::Test {};
TYPED_TEST_SUITE(MixerCausality, FloatPolicies);

TYPED_TEST(MixerCausality, LaterTokensChangeNoBitOfEarlierOutputs) {
  constexpr Index T = 70, C = 12;
  Random random(1);
  for (const Index s : {1, 5, 40}) {
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 3, random), Shifts{s, s + 3, s});
    const Data x(2, T, C, random);
    const Data y = forward(mixer, x);
    for (Index t = 0; t < T; t += 3) {
      Data changed = x;
      for (Index b = 0; b < 2; ++b) {
        std::fill(changed.view().at(b, t), changed.view().at(b, t) + (T - t) * C, kNaN);
      }
      const Data got = forward(mixer, changed);
      for (Index b = 0; b < 2; ++b) {
        const float *from = got.view().at(b, 0), *reference = y.view().at(b, 0);
        expect_same_bits(std::vector<float>(from, from + t * C),
                         std::vector<float>(reference, reference + t * C), "outputs before the change");
        EXPECT_TRUE(std::isnan(got.view().at(b, t)[0]));  // and the token itself does see it
      }
    }
  }
}

TYPED_TEST(MixerCausality, ADocumentOfNaNLeavesTheOthersAsTheyWere) {
  constexpr Index C = 12;
  Random random(2);
  Workspace workspace;
  const std::vector<Index> offsets{0, 9, 10, 30, 30, 77, 80};
  for (const Index s : {1, 5, 40}) {
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 3, random), Shifts{s, s, s + 1});
    const Data x(1, 80, C, random), dy(1, 80, C, random);
    Data y(1, 80, C), dx = y, got_y = y, got_dx = y;
    auto saved = mixer.make_saved();
    auto unused = mixer.make_gradients();
    mixer.packed(x.view(), offsets, y.view(), saved, workspace);
    mixer.backward(x.view(), saved, dy.view(), dx.view(), unused, workspace);
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      const Index first = offsets[i], end = offsets[i + 1];
      Data changed = x, changed_dy = dy;
      std::fill(changed.view().at(0, first), changed.view().at(0, first) + (end - first) * C, kNaN);
      std::fill(changed_dy.view().at(0, first), changed_dy.view().at(0, first) + (end - first) * C, kNaN);
      mixer.packed(changed.view(), offsets, got_y.view(), saved, workspace);
      mixer.backward(changed.view(), saved, changed_dy.view(), got_dx.view(), unused, workspace);
      const auto others = [&](const Data& data) {
        std::vector<float> values(data.view().at(0, 0), data.view().at(0, 0) + first * C);
        values.insert(values.end(), data.view().at(0, 0) + end * C, data.view().at(0, 0) + 80 * C);
        return values;
      };
      expect_same_bits(others(got_y), others(y), "y of the other documents");
      expect_same_bits(others(got_dx), others(dx), "dx of the other documents");
    }
  }
}

TEST(ScalarPairStack, OfOnlyThePastIsADelayLine) {
  Random random(3);
  const Data x(2, 100, 5, random);
  for (const Shifts& shifts : {dyadic(1), dyadic(3), dyadic(6), Shifts{5, 5, 7}, dyadic(8)}) {
    Index delay = 0;
    for (const Index s : shifts) delay += s;
    Data expected(2, 100, 5);
    for (Index b = 0; b < 2; ++b) {
      for (Index t = delay; t < 100; ++t) {
        std::copy(x.view().at(b, t - delay), x.view().at(b, t - delay) + 5, expected.view().at(b, t));
      }
    }
    const Data y = stack(pair(5, 0, 1), shifts, x);
    expect_close(y.values, expected.values, 0, 0, "delayed");  // exactly, but for the sign of zero
  }
}

TEST(ScalarPairStack, OfOnlyThePresentIsTheIdentity) {
  Random random(4);
  const Data x(2, 50, 7, random);
  expect_close(stack(pair(7, 1, 0), dyadic(5), x).values, x.values, 0, 0, "the same");
}

TEST(ScalarPairStack, OfLDyadicLayersReachesEachOffsetBelowTwoToTheLOnce) {
  for (const Index L : {1, 4, 7}) {
    Data impulse(1, 300, 1);
    impulse.values[10] = 1;
    const Data y = stack(pair(1, 1, 1), dyadic(L), impulse);
    for (Index t = 0; t < 300; ++t) {
      const bool reached = t >= 10 && t < 10 + (Index{1} << L);
      EXPECT_EQ(y.values[static_cast<std::size_t>(t)], reached ? 1.0f : 0.0f) << "offset " << t - 10;
    }
  }
}

TEST(ScalarPairStack, IsLinear) {
  Random random(5);
  const ScalarPair<float> policy = PolicyCase<ScalarPair<float>>::make(6, 3, random);
  const Data x(1, 40, 6, random), other(1, 40, 6, random);
  Data sum = x;
  for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] = 2 * x.values[i] - 3 * other.values[i];
  const Data y = stack(policy, dyadic(4), x), z = stack(policy, dyadic(4), other);
  Values expected;
  for (std::size_t i = 0; i < y.values.size(); ++i) {
    expected.push_back(2.0 * static_cast<double>(y.values[i]) - 3.0 * static_cast<double>(z.values[i]));
  }
  expect_close_to_scale(stack(policy, dyadic(4), sum).values, expected, Tolerance<float>::forward, "sum");
}

}  // namespace
}  // namespace hsm::test::causality_test
