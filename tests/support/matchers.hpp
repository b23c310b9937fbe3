// SPDX-License-Identifier: MIT
//
// Comparisons of whole arrays. A comparison fails at the line of its caller, and prints the worst element,
// both values, and how much of the allowed error it used.
//
//   expect_close            |actual - reference| <= atol + rtol |reference|
//   expect_close_to_scale   |actual - reference| <= tolerance max |reference|
//   expect_same_bits        the same bit patterns (0 and -0 differ, NaN equals the same NaN)
//
// Written so that NaN fails: the test is `not (error <= budget)`. An infinite reference asks for the same
// infinity. Arguments are vectors, spans, arrays and Eigen matrices, maps and blocks. Two Eigen matrices are
// compared by row and column, whatever their storage order; anything else by position in storage.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <functional>
#include <iomanip>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include <hsm/core/eigen.hpp>

namespace hsm::test {

namespace detail {

template <class Array>
concept EigenArray = std::derived_from<Array, Eigen::DenseBase<Array>>;

/// Value i of an array in storage order.
template <class Array>
auto value_at(const Array& array, std::size_t i) {
  if constexpr (EigenArray<Array>) {
    const auto inner = static_cast<std::size_t>(Array::IsRowMajor ? array.cols() : array.rows());
    const auto major = static_cast<Eigen::Index>(i / inner);
    const auto minor = static_cast<Eigen::Index>(i % inner);
    return Array::IsRowMajor ? array.coeff(major, minor) : array.coeff(minor, major);
  } else {
    return array[i];
  }
}

/// The value of `array` that belongs to value i of `like`.
template <class Array, class Like>
auto partner_at(const Array& array, const Like& like, std::size_t i) {
  if constexpr (EigenArray<Array> && EigenArray<Like>) {
    const auto inner = static_cast<std::size_t>(Like::IsRowMajor ? like.cols() : like.rows());
    const auto major = static_cast<Eigen::Index>(i / inner);
    const auto minor = static_cast<Eigen::Index>(i % inner);
    return Like::IsRowMajor ? array.coeff(major, minor) : array.coeff(minor, major);
  } else {
    return value_at(array, i);
  }
}

/// "[row, column]" of a matrix, "[i]" of anything else.
template <class Array>
std::string place(const Array& array, std::size_t i) {
  if constexpr (EigenArray<Array>) {
    const auto inner = static_cast<std::size_t>(Array::IsRowMajor ? array.cols() : array.rows());
    const std::string major = std::to_string(i / inner), minor = std::to_string(i % inner);
    return "[" + (Array::IsRowMajor ? major + ", " + minor : minor + ", " + major) + "]";
  } else {
    return "[" + std::to_string(i) + "]";
  }
}

/// Empty if the sizes agree, else what is wrong.
template <class Actual, class Reference>
std::string size_difference(const Actual& actual, const Reference& reference) {
  if constexpr (EigenArray<Actual> && EigenArray<Reference>) {
    if (actual.rows() == reference.rows() && actual.cols() == reference.cols()) return "";
    std::ostringstream text;
    text << "shape is [" << actual.rows() << "," << actual.cols() << "], reference is [" << reference.rows()
         << "," << reference.cols() << "]";
    return text.str();
  } else {
    const auto got = static_cast<std::size_t>(actual.size());
    const auto expected = static_cast<std::size_t>(reference.size());
    if (got == expected) return "";
    return "size is " + std::to_string(got) + ", reference has " + std::to_string(expected);
  }
}

template <class Value>
std::string bits_of(Value value) {
  unsigned char bytes[sizeof(Value)];
  std::memcpy(bytes, &value, sizeof(Value));
  std::ostringstream text;
  text << std::hex << std::setfill('0');
  for (std::size_t i = sizeof(Value); i > 0; --i) text << std::setw(2) << static_cast<unsigned>(bytes[i - 1]);
  return text.str();
}

}  // namespace detail

/// What a comparison found; `message` is empty when it passed.
struct Comparison {
  std::string message;
  explicit operator bool() const { return message.empty(); }
};

/// Compares without failing the test.
template <class Actual, class Reference>
Comparison compare(const Actual& actual, const Reference& reference, double atol, double rtol,
                   std::string_view label) {
  const std::string sizes = detail::size_difference(actual, reference);
  if (!sizes.empty()) return {std::string(label) + ": " + sizes};
  const auto size = static_cast<std::size_t>(actual.size());
  std::size_t failures = 0, worst = 0;
  double worst_share = -1;
  for (std::size_t i = 0; i < size; ++i) {
    const auto got = static_cast<double>(detail::value_at(actual, i));
    const auto expected = static_cast<double>(detail::partner_at(reference, actual, i));
    const double budget = atol + rtol * std::abs(expected);
    if (got == expected) continue;  // equal infinities too, whose difference is NaN
    const double error = std::abs(got - expected);
    if (std::isfinite(expected) && error <= budget) continue;
    ++failures;
    double share = std::isfinite(expected) ? error / budget : INFINITY;
    if (std::isnan(share)) share = INFINITY;
    if (share > worst_share) {
      worst_share = share;
      worst = i;
    }
  }
  if (failures == 0) return {};
  const auto got = static_cast<double>(detail::value_at(actual, worst));
  const auto expected = static_cast<double>(detail::partner_at(reference, actual, worst));
  std::ostringstream text;
  text << label << ": " << failures << " of " << size << " elements differ; worst at "
       << detail::place(actual, worst) << std::setprecision(17) << ": got " << got << ", expected "
       << expected << std::setprecision(4) << ", error " << std::abs(got - expected) << " is "
       << 100 * worst_share << " % of the budget " << atol + rtol * std::abs(expected);
  return {text.str()};
}

/// max |reference|; 0 if empty. NaN is skipped here and fails in the comparison.
template <class Reference>
double largest(const Reference& reference) {
  double scale = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(reference.size()); ++i) {
    const double size = std::abs(static_cast<double>(detail::value_at(reference, i)));
    if (size > scale) scale = size;
  }
  return scale;
}

