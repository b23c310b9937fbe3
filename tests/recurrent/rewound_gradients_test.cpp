// SPDX-License-Identifier: MIT
//
// Gradients over chunks between which tokens were taken back are those of the tokens that stayed, read as one text.
#include <gtest/gtest.h>

#include "recurrent/linear_attention_cases.hpp"
#include "recurrent/moving_average_cases.hpp"

namespace hsm::test::rewound_gradients_test {
namespace {

using Columns64 = Eigen::MatrixXd;

/// Reads `first` tokens and `gone` others, takes these back, and reads the rest.
template <class AMixer>
void expect_gradients_of_what_stayed(const AMixer& mixer, Index first, Index gone, Index rest) {
  SCOPED_TRACE(std::to_string(first) + " tokens, " + std::to_string(gone) + " taken back, " +
               std::to_string(rest) + " more");
  const Index C = mixer.channels(), T = first + rest;
  Random random(8);
  const auto drawn = [&](Index count) {
    Columns64 values(C, count);
    for (Index i = 0; i < values.size(); ++i) values.data()[i] = random.normal();
    return values;
  };
  const Columns64 x = drawn(T), other = drawn(gone), dy = drawn(T);
  Workspace workspace;
  Columns64 y(C, T), expected(C, T);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients(), got = mixer.make_gradients();
  mixer.forward(x, y, saved, workspace);
  mixer.backward(x, saved, dy, expected, gradients, workspace);

  auto state = mixer.make_state({.spare = gone});
  Columns64 early(C, first + gone), early_y(C, first + gone), late_y(C, rest);
  early << x.leftCols(first), other;
  auto early_saved = mixer.make_saved(), late_saved = mixer.make_saved();
  mixer.extend(early, state, early_y, early_saved, workspace);
  state.rewind(0, gone);
  mixer.extend(x.rightCols(rest), state, late_y, late_saved, workspace);
  expect_close_to_scale(late_y, y.rightCols(rest).eval(), Tolerance<double>::mode, "y");

  auto d = mixer.make_state({.spare = gone});
  Columns64 early_dy = Columns64::Zero(C, first + gone), early_dx(C, first + gone), late_dx(C, rest);
  early_dy.leftCols(first) = dy.leftCols(first);
  mixer.backward(x.rightCols(rest), late_saved, dy.rightCols(rest), late_dx, got, workspace, &d);
  mixer.backward(early, early_saved, early_dy, early_dx, got, workspace, &d);
  expect_close_to_scale(late_dx, expected.rightCols(rest).eval(), Tolerance<double>::gradient, "dx");
  expect_close_to_scale(early_dx.leftCols(first).eval(), expected.leftCols(first).eval(),
                        Tolerance<double>::gradient, "dx before");
  EXPECT_EQ(early_dx.rightCols(gone), Columns64::Zero(C, gone)) << "what was taken back";
  AMixer::visit(
      [](std::string_view name, const auto& a, const auto& b) {
        expect_close_to_scale(a, b, Tolerance<double>::gradient, std::string(name));
      },
      got, gradients);
  EXPECT_EQ(d, mixer.make_state({.spare = gone})) << "all has been taken";
}

template <class AMixer>
void expect_for_all_lengths(const AMixer& mixer) {
  for (const Index first : {1, 2, 70, 131}) {
    for (const Index gone : {1, 2, 66}) {
      for (const Index rest : {1, 3, 65}) expect_gradients_of_what_stayed(mixer, first, gone, rest);
    }
  }
}

TEST(RewoundGradients, OfTheMovingAverage) { expect_for_all_lengths(make_ema<double>(19, 2)); }

TEST(RewoundGradients, OfLinearAttention) {
  expect_for_all_lengths(make_linear<double>(12, 2, 0));
  expect_for_all_lengths(make_linear<double>(12, 2, 1));
}

}  // namespace
}  // namespace hsm::test::rewound_gradients_test
