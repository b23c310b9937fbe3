// SPDX-License-Identifier: MIT
//
// What a record of a mixer says that it holds.
#include "shift/mixer_cases.hpp"

namespace hsm::test::mixer_saved_test {
namespace {

TEST(MixerSaved, HoldsItsPlanesAndTheStateThatItBeganWith) {
  constexpr Index B = 2, T = 5, C = 8;
  constexpr std::size_t kPlane = sizeof(float) * B * T * C;
  Random random(1);
  const Mixer fusion(Fusion<float>(C, random), 2);
  const Mixer scalars(ScalarPair<float>(C), 2);
  std::vector<float> x(B * T * C, 1), y(x.size());
  const Tokens<const float> in(x.data(), B, T, C);
  const Tokens<float> out(y.data(), B, T, C);
  Workspace workspace;
  auto saved = fusion.make_saved();
  EXPECT_EQ(saved.bytes(), 0u);
  fusion.forward(in, out, saved, workspace);
  EXPECT_EQ(saved.bytes(), 3 * kPlane);  // U x + c, V x, and z
  auto state = fusion.make_state({.streams = B});
  fusion.extend(in, state, out, saved, workspace);
  EXPECT_GE(saved.bytes(), 3 * kPlane + sizeof(float) * B * 2 * C);
  auto nothing = scalars.make_saved();
  scalars.forward(in, out, nothing, workspace);
  EXPECT_EQ(nothing.bytes(), 0u);
}

TEST(MixerSaved, IsOfNothingWhenItWasMovedFrom) {
  const Mixer mixer(ScalarPair<float>(4), 2);
  std::vector<float> x(12, 1), y(x.size());
  const Tokens<const float> in(x.data(), 1, 3, 4);
  const Tokens<float> out(y.data(), 1, 3, 4);
  Workspace workspace;
  auto gradients = mixer.make_gradients();
  auto saved = mixer.make_saved();
  mixer.forward(in, out, saved, workspace);
  auto moved = std::move(saved);
  EXPECT_EQ(moved.shape(), (Shape<3>{1, 3, 4}));
  const std::string nothing =
      "Mixer::backward: saved must be the record of a forward, packed or extend, got one that nothing was "
      "saved in";
  expect_refused([&] { mixer.backward(in, saved, in, out, gradients, workspace); }, nothing);
  saved = std::move(moved);
  expect_refused([&] { mixer.backward(in, moved, in, out, gradients, workspace); }, nothing);
  mixer.backward(in, saved, in, out, gradients, workspace);
  EXPECT_EQ(gradients.a[0], 12.0f);  // of 3 tokens of 4 channels
}

}  // namespace
}  // namespace hsm::test::mixer_saved_test
