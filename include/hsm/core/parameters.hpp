// SPDX-License-Identifier: MIT
//
// The parameter idiom. A parameter struct IS its tensors (Eigen matrices and vectors), besides
// hyper-parameters. One static
//
//   visit(f, self, more...)     calls f(name, tensor, more_tensor...) for each tensor, in a fixed order
//
// names them and walks several structs of one shape in step: weights with gradients, gradients with optimizer
// moments. Counting, saving, loading, clearing, the optimizer and the gradient checks all go through it. Matrices in
// fewer bytes are seen by visitors that ask for them (core/narrow_matrix.hpp).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/core/narrow_matrix.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// "prefix.name"; not inlined, for there are many visits.
HSM_NOINLINE inline std::string joined(const std::string& prefix, std::string_view name) {
  std::string text;
  text.reserve(prefix.size() + 1 + name.size());
  return text.append(prefix).append(".").append(name);
}

/// f with "prefix." before every name.
template <class F>
struct Named {
  std::string prefix;
  F& f;

  template <class... Tensors>
  void operator()(std::string_view name, Tensors&... tensors) const {
    f(joined(prefix, name), tensors...);
  }
};
/// The same of a visitor that takes matrices as they are stored.
template <hsm::SeesStorage F>
struct Named<F> {
  using SeesStorage = void;
  std::string prefix;
  F& f;

  template <class... Tensors>
  void operator()(std::string_view name, Tensors&... tensors) const {
    f(joined(prefix, name), tensors...);
  }
  template <class Matrix, class Narrow>
  void matrix(std::string_view name, Matrix& weight, Narrow& narrow) const {
    f.matrix(joined(prefix, name), weight, narrow);
  }
};

/// Counts values and bytes, those of matrices in fewer bytes too.
struct ParameterCounter {
  using SeesStorage = void;
  Index count = 0;
  std::size_t bytes = 0;

  template <class Tensor>
  void operator()(std::string_view, const Tensor& tensor) {
    count += tensor.size();
    bytes += static_cast<std::size_t>(tensor.size()) * sizeof(typename Tensor::Scalar);
  }
  template <class Matrix>
  void matrix(std::string_view name, const Matrix& weight, const NarrowMatrix& narrow) {
    (*this)(name, weight);
    count += narrow.rows() * narrow.cols();
    bytes += narrow.bytes();
  }
};

/// Stores matrices in another way.
struct MatrixStore {
  using SeesStorage = void;
  Storage storage;

  template <class Tensor>
  void operator()(std::string_view, Tensor&) const {}
  template <class Matrix>
  void matrix(std::string_view, Matrix& weight, NarrowMatrix& narrow) const {
    store_matrix(storage, weight, narrow);
  }
};

}  // namespace detail

/// Wraps f so that the names it is given start with "prefix.": for the members of a struct of structs.
template <class F>
auto named(std::string prefix, F& f) {
  return detail::Named<F>{std::move(prefix), f};
}

/// The number of values in all tensors.
template <class Parameters>
Index count_parameters(const Parameters& parameters) {
  detail::ParameterCounter counter;
  Parameters::visit(counter, parameters);
  return counter.count;
}

/// The bytes of all tensors, as they are stored.
template <class Parameters>
std::size_t parameter_bytes(const Parameters& parameters) {
  detail::ParameterCounter counter;
  Parameters::visit(counter, parameters);
  return counter.bytes;
}

/// Stores the matrix of each Linear and Embedding so, in place, for inference; Storage::kFloat widens them again, to
/// what they are worth. Norms, biases, scalars and learned positions stay as they are. Throws std::invalid_argument for a
/// matrix with a value that is not finite, after which those before it are stored and those behind it are not.
template <class Parameters>
void store_matrices(Parameters& parameters, Storage storage) {
  Parameters::visit(detail::MatrixStore{storage}, parameters);
}

/// Sets every value to zero: fresh gradients.
template <class Parameters>
void set_zero(Parameters& parameters) {
  Parameters::visit(
      [](std::string_view, auto& tensor) {
        constexpr bool kMatrix = requires { tensor.setZero(); };
        static_assert(kMatrix,
                      "hsm: visit must call f with Eigen matrices and vectors, such as hsm::Vector<Scalar>; "
                      "this tensor is something else");
        if constexpr (kMatrix) tensor.setZero();
      },
      parameters);
}

/// A copy with every value zero.
template <class Parameters>
Parameters zeros_like(Parameters parameters) {
  set_zero(parameters);
  return parameters;
}

}  // namespace hsm::inline HSM_ABI
