// SPDX-License-Identifier: MIT
//
// The parameter idiom. A parameter struct IS its tensors (Eigen matrices and vectors), besides
// hyper-parameters. One static
//
//   visit(f, self, more...)     calls f(name, tensor, more_tensor...) for each tensor, in a fixed order
//
// names them and walks several structs of one shape in step: weights with gradients, gradients with optimizer
// moments. Counting, saving, loading, clearing, the optimizer and the gradient checks all go through it.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// "prefix.name"; not inlined, for there are many visits.
HSM_NOINLINE inline std::string joined(const std::string& prefix, std::string_view name) {
  std::string text;
  text.reserve(prefix.size() + 1 + name.size());
  return text.append(prefix).append(".").append(name);
}

}  // namespace detail

/// Wraps f so that the names it is given start with "prefix.": for the members of a struct of structs.
template <class F>
auto named(std::string prefix, F& f) {
  return [prefix = std::move(prefix), &f](std::string_view name, auto&... tensors) {
    f(detail::joined(prefix, name), tensors...);
  };
}

/// The number of values in all tensors.
template <class Parameters>
Index count_parameters(const Parameters& parameters) {
  Index count = 0;
  Parameters::visit([&](std::string_view, const auto& tensor) { count += tensor.size(); }, parameters);
  return count;
}

/// Sets every value to zero: fresh gradients.
template <class Parameters>
void set_zero(Parameters& parameters) {
  Parameters::visit([](std::string_view, auto& tensor) { tensor.setZero(); }, parameters);
}

/// A copy with every value zero.
template <class Parameters>
Parameters zeros_like(Parameters parameters) {
  set_zero(parameters);
  return parameters;
}

}  // namespace hsm::inline HSM_ABI