/// Fails the test unless |actual - reference| <= atol + rtol |reference| for each element. Returns whether it
/// held.
template <class Actual, class Reference>
bool expect_close(const Actual& actual, const Reference& reference, double atol, double rtol,
                  std::string_view label, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const Comparison result = compare(actual, reference, atol, rtol, label);
  if (!result) ADD_FAILURE_AT(file, line) << result.message;
  return static_cast<bool>(result);
}

/// The same for a single value.
template <class Actual>
requires std::is_arithmetic_v<Actual>
bool expect_close(Actual actual, double reference, double atol, double rtol, std::string_view label,
                  const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const Eigen::Matrix<Actual, 1, 1> got(actual);
  const Eigen::Matrix<double, 1, 1> expected(reference);
  return expect_close(got, expected, atol, rtol, label, file, line);
}

/// The same for `size` values behind two pointers.
template <class Actual, class Reference>
bool expect_close(const Actual* actual, const Reference* reference, Eigen::Index size, double atol,
                  double rtol, std::string_view label, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  using Got = Eigen::Map<const Eigen::Matrix<Actual, Eigen::Dynamic, 1>>;
  using Expected = Eigen::Map<const Eigen::Matrix<Reference, Eigen::Dynamic, 1>>;
  return expect_close(Got(actual, size), Expected(reference, size), atol, rtol, label, file, line);
}

/// Fails the test unless |actual - reference| <= tolerance max |reference| for each element: for results of
/// sums, where a small element carries the rounding of large terms. A reference of zeros asks for zeros.
template <class Actual, class Reference>
bool expect_close_to_scale(const Actual& actual, const Reference& reference, double tolerance,
                           std::string_view label, const char* file = __builtin_FILE(),
                           int line = __builtin_LINE()) {
  return expect_close(actual, reference, tolerance * largest(reference), 0, label, file, line);
}

/// Fails the test unless both have the same bits in each element. Returns whether they had.
template <class Actual, class Reference>
bool expect_same_bits(const Actual& actual, const Reference& reference, std::string_view label,
                      const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const std::string sizes = detail::size_difference(actual, reference);
  if (!sizes.empty()) {
    ADD_FAILURE_AT(file, line) << label << ": " << sizes;
    return false;
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(actual.size()); ++i) {
    const auto got = detail::value_at(actual, i);
    const auto expected = detail::partner_at(reference, actual, i);
    static_assert(std::is_same_v<std::remove_const_t<decltype(got)>, std::remove_const_t<decltype(expected)>>,
                  "hsm: values of different types have no common bits");
    if (std::memcmp(&got, &expected, sizeof(got)) != 0) {
      ADD_FAILURE_AT(file, line) << label << ": bits differ, first at " << detail::place(actual, i)
                                 << std::setprecision(17) << ": got " << got << " (" << detail::bits_of(got)
                                 << "), expected " << expected << " (" << detail::bits_of(expected) << ")";
      return false;
    }
  }
  return true;
}

/// Fails unless f throws std::invalid_argument with exactly this message.
inline void expect_refused(const std::function<void()>& f, const std::string& message,
                           const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  try {
    f();
    ADD_FAILURE_AT(file, line) << "not refused; expected: " << message;
  } catch (const std::invalid_argument& error) {
    if (error.what() != message) {
      ADD_FAILURE_AT(file, line) << "got:      " << error.what() << "\nexpected: " << message;
    }
  }
}

}  // namespace hsm::test
