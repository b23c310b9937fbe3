// SPDX-License-Identifier: MIT
//
// Layers of linear attention for tests, and what they read.
#pragma once

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include <hsm/recurrent/causal_linear_attention.hpp>

#include "reference/attention_reference.hpp"
#include "reference/linear_attention_reference.hpp"
#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {

using Values = std::vector<double>;

template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

template <class Scalar>
Matrix<Scalar> random_matrix(Index rows, Index cols, Random& random) {
  Matrix<Scalar> m(rows, cols);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<Scalar>(random.normal());
  return m;
}

/// All tensors random: queries, keys and values of deviation 1 for tokens of that.
template <class Scalar>
CausalLinearAttention<Scalar> make_linear(Index C, Index H, Index decay, std::uint64_t seed = 5) {
  Random random(seed);
  LinearAttention<Scalar> parameters(C, H, random, decay);
  const double deviation = 1 / std::sqrt(static_cast<double>(C));
  LinearAttention<Scalar>::visit(
      [&](std::string_view, auto& tensor) {
        for (Index i = 0; i < tensor.size(); ++i)
          tensor.data()[i] = static_cast<Scalar>(random.normal(deviation));
      },
      parameters);
  return CausalLinearAttention<Scalar>(LinearAttentionLayer<Scalar>(parameters));
}

template <class Derived>
Values wide(const Eigen::MatrixBase<Derived>& m) {
  Values values;
  for (Index j = 0; j < m.cols(); ++j) {
    for (Index i = 0; i < m.rows(); ++i) values.push_back(static_cast<double>(m(i, j)));
  }
  return values;
}

template <class Scalar>
std::vector<Scalar> flat(const LinearAttention<Scalar>& parameters) {
  std::vector<Scalar> all;
  LinearAttention<Scalar>::visit(
      [&](std::string_view, const auto& tensor) {
        all.insert(all.end(), tensor.data(), tensor.data() + tensor.size());
      },
      parameters);
  return all;
}

}  // namespace hsm::test
