// SPDX-License-Identifier: MIT
//
// The one place of the tolerances that tests compare with. Each is a relative error; a test says relative to
// what: the element, or the largest element of the reference (`expect_close_to_scale`). A test that needs
// more writes the factor and the reason beside it.
#pragma once

#include <limits>

namespace hsm::test {

/// Relative errors that are allowed to values computed in Scalar against a reference in double.
template <class Scalar>
struct Tolerance;

template <>
struct Tolerance<float> {
  static constexpr double epsilon = std::numeric_limits<float>::epsilon();  // 1.2e-7

  /// exp and sigmoid, of the value: the bound that core/elementwise.hpp states.
  static constexpr double element = 4 * epsilon;
  /// gelu and its slope, of |x| + 1: the bound that core/elementwise.hpp states.
  static constexpr double gelu = 8 * epsilon;
  /// A few element-wise operations per result and no sum: each adds up to epsilon / 2 of its operands.
  static constexpr double pointwise = 8 * epsilon;
  /// Outputs behind one or two matrix products, of the largest element: a sum of n products is off by about
  /// sqrt(n) epsilon, n <= 1024 here, with a factor of 5 for the tail over many elements.
  static constexpr double forward = 2e-5;
  /// Gradients, of the largest element: forward and backward products in a row, and weight gradients that sum
  /// over all tokens, whose terms cancel more than those of a forward product.
  static constexpr double gradient = 1e-4;
  /// The same result by another mode or another cut of time, of the largest element: the terms are equal and
  /// only the order of their sums differs.
  static constexpr double mode = 1e-5;
  /// The same where inputs of products are rounded to 16 bits in one of the modes: 2^-16 of the largest of 32 values for
  /// each, of which the random signs of some hundred terms leave some 3e-5.
  static constexpr double rounded = 1e-4;
  /// Whatever the library computes against the fixtures of another implementation, from inputs that are exact
  /// in both scalars, of the largest element of each tensor.
  static constexpr double fixture = 1e-5;
  /// A gradient against central differences of an oracle in double: the rounding of the gradient is what
  /// counts, the differences are exact beside it.
  static constexpr double difference = gradient;
};

template <>
struct Tolerance<double> {
  static constexpr double epsilon = std::numeric_limits<double>::epsilon();  // 2.2e-16

  /// As for float, where the reasons stand.
  static constexpr double element = 4 * epsilon;
  static constexpr double gelu = 8 * epsilon;
  static constexpr double pointwise = 8 * epsilon;
  /// The oracle is in double too, so both sides round: twice the float bound, scaled by epsilon, and rounded
  /// up.
  static constexpr double forward = 1e-13;
  static constexpr double gradient = 1e-12;
  static constexpr double mode = 1e-13;
  static constexpr double fixture = 1e-10;
  /// Central differences with step 1e-5 (`kDifferenceStep`): step^2 f'''/6 + epsilon |f| / step is about
  /// 1e-10 for functions of size and derivatives 1; sums of some 1000 terms of size 1 need the rest.
  static constexpr double difference = 1e-7;
};

/// Step of central differences in double, near the cube root of epsilon where their error is smallest.
inline constexpr double kDifferenceStep = 1e-5;

}  // namespace hsm::test
