// SPDX-License-Identifier: MIT
//
// Attention over chosen blocks: its definition for blocks around the sizes of tiles and strips, dense attention where all
// blocks are chosen, which block is taken of equals, and tokens that are not seen, be they NaN.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"

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
  Matrix<TypeParam> y(C, T), pieces(C, T), dx(C, T), dx_pieces(C, T);
  Workspace workspace;
  auto saved = attention.make_saved(), saved_piece = saved;
  auto gradients = attention.make_gradients(), gradients_pieces = gradients;
  attention.forward(x, y, saved, workspace);
  attention.backward(x, saved, dy, dx, gradients, workspace);
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
  for (const Index block : {1, 4, 20}) {
    auto parameters = make_attention<TypeParam>(12, 2, {0, 0, block, 3}).parameters();
    parameters.project.weight *= TypeParam(30);
    const CausalAttention<TypeParam> attention(parameters);
    Random random(3);
    const auto x = random_matrix<TypeParam>(12, 150, random);
    Matrix<TypeParam> y(12, 150);
    attention.forward(x, y);
    expect_close_to_scale(to_double(y), reference_forward(attention, x), 3e4 * Tolerance<TypeParam>::epsilon,
                          "block " + std::to_string(block));
  }
}

// Everything there is of a layer, in all modes.
template <class Scalar>
std::vector<std::vector<Scalar>> run_all(const CausalAttention<Scalar>& attention, Index C, Index T) {
  Random random(93);
  const auto x = random_matrix<Scalar>(C, T, random), dy = random_matrix<Scalar>(C, T, random);
  Matrix<Scalar> y(C, T), dx(C, T);
  Workspace workspace;
  std::vector<std::vector<Scalar>> all;
  const auto keep = [&](const Matrix<Scalar>& m) { all.emplace_back(m.data(), m.data() + m.size()); };
  auto saved = attention.make_saved();
  auto gradients = attention.make_gradients();
  attention.forward(x, y, saved, workspace);
  attention.backward(x, saved, dy, dx, gradients, workspace);
  keep(y), keep(dx);
  auto state = attention.make_state(), state_gradient = state;
  const Index first = T / 3;
  attention.extend(x.leftCols(first), state, y.leftCols(first), workspace);
  attention.extend(x.rightCols(T - first), state, y.rightCols(T - first), saved, workspace);
  attention.backward(x.rightCols(T - first), saved, dy.rightCols(T - first), dx.rightCols(T - first),
                     gradients, workspace, &state_gradient);
  keep(y), keep(dx);
  all.push_back(cache_of(state_gradient, 0));
  state.rewind(0, T - first);
  for (Index t = first; t < T; ++t) attention.step(x.col(t), state, y.col(t), workspace);
  keep(y);
  all.push_back(cache_of(state, 0));
  const std::vector<Index> offsets = {0, T / 2, T / 2, T};
  attention.packed(x, offsets, y, workspace);
  keep(y);
  all.push_back(flat(gradients));
  return all;
}

TYPED_TEST(AttentionBlocks, AllOfThemAreDenseAttentionToTheBit) {
  for (const Index rotary : {0, 100}) {
    for (const Index T : {1, 2, 17, 64, 97, 230}) {
      const auto expected = run_all(make_attention<TypeParam>(12, 2, {rotary}), 12, T);
      for (const Index block : {Index{1}, Index{7}, Index{64}, T, T + 1, Index{1} << 20}) {
        const Index top = std::max<Index>(1, (T - 1) / block);  // as many as lie before the last token's own
        const auto got = run_all(make_attention<TypeParam>(12, 2, {rotary, 0, block, top}), 12, T);
        ASSERT_EQ(got.size(), expected.size());
        for (std::size_t i = 0; i < got.size(); ++i) {
          ASSERT_TRUE(expect_same_bits(
              got[i], expected[i],
              "T " + std::to_string(T) + " block " + std::to_string(block) + " result " + std::to_string(i)));
        }
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

// The derivative along one direction, where central differences of every value would take too long. No choice is near to
// another one, so a small step changes none.
TYPED_TEST(AttentionBlocks, GradientsOfLongSequencesAreRightAlongARandomDirection) {
  struct Size {
    Index block, top, T, seed;
  };
  for (const Size& size :
       {Size{1, 2, 65, 1}, Size{2, 1, 64, 1}, Size{5, 3, 129, 1}, Size{16, 2, 200, 1}, Size{17, 1, 193, 1},
        Size{64, 1, 260, 1}, Size{65, 2, 330, 1}, Size{100, 1, 330, 1}}) {
    const Index C = 12, H = 2, T = size.T;
    const auto attention =
        make_attention<TypeParam>(C, H, {size.block % 2 == 1 ? 100 : 0, 0, size.block, size.top});
    Random random(static_cast<std::uint64_t>(size.seed));
    const auto x = random_matrix<TypeParam>(C, T, random), dy = random_matrix<TypeParam>(C, T, random);
    const auto direction = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), dx(C, T);
    Workspace workspace;
    auto saved = attention.make_saved();
    auto gradients = attention.make_gradients();
    attention.forward(x, y, saved, workspace);
    attention.backward(x, saved, dy, dx, gradients, workspace);
    const auto turn = random_matrix<TypeParam>(3 * C, C, random);
    const AttentionReference reference(attention.parameters());
    const std::string label = "block " + std::to_string(size.block) + " T " + std::to_string(T);
    const auto moved = [&](double step, double weight_step) {
      auto values = to_double(x);
      const auto along = to_double(direction);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += step * along[i];
      AttentionReference other = reference;
      for (Index i = 0; i < 3 * C; ++i) {
        for (Index j = 0; j < C; ++j)
          other.W[static_cast<std::size_t>(i * C + j)] += weight_step * static_cast<double>(turn(i, j));
      }
      const double loss = other.loss(values, to_double(dy));
      EXPECT_GT(other.margin, 1e-4) << label << ": choices near to others";
      return loss;
    };
    const auto inner = [](const auto& a, const auto& b) {
      return a.template cast<double>().cwiseProduct(b.template cast<double>()).sum();
    };
    const auto scale = [](const auto& a, const auto& b) {
      return a.template cast<double>().norm() * b.template cast<double>().norm();
    };
    const double h = kDifferenceStep / 10;
    expect_close(inner(dx, direction), (moved(h, 0) - moved(-h, 0)) / (2 * h),
                 Tolerance<TypeParam>::difference * scale(dx, direction), 0, label);
    expect_close(inner(gradients.project.weight, turn), (moved(0, h) - moved(0, -h)) / (2 * h),
                 Tolerance<TypeParam>::difference * scale(gradients.project.weight, turn), 0,
                 label + " weights");
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
