// SPDX-License-Identifier: MIT
//
// Attention with a window: its definition for windows and lengths around the sizes of tiles and strips, dense attention
// where the window holds everything, and tokens outside of it, which are not seen, be they NaN.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "attention/attention_runs.hpp"

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

// Key by key, for tiles before, around and behind the window of a strip.
TYPED_TEST(AttentionWindow, TilesKnowWhichOfTheirKeysAreSeen) {
  constexpr Index kStrip = hsm::detail::kLanes<TypeParam>;
  for (const Index window : {Index{1}, Index{3}, kStrip, 2 * kStrip + 1}) {
    for (const Index keys : {1, 5, 48}) {
      for (Index key = 0; key < 120; key += 7) {
        const Index query = 60;
        const auto seen = hsm::detail::seen_keys<TypeParam>(key, keys, query, window);
        for (Index k = key; k < key + keys; ++k) {
          const bool some = k < query + kStrip && k > query - window,
                     every = k <= query && k >= query + kStrip - window;
          EXPECT_EQ(k >= seen.first && k < seen.end, some) << window << " " << keys << " " << k;
          EXPECT_EQ(k >= seen.all_first && k < seen.all_end, every) << window << " " << keys << " " << k;
        }
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
  for (const Index window : {1, 4, 20, 70}) expect_large_scores_stay_finite<TypeParam>({0, window});
}

TYPED_TEST(AttentionWindow, ThatHoldsEveryTokenIsDenseAttentionToTheBit) {
  for (const Index rotary : {0, 100}) {
    for (const Index T : {1, 2, 17, 64, 97, 230}) {
      const auto expected = run_all(make_attention<TypeParam>(12, 2, {rotary, 0}), T);
      for (const Index window : {T, T + 1, T + 64, Index{1} << 20}) {
        expect_same_runs(run_all(make_attention<TypeParam>(12, 2, {rotary, window}), T), expected,
                         "T " + std::to_string(T) + " window " + std::to_string(window));
        if (this->HasFatalFailure()) return;
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

TYPED_TEST(AttentionWindow, GradientsOfLongSequencesAreRightAlongARandomDirection) {
  for (const Index window : {1, 2, 5, 16, 63, 64, 65, 100}) {
    for (const Index T : {63, 65, 129, 200}) {
      const auto attention = make_attention<TypeParam>(12, 2, {window % 2 == 1 ? 100 : 0, window});
      expect_gradients_along_a_direction(attention, T, 85, kDifferenceStep,
                                         "window " + std::to_string(window) + " T " + std::to_string(T));
    }
  }
}

}  // namespace
}  // namespace hsm::test::window_test
