// SPDX-License-Identifier: MIT
//
// More rows than a block holds: every channel gets what it gets in a mixer of its own. Chains of tokens, blocks
// and cache lines and what is left of them, past the cache and not: all give the bits of the formula.
#include <hsm/shift/policies/pair_rows.hpp>

#include "shift/mixer_cases.hpp"

namespace hsm::test::pair_rows_test {
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
    const auto close = [&](const Vector<Scalar>& all, const Vector<Scalar>& some, const char* label) {
      expect_close_to_scale(all.segment(first, count).eval(), some, Tolerance<Scalar>::gradient, label);
    };
    close(gradients.a, part_gradients.a, "da");
    close(gradients.b, part_gradients.b, "db");
  }
}

/// Tokens [T,C] with gaps between them, so that some begin off the boundaries of cache lines.
template <class Scalar>
struct Gapped {
  Gapped(Index time, Index width, Random& random)
      : T(time), C(width), values(static_cast<std::size_t>(T * (C + 3) + 1)) {
    for (Scalar& value : values) value = static_cast<Scalar>(random.uniform(-1, 1));
  }
  Tokens<Scalar> view() { return {values.data() + 1, 1, T, C, C + 3, T * (C + 3)}; }
  Scalar at(Index t, Index c) const { return values[static_cast<std::size_t>(1 + t * (C + 3) + c)]; }

  Index T, C;
  std::vector<Scalar> values;
};

TYPED_TEST(PairRows, ChainsGiveTheBitsOfTheFormula) {
  using Scalar = typename TypeParam::Scalar;
  // Whole blocks, lines and single rows in each head, wherever its first row lies.
  using hsm::detail::kPairLine, hsm::detail::kPairPacks, hsm::detail::Pack;
  constexpr Index kWidth = 4 * (kPairPacks * Pack<Scalar>::kSize + 2 * kPairLine<Scalar> + 1), T = 101;
  Random random(2);
  for (const Index heads : {1, 4}) {
    const TypeParam policy = PolicyCase<TypeParam>::make(kWidth, heads, random);
    Vector<Scalar> a(kWidth), b(kWidth);
    policy.channel_weights(a.data(), b.data());
    for (Index c = 0; c < kWidth; ++c) {
      const Index i = std::is_same_v<TypeParam, ChannelPair<Scalar>> ? c : c / (kWidth / heads);
      ASSERT_EQ(a[c], policy.a[i]);
      ASSERT_EQ(b[c], policy.b[i]);
    }
    for (const Index s : {1, 2, 3, 10, 60}) {
      for (const Stores stores : {Stores::kCached, Stores::kNontemporal}) {
        SCOPED_TRACE(::testing::Message()
                     << heads << " heads, shift " << s << ", streaming " << (stores == Stores::kNontemporal));
        const Mixer<TypeParam> mixer(policy, s);
        Gapped<Scalar> x(T, kWidth, random), dy(T, kWidth, random), y(T, kWidth, random), dx = y,
                                                                                          in_place = x;
        Gapped<Scalar> expected = y, d_expected = dx;
        Eigen::Matrix<double, Eigen::Dynamic, 2> sums = Eigen::MatrixXd::Zero(kWidth, 2);
        for (Index t = 0; t < T; ++t) {
          for (Index c = 0; c < kWidth; ++c) {
            const Scalar past = t >= s ? x.at(t - s, c) : Scalar(0), g = dy.at(t, c), own = a[c] * g;
            *(expected.view().at(0, t) + c) = multiply_add(a[c], x.at(t, c), b[c] * past);
            *(d_expected.view().at(0, t) + c) = t + s < T ? multiply_add(b[c], dy.at(t + s, c), own) : own;
            sums(c, 0) += static_cast<double>(g) * static_cast<double>(x.at(t, c));
            sums(c, 1) += static_cast<double>(g) * static_cast<double>(past);
          }
        }
        Workspace workspace;
        workspace.stores = stores;
        auto saved = mixer.make_saved();
        auto gradients = mixer.make_gradients();
        mixer.forward(x.view(), y.view(), saved, workspace);
        mixer.backward(x.view(), saved, dy.view(), dx.view(), gradients, workspace);
        mixer.forward_in_place(in_place.view(), workspace);
        expect_same_bits(y.values, expected.values, "y and the gaps");
        expect_same_bits(dx.values, d_expected.values, "dx and the gaps");
        for (Index t = 0; t < T; ++t)
          for (Index c = 0; c < kWidth; ++c) ASSERT_EQ(in_place.at(t, c), y.at(t, c)) << t << " " << c;
        const Index per_weight = kWidth / gradients.a.size();
        Eigen::VectorXd da(gradients.a.size()), db(gradients.a.size());
        for (Index i = 0; i < gradients.a.size(); ++i) {
          da[i] = sums.col(0).segment(i * per_weight, per_weight).sum();
          db[i] = sums.col(1).segment(i * per_weight, per_weight).sum();
        }
        expect_close_to_scale(gradients.a, da, Tolerance<Scalar>::gradient, "da");
        expect_close_to_scale(gradients.b, db, Tolerance<Scalar>::gradient, "db");
      }
    }
  }
}

}  // namespace
}  // namespace hsm::test::pair_rows_test
