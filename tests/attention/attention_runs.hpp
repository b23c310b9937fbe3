// SPDX-License-Identifier: MIT
//
// What tests of windows, of blocks and of attention without either do alike.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test {

/// What forward and backward give for x and the gradient dy of the result.
template <class Scalar>
struct ForthAndBack {
  Matrix<Scalar> y, dx;
  Attention<Scalar> gradients;
  AttentionSaved<Scalar> saved;

  ForthAndBack(const CausalAttention<Scalar>& attention, const Matrix<Scalar>& x, const Matrix<Scalar>& dy)
      : y(x.rows(), x.cols()), dx(x.rows(), x.cols()), gradients(attention.make_gradients()) {
    Workspace workspace;
    attention.forward(x, y, saved, workspace);
    attention.backward(x, saved, dy, dx, gradients, workspace);
  }
};

/// Weights so large that softmax takes one token of many.
template <class Scalar>
void expect_large_scores_stay_finite(const Form& form) {
  auto parameters = make_attention<Scalar>(12, 2, form).parameters();
  parameters.project.weight *= Scalar(30);
  const CausalAttention<Scalar> attention(parameters);
  Random random(3);
  const auto x = random_matrix<Scalar>(12, 150, random);
  Matrix<Scalar> y(12, 150);
  attention.forward(x, y);
  // Scores of 1e4 carry a rounding of 1e4 epsilon, which exp turns into a relative one.
  expect_close_to_scale(to_double(y), reference_forward(attention, x), 3e4 * Tolerance<Scalar>::epsilon,
                        (std::ostringstream() << form).str());
}

/// Everything there is of a layer of 12 channels, in all modes, on T tokens.
template <class Scalar>
std::vector<std::vector<Scalar>> run_all(const CausalAttention<Scalar>& attention, Index T) {
  const Index C = attention.channels();
  Random random(83);
  const auto x = random_matrix<Scalar>(C, T, random), dy = random_matrix<Scalar>(C, T, random);
  Workspace workspace;
  std::vector<std::vector<Scalar>> all;
  const auto keep = [&](const Matrix<Scalar>& m) { all.emplace_back(m.data(), m.data() + m.size()); };
  auto [y, dx, gradients, saved] = ForthAndBack<Scalar>(attention, x, dy);
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

/// Both runs gave the same to the bit.
template <class Scalar>
void expect_same_runs(const std::vector<std::vector<Scalar>>& got,
                      const std::vector<std::vector<Scalar>>& expected, const std::string& label) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_TRUE(expect_same_bits(got[i], expected[i], label + " result " + std::to_string(i)));
}

/// The derivatives of the loss along a random direction of x and one of the joint projection, where central differences
/// of every value would take too long. No choice of blocks may be near to another, so that a step of h changes none.
template <class Scalar>
void expect_gradients_along_a_direction(const CausalAttention<Scalar>& attention, Index T, std::uint64_t seed,
                                        double h, const std::string& label) {
  const Index C = attention.channels();
  Random random(seed);
  const auto x = random_matrix<Scalar>(C, T, random), dy = random_matrix<Scalar>(C, T, random);
  const auto direction = random_matrix<Scalar>(C, T, random), turn = random_matrix<Scalar>(3 * C, C, random);
  const ForthAndBack<Scalar> got(attention, x, dy);
  const AttentionReference reference(attention.parameters());
  const auto moved = [&](double step, double weight_step) {
    auto values = to_double(x);
    const auto along = to_double(direction);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += step * along[i];
    AttentionReference other = reference;
    const Values turns = values_by_row(turn);
    for (std::size_t i = 0; i < turns.size(); ++i) other.W[i] += weight_step * turns[i];
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
  const auto& d_weight = got.gradients.project.weight;
  expect_close(inner(got.dx, direction), (moved(h, 0) - moved(-h, 0)) / (2 * h),
               Tolerance<Scalar>::difference * scale(got.dx, direction), 0, label);
  expect_close(inner(d_weight, turn), (moved(0, h) - moved(0, -h)) / (2 * h),
               Tolerance<Scalar>::difference * scale(d_weight, turn), 0, label + " weights");
}

}  // namespace hsm::test
