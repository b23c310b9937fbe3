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

}  // namespace
}  // namespace hsm::test::mixer_saved_test
