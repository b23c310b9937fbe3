// SPDX-License-Identifier: MIT
//
// fill is extend without results: it leaves the same state, on all streams and on chosen ones, for every layer.
#include <algorithm>
#include <cmath>

#include <hsm/attention/causal_attention.hpp>

#include "shift/mixer_cases.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::fill_test {
namespace {

/// Fills one state and extends another by the same tokens, in parts, and expects that both go on alike.
template <class Mixer>
void expect_filled(const Mixer& mixer, Index C) {
  using Scalar = typename Mixer::Scalar;
  Random random(3);
  Workspace workspace;
  workspace.chunk_bytes = 4096;  // several chunks of a call
  const Activations<Scalar> x(3, 200, C, random);
  Activations<Scalar> y(3, 200, C), z(3, 200, C);
  auto filled = mixer.make_state({.streams = 3}), extended = filled;
  mixer.fill(x.part(0, 5), filled, workspace);
  mixer.extend(x.part(0, 5), extended, y.part(0, 5), workspace);
  mixer.fill(x.part(5, 150), filled, workspace);
  mixer.extend(x.part(5, 150), extended, y.part(5, 150), workspace);
  const std::vector<Index> offsets{0, 3, 40}, streams{2, 0};
  const auto one = x.part(155, 40).sequence(1);
  mixer.fill(one, offsets, streams, filled, workspace);
  mixer.extend(one, offsets, streams, extended, y.part(155, 40).sequence(1), workspace);
  for (Index s = 0; s < 3; ++s) EXPECT_EQ(filled.count(s), extended.count(s));
  mixer.extend(x.part(195, 5), filled, y.part(195, 5), workspace);
  mixer.extend(x.part(195, 5), extended, z.part(195, 5), workspace);
  for (Index b = 0; b < 3; ++b) {
    for (Index t = 195; t < 200; ++t) {
      for (Index c = 0; c < C; ++c)
        EXPECT_EQ(y.view().at(b, t)[c], z.view().at(b, t)[c]) << b << " " << t << " " << c;
    }
  }
}

template <class Policy>
class Fill : public ::testing::Test {};
TYPED_TEST_SUITE(Fill, FloatPolicies);

TYPED_TEST(Fill, LeavesTheStateOfExtend) {
  Random random(1);
  expect_filled(Mixer<TypeParam>(PolicyCase<TypeParam>::make(6, 3, random), Shifts{2, 2, 90}), 6);
}

TEST(FillAttention, LeavesTheStateOfExtend) {
  Random random(1);
  expect_filled(CausalAttention<float>(Attention<float>(12, 3, random)), 12);
  expect_filled(CausalAttention<float>(Attention<float>(12, 3, random, {.rotary = 10000})), 12);
}

TEST(FillAttention, ReadsMoreThanAPassOfExtendTakes) {
  Random random(1);
  const CausalAttention<float> attention(Attention<float>(4, 2, random));
  Workspace workspace;
  const Activations<float> x(2, 2100, 4, random);
  Activations<float> y(2, 2100, 4), z(2, 1, 4), w(2, 1, 4);
  auto filled = attention.make_state({.streams = 2}), extended = filled;
  attention.fill(x.part(0, 2099), filled, workspace);
  attention.extend(x.part(0, 2099), extended, y.part(0, 2099), workspace);
  Activations<float> whole(2, 2100, 4);  // in one pass
  attention.forward(x.view(), whole.view(), workspace);
  double largest = 0;
  for (const float value : whole.values) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (Index b = 0; b < 2; ++b) {
    EXPECT_EQ(filled.count(b), 2099);
    for (Index t = 0; t < 2099; ++t) {
      for (Index c = 0; c < 4; ++c)
        ASSERT_NEAR(y.view().at(b, t)[c], whole.view().at(b, t)[c], Tolerance<float>::mode * largest)
            << b << " " << t;
    }
  }
  attention.step(x.part(2099, 1), filled, z.view(), workspace);
  attention.step(x.part(2099, 1), extended, w.view(), workspace);
  for (Index b = 0; b < 2; ++b) {
    for (Index c = 0; c < 4; ++c) EXPECT_EQ(z.view().at(b, 0)[c], w.view().at(b, 0)[c]);
  }
}

TEST(FillErrors, OfNothingToWriteToIsNotMeantByAnEmptyResult) {
  Random random(1);
  const Mixer<Gated<float>> mixer(Gated<float>(6, random), 2);
  Workspace workspace;
  const Activations<float> x(2, 3, 6, random);
  expect_refused([&] { mixer.forward(x.view(), Tokens<float>(nullptr, 2, 3, 6), workspace); },
                 "Mixer::forward: y must be memory to write to, got none");
}

TEST(FillErrors, SayTheNameWhereTokensDoNotFit) {
  Random random(1);
  const Mixer<Gated<float>> mixer(Gated<float>(6, random), 2);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 2});
  const Activations<float> x(2, 3, 5, random), y(3, 3, 6, random);
  expect_refused([&] { mixer.fill(x.view(), state, workspace); },
                 "Mixer::fill: the channels of x must be 6, got 5");
  expect_refused([&] { mixer.fill(y.view(), state, workspace); },
                 "Mixer::fill: the batch of x (streams) must be 2, got 3");
  EXPECT_EQ(state.count(0), 0);
}

}  // namespace
}  // namespace hsm::test::fill_test
