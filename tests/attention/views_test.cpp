// SPDX-License-Identifier: MIT
//
// Inputs that overlap, windows and repeated tokens, are read as their copies in every mode; results that overlap, and
// parameters that no longer fit together, are refused.
#include <array>
#include <utility>

#include "attention/attention_cases.hpp"

namespace hsm::test::views_test {
namespace {

template <class Scalar>
class AttentionViews : public testing::Test {};
TYPED_TEST_SUITE(AttentionViews, Scalars);

TYPED_TEST(AttentionViews, ThatOverlapAreReadAsTheirCopies) {
  for (const Form& form : kForms) {
    SCOPED_TRACE(testing::Message() << form);
    constexpr Index B = 2, T = 21, C = 8;
    const auto attention = make_attention<TypeParam>(C, 2, form);
    Random random(1);
    const auto memory = random_matrix<TypeParam>(1, 100, random),
               slopes = random_matrix<TypeParam>(1, 100, random);
    Workspace workspace;
    workspace.poison = true;
    for (const auto& [token, batch] : {std::pair<Index, Index>{1, 3}, {1, T}, {0, 5}, {3, 0}, {0, 0}}) {
      SCOPED_TRACE(testing::Message() << "strides " << token << " " << batch);
      // Blocks of one token again and again are equal: rounding chooses among them, and the copy may round otherwise.
      if (form.block > 0 && token == 0) continue;
      const Tokens<const TypeParam> x(memory.data(), B, T, C, token, batch),
          dy(slopes.data(), B, T, C, token, batch);
      Matrix<TypeParam> x_copy(C, B * T), dy_copy(C, B * T);
      for (Index b = 0; b < B; ++b) {
        x_copy.middleCols(b * T, T) = x.sequence(b).columns(0, T);
        dy_copy.middleCols(b * T, T) = dy.sequence(b).columns(0, T);
      }
      const auto run = [&](const Tokens<const TypeParam>& in, const Tokens<const TypeParam>& slope) {
        const Matrix<TypeParam> garbage =
            Matrix<TypeParam>::Constant(C, B * T, std::numeric_limits<TypeParam>::quiet_NaN());
        std::array<Matrix<TypeParam>, 4> r{garbage, garbage, garbage, garbage};
        const auto out = [&](std::size_t i) { return Tokens<TypeParam>(r[i].data(), B, T, C); };
        auto saved = attention.make_saved();
        auto gradients = attention.make_gradients();
        attention.forward(in, out(0), saved, workspace);
        attention.backward(in, saved, slope, out(1), gradients, workspace);
        auto state = attention.make_state({.streams = B});
        attention.extend(in.slice(0, 8), state, out(2).slice(0, 8), workspace);
        for (Index t = 8; t < T; ++t) attention.step(in.slice(t, 1), state, out(2).slice(t, 1), workspace);
        const std::vector<TypeParam> all = flat(gradients);
        r[3] = Eigen::Map<const Matrix<TypeParam>>(all.data(), 1, static_cast<Index>(all.size()));
        return r;
      };
      const auto got = run(x, dy);
      const auto expected = run({x_copy.data(), B, T, C}, {dy_copy.data(), B, T, C});
      expect_close_to_scale(got[0], expected[0], Tolerance<TypeParam>::mode, "y");
      expect_close_to_scale(got[1], expected[1], Tolerance<TypeParam>::gradient, "dx");
      expect_close_to_scale(got[2], expected[2], Tolerance<TypeParam>::mode, "extend and step");
      expect_close_to_scale(got[3], expected[3], Tolerance<TypeParam>::gradient, "gradients");
    }
  }
}

TYPED_TEST(AttentionViews, ThatOverlapAreNotWrittenTo) {
  constexpr Index C = 4;
  const auto attention = make_attention<TypeParam>(C, 2);
  Random random(2);
  const auto x = random_matrix<TypeParam>(C, 6, random);
  const Tokens<const TypeParam> in(x.data(), 2, 3, C);
  Matrix<TypeParam> memory = Matrix<TypeParam>::Constant(C, 6, 7);
  const Matrix<TypeParam> before = memory;
  Workspace workspace;
  auto saved = attention.make_saved();
  auto gradients = attention.make_gradients();
  auto state = attention.make_state({.streams = 2});
  Matrix<TypeParam> y(C, 6);
  attention.forward(in, Tokens<TypeParam>(y.data(), 2, 3, C), saved, workspace);
  for (const auto& [token, batch] : {std::pair<Index, Index>{C, 0}, {0, 3 * C}, {C - 1, 3 * C}, {C, 2 * C}}) {
    Tokens<TypeParam> out(memory.data(), 2, 3, C, token, batch);
    EXPECT_THROW(attention.forward(in, out, workspace), std::invalid_argument);
    EXPECT_THROW(attention.extend(in, state, out, workspace), std::invalid_argument);
    EXPECT_THROW(attention.backward(in, saved, in, out, gradients, workspace), std::invalid_argument);
  }
  Tokens<TypeParam> both(memory.data(), 2, 1, C, C, 0);
  EXPECT_THROW(attention.step(in.slice(0, 1), state, both, workspace), std::invalid_argument);
  EXPECT_EQ(state.count(0), 0);
  expect_same_bits(memory, before, "what would have been written to");
}

TYPED_TEST(AttentionViews, ParametersThatNoLongerFitTogetherAreRefused) {
  auto attention = make_attention<TypeParam>(8, 2);
  Random random(3);
  const auto x = random_matrix<TypeParam>(8, 5, random);
  Matrix<TypeParam> y(8, 5);
  attention.parameters().heads = 3;
  EXPECT_EQ(message_of([&] { attention.forward(x, y); }),
            "CausalAttention::forward: heads must be a divisor of 8 channels, got 3");
  attention.parameters().heads = 4;
  attention.forward(x, y);
  attention.parameters().project.bias.setZero(23);
  EXPECT_EQ(message_of([&] { attention.forward(x, y); }),
            "CausalAttention::forward: project must be [24,8] with a bias of 24 rows, got [24,8] with a bias "
            "of 23 rows");
}

}  // namespace
}  // namespace hsm::test::views_test
