// SPDX-License-Identifier: MIT
//
// Calls of every layer of layer/layer_list.hpp, with a workspace, a state and a record that have served such a call,
// allocate nothing but what Eigen's products of large sizes do.
#include <gtest/gtest.h>

#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/gated.hpp>

#include <vector>

#include "layer/layer_list.hpp"
#include "layer/step_allocations.hpp"
#include "support/count_allocations.hpp"

namespace hsm::test::every_layer_allocation_test {
namespace {

template <class Case>
class EveryLayerAllocations : public ::testing::Test {};
TYPED_TEST_SUITE(EveryLayerAllocations, LayerCases::Float, LayerCaseName);

TYPED_TEST(EveryLayerAllocations, AStepOfOneStreamMakesNone) {
  for (const Index C : {8, 512}) {  // 512: the weights are far beyond what Eigen copies to its stack
    auto mixer = TypeParam::make(TypeParam::of(C));
    expect_steps_without_allocations<float>(mixer);
    for (const Storage storage : {Storage::kBfloat16, Storage::kInt8}) {
      SCOPED_TRACE(storage_name(storage));
      store_matrices(mixer.parameters(), storage);
      expect_steps_without_allocations<float>(mixer);
    }
  }
}

TEST(StoredAllocations, AStepInDoubleMakesNone) {
  Random random(62);
  for (const Storage storage : {Storage::kBfloat16, Storage::kInt8}) {
    Mixer<Gated<double>> mixer(Gated<double>(300, random), 3);
    store_matrices(mixer.parameters(), storage);
    expect_steps_without_allocations<double>(mixer);
  }
}

TYPED_TEST(EveryLayerAllocations, OtherCallsMakeNoneInSmallSizes) {
  const Index C = 12, T = 140;
  const auto mixer = TypeParam::make(TypeParam::of(C));
  Random random(61);
  const auto x = random_matrix<float>(C, T, random);
  Matrix<float> y(C, T), dx(C, T);
  Workspace workspace;
  const std::vector<Index> offsets{0, 7, 7, T}, streams{2, 0, 1};
  auto state = mixer.make_state({.streams = 3}), state_gradient = state;
  auto saved = mixer.make_saved(), extended = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  const auto calls = [&] {
    state.reset();
    state_gradient.reset();
    mixer.forward(x, y, workspace);
    mixer.forward(x, y, saved, workspace);
    mixer.backward(x, saved, y, dx, gradients, workspace);
    mixer.packed(x, offsets, y, workspace);
    mixer.extend(x, offsets, streams, state, y, extended, workspace);
    mixer.backward(x, extended, y, dx, gradients, workspace, &state_gradient);
    mixer.fill(x, offsets, streams, state, workspace);
  };
  calls();
  calls();
  EXPECT_EQ(allocations_of(calls), 0);
}

}  // namespace
}  // namespace hsm::test::every_layer_allocation_test
