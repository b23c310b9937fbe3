// SPDX-License-Identifier: MIT
//
// The adjoint of attention over a hierarchy against central differences of its definition, and through states.
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "hierarchical_attention/hierarchical_attention_cases.hpp"

namespace hsm::test::hierarchical_attention_gradients_test {
namespace {

template <class Scalar>
class HierarchicalAttentionGradients : public ::testing::Test {};
TYPED_TEST_SUITE(HierarchicalAttentionGradients, Scalars);

template <class Tensor>
Values plain(const Tensor& tensor) {
  Values values;
  for (Index i = 0; i < tensor.size(); ++i) values.push_back(static_cast<double>(tensor.data()[i]));
  return values;
}

TYPED_TEST(HierarchicalAttentionGradients, AreThoseOfCentralDifferences) {
  struct Size {
    Index C, H, T, L;
  };
  for (const auto& [C, H, T, L] :
       {Size{1, 1, 5, 2}, Size{4, 2, 70, 3}, Size{6, 1, 18, 4}, Size{2, 1, 1, 3}, Size{2, 2, 67, 6}}) {
    const auto mixer = make_hierarchy<TypeParam>(C, H, L);
    const std::string label = " at C " + std::to_string(C) + ", T " + std::to_string(T);
    Random random(3);
    const auto x = random_matrix<TypeParam>(C, T, random), dy = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), dx = Matrix<TypeParam>::Constant(C, T, std::nanf(""));
    Workspace workspace;
    workspace.poison = true;
    auto saved = mixer.make_saved();
    auto gradients = mixer.make_gradients();
    mixer.forward(x, y, saved, workspace);
    mixer.backward(x, saved, dy, dx, gradients, workspace);
    HierarchicalAttentionReference reference(mixer.parameters());
    Values values = wide(x);
    const Values weights = wide(dy);
    // The gradients of level 5 are small beside the terms of the loss, whose rounding the differences hold.
    const double tolerance = (L == 6 ? 10 : 1) * Tolerance<TypeParam>::difference;
    const auto expect_slope = [&](const Values& got, Values& of, const std::string& what) {
      const Values slope =
          central_differences(of, kDifferenceStep, [&] { return reference.loss(values, weights); });
      expect_close_to_scale(got, slope, tolerance, what + label);
    };
    expect_slope(wide(dx), values, "dx");
    expect_slope(plain(gradients.project.weight), reference.W, "W");
    expect_slope(plain(gradients.project.bias), reference.bias, "bias");
    expect_slope(plain(gradients.output.weight), reference.Wo, "Wo");
    expect_slope(plain(gradients.output.bias), reference.bo, "bo");
    if (T > 1) expect_slope(plain(gradients.lambda), reference.lambda, "lambda");
    for (std::size_t l = 0; l + 1 < static_cast<std::size_t>(L); ++l) {
      const auto& got = gradients.levels[l];
      auto& level = reference.levels[l];
      if (T >> (l + 1) == 0) {
        EXPECT_TRUE((got.project.weight.array() == 0).all() && (got.a.array() == 0).all()) << "no block";
        continue;
      }
      const std::string of = " of level " + std::to_string(l + 1);
      expect_slope(plain(got.a), level.a, "a" + of);
      expect_slope(plain(got.b), level.b, "b" + of);
      expect_slope(plain(got.project.weight), level.W, "W" + of);
      expect_slope(plain(got.project.bias), level.bias, "bias" + of);
    }
    auto twice = gradients;
    mixer.backward(x, saved, dy, dx, twice, workspace);
    expect_close_to_scale(plain(twice.lambda), plain((2 * gradients.lambda).eval()),
                          10 * Tolerance<TypeParam>::mode, "is added to");
  }
}

TYPED_TEST(HierarchicalAttentionGradients, OfChunksWithTheGradientOfTheStateAreTheWhole) {
  const Index C = 6, T = 140, B = 2;
  for (const Index L : {1, 3, 6}) {
    const auto mixer = make_hierarchy<TypeParam>(C, 2, L);
    Random random(4);
    const auto x = random_matrix<TypeParam>(C, B * T, random),
               dy = random_matrix<TypeParam>(C, B * T, random);
    Matrix<TypeParam> y(C, B * T), dx(C, B * T), chunked(C, B * T);
    const Tokens<const TypeParam> in(x.data(), B, T, C), given(dy.data(), B, T, C);
    const Tokens<TypeParam> out(y.data(), B, T, C), d(dx.data(), B, T, C), d_chunked(chunked.data(), B, T, C);
    Workspace workspace;
    workspace.poison = true;
    auto whole = mixer.make_saved();
    auto gradients = mixer.make_gradients(), sums = gradients;
    mixer.forward(in, out, whole, workspace);
    mixer.backward(in, whole, given, d, gradients, workspace);
    for (const Index spare : {0, 5}) {
      set_zero(sums);
      const std::vector<Index> cuts{0, 1, 3, 66, 66, 67, 80, T};
      std::vector<HierarchicalAttentionSaved<TypeParam>> saved(cuts.size() - 1);
      auto state = mixer.make_state({.streams = B, .spare = spare});
      for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
        mixer.extend(in.slice(cuts[i], cuts[i + 1] - cuts[i]), state,
                     out.slice(cuts[i], cuts[i + 1] - cuts[i]), saved[i], workspace);
      auto d_state = mixer.make_state({.streams = B, .spare = spare});
      for (std::size_t i = saved.size(); i-- > 0;) {
        const Index first = cuts[i], n = cuts[i + 1] - first;
        mixer.backward(in.slice(first, n), saved[i], given.slice(first, n), d_chunked.slice(first, n), sums,
                       workspace, &d_state);
      }
      expect_close_to_scale(wide(chunked), wide(dx), Tolerance<TypeParam>::gradient, "dx");
      EXPECT_TRUE(d_state == mixer.make_state({.streams = B, .spare = spare}))
          << "nothing is before the start";
      HierarchicalAttention<TypeParam>::visit(
          [&](std::string_view name, const auto& got, const auto& expected) {
            expect_close_to_scale(got, expected, Tolerance<TypeParam>::gradient, name);
          },
          sums, gradients);
    }
  }
}

/// All values that a state of one stream holds.
std::vector<std::span<double>> values_of(HierarchicalAttentionState<double>& state) {
  std::vector<std::span<double>> all;
  HierarchicalAttentionState<double>::visit(
      [&](Index, Index, Index, std::span<double> values) { all.push_back(values); }, state);
  RingState<double>::visit(
      [&]<class S>(std::string_view, S span, const std::vector<Index>&) {
        if constexpr (std::is_same_v<S, std::span<double>>) all.push_back(span);
      },
      state.tails());
  return all;
}

TEST(HierarchicalAttentionStateGradient, IsThatOfEveryValueOfTheState) {
  const Index C = 4;
  for (const Index L : {2, 4}) {
    for (const Index before : {1, 6, 7, 8}) {
      for (const Index after : {1, 2, 70}) {
        const auto mixer = make_hierarchy<double>(C, 2, L);
        Random random(12);
        const auto x = random_matrix<double>(C, before + after, random),
                   dy = random_matrix<double>(C, after, random);
        Matrix<double> y(C, after), dx(C, after);
        Workspace workspace;
        auto state = mixer.make_state();
        mixer.fill(x.leftCols(before), state, workspace);
        auto moved = state;
        auto saved = mixer.make_saved();
        mixer.extend(x.rightCols(after), moved, y, saved, workspace);
        auto gradients = mixer.make_gradients();
        auto d_state = moved;  // the gradient of what the call leaves: of every value another one
        const auto slopes = values_of(d_state);
        for (const auto& span : slopes)
          for (double& value : span) value = random.normal();
        const auto given = d_state;
        mixer.backward(x.rightCols(after), saved, dy, dx, gradients, workspace, &d_state);
        EXPECT_EQ(d_state.count(0), before);
        const auto loss = [&] {
          auto own = state, weights = given;
          mixer.extend(x.rightCols(after), own, y, workspace);
          double sum = (y.array() * dy.array()).sum();
          const auto left = values_of(own), slope = values_of(weights);
          for (std::size_t i = 0; i < left.size(); ++i)
            for (std::size_t j = 0; j < left[i].size(); ++j) sum += left[i][j] * slope[i][j];
          return sum;
        };
        const auto got = values_of(d_state), at = values_of(state);
        for (std::size_t i = 0; i < at.size(); ++i) {
          for (std::size_t j = 0; j < at[i].size(); ++j) {
            const double value = at[i][j];
            at[i][j] = value + kDifferenceStep;
            const double above = loss();
            at[i][j] = value - kDifferenceStep;
            const double below = loss();
            at[i][j] = value;
            const double slope = (above - below) / (2 * kDifferenceStep);
            // A query that there is not yet, and a block that does not wait, have no effect.
            EXPECT_NEAR(got[i][j], slope, 100 * Tolerance<double>::difference)
                << "L " << L << ", after " << before << " and " << after << ": part " << i << ", value " << j;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace hsm::test::hierarchical_attention_gradients_test
