// SPDX-License-Identifier: MIT
//
// The forward of every policy against its oracle: sizes around the shift, per-head shifts, long sequences.
#include <algorithm>
#include <array>
#include <hsm/schedule/dyadic.hpp>

#include "shift/mixer_cases.hpp"

namespace hsm::test::forward_test {
namespace {

template <class Policy>
void expect_oracle(const Policy& policy, const Shifts& shifts,
                   const Activations<typename Policy::Scalar>& x) {
  SCOPED_TRACE(::testing::Message() << "B=" << x.batch << " T=" << x.time << " C=" << x.channels
                                    << " H=" << shifts.size() << " s=" << shifts[0]);
  const Mixer<Policy> mixer(policy, shifts);
  expect_close_to_scale(forward(mixer, x).values, expected(policy, shifts, x),
                        Tolerance<typename Policy::Scalar>::forward, "y");
}

template <class Policy>
class MixerForward : public ::testing::Test {};
TYPED_TEST_SUITE(MixerForward, AllPolicies);

TYPED_TEST(MixerForward, AgreesWithTheOracleAtSizesAroundTheShift) {
  using Scalar = typename TypeParam::Scalar;
  constexpr std::array<std::array<Index, 2>, 9> kChannelsAndHeads{
      {{1, 1}, {3, 1}, {3, 3}, {8, 1}, {8, 4}, {17, 1}, {17, 17}, {64, 1}, {64, 8}}};
  Random random(1);
  std::size_t turn = 0;
  for (const Index s : {1, 2, 3, 8, 64, 300}) {
    for (const Index T : {Index{0}, Index{1}, s - 1, s, s + 1, 2 * s, 2 * s + 1, Index{37}, Index{127},
                          Index{129}, Index{200}}) {
      const auto [C, H] = kChannelsAndHeads[turn++ % kChannelsAndHeads.size()];
      const auto B = static_cast<Index>(1 + random.below(3));
      const TypeParam policy = PolicyCase<TypeParam>::make(C, H, random);
      expect_oracle(policy, Shifts(static_cast<std::size_t>(H), s), Activations<Scalar>(B, T, C, random));
    }
  }
}

TYPED_TEST(MixerForward, AgreesWithTheOracleForEveryNumberOfChannelsAndSequences) {
  using Scalar = typename TypeParam::Scalar;
  Random random(2);
  for (const Index C : {1, 3, 8, 17, 64}) {
    for (const Index B : {1, 2, 3}) {
      for (Index H = 1; H <= C; ++H) {
        if (C % H != 0) continue;
        const TypeParam policy = PolicyCase<TypeParam>::make(C, H, random);
        expect_oracle(policy, Shifts(static_cast<std::size_t>(H), 2), Activations<Scalar>(B, 7, C, random));
      }
    }
  }
}

TYPED_TEST(MixerForward, AgreesWithTheOracleWhereEachHeadHasItsOwnShift) {
  using Scalar = typename TypeParam::Scalar;
  Random random(3);
  for (const Shifts& shifts :
       {Shifts{1, 2, 4, 8}, Shifts{5, 5, 1, 5}, Shifts{100, 1, 1, 3}, Shifts{2, 2, 2, 2}}) {
    const TypeParam policy = PolicyCase<TypeParam>::make(12, 4, random);
    for (const Index T : {1, 3, 11, 70}) expect_oracle(policy, shifts, Activations<Scalar>(2, T, 12, random));
    const Mixer<TypeParam> mixer(policy, shifts);
    for (Index h = 0; h < 4; ++h) EXPECT_EQ(mixer.shift(h), shifts[static_cast<std::size_t>(h)]);
  }
}

// A forward without a record works in chunks of at most 2048 tokens: here every shift crosses their bounds.
TYPED_TEST(MixerForward, AgreesWithTheOracleOnLongSequences) {
  using Scalar = typename TypeParam::Scalar;
  Random random(4);
  for (const Index s : {1, 700, 2048, 4096, 6000}) {
    const TypeParam policy = PolicyCase<TypeParam>::make(4, 2, random);
    expect_oracle(policy, Shifts(2, s), Activations<Scalar>(1, 6500, 4, random));
  }
  const TypeParam policy = PolicyCase<TypeParam>::make(4, 2, random);
  expect_oracle(policy, Shifts{700, 2900}, Activations<Scalar>(3, 3001, 4, random));
}

// Nothing is held for the past of a token that a sequence cannot have.
TYPED_TEST(MixerForward, TakesAShiftFarBeyondTheSequence) {
  using Scalar = typename TypeParam::Scalar;
  Random random(5);
  const TypeParam policy = PolicyCase<TypeParam>::make(4, 2, random);
  for (const Index s : {Index{1} << (kIndexBits - 23), Index{1} << (kIndexBits - 6)}) {
    expect_oracle(policy, Shifts(2, s), Activations<Scalar>(1, 5000, 4, random));
  }
}

TYPED_TEST(MixerForward, LeavesTheSameBitsWithARecordForBackward) {
  using Scalar = typename TypeParam::Scalar;
  Random random(6);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(12, 3, random), 5);
  const Activations<Scalar> x(2, 200, 12, random);
  Activations<Scalar> y(2, 200, 12, kGarbage<Scalar>);
  Workspace workspace;
  auto saved = mixer.make_saved();
  mixer.forward(x.view(), y.view(), saved, workspace);
  expect_same_bits(y.values, forward(mixer, x).values, "y");
}

template <class Scalar>
class SoftmaxTaps : public ::testing::Test {};
TYPED_TEST_SUITE(SoftmaxTaps, Scalars);

TYPED_TEST(SoftmaxTaps, EveryNumberOfTapsAgreesWithTheOracle) {
  Random random(7);
  for (Index K = 2; K <= kMostTaps; ++K) {
    const SoftmaxLocal<TypeParam> policy(6, random, 2, K);
    SoftmaxLocal<double> wide(6, random, 2, K);
    wide.project.weight = policy.project.weight.template cast<double>();
    wide.output.weight = policy.output.weight.template cast<double>();
    const Activations<TypeParam> x(1, 90, 6, random);
    for (const Shifts& shifts : {Shifts{1, 1}, Shifts{3, 7}}) {
      const Mixer<SoftmaxLocal<TypeParam>> mixer(policy, shifts);
      expect_close_to_scale(forward(mixer, x).values, mix(wide, shifts, x.wide()),
                            Tolerance<TypeParam>::forward, "y");
    }
  }
}

// With v = x (W_v = 1) constant over time and W_o = 1, y is that constant whatever the weights, if they sum
// to 1.
TYPED_TEST(SoftmaxTaps, WeightsSumToOne) {
  Random random(8);
  SoftmaxLocal<TypeParam> policy(8, random, 2, 5);
  policy.project.weight *= TypeParam(3);
  policy.project.weight.bottomRows(8).setZero();
  policy.project.weight.bottomRows(8).col(0).setConstant(TypeParam(1.5));
  policy.output.weight.setIdentity();
  Activations<TypeParam> x(1, 50, 8, random);
  for (std::size_t t = 0; t < 50; ++t) x.values[8 * t] = 2;
  const auto y = forward(Mixer<SoftmaxLocal<TypeParam>>(policy, 3), x);
  expect_close(y.values, Values(400, 3.0), 0, Tolerance<TypeParam>::pointwise, "y");
}

TYPED_TEST(SoftmaxTaps, StaysFiniteWithHugeScores) {
  Random random(9);
  SoftmaxLocal<TypeParam> policy(8, random, 2, 4);
  policy.project.weight.topRows(16) *= TypeParam(1e16);  // scores around 1e32
  const auto y = forward(Mixer<SoftmaxLocal<TypeParam>>(policy, 2), Activations<TypeParam>(1, 64, 8, random));
  for (const TypeParam value : y.values) EXPECT_TRUE(std::isfinite(value)) << value;
}

}  // namespace
}  // namespace hsm::test::forward_test
