// SPDX-License-Identifier: MIT
//
// The gradients of attention over whole sequences against central differences of its definition, and through any
// strides.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "attention/attention_runs.hpp"

namespace hsm::test::gradients_test {
namespace {

template <class Scalar>
class AttentionGradients : public testing::Test {};
TYPED_TEST_SUITE(AttentionGradients, Scalars);

/// The gradient of the weight of the first value, where the result of each of T tokens counts once, and each sees a key
/// of the first token that outweighs all others: its product with the query is large^2.
template <class Scalar>
double value_gradient(Index C, Index T, double large, const Form& form = {}) {
  Random random(1);
  Attention<Scalar> parameters(
      C, 1, random, {.rotary = form.rotary, .window = form.window, .block = form.block, .top = form.top});
  parameters.project.weight.setZero();
  parameters.project.weight(0, 0) = parameters.project.weight(C, C - 1) = static_cast<Scalar>(large);
  parameters.output.weight.setZero();
  parameters.output.weight(0, 0) = 1;
  Matrix<Scalar> x = Matrix<Scalar>::Zero(C, T);
  x.row(0).setOnes();
  x(C - 1, 0) = 1;
  const ForthAndBack<Scalar> run(CausalAttention<Scalar>(parameters), x, x);
  return static_cast<double>(run.gradients.project.weight(2 * C, 0));
}

// The scores of a call are computed again by its backward, to the bit, or such weights would come out as anything.
TYPED_TEST(AttentionGradients, WeightsOfLargeScoresAreWeights) {
  for (const double large : {10.0, 1e3, 2000.3, 46340.0, 46342.0, 1.5e5, 3e5, 1e9}) {
    EXPECT_NEAR(value_gradient<TypeParam>(1, 1, large), 1, 1e-4) << large;
    for (const Form& form : {Form{}, Form{0, 200}, Form{0, 0, 32, 2}}) {
      for (const Index T : {1, 2, 64, 65, 66, 67}) {
        for (const Index C : {12, 16, 20, 48}) {
          EXPECT_NEAR(value_gradient<TypeParam>(C, T, large, form), static_cast<double>(T), 1e-2)
              << C << " " << T << " " << large << " " << form;
        }
      }
    }
  }
}

TYPED_TEST(AttentionGradients, GradientsAreThoseOfCentralDifferences) {
  struct Size {
    Index C, H, T;
    Form form;
  };
  for (const Size size :
       {Size{6, 2, 5, {}}, Size{5, 1, 1, {}}, Size{3, 3, 20, {}}, Size{2, 1, 66, {}}, Size{8, 2, 5, {100}},
        Size{6, 1, 1, {10000}}, Size{4, 2, 20, {10000}}, Size{2, 1, 66, {2}}, Size{6, 2, 5, {0, 1}},
        Size{5, 1, 6, {0, 2}}, Size{3, 3, 20, {0, 5}}, Size{4, 2, 20, {100, 7}}, Size{2, 1, 66, {0, 17}},
        Size{2, 1, 66, {100, 65}}, Size{4, 2, 20, {0, 0, 4, 2}}, Size{3, 3, 20, {0, 0, 1, 3}},
        Size{2, 1, 66, {100, 0, 8, 3}}}) {
    const auto [C, H, T, form] = size;
    const auto attention = make_attention<TypeParam>(C, H, form);
    Random random(21);
    const auto x = random_matrix<TypeParam>(C, T, random);
    const auto dy = random_matrix<TypeParam>(C, T, random);
    const auto [y, dx, gradients, saved] = ForthAndBack<TypeParam>(attention, x, dy);

    AttentionReference reference(attention.parameters());
    auto values = to_double(x);
    const auto weights = to_double(dy);
    const auto loss = [&] { return reference.loss(values, weights); };
    const double tolerance = Tolerance<TypeParam>::difference;
    const auto differences = [&](std::vector<double>& of) {
      return central_differences(of, kDifferenceStep, loss);
    };
    const std::string label = " at C " + std::to_string(C) + " T " + std::to_string(T);
    SCOPED_TRACE(testing::Message() << form);
    loss();
    EXPECT_GT(reference.margin, 2e-4) << "choices near to others" << label;
    // Without rotary positions the bias of the keys shifts all scores of a query alike: its gradient is 0, so it is
    // compared beside the others of the bias and not to its own size.
    expect_close_to_scale(to_double(dx), differences(values), tolerance, "dx" + label);
    expect_close_to_scale(to_double(gradients.project.weight.transpose()), differences(reference.W),
                          tolerance, "project.weight" + label);
    expect_close_to_scale(to_double(gradients.project.bias), differences(reference.b), tolerance,
                          "project.bias" + label);
    expect_close_to_scale(to_double(gradients.output.weight.transpose()), differences(reference.Wo),
                          tolerance, "output.weight" + label);
    expect_close_to_scale(to_double(gradients.output.bias), differences(reference.bo), tolerance,
                          "output.bias" + label);
  }
}

// Central differences would take too long for long sequences: the derivative along one direction says the
// same.
TYPED_TEST(AttentionGradients, GradientsOfLongSequencesAreRightAlongARandomDirection) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    struct Size {
      Index T, C;
    };
    // Heads of 48 are wider than a strip of any processor.
    for (const auto [T, C] :
         {Size{63, 20}, {64, 20}, {65, 20}, {127, 20}, {129, 20}, {200, 20}, {65, 96}, {129, 96}}) {
      const Index H = 2;
      const auto attention = make_attention<TypeParam>(C, H, form);
      Random random(31);
      const auto x = random_matrix<TypeParam>(C, T, random);
      const auto dy = random_matrix<TypeParam>(C, T, random);
      const auto direction = random_matrix<TypeParam>(C, T, random);
      const auto [y, dx, gradients, saved] = ForthAndBack<TypeParam>(attention, x, dy);

      const auto moved = [&](AttentionReference reference, double step) {
        auto values = to_double(x);
        const auto along = to_double(direction);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] += step * along[i];
        return reference.loss(values, to_double(dy));
      };
      const AttentionReference reference(attention.parameters());
      const double h = kDifferenceStep;
      const double expected = (moved(reference, h) - moved(reference, -h)) / (2 * h);
      const double got = dx.template cast<double>().cwiseProduct(direction.template cast<double>()).sum();
      const double scale = dx.template cast<double>().norm() * direction.template cast<double>().norm();
      expect_close(got, expected, Tolerance<TypeParam>::difference * scale, 0,
                   "T " + std::to_string(T) + " C " + std::to_string(C));

