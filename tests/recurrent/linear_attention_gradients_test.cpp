// SPDX-License-Identifier: MIT
//
// The adjoint of linear attention against central differences of its quadratic form, and through states; and what it
// does where features round to 0.
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <hsm/recurrent/causal_linear_attention.hpp>

#include "recurrent/linear_attention_cases.hpp"

namespace hsm::test::linear_attention_gradients_test {
namespace {

template <class Scalar>
class LinearAttentionGradients : public ::testing::Test {};
TYPED_TEST_SUITE(LinearAttentionGradients, Scalars);

template <class Tensor>
Values plain(const Tensor& tensor) {
  Values values;
  for (Index i = 0; i < tensor.size(); ++i) values.push_back(static_cast<double>(tensor.data()[i]));
  return values;
}

TYPED_TEST(LinearAttentionGradients, AreThoseOfCentralDifferences) {
  struct Size {
    Index C, H, T, decay;
  };
  for (const auto& [C, H, T, decay] :
       {Size{1, 1, 5, 0}, Size{4, 2, 70, 1}, Size{6, 1, 68, 0}, Size{2, 1, 1, 1}, Size{17, 1, 18, 0}}) {
    const auto mixer = make_linear<TypeParam>(C, H, decay);
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
    LinearAttentionReference reference(mixer.parameters());
    Values values = wide(x);
    const Values weights = wide(dy);
    const auto differences = [&](Values& of) {
      return central_differences(of, kDifferenceStep, [&] { return reference.loss(values, weights); });
    };
    const double tolerance = Tolerance<TypeParam>::difference;
    expect_close_to_scale(wide(dx), differences(values), tolerance, "dx" + label);
    expect_close_to_scale(plain(gradients.project.weight), differences(reference.W), tolerance, "W" + label);
    expect_close_to_scale(plain(gradients.project.bias), differences(reference.b), tolerance, "b" + label);
    expect_close_to_scale(plain(gradients.output.weight), differences(reference.Wo), tolerance, "Wo" + label);
    expect_close_to_scale(plain(gradients.output.bias), differences(reference.bo), tolerance, "bo" + label);
    auto twice = gradients;
    mixer.backward(x, saved, dy, dx, twice, workspace);
    expect_close_to_scale(plain(twice.project.weight), plain((2 * gradients.project.weight).eval()),
                          Tolerance<TypeParam>::mode, "is added to");
  }
}

TYPED_TEST(LinearAttentionGradients, OfChunksWithTheGradientOfTheStateAreTheWhole) {
  const Index C = 18, T = 200, B = 2;
  for (const Index decay : {0, 1}) {
    const auto mixer = make_linear<TypeParam>(C, 2, decay);
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
      const std::vector<Index> cuts{0, 1, 66, 66, 80, T};
      std::vector<LinearAttentionSaved<TypeParam>> saved(cuts.size() - 1);
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
      LinearAttention<TypeParam>::visit(
          [&](std::string_view name, const auto& got, const auto& expected) {
            expect_close_to_scale(got, expected, Tolerance<TypeParam>::gradient, name);
          },
          sums, gradients);
    }
  }
}

TYPED_TEST(LinearAttentionGradients, OfTheStateAreThoseOfTheTokensBefore) {
  const Index C = 6, before = 7, after = 9;
  const auto mixer = make_linear<TypeParam>(C, 2, 1);
  Random random(6);
  const auto x = random_matrix<TypeParam>(C, before + after, random);
  auto dy = random_matrix<TypeParam>(C, before + after, random);
  dy.leftCols(before).setZero();  // all that the first tokens get comes through the state
  Matrix<TypeParam> y(C, before + after), dx(C, before + after);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 2});
  std::vector<LinearAttentionSaved<TypeParam>> saved(2);
  const std::vector<Index> first{0, before}, rest{0, after}, stream{1};
  mixer.extend(x.leftCols(before), first, stream, state, y.leftCols(before), saved[0], workspace);
  mixer.extend(x.rightCols(after), rest, stream, state, y.rightCols(after), saved[1], workspace);
  auto gradients = mixer.make_gradients();
  auto d_state = mixer.make_state({.streams = 2});
  mixer.backward(x.rightCols(after), saved[1], dy.rightCols(after), dx.rightCols(after), gradients, workspace,
                 &d_state);
  mixer.backward(x.leftCols(before), saved[0], dy.leftCols(before), dx.leftCols(before), gradients, workspace,
                 &d_state);
  LinearAttentionReference reference(mixer.parameters());
  Values values = wide(x);
  const Values weights = wide(dy);
  expect_close_to_scale(
      wide(dx), central_differences(values, kDifferenceStep, [&] { return reference.loss(values, weights); }),
      Tolerance<TypeParam>::difference, "dx");
}

