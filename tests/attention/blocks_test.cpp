// SPDX-License-Identifier: MIT
//
// Attention over chosen blocks: its definition for blocks around the sizes of tiles and strips, dense attention where all
// blocks are chosen, which block is taken of equals, and tokens that are not seen, be they NaN.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "attention/attention_runs.hpp"

namespace hsm::test::blocks_test {
namespace {

template <class Scalar>
class AttentionBlocks : public testing::Test {};
TYPED_TEST_SUITE(AttentionBlocks, Scalars);

TYPED_TEST(AttentionBlocks, ForwardIsTheDefinition) {
  for (const Index rotary : {0, 100}) {
    const Index C = 12, H = 2;
    Random random(91);
    for (const Index block : {1, 3, 7, 16, 33, 64, 97}) {
      for (const Index top : {1, 2, 9}) {
        const auto attention = make_attention<TypeParam>(C, H, {rotary, 0, block, top});
        for (const Index T : {1, 2, 17, 64, 97, 193, 260}) {
          const auto x = random_matrix<TypeParam>(C, T, random);
          Matrix<TypeParam> y(C, T);
          attention.forward(x, y);
          ASSERT_TRUE(expect_close_to_scale(
              to_double(y), reference_forward(attention, x), Tolerance<TypeParam>::forward,
              "block " + std::to_string(block) + " top " + std::to_string(top) + " T " + std::to_string(T)));
        }
      }
    }
  }
}

// More queries than are gathered from at once; in pieces they never are so many.
TYPED_TEST(AttentionBlocks, ForwardOfALongSequenceIsThatOfItsPieces) {
  const Index C = 4, T = 8500;
  const auto attention = make_attention<TypeParam>(C, 1, {0, 0, 64, 2});
  Random random(92);
  const auto x = random_matrix<TypeParam>(C, T, random), dy = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> pieces(C, T), dx_pieces(C, T);
  Workspace workspace;
  auto [y, dx, gradients, saved] = ForthAndBack<TypeParam>(attention, x, dy);
  auto saved_piece = attention.make_saved();
  auto gradients_pieces = attention.make_gradients();
  auto state = attention.make_state(), state_gradient = state;
  const Index first = 5000;
  attention.extend(x.leftCols(first), state, pieces.leftCols(first), saved, workspace);
  attention.extend(x.rightCols(T - first), state, pieces.rightCols(T - first), saved_piece, workspace);
  expect_close_to_scale(pieces, y, Tolerance<TypeParam>::mode, "y");
  attention.backward(x.rightCols(T - first), saved_piece, dy.rightCols(T - first),
                     dx_pieces.rightCols(T - first), gradients_pieces, workspace, &state_gradient);
  attention.backward(x.leftCols(first), saved, dy.leftCols(first), dx_pieces.leftCols(first),
                     gradients_pieces, workspace, &state_gradient);
  expect_close_to_scale(dx_pieces, dx, Tolerance<TypeParam>::gradient, "dx");
  expect_close_to_scale(flat(gradients_pieces), flat(gradients), Tolerance<TypeParam>::gradient, "gradients");
}

TYPED_TEST(AttentionBlocks, LargeScoresStayFinite) {
  for (const Index block : {1, 4, 20}) expect_large_scores_stay_finite<TypeParam>({0, 0, block, 3});
}

TYPED_TEST(AttentionBlocks, AllOfThemAreDenseAttentionToTheBit) {
  for (const Index rotary : {0, 100}) {
    for (const Index T : {1, 2, 17, 64, 97, 230}) {
      const auto expected = run_all(make_attention<TypeParam>(12, 2, {rotary}), T);
      for (const Index block : {Index{1}, Index{7}, Index{64}, T, T + 1, Index{1} << 20}) {
        const Index top = std::max<Index>(1, (T - 1) / block);  // as many as lie before the last token's own
        expect_same_runs(run_all(make_attention<TypeParam>(12, 2, {rotary, 0, block, top}), T), expected,
                         "T " + std::to_string(T) + " block " + std::to_string(block));
        if (this->HasFatalFailure()) return;
      }
    }
  }
}

// All keys are the same, and so are the sums of all blocks; the values tell which blocks were taken.
TYPED_TEST(AttentionBlocks, OfEqualOnesTheEarlierAreChosen) {
  const Index C = 8, T = 100, block = 5, top = 3;
  auto parameters = make_attention<TypeParam>(C, 2, {0, 0, block, top}).parameters();
  parameters.project.weight.middleRows(C, C).setZero();
  const CausalAttention<TypeParam> attention(parameters);
  Random random(94);
  const auto x = random_matrix<TypeParam>(C, T, random);
  const Matrix<TypeParam> values =
      (parameters.project.weight.bottomRows(C) * x).colwise() + parameters.project.bias.tail(C);
  Matrix<TypeParam> mean(C, T), y(C, T), stepped(C, T);
  for (Index t = 0; t < T; ++t) {
    const Index own = t / block * block, earlier = std::min(own, top * block);
    mean.col(t) =
        (values.leftCols(earlier).rowwise().sum() + values.middleCols(own, t + 1 - own).rowwise().sum()) /
        TypeParam(earlier + t + 1 - own);
  }
  const Matrix<TypeParam> expected = (parameters.output.weight * mean).colwise() + parameters.output.bias;
  attention.forward(x, y);
  expect_close_to_scale(y, expected, Tolerance<TypeParam>::forward, "forward");
  Workspace workspace;
  auto state = attention.make_state();
  for (Index t = 0; t < T; ++t) attention.step(x.col(t), state, stepped.col(t), workspace);
  expect_close_to_scale(stepped, expected, Tolerance<TypeParam>::forward, "step");
}

// What comes later may be NaN. A block with a NaN is chosen after all others, and is not read unless it is chosen.
TYPED_TEST(AttentionBlocks, TokensThatAreNotSeenChangeNoBit) {
  const Index C = 12, T = 140;
  Random random(95);
  const auto x = random_matrix<TypeParam>(C, T, random);
  for (const Index block : {1, 5, 16, 30}) {
    const Index top = 2;
    const auto attention = make_attention<TypeParam>(C, 2, {0, 0, block, top});
    Matrix<TypeParam> y(C, T), poisoned(C, T), stepped(C, T);
    Workspace workspace;
    attention.forward(x, y);
    for (Index t = 0; t < T; t += 7) {
      Matrix<TypeParam> bad = x;
      bad.col(t).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
      attention.forward(bad, poisoned);
      const std::string label = "block " + std::to_string(block) + " token " + std::to_string(t);
      ASSERT_TRUE(
          expect_same_bits(Matrix<TypeParam>(poisoned.leftCols(t)), Matrix<TypeParam>(y.leftCols(t)), label));
      ASSERT_TRUE(poisoned.col(t).array().isNaN().all()) << label;
      const Index own_end = std::min(T, (t / block + 1) * block);  // and those before it are all chosen
      const Index free = std::min(T, std::max(own_end, (top + 1) * block));
      ASSERT_TRUE(poisoned.middleCols(t, own_end - t).array().isNaN().all()) << label;
      ASSERT_TRUE(poisoned.middleCols(own_end, free - own_end).array().isNaN().all()) << label;
      const auto expected = reference_forward(attention, bad);
      const auto count = static_cast<std::ptrdiff_t>((T - free) * C);
      ASSERT_TRUE(expect_close_to_scale(to_double(Matrix<TypeParam>(poisoned.rightCols(T - free))),
                                        std::vector<double>(expected.end() - count, expected.end()),
                                        Tolerance<TypeParam>::forward, label));
      auto state = attention.make_state();
      for (Index i = 0; i < T; ++i) attention.step(bad.col(i), state, stepped.col(i), workspace);
      ASSERT_TRUE(expect_close_to_scale(Matrix<TypeParam>(stepped.rightCols(T - free)),
                                        Matrix<TypeParam>(poisoned.rightCols(T - free)),
                                        Tolerance<TypeParam>::mode, label + " step"));
    }
  }
}

TYPED_TEST(AttentionBlocks, GradientsOfLongSequencesAreRightAlongARandomDirection) {
  struct Size {
    Index block, top, T;
  };
  for (const auto& [block, top, T] :
       {Size{1, 2, 65}, Size{2, 1, 64}, Size{5, 3, 129}, Size{16, 2, 200}, Size{17, 1, 193}, Size{64, 1, 260},
        Size{65, 2, 330}, Size{100, 1, 330}}) {
    const auto attention = make_attention<TypeParam>(12, 2, {block % 2 == 1 ? 100 : 0, 0, block, top});
    expect_gradients_along_a_direction(attention, T, 1, kDifferenceStep / 10,
                                       "block " + std::to_string(block) + " T " + std::to_string(T));
  }
}

// A packed document is as it would be alone: its blocks begin with it.
TYPED_TEST(AttentionBlocks, OfPackedDocumentsBeginWithEachOfThem) {
  const Index C = 12;
  const std::vector<Index> offsets = {0, 3, 3, 50, 51, 140, 200};
  for (const Form& form : {Form{0, 0, 4, 1}, Form{100, 0, 16, 2}}) {
    const auto attention = make_attention<TypeParam>(C, 2, form);
    Random random(96);
    const auto x = random_matrix<TypeParam>(C, offsets.back(), random);
    Matrix<TypeParam> y(C, offsets.back());
    Workspace workspace;
    attention.packed(x, offsets, y, workspace);
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      const Index count = offsets[i + 1] - offsets[i];
      const Matrix<TypeParam> own = x.middleCols(offsets[i], count);
      expect_close_to_scale(to_double(Matrix<TypeParam>(y.middleCols(offsets[i], count))),
                            reference_forward(attention, own), Tolerance<TypeParam>::forward,
                            "document " + std::to_string(i));
    }
  }
}

}  // namespace
}  // namespace hsm::test::blocks_test
