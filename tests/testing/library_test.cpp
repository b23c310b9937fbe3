// SPDX-License-Identifier: MIT
//
// Every policy of the library, attention and a layer of another kind pass the test kit that users get.
#include <hsm/testing/check.hpp>

#include "attention/attention_cases.hpp"
#include "hierarchical_attention/hierarchy_engine.hpp"
#include "layer/fading_sum.hpp"
#include "recurrent/recurrent_engine.hpp"
#include "shift/mixer_cases.hpp"

namespace hsm::test::library_test {
namespace {

template <class Policy>
class KitOfPolicies : public ::testing::Test {};
TYPED_TEST_SUITE(KitOfPolicies, AllPolicies);

TYPED_TEST(KitOfPolicies, FindsNothing) {
  Random random(1);
  for (const Index H : {1, 3}) {
    const TypeParam policy = PolicyCase<TypeParam>::make(6, H, random);
    EXPECT_EQ(check_policy(policy, {1, 3, 20}).what(), "");
    EXPECT_EQ(check_policy(policy, {2}, {.tokens = 8, .seed = 3}).what(), "");
  }
}

template <class Scalar>
class KitOfLayers : public ::testing::Test {};
TYPED_TEST_SUITE(KitOfLayers, Scalars);

TYPED_TEST(KitOfLayers, FindsNothing) {
  EXPECT_EQ(check_layer(make_attention<TypeParam>(12, 3)).what(), "");
  EXPECT_EQ(check_layer(make_attention<TypeParam>(12, 3, {.rotary = 10000})).what(), "");
  EXPECT_EQ(check_layer(make_attention<TypeParam>(4, 1), {.tokens = 70}).what(), "");
  EXPECT_EQ(check_layer(make_attention<TypeParam>(4, 2, {.window = 3})).what(), "");
  // A choice must not be so near to another one that the step of differences changes it: here none is.
  EXPECT_EQ(check_layer(make_attention<TypeParam>(4, 1, {.block = 5, .top = 1})).what(), "");
  EXPECT_EQ(check_layer(FadingSum<TypeParam>(5)).what(), "");
  Random random(1);
  EXPECT_EQ(check_layer(EmaLayer<TypeParam>(Ema<TypeParam>(3, 2, random)), {.tokens = 70}).what(), "");
  using Hierarchy = HierarchicalAttentionLayer<TypeParam>;
  EXPECT_EQ(check_layer(Hierarchy(HierarchicalAttention<TypeParam>(6, 2, random, 3))).what(), "");
  EXPECT_EQ(check_layer(Hierarchy(HierarchicalAttention<TypeParam>(2, 1, random, 5)), {.tokens = 70}).what(),
            "");
  using Linear = LinearAttentionLayer<TypeParam>;
  EXPECT_EQ(check_layer(Linear(LinearAttention<TypeParam>(6, 2, random))).what(), "");
  EXPECT_EQ(check_layer(Linear(LinearAttention<TypeParam>(4, 1, random, 1)), {.tokens = 140}).what(), "");
}

}  // namespace
}  // namespace hsm::test::library_test