/// The values of the one ring of a state.
std::span<double> values_of(RingState<double>& state) {
  std::span<double> values;
  RingState<double>::visit(
      [&]<class S>(std::string_view, S span, const std::vector<Index>&) {
        if constexpr (std::is_same_v<S, std::span<double>>) values = span;
      },
      state);
  return values;
}

TEST(LinearAttentionStateGradient, IsThatOfEveryValueOfTheState) {
  const Index C = 6, before = 7, after = 70;
  for (const Index decay : {0, 1}) {
    const auto mixer = make_linear<double>(C, 2, decay);
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
    auto d_state = mixer.make_state();
    const std::span<double> d = values_of(d_state);
    d[0] = 0.5;  // the gradient of what the call leaves: of a value of S, and of one of the z of another head
    d[21] = -0.25;
    mixer.backward(x.rightCols(after), saved, dy, dx, gradients, workspace, &d_state);
    Values at_entry(values_of(state).begin(), values_of(state).end());
    const auto loss = [&] {
      auto own = state;
      std::copy(at_entry.begin(), at_entry.end(), values_of(own).begin());
      mixer.extend(x.rightCols(after), own, y, workspace);
      return (y.array() * dy.array()).sum() + 0.5 * values_of(own)[0] - 0.25 * values_of(own)[21];
    };
    const Values expected = central_differences(at_entry, kDifferenceStep, loss);
    expect_close_to_scale(Values(d.begin(), d.end()), expected, Tolerance<double>::difference,
                          "decay " + std::to_string(decay));
  }
}

TYPED_TEST(LinearAttentionGradients, FeaturesThatRoundToZeroMakeNoNaN) {
  const Index C = 8, H = 2, T = 34;
  struct Shift {
    double queries, keys;
  };
  for (const auto& [queries, keys] : {Shift{-300, 0}, Shift{0, -50}, Shift{0, -300}, Shift{-300, -300},
                                      Shift{-2000, -2000}, Shift{40, 40}}) {
    const auto base = make_linear<TypeParam>(C, H, 0);
    LinearAttention<TypeParam> moved = base.parameters();
    moved.project.bias.head(C).array() += static_cast<TypeParam>(queries);
    moved.project.bias.segment(C, C).array() += static_cast<TypeParam>(keys);
    const CausalLinearAttention<TypeParam> mixer{LinearAttentionLayer<TypeParam>(moved)};
    const std::string label = " at queries " + std::to_string(queries) + ", keys " + std::to_string(keys);
    Random random(11);
    const auto x = random_matrix<TypeParam>(C, T, random), dy = random_matrix<TypeParam>(C, T, random);
    Matrix<TypeParam> y(C, T), z(C, T), dx(C, T);
    Workspace workspace;
    auto saved = mixer.make_saved();
    auto gradients = mixer.make_gradients();
    mixer.forward(x, y, saved, workspace);
    mixer.backward(x, saved, dy, dx, gradients, workspace);
    auto state = mixer.make_state({});
    for (Index t = 0; t < T; ++t) mixer.step(x.col(t), state, z.col(t), workspace);
    ASSERT_TRUE(y.allFinite() && z.allFinite() && dx.allFinite()) << label;
    // Where all is far below 0 a query is rounded by 300 epsilon, and its features by as much.
    const double factor = queries < 0 || keys < 0 ? 100 : 10;
    expect_close_to_scale(wide(z), wide(y), factor * Tolerance<TypeParam>::mode, "step" + label);
    LinearAttentionReference reference(mixer.parameters());
    Values values = wide(x);
    const Values weights = wide(dy);
    if (queries > -1000) {  // there the oracle's own features are 0 in double too
      expect_close_to_scale(wide(y), reference.forward(values), factor * Tolerance<TypeParam>::forward,
                            "forward" + label);
      const auto loss = [&] { return reference.loss(values, weights); };
      expect_close_to_scale(wide(dx), central_differences(values, kDifferenceStep, loss),
                            factor * Tolerance<TypeParam>::difference, "dx" + label);
    }
    if (keys < -100) {
      EXPECT_TRUE((gradients.project.bias.segment(C, C).array() == 0).all())
          << "keys have their least feature" << label;
      const Matrix<TypeParam> all =
          (moved.project.weight.bottomRows(C) * x).colwise() + moved.project.bias.tail(C);
      const Matrix<TypeParam> mean = all.rowwise().mean();  // all weigh the same
      const Matrix<TypeParam> expected = moved.output.weight * mean + moved.output.bias;
      expect_close_to_scale(wide(y.col(T - 1)), wide(expected), factor * Tolerance<TypeParam>::forward,
                            "mean" + label);
    }
  }
}

}  // namespace
}  // namespace hsm::test::linear_attention_gradients_test