      // Along the gradient itself the loss must rise by the gradient's squared length.
      AttentionReference up = reference, down = reference;
      double squares = 0;
      for (Index i = 0; i < 3 * C; ++i) {
        for (Index j = 0; j < C; ++j) {
          const double g =
              static_cast<double>(gradients.project.weight(i, j)) / gradients.project.weight.norm();
          up.W[static_cast<std::size_t>(i * C + j)] += h * g;
          down.W[static_cast<std::size_t>(i * C + j)] -= h * g;
          squares += g * static_cast<double>(gradients.project.weight(i, j));
        }
      }
      const double slope = (moved(up, 0) - moved(down, 0)) / (2 * h);
      expect_close(slope, squares, 0, 10 * Tolerance<TypeParam>::difference,
                   "weights, T " + std::to_string(T));
    }
  }
}

TYPED_TEST(AttentionGradients, BackwardIsTheSameThroughStrides) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    const Index C = 12, T = 70, B = 3, step = C + 3, batch_step = (T + 5) * step;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    Random random(24);
    const auto x = random_matrix<TypeParam>(C, B * T, random);
    const auto dy = random_matrix<TypeParam>(C, B * T, random);
    Matrix<TypeParam> y(C, B * T), dx(C, B * T);
    Workspace workspace;
    auto saved = attention.make_saved();
    auto dense = attention.make_gradients(), strided = attention.make_gradients();
    const auto view = [&](auto& m) { return Tokens<TypeParam>(m.data(), B, T, C, step, batch_step); };
    const Tokens<const TypeParam> x_dense(x.data(), B, T, C), dy_dense(dy.data(), B, T, C);
    attention.forward(x_dense, Tokens<TypeParam>(y.data(), B, T, C), saved, workspace);
    attention.backward(x_dense, saved, dy_dense, Tokens<TypeParam>(dx.data(), B, T, C), dense, workspace);

    const TypeParam canary(-7);
    Matrix<TypeParam> x_wide = Matrix<TypeParam>::Constant(batch_step, B, canary);
    Matrix<TypeParam> y_wide = x_wide, dy_wide = x_wide, dx_wide = x_wide;
    for (Index i = 0; i < B * T; ++i) {
      view(x_wide).columns(i, 1) = x.col(i);
      view(dy_wide).columns(i, 1) = dy.col(i);
    }
    attention.forward(view(x_wide), view(y_wide), saved, workspace);
    attention.backward(view(x_wide), saved, view(dy_wide), view(dx_wide), strided, workspace);
    Matrix<TypeParam> got(C, B * T);
    for (Index i = 0; i < B * T; ++i) got.col(i) = view(dx_wide).columns(i, 1);
    expect_close_to_scale(got, dx, Tolerance<TypeParam>::gradient, "dx");
    expect_close_to_scale(flat(strided), flat(dense), Tolerance<TypeParam>::gradient, "gradients");
    for (Index b = 0; b < B; ++b) {
      for (Index i = 0; i < batch_step; ++i) {
        if (i % step < C && i / step < T) continue;
        ASSERT_EQ(dx_wide(i, b), canary) << "written between tokens";
      }
    }
  }
}

}  // namespace
}  // namespace hsm::test::gradients_test
