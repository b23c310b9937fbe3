// SPDX-License-Identifier: MIT
//
// Documents one after another in one buffer: each is as if it were alone, forward and backward, and not even
// NaN crosses a boundary.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::packed_test {
namespace {

template <class Scalar>
class AttentionPacked : public testing::Test {};
TYPED_TEST_SUITE(AttentionPacked, Scalars);

TYPED_TEST(AttentionPacked, PackedDocumentsAreThoseOnTheirOwn) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    const std::vector<Index> offsets = {0, 0, 1, 6, 6, 71, 200, 201, 201};
    const Index N = offsets.back();
    Random random(12);
    const auto x = random_matrix<TypeParam>(C, N, random);
    const auto dy = random_matrix<TypeParam>(C, N, random);
    Matrix<TypeParam> y(C, N), dx(C, N);
    Workspace workspace;
    auto saved = attention.make_saved();
    auto gradients = attention.make_gradients(), sum = attention.make_gradients();
    attention.packed(x, offsets, y, saved, workspace);
    attention.backward(x, saved, dy, dx, gradients, workspace);
    Matrix<TypeParam> unsaved(C, N);
    attention.packed(x, offsets, unsaved, workspace);
    expect_same_bits(unsaved, y, "without saved");
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      const Index first = offsets[i], count = offsets[i + 1] - first;
      const Matrix<TypeParam> own = x.middleCols(first, count), own_dy = dy.middleCols(first, count);
      Matrix<TypeParam> own_y(C, count), own_dx(C, count);
      attention.forward(own, own_y, saved, workspace);
      attention.backward(own, saved, own_dy, own_dx, sum, workspace);
      const std::string label = "document " + std::to_string(i);
      expect_close_to_scale(Matrix<TypeParam>(y.middleCols(first, count)), own_y, Tolerance<TypeParam>::mode,
                            label);
      expect_close_to_scale(Matrix<TypeParam>(dx.middleCols(first, count)), own_dx,
                            Tolerance<TypeParam>::gradient, label + " dx");
    }
    expect_close_to_scale(flat(gradients), flat(sum), Tolerance<TypeParam>::gradient, "gradients");
  }
}

TYPED_TEST(AttentionPacked, PackedDocumentsDoNotLeakEvenNaN) {
  const Index C = 12;
  const auto attention = make_attention<TypeParam>(C, 2);
  const std::vector<Index> offsets = {0, 37, 50, 120};
  Random random(13);
  auto x = random_matrix<TypeParam>(C, 120, random);
  Matrix<TypeParam> y(C, 120), poisoned(C, 120);
  Workspace workspace;
  attention.packed(x, offsets, y, workspace);
  x.middleCols(37, 13).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
  attention.packed(x, offsets, poisoned, workspace);
  expect_same_bits(Matrix<TypeParam>(poisoned.leftCols(37)), Matrix<TypeParam>(y.leftCols(37)), "before");
  expect_same_bits(Matrix<TypeParam>(poisoned.rightCols(70)), Matrix<TypeParam>(y.rightCols(70)), "behind");
}

}  // namespace
}  // namespace hsm::test::packed_test
