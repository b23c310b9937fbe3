// SPDX-License-Identifier: MIT
//
// A step of one stream allocates nothing once it has run, as long as its cache need not grow; nor does any
// other call of small sizes whose scratch, record and cache are there.
#include <gtest/gtest.h>

#include <vector>

#include "attention/attention_cases.hpp"
#include "support/count_allocations.hpp"

namespace hsm::test::allocation_test {
namespace {

template <class Scalar>
class AttentionAllocations : public testing::Test {};
TYPED_TEST_SUITE(AttentionAllocations, Scalars);

TYPED_TEST(AttentionAllocations, AStepOfOneStreamMakesNone) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    for (const Index C : {8, 512}) {  // 512: the weights are far beyond what Eigen copies to its stack
      const auto attention = make_attention<TypeParam>(C, 4, form);
      Workspace workspace;
      auto alone = attention.make_state({.capacity = 100, .spare = 7});
      auto state = attention.make_state({.streams = 3, .capacity = 100});
      const Vector<TypeParam> x = Vector<TypeParam>::Ones(C);
      Vector<TypeParam> y(C);
      const std::vector<Index> chosen = {2};
      const auto steps = [&] {
        for (int t = 0; t < 20; ++t) {
          attention.step(x, alone, y, workspace);
          attention.step(x, chosen, state, y, workspace);
        }
        alone.rewind(0, 7);
        state.copy_stream(2, 0);
      };
      steps();
      steps();  // a copy with a window had no room for as many
      EXPECT_EQ(allocations_of(steps), 0) << "C = " << C;
      EXPECT_EQ(state.count(0), 60);
    }
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
