// SPDX-License-Identifier: MIT
//
// A ring that is longer than any text: it grows with what was read, and changes no bit.
#include <gtest/gtest.h>

#include <array>

#include "shift/mixer_cases.hpp"
#include "shift/state_cases.hpp"
#include "support/matchers.hpp"

namespace hsm::test::state_room_test {
namespace {

constexpr Index kC = 12, kT = 900;
constexpr Index kFar = Index{1} << 39;

template <class Policy>
class StateRoom : public ::testing::Test {};
TYPED_TEST_SUITE(StateRoom, AllPolicies);

TYPED_TEST(StateRoom, AShiftPastTheTextTakesTheMemoryOfTheText) {
  using Scalar = typename TypeParam::Scalar;
  Random random(1);
  Workspace workspace;
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(kC, 3, random), Shifts{2, 2, kFar});
  const Activations<Scalar> x(2, kT, kC, random);
  Activations<Scalar> whole(2, kT, kC), parts = whole;
  mixer.forward(x.view(), whole.view(), workspace);
  auto state = mixer.make_state({.streams = 2, .spare = 3});
  for (const auto& [first, count] : {std::pair<Index, Index>{0, 1}, {1, 6}, {7, 600}, {607, kT - 607}})
    mixer.extend(x.part(first, count), state, parts.part(first, count), workspace);
  expect_same_result<TypeParam>(parts.values, whole.values, "extend");
  // Planes of at most 2 C rows; growing doubles.
  EXPECT_LE(state.bytes(), static_cast<std::size_t>(2 * 2 * kT * 3 * kC) * sizeof(Scalar));
  EXPECT_TRUE(state.is_sound());

  // The same with room from the start.
  auto roomy = mixer.make_state({.streams = 2, .spare = 3});
  roomy.make_room(kT);
  const std::size_t bytes = roomy.bytes();
  Activations<Scalar> again(2, kT, kC);
  for (const auto& [first, count] : {std::pair<Index, Index>{0, 1}, {1, 6}, {7, 600}, {607, kT - 607}})
    mixer.extend(x.part(first, count), roomy, again.part(first, count), workspace);
  EXPECT_EQ(roomy.bytes(), bytes);
  expect_same_bits(again.values, parts.values, "with room from the start");
  EXPECT_TRUE(roomy == state);
  auto copy = state;
  copy.copy_stream(0, 1);
  EXPECT_FALSE(copy == state);
  copy = state;
  copy.rewind(1, 2);
  EXPECT_FALSE(copy == state);
}

TYPED_TEST(StateRoom, ALongRingThatTurnsKeepsWhatItMust) {
  using Scalar = typename TypeParam::Scalar;
  Random random(2);
  Workspace workspace;
  const Index streams = 150, s = 3000, T = 7000;  // 21 MB at least
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(kC, 3, random), s);
  auto many = mixer.make_state({.streams = streams}), one = mixer.make_state({.streams = 1});
  const Activations<Scalar> x(1, T, kC, random);
  Activations<Scalar> y(1, T, kC), expected = y;
  EXPECT_EQ(many.bytes(), 0u);
  const std::vector<Index> chosen{streams - 7};
  for (const auto& [first, count] : {std::pair<Index, Index>{0, 5}, {5, 2000}, {2005, T - 2005}}) {
    const std::vector<Index> offsets{0, count};
    mixer.extend(x.part(first, count), offsets, chosen, many, y.part(first, count), workspace);
    mixer.extend(x.part(first, count), one, expected.part(first, count), workspace);
  }
  expect_same_bits(y.values, expected.values, "the same as alone");
}

TYPED_TEST(StateRoom, GradientsGoThroughALongRing) {
  using Scalar = typename TypeParam::Scalar;
  Random random(3);
  Workspace workspace;
  const auto policy = PolicyCase<TypeParam>::make(kC, 3, random);
  // The long ring has 30 shifts that matter, of the first two heads, and a third that no token comes to.
  const Mixer<TypeParam> far(policy, Shifts{30, 30, kFar}), near(policy, Shifts{30, 30, 200});
  const Activations<Scalar> x(1, 100, kC, random), dy(1, 100, kC, random);
  Activations<Scalar> dx[2] = {{1, 100, kC}, {1, 100, kC}}, y(1, 100, kC);
  auto gradients = std::array{far.make_gradients(), near.make_gradients()};
  for (std::size_t i = 0; i < 2; ++i) {
    const Mixer<TypeParam>& mixer = i == 0 ? far : near;
    auto state = mixer.make_state(), state_gradient = mixer.make_state();
    auto first = mixer.make_saved(), second = mixer.make_saved();
    mixer.extend(x.part(0, 40), state, y.part(0, 40), first, workspace);
    mixer.extend(x.part(40, 60), state, y.part(40, 60), second, workspace);
    mixer.backward(x.part(40, 60), second, dy.part(40, 60), dx[i].part(40, 60), gradients[i], workspace,
                   &state_gradient);
    mixer.backward(x.part(0, 40), first, dy.part(0, 40), dx[i].part(0, 40), gradients[i], workspace,
                   &state_gradient);
  }
  expect_same_bits(dx[0].values, dx[1].values, "dx");
  expect_same_parameters(gradients[0], gradients[1]);
}

}  // namespace
}  // namespace hsm::test::state_room_test
