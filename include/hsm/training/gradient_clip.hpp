// SPDX-License-Identifier: MIT
//
// The norm of all gradients together, and scaling them down to a bound (Pascanu, Mikolov & Bengio,
// arXiv 1211.5063).
//
//   norm = sqrt(sum over all tensors and elements of g^2),   if norm > max_norm: g = g max_norm / norm
//
// `Parameters` is any struct with the static visit(f, parameters, more...). The squares are added in double,
// in 8 partial sums per tensor and tensors in the order of the visit, so the bits depend on the values alone.
// Cost: one read, and one read and write where the bound applies.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// sum_i x[i]^2 in double.
template <class Scalar>
double sum_of_squares(Index n, const Scalar* x) {
  constexpr Index kLanes = 8;
  double lanes[kLanes] = {};
  const auto add = [](double& lane, Scalar value) {
    const auto wide = static_cast<double>(value);
    lane += wide * wide;
  };
  const Index whole = n - n % kLanes;
  for (Index i = 0; i < whole; i += kLanes) {
    for (Index j = 0; j < kLanes; ++j) add(lanes[j], x[i + j]);
  }
  for (Index i = whole; i < n; ++i) add(lanes[i - whole], x[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace detail

/// The Euclidean norm of all tensors taken as one vector. NaN if an element is NaN, infinity if one is
/// infinite (or, in double only, if a square overflows).
template <class Parameters>
double global_norm(const Parameters& gradients) {
  double sum = 0;
  const auto add = [&sum](std::string_view, const auto& tensor) {
    sum += detail::sum_of_squares(tensor.size(), tensor.data());
  };
  Parameters::visit(add, gradients);
  return std::sqrt(sum);
}

/// Scales the gradients down to norm `max_norm` if theirs is larger, and returns the norm from before. A norm
/// that is not finite is returned and the gradients are left as they are: there is no meaningful scale, and
/// the caller decides whether to skip the step or to stop. Infinity as max_norm never scales. Throws
/// std::invalid_argument unless max_norm > 0.
template <class Parameters>
double clip_global_norm(Parameters& gradients, double max_norm) {
  detail::check_number("clip_global_norm", max_norm > 0, "max_norm", "above 0", max_norm);
  const double norm = global_norm(gradients);
  if (!detail::is_finite(norm) || norm <= max_norm) return norm;
  const double factor = max_norm / norm;
  const auto scale = [factor](std::string_view, auto& tensor) {
    using Scalar = typename std::remove_cvref_t<decltype(tensor)>::Scalar;
    std::transform(tensor.data(), tensor.data() + tensor.size(), tensor.data(),
                   [factor](Scalar g) { return static_cast<Scalar>(factor * static_cast<double>(g)); });
  };
  Parameters::visit(scale, gradients);
  return norm;
}

}  // namespace hsm::inline HSM_ABI
