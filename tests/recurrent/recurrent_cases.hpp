// SPDX-License-Identifier: MIT
//
// What tests of recurrent layers read, and how they lay out what they compare.
#pragma once

#include <string_view>
#include <vector>

#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>

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

/// The values of a matrix, column after column, in double.
template <class Derived>
Values wide(const Eigen::MatrixBase<Derived>& m) {
  Values values;
  for (Index j = 0; j < m.cols(); ++j) {
    for (Index i = 0; i < m.rows(); ++i) values.push_back(static_cast<double>(m(i, j)));
  }
  return values;
}

/// All tensors of a layer's parameters, one after another.
template <template <class> class Parameters, class Scalar>
std::vector<Scalar> flat(const Parameters<Scalar>& parameters) {
  std::vector<Scalar> all;
  Parameters<Scalar>::visit(
      [&](std::string_view, const auto& tensor) {
        all.insert(all.end(), tensor.data(), tensor.data() + tensor.size());
      },
      parameters);
  return all;
}

}  // namespace hsm::test
