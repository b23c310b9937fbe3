// SPDX-License-Identifier: MIT
//
// What the oracles of layers have in common, in double and plain loops: values read one by one, maps of tokens, and
// derivatives by central differences.
#pragma once

#include <cstddef>
#include <vector>

namespace hsm::test {

using Values = std::vector<double>;

/// The values of a matrix, row after row, or of a vector.
template <class Tensor>
Values values_by_row(const Tensor& tensor) {
  Values values;
  for (std::ptrdiff_t i = 0; i < tensor.rows(); ++i) {
    for (std::ptrdiff_t j = 0; j < tensor.cols(); ++j) values.push_back(static_cast<double>(tensor(i, j)));
  }
  return values;
}

/// M u + c of each of the tokens u [T][C], M [c.size()][C].
inline Values map_tokens(const Values& M, const Values& c, const Values& u) {
  const std::size_t C = M.size() / c.size();
  Values out;
  for (std::size_t t = 0; t < u.size() / C; ++t) {
    for (std::size_t i = 0; i < c.size(); ++i) {
      double sum = c[i];
      for (std::size_t j = 0; j < C; ++j) sum += M[i * C + j] * u[t * C + j];
      out.push_back(sum);
    }
  }
  return out;
}

/// sum of y times dy: the scalar whose gradients backward computes.
inline double weighted_sum(const Values& y, const Values& dy) {
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
  return sum;
}

/// The derivatives of loss() with respect to `values` (x or a parameter), by central differences of step `h`.
template <class Loss>
Values central_differences(Values& values, double h, const Loss& loss) {
  Values gradient(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    values[i] = value + h;
    const double above = loss();
    values[i] = value - h;
    const double below = loss();
    values[i] = value;
    gradient[i] = (above - below) / (2 * h);
  }
  return gradient;
}

}  // namespace hsm::test
