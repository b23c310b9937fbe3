// SPDX-License-Identifier: MIT
//
// Attention with a window: its definition for windows and lengths around the sizes of tiles and strips, dense attention
// where the window holds everything, and tokens outside of it, which are not seen, be they NaN.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::window_test {
namespace {

template <class Scalar>
class AttentionWindow : public testing::Test {};
TYPED_TEST_SUITE(AttentionWindow, Scalars);

constexpr Index kWindows[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 95, 96, 97, 161, 300};

TYPED_TEST(AttentionWindow, ForwardIsTheDefinition) {
  for (const Form& form : {Form{0, 0}, Form{100, 0}}) {
    const Index C = 12, H = 2;
    Random random(81);
    for (const Index window : kWindows) {
      const auto attention = make_attention<TypeParam>(C, H, {form.rotary, window});
      for (const Index T : {1, 2, 3, 4, 7, 17, 64, 65, 96, 97, 193, 260}) {
        const auto x = random_matrix<TypeParam>(C, T, random);
        Matrix<TypeParam> y(C, T);
        attention.forward(x, y);
        ASSERT_TRUE(expect_close_to_scale(to_double(y), reference_forward(attention, x),
                                          Tolerance<TypeParam>::forward,
                                          "window " + std::to_string(window) + " T " + std::to_string(T)));
      }
    }
  }
}

TYPED_TEST(AttentionWindow, OfOneTokenIsItsOwnValue) {
  const Index C = 8, T = 30;
  const auto attention = make_attention<TypeParam>(C, 2, {0, 1});
  const Attention<TypeParam>& p = attention.parameters();
  Random random(82);
  const auto x = random_matrix<TypeParam>(C, T, random);
  Matrix<TypeParam> y(C, T);
  attention.forward(x, y);
  const Matrix<TypeParam> values = (p.project.weight.bottomRows(C) * x).colwise() + p.project.bias.tail(C);
  const Matrix<TypeParam> expected = (p.output.weight * values).colwise() + p.output.bias;
  expect_close_to_scale(y, expected, Tolerance<TypeParam>::forward, "y");
}

TYPED_TEST(AttentionWindow, LargeScoresStayFinite) {
  for (const Index window : {1, 4, 20, 70}) {
    auto parameters = make_attention<TypeParam>(12, 2, {0, window}).parameters();
    parameters.project.weight *= TypeParam(30);
    const CausalAttention<TypeParam> attention(parameters);
    Random random(3);
    const auto x = random_matrix<TypeParam>(12, 150, random);
    Matrix<TypeParam> y(12, 150);
    attention.forward(x, y);
    expect_close_to_scale(to_double(y), reference_forward(attention, x), 3e4 * Tolerance<TypeParam>::epsilon,
                          "window " + std::to_string(window));
  }
}

// Everything there is of a layer, in all modes, on tokens that no window leaves out.
template <class Scalar>
std::vector<std::vector<Scalar>> run_all(const CausalAttention<Scalar>& attention, Index C, Index T) {
  Random random(83);
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
  auto state = attention.make_state({.streams = 1, .spare = T}), state_gradient = attention.make_state();
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

TYPED_TEST(AttentionWindow, ThatHoldsEveryTokenIsDenseAttentionToTheBit) {
  for (const Index rotary : {0, 100}) {
    for (const Index T : {1, 2, 17, 64, 97, 230}) {
      const auto expected = run_all(make_attention<TypeParam>(12, 2, {rotary, 0}), 12, T);
      for (const Index window : {T, T + 1, T + 64, Index{1} << 20}) {
        const auto got = run_all(make_attention<TypeParam>(12, 2, {rotary, window}), 12, T);
        ASSERT_EQ(got.size(), expected.size());
        for (std::size_t i = 0; i < got.size(); ++i) {
          ASSERT_TRUE(expect_same_bits(got[i], expected[i],
                                       "T " + std::to_string(T) + " window " + std::to_string(window) +
                                           " result " + std::to_string(i)));
        }
      }
    }
  }
}

// What is in front of the window, and what comes later, may be NaN.
TYPED_TEST(AttentionWindow, TokensOutsideOfItChangeNoBit) {
  const Index C = 12, T = 140;
  Random random(84);
  const auto x = random_matrix<TypeParam>(C, T, random);
  for (const Index window : {1, 2, 5, 16, 30, 64, 100}) {
    const auto attention = make_attention<TypeParam>(C, 2, {0, window});
    Matrix<TypeParam> y(C, T), poisoned(C, T), stepped(C, T), extended(C, T);
    Workspace workspace;
    attention.forward(x, y);
    for (Index t = 0; t < T; t += 3) {
      const Index last = std::min(T, t + window) - 1;  // that sees token t
      Matrix<TypeParam> bad = x;
      bad.col(t).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
      attention.forward(bad, poisoned);
      const std::string label = "window " + std::to_string(window) + " token " + std::to_string(t);
      const auto check = [&](const Matrix<TypeParam>& got, const Matrix<TypeParam>& clean) {
        return expect_same_bits(Matrix<TypeParam>(got.leftCols(t)), Matrix<TypeParam>(clean.leftCols(t)),
                                label + ": before") &&
               expect_same_bits(Matrix<TypeParam>(got.rightCols(T - 1 - last)),
                                Matrix<TypeParam>(clean.rightCols(T - 1 - last)), label + ": behind") &&
               got.middleCols(t, last + 1 - t).array().isNaN().all();
      };
      ASSERT_TRUE(check(poisoned, y)) << label;
    }
    // From a state that has seen NaN.
    Matrix<TypeParam> bad = x;
    bad.leftCols(T - window).setConstant(std::numeric_limits<TypeParam>::quiet_NaN());
    auto clean = attention.make_state(), dirty = clean;
    attention.extend(x.leftCols(T - 1), clean, extended.leftCols(T - 1), workspace);
    attention.step(x.col(T - 1), clean, extended.col(T - 1), workspace);
    attention.extend(bad.leftCols(T - 1), dirty, poisoned.leftCols(T - 1), workspace);
    attention.step(x.col(T - 1), dirty, poisoned.col(T - 1), workspace);
    expect_same_bits(Matrix<TypeParam>(poisoned.rightCols(1)), Matrix<TypeParam>(extended.rightCols(1)),
                     "step behind NaN, window " + std::to_string(window));
    EXPECT_TRUE(poisoned.col(T - 2).array().isNaN().all());
  }
}

// The derivative along one direction, where central differences of every value would take too long.
TYPED_TEST(AttentionWindow, GradientsOfLongSequencesAreRightAlongARandomDirection) {
  for (const Index window : {1, 2, 5, 16, 63, 64, 65, 100}) {
    for (const Index T : {63, 65, 129, 200}) {
      const Index C = 12, H = 2;
      const auto attention = make_attention<TypeParam>(C, H, {window % 2 == 1 ? 100 : 0, window});
      Random random(85);
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
      const auto moved = [&](double step, double weight_step) {
        auto values = to_double(x);
        const auto along = to_double(direction);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] += step * along[i];
        AttentionReference other = reference;
        for (Index i = 0; i < 3 * C; ++i) {
          for (Index j = 0; j < C; ++j)
            other.W[static_cast<std::size_t>(i * C + j)] += weight_step * static_cast<double>(turn(i, j));
        }
        return other.loss(values, to_double(dy));
      };
      const auto inner = [](const auto& a, const auto& b) {
        return a.template cast<double>().cwiseProduct(b.template cast<double>()).sum();
      };
      const auto scale = [](const auto& a, const auto& b) {
        return a.template cast<double>().norm() * b.template cast<double>().norm();
      };
      const double h = kDifferenceStep;
      const std::string label = "window " + std::to_string(window) + " T " + std::to_string(T);
      expect_close(inner(dx, direction), (moved(h, 0) - moved(-h, 0)) / (2 * h),
                   Tolerance<TypeParam>::difference * scale(dx, direction), 0, label);
      expect_close(inner(gradients.project.weight, turn), (moved(0, h) - moved(0, -h)) / (2 * h),
                   Tolerance<TypeParam>::difference * scale(gradients.project.weight, turn), 0,
                   label + " weights");
    }
  }
}

}  // namespace
}  // namespace hsm::test::window_test
