// SPDX-License-Identifier: MIT
//
// The forward over its own input gives the bits of forward: around the shifts, where parts continue rings,
// with heads at different shifts, and in views with gaps.
#include <hsm/core/threaded_executor.hpp>

#include "shift/mixer_cases.hpp"

namespace hsm::test::in_place_test {
namespace {

template <class Policy>
class MixerInPlace : public ::testing::Test {};
using PoliciesWithoutProducts =
    ::testing::Types<ScalarPair<float>, ScalarPair<double>, ChannelPair<float>, ChannelPair<double>>;
TYPED_TEST_SUITE(MixerInPlace, PoliciesWithoutProducts);

template <class Policy>
void expect_same_as_forward(const Mixer<Policy>& mixer, Index B, Index T, Random& random) {
  using Data = Activations<typename Policy::Scalar>;
  SCOPED_TRACE(::testing::Message() << "B " << B << " T " << T << " C " << mixer.channels() << " shift "
                                    << mixer.shift());
  Data x(B, T, mixer.channels(), random);
  const auto expected = forward(mixer, x).values;
  ThreadedExecutor threads(3);
  for (Executor* executor : {static_cast<Executor*>(nullptr), static_cast<Executor*>(&threads)}) {
    Data y = x;
    Workspace serial;
    Workspace parallel(threads);
    mixer.forward_in_place(y.view(), executor ? parallel : serial);
    expect_same_bits(y.values, expected, "in place");
  }
}

TYPED_TEST(MixerInPlace, IsForwardAtEveryLength) {
  Random random(1);
  for (const Index s : {1, 2, 5, 64}) {
    for (const Index T : {Index{0}, Index{1}, s - 1, s, s + 1, 2 * s + 1, Index{127}, Index{300}}) {
      const Mixer<TypeParam> one(PolicyCase<TypeParam>::make(7, 1, random), s);
      expect_same_as_forward(one, 2, T, random);
      const Mixer<TypeParam> heads(PolicyCase<TypeParam>::make(12, 3, random), Shifts{s, 2 * s, 1});
      expect_same_as_forward(heads, 1, T, random);
    }
  }
}

// At 1100 channels a part has few tokens, so that a short sequence has several, each continuing the one before.
TYPED_TEST(MixerInPlace, IsForwardWherePartsMeet) {
  Random random(2);
  for (const Index s : {1, 3, 700, 2000}) {
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(1100, 2, random), Shifts{s, 5});
    expect_same_as_forward(mixer, 2, 1500, random);
  }
}

// Where no part follows another nothing is copied, so no shift is too far.
TYPED_TEST(MixerInPlace, IsForwardHoweverFarTheShift) {
  Random random(6);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(64, 2, random), Index{1} << (kIndexBits - 6));
  expect_same_as_forward(mixer, 2, 10, random);
}

TYPED_TEST(MixerInPlace, LeavesWhatLiesBetweenTokens) {
  using Scalar = typename TypeParam::Scalar;
  Random random(3);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(6, 2, random), 3);
  const Activations<Scalar> x(1, 40, 6, random);
  std::vector<Scalar> wide(40 * 9, Scalar(-7)), expected = wide;
  const auto y = forward(mixer, x).values;
  for (std::size_t t = 0; t < 40; ++t) {
    std::copy_n(x.values.data() + t * 6, 6, wide.data() + t * 9);
    std::copy_n(y.data() + t * 6, 6, expected.data() + t * 9);
  }
  Workspace workspace;
  mixer.forward_in_place(Tokens<Scalar>(wide.data(), 1, 40, 6, 9, 40 * 9), workspace);
  expect_same_bits(wide, expected, "y and the gaps");
}

/// z = x[t] + x[t-s] / 2, token after token from the last, so that it may say in_place. One that does not say it
/// is refused when it is compiled (must_not_compile/in_place_undeclared.cpp).
struct LastFirst {
  using Scalar = double;
  static constexpr std::string_view kName = "last-first";
  static constexpr Stages kStages{.shifts_input = true, .in_place = true};

  Index channels() const { return 20; }
  Index heads() const { return 2; }
  template <class F, class Self, class... More>
  static void visit(F&&, Self&, More&...) {}

  void combine(const Run<double>& run, Columns<double> z) const {
    for (Index j = run.count - 1; j >= 0; --j) z.col(j) = run.tap(0).col(j) + 0.5 * run.tap(1).col(j);
  }
  void adjoint_now(const Run<double>&, ConstColumns<double> dz, const RunGradient<double>& d,
                   std::span<double>) const {
    d.tap(0) = dz;
  }
  void adjoint_past(const Run<double>&, ConstColumns<double> dz, const RunGradient<double>& d) const {
    d.tap(1) += 0.5 * dz;
  }
};

TEST(MixerInPlaceOfOthers, IsForwardWhereThePolicySaysIt) {
  Random random(5);
  for (const Index s : {1, 3, 40}) {
    for (const Index T : {Index{1}, s, 4 * s + 1, Index{300}})
      expect_same_as_forward(Mixer<LastFirst>(LastFirst(), Shifts{s, 2}), 2, T, random);
  }
}

TYPED_TEST(MixerInPlace, RefusesOtherChannels) {
  Random random(4);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(6, 2, random), 3);
  Activations<typename TypeParam::Scalar> x(1, 4, 5, random);
  Workspace workspace;
  EXPECT_THROW(mixer.forward_in_place(x.view(), workspace), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::test::in_place_test
