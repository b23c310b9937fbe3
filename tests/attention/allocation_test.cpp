// SPDX-License-Identifier: MIT
//
// A step of one stream allocates nothing once it has run, as long as its cache need not grow; nor does any
// other call of small sizes whose scratch, record and cache are there.
#include <gtest/gtest.h>

#include <vector>

#include "attention/attention_cases.hpp"
#include "layer/step_allocations.hpp"
#include "support/count_allocations.hpp"

namespace hsm::test::allocation_test {
namespace {

template <class Scalar>
class AttentionAllocations : public testing::Test {};
TYPED_TEST_SUITE(AttentionAllocations, Scalars);

TYPED_TEST(AttentionAllocations, AStepOfOneStreamMakesNone) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    for (const Index C : {8, 512})  // 512: the weights are far beyond what Eigen copies to its stack
      expect_steps_without_allocations<TypeParam>(make_attention<TypeParam>(C, 4, form));
  }
}

TYPED_TEST(AttentionAllocations, OtherCallsMakeNoneInSmallSizes) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12, T = 40;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    Random random(61);
    const auto x = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), dx(C, T);
    Workspace workspace;
    const std::vector<Index> offsets = {0, 7, 7, 40}, streams = {2, 0, 1};
    auto state = attention.make_state({.streams = 3, .capacity = 100}), state_gradient = state;
    auto saved = attention.make_saved();
    auto gradients = attention.make_gradients();
    const auto calls = [&] {
      attention.forward(x, y, workspace);
      attention.packed(x, offsets, y, workspace);
      state.reset();
      state_gradient.reset();
      attention.extend(x, offsets, streams, state, y, workspace);
      attention.extend(x, offsets, streams, state, y, saved, workspace);
      attention.backward(x, saved, x, dx, gradients, workspace, &state_gradient);
    };
    calls();
    EXPECT_EQ(allocations_of(calls), 0);
  }
}

}  // namespace
}  // namespace hsm::test::allocation_test
