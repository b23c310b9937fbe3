// SPDX-License-Identifier: MIT
//
// What a policy says of its cost follows from its stages: products by C x C matrices, planes that are kept, taps.
#include <gtest/gtest.h>

#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies.hpp>

namespace hsm::test::footprint_test {
namespace {

template <class Policy>
void expect_footprint(const Policy& policy, Index products, Index local, Index kept, Index reads) {
  const LayerFootprint footprint = Mixer<Policy>(policy, 1).layer().footprint();
  EXPECT_EQ(static_cast<Index>(footprint.products), products) << Policy::kName;
  EXPECT_EQ(static_cast<Index>(footprint.local), local) << Policy::kName;
  EXPECT_EQ(static_cast<Index>(footprint.kept), kept) << Policy::kName;
  EXPECT_EQ(static_cast<Index>(footprint.reads), reads) << Policy::kName;
}

TEST(Footprint, IsThatOfTheStages) {
  Random random(1);
  expect_footprint(ScalarPair<float>(4), 0, 0, 1, 2);
  expect_footprint(ChannelPair<float>(4), 0, 0, 1, 2);
  expect_footprint(MatrixPair<float>(4, random), 2, 1, 1, 2);
  expect_footprint(Gated<float>(4, random), 1, 1, 1, 2);
  expect_footprint(GatedPair<float>(4, random), 2, 1, 2, 2);
  expect_footprint(Fusion<float>(4, random), 3, 1, 1, 2);
  expect_footprint(SoftmaxLocal<float>(4, random, 2, 3), 4, 1, 2, 3);
}

}  // namespace
}  // namespace hsm::test::footprint_test
