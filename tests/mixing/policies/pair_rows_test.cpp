// SPDX-License-Identifier: MIT
//
// More rows than a block holds: every channel gets what it gets in a mixer of its own.
#include <hsm/mixing/policies/pair_rows.hpp>

#include "mixing/mixer_cases.hpp"

namespace hsm::test {
namespace {

constexpr Index kChannels = hsm::detail::kPairRows + 76, kTokens = 9, kShift = 2;

template <class Policy>
class PairRows : public ::testing::Test {};
using Pairs =
    ::testing::Types<ScalarPair<float>, ScalarPair<double>, ChannelPair<float>, ChannelPair<double>>;
TYPED_TEST_SUITE(PairRows, Pairs);

TYPED_TEST(PairRows, BeyondABlockAreThoseOfSmallerMixers) {
  using Scalar = typename TypeParam::Scalar;
  constexpr bool kPerChannel = std::is_same_v<TypeParam, ChannelPair<Scalar>>;
  Random random(1);
  const Mixer<TypeParam> whole(PolicyCase<TypeParam>::make(kChannels, 4, random), kShift);
  const Activations<Scalar> x(1, kTokens, kChannels, random), dy(1, kTokens, kChannels, random);
  Activations<Scalar> y(1, kTokens, kChannels, kGarbage<Scalar>), dx = y;
  Workspace workspace;
  auto saved = whole.make_saved();
  auto gradients = whole.make_gradients();
  whole.forward(x.view(), y.view(), saved, workspace);
  whole.backward(x.view(), saved, dy.view(), dx.view(), gradients, workspace);

  constexpr Index kWidth = kChannels / 4;
  for (Index h = 0; h < 4; ++h) {
    TypeParam policy(kWidth, 1);
    const Index first = kPerChannel ? h * kWidth : h, count = kPerChannel ? kWidth : 1;
    policy.a = whole.parameters().a.segment(first, count);
    policy.b = whole.parameters().b.segment(first, count);
    const Mixer<TypeParam> part(policy, kShift);
    const auto channels = [&](const auto& all) {
      Activations<Scalar> some(1, kTokens, kWidth);
      for (Index t = 0; t < kTokens; ++t)
        std::copy_n(all.values.data() + t * kChannels + h * kWidth, kWidth, some.values.data() + t * kWidth);
      return some;
    };
    const Activations<Scalar> part_x = channels(x), part_dy = channels(dy);
    Activations<Scalar> part_y(1, kTokens, kWidth), part_dx = part_y;
    auto part_gradients = part.make_gradients();
    part.forward(part_x.view(), part_y.view(), saved, workspace);
    part.backward(part_x.view(), saved, part_dy.view(), part_dx.view(), part_gradients, workspace);
    expect_same_bits(channels(y).values, part_y.values, "y of head " + std::to_string(h));
    expect_same_bits(channels(dx).values, part_dx.values, "dx of head " + std::to_string(h));
    for (Index i = 0; i < count; ++i) {
      const double tolerance = Tolerance<Scalar>::gradient * static_cast<double>(kWidth * kTokens);
      EXPECT_NEAR(static_cast<double>(gradients.a[first + i]), static_cast<double>(part_gradients.a[i]),
                  tolerance);
      EXPECT_NEAR(static_cast<double>(gradients.b[first + i]), static_cast<double>(part_gradients.b[i]),
                  tolerance);
    }
  }
}

}  // namespace
}  // namespace hsm::test
