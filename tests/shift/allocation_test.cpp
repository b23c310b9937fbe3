// SPDX-License-Identifier: MIT
//
// A step of one stream allocates nothing once it has run; nor does any other call that works in scratch of the
// same size, but for the packing space of Eigen's products.
#include "shift/mixer_cases.hpp"
#include "support/count_allocations.hpp"

namespace hsm::test::allocation_test {
namespace {

TEST(Allocations, AreCounted) {
  EXPECT_GE(allocations_of([] { delete new std::string(100, 'x'); }), 1);
  EXPECT_EQ(allocations_of([] {}), 0);
}

template <class Policy>
class MixerAllocations : public ::testing::Test {};
TYPED_TEST_SUITE(MixerAllocations, AllPolicies);

TYPED_TEST(MixerAllocations, AStepOfOneStreamMakesNone) {
  Random random(1);
  for (const Index C : {8, 12, 512}) {  // 512: the weights are far beyond what Eigen copies to its stack
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 4, random), Shifts{1, 5, 5, 2});
    Workspace workspace;
    auto state = mixer.make_state({.streams = 3, .spare = 2}), alone = mixer.make_state();
    Vector<typename TypeParam::Scalar> x(C), y(C);
    x.setOnes();
    const std::vector<Index> chosen{2};
    const auto steps = [&] {
      for (int t = 0; t < 30; ++t) {
        mixer.step(x, alone, y, workspace);
        mixer.step(x, chosen, state, y, workspace);
        if (t % 3 == 2) state.rewind(2, 2);
      }
      state.copy_stream(2, 0);
    };
    steps();
    EXPECT_EQ(allocations_of(steps), 0) << "C=" << C;
  }
}

TYPED_TEST(MixerAllocations, OtherCallsMakeNoneInSmallSizes) {
  using Scalar = typename TypeParam::Scalar;
  constexpr Index C = 12;
  Random random(2);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 4, random), Shifts{1, 5, 5, 2});
  const Activations<Scalar> x(3, 40, C, random), dy(3, 40, C, random);
  Activations<Scalar> y(3, 40, C), dx(3, 40, C);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 3}), gradient = state;
  auto saved = mixer.make_saved(), extended = saved;
  auto gradients = mixer.make_gradients();
  const std::vector<Index> offsets{0, 7, 7, 40}, streams{2, 0, 1};
  const auto calls = [&] {
    mixer.forward(x.view(), y.view(), workspace);
    mixer.packed(x.view().sequence(0), offsets, y.view().sequence(0), workspace);
    mixer.extend(x.view(), state, y.view(), workspace);
    mixer.extend(x.view().sequence(0), offsets, streams, state, y.view().sequence(0), workspace);
    mixer.forward(x.view(), y.view(), saved, workspace);
    mixer.backward(x.view(), saved, dy.view(), dx.view(), gradients, workspace);
    mixer.extend(x.view(), state, y.view(), extended, workspace);
    mixer.backward(x.view(), extended, dy.view(), dx.view(), gradients, workspace, &gradient);
  };
  calls();
  const auto bytes = workspace.bytes();
  EXPECT_EQ(allocations_of(calls), 0);
  EXPECT_EQ(workspace.bytes(), bytes);
}

// The figure that mixer.hpp states: two per block of at most 256 rows and 256 columns of a product.
TYPED_TEST(MixerAllocations, AnExtendOfWideLayersTakesThePackingOfItsProductsAlone) {
  using Scalar = typename TypeParam::Scalar;
  constexpr Index C = 512;
  Random random(3);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 4, random), Shifts{1, 5, 5, 2});
  const Activations<Scalar> x(1, 300, C, random);
  Activations<Scalar> y(1, 300, C);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 3});
  const std::vector<Index> offsets{0, 7, 300}, streams{2, 0};
  const auto call = [&] { mixer.extend(x.view(), offsets, streams, state, y.view(), workspace); };
  call();
  const long taken = allocations_of(call);
  constexpr long kBlocks = (C / 256) * 2;  // 300 columns are two blocks
  EXPECT_LE(taken, 2 * kBlocks * (TypeParam::kStages.projected() + (TypeParam::kStages.output ? 1 : 0)));
}

}  // namespace
}  // namespace hsm::test::allocation_test
