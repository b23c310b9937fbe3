// SPDX-License-Identifier: MIT
//
// Attention over whole sequences against its definition in plain loops: sizes and strides, large scores, long
// sequences, and causality to the bit.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "attention/attention_runs.hpp"

namespace hsm::test::forward_test {
namespace {

template <class Scalar>
class AttentionForward : public testing::Test {};
TYPED_TEST_SUITE(AttentionForward, Scalars);

constexpr Index kLengths[] = {0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 96, 97, 127, 129, 200};

TYPED_TEST(AttentionForward, ForwardIsTheDefinition) {
  struct Size {
    Index C, H;
    Form form;
  };
  for (const Size size :
       {Size{15, 1, {}}, Size{10, 2, {}}, Size{64, 4, {}}, Size{7, 7, {}}, Size{34, 1, {}},
        Size{64, 4, {10000}}, Size{34, 1, {100}}, Size{6, 3, {2}}, Size{20, 5, {1 << 20}}}) {
    const auto attention = make_attention<TypeParam>(size.C, size.H, size.form);
    Random random(17);
    for (const Index T : kLengths) {
      const auto x = random_matrix<TypeParam>(size.C, T, random);
      Matrix<TypeParam> y(size.C, T);
      attention.forward(x, y);
      expect_close_to_scale(to_double(y), reference_forward(attention, x), Tolerance<TypeParam>::forward,
                            "C " + std::to_string(size.C) + " H " + std::to_string(size.H) + " rotary " +
                                std::to_string(size.form.rotary) + " T " + std::to_string(T));
    }
  }
}

TYPED_TEST(AttentionForward, LargeScoresStayFinite) { expect_large_scores_stay_finite<TypeParam>({}); }

TYPED_TEST(AttentionForward, EverySequenceOfABatchIsOnItsOwnWhateverTheStrides) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12, T = 70, B = 3;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    Random random(9);
    // Sequences of T tokens in a buffer with room for T + 5, tokens C + 3 apart.
    const Index step = C + 3, batch_step = (T + 5) * step;
    auto x_memory = random_matrix<TypeParam>(batch_step, B, random);
    Matrix<TypeParam> y_memory = Matrix<TypeParam>::Constant(batch_step, B, TypeParam(-7));
    const Tokens<const TypeParam> x(x_memory.data(), B, T, C, step, batch_step);
    Workspace workspace;
    attention.forward(x, Tokens<TypeParam>(y_memory.data(), B, T, C, step, batch_step), workspace);
    for (Index b = 0; b < B; ++b) {
      const Matrix<TypeParam> own = x.sequence(b).columns(0, T);
      const Tokens<const TypeParam> y(y_memory.data() + b * batch_step, 1, T, C, step, batch_step);
      expect_close_to_scale(to_double(y.columns(0, T)), reference_forward(attention, own),
                            Tolerance<TypeParam>::forward, "sequence");
    }
    for (Index b = 0; b < B; ++b) {
      for (Index i = 0; i < batch_step; ++i) {
        if (i % step < C && i / step < T) continue;
        ASSERT_EQ(y_memory(i, b), TypeParam(-7)) << "written between tokens";
      }
    }
  }
}

TYPED_TEST(AttentionForward, LaterTokensChangeNoBitOfEarlierOutputs) {
  const Index C = 24, T = 140;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(8);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T), poisoned(C, T);
  attention.forward(x, y);
  for (Index t = 0; t < T; ++t) {
    Matrix<TypeParam> bad = x;
    bad.rightCols(T - t - 1).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
    attention.forward(bad, poisoned);
    ASSERT_TRUE(expect_same_bits(Matrix<TypeParam>(poisoned.leftCols(t + 1)),
                                 Matrix<TypeParam>(y.leftCols(t + 1)), "outputs up to " + std::to_string(t)));
    if (HSM_FAST_MATH) continue;  // nothing is promised of NaN there
    ASSERT_TRUE(poisoned.rightCols(T - t - 1).array().isNaN().all()) << "NaN is lost after " << t;
  }
}

// Longer than a stretch of the projection (4096) and two passes of extend (2048).
TYPED_TEST(AttentionForward, LongSequencesAreWorkedThroughInPieces) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 2, T = 4200;
    const auto attention = make_attention<TypeParam>(C, 1, form);
    Random random(23);
    const auto x = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), extended(C, T);
    Workspace workspace;
    attention.forward(x, y, workspace);
    expect_close_to_scale(to_double(y), reference_forward(attention, x), Tolerance<TypeParam>::forward,
                          "forward");
    auto state = attention.make_state();
    attention.extend(x, state, extended, workspace);
    EXPECT_EQ(state.count(0), T);
    expect_close_to_scale(extended, y, Tolerance<TypeParam>::mode, "extend");
  }
}

}  // namespace
}  // namespace hsm::test::forward_test
