// SPDX-License-Identifier: MIT
//
// A linear map of tokens: y = W x + b, with W [out, in] row-major and b of `out` values, of fewer (for the first
// rows), or empty. The struct is its parameters: the same type holds weights, gradients and optimizer moments.
// Fresh weights are drawn row by row. 2 out in flop per token.
//
// For inference the matrix may be stored in fewer bytes (core/narrow_matrix.hpp): `narrow` then holds it and `weight` is
// empty. forward runs all the same; what trains or changes weights throws std::invalid_argument.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <hsm/core/check.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/narrow_product.hpp>
#include <hsm/core/product.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/tensor_spec.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// y = W x + b. A bias shorter than W has rows is added to the first rows only.
template <ComputeScalar Scalar>
struct Linear {
  Weights<Scalar> weight;  ///< [out, in]; empty where `narrow` holds it
  Vector<Scalar> bias;     ///< [biased rows] or empty
  NarrowMatrix narrow;     ///< [out, in] in fewer bytes, for inference; else empty

  Linear() = default;

  /// Weights normal with mean 0 and the given standard deviation, bias 0. Throws std::invalid_argument for
  /// negative sizes.
  Linear(Index out, Index in, Index biased, double deviation, Random& random) {
    detail::check_at_least("Linear", "out", out, 0);
    detail::check_at_least("Linear", "in", in, 0);
    if (biased < 0 || biased > out)
      detail::fail("Linear", "biased", "0 to " + std::to_string(out), std::to_string(biased));
    weight.resize(out, in);
    for (Index i = 0; i < weight.size(); ++i)
      weight.data()[i] = static_cast<Scalar>(random.normal(deviation));
    bias.setZero(biased);
  }

  /// The tensors of such a map as the member `name`: the weight, which decays, and the bias where there is one.
  static TensorSpecs describe(std::string_view name, Index out, Index in, Index biased,
                              bool writes_result = false) {
    TensorSpec matrix = matrix_spec("weight", out, in);
    matrix.decays = true;
    matrix.writes_result = writes_result;
    TensorSpecs specs{std::move(matrix)};
    if (biased > 0) specs.push_back(vector_spec("bias", biased));
    return prefixed(name, std::move(specs));
  }

  /// Rows of W.
  Index out() const { return narrow.empty() ? weight.rows() : narrow.rows(); }
  /// Columns of W.
  Index in() const { return narrow.empty() ? weight.cols() : narrow.cols(); }

  /// Stores W so from now on; Storage::kFloat widens it again, to what it is worth. Throws std::invalid_argument, with
  /// nothing changed, for weights that are not finite.
  void store(Storage storage) { detail::store_matrix(storage, weight, narrow); }

  /// Y = W X + b, then epilogue(first_row, first_column, block of Y) on each block: X (in, n), Y (out, n)
  /// overwritten.
  template <class Epilogue = NoEpilogue>
  void forward(ConstColumns<Scalar> x, Columns<Scalar> y, Executor& executor,
               const Epilogue& epilogue = {}) const {
    const auto finish = [&](Index row, Index column, Columns<Scalar>& block) {
      const Index biased = (std::min)(block.rows(), bias.size() - row);
      for (Index j = 0; biased > 0 && j < block.cols(); ++j) {
        const Scalar* b = bias.data() + row;
        Scalar* out = &block(0, j);
        HSM_INDEPENDENT
        for (Index i = 0; i < biased; ++i) out[i] += b[i];
      }
      epilogue(row, column, block);
    };
    if (!narrow.empty()) return product(narrow, x, y, executor, finish);
    product(weight, x, y, executor, finish);
  }

  /// dX (+)= W^T dY.
  void backward_input(ConstColumns<Scalar> dy, Write write, Columns<Scalar> dx, Executor& executor) const {
    detail::check_wide("Linear::backward_input", narrow);
    product_transposed(weight, dy, write, dx, executor);
  }

  /// gradients.weight += dY X^T, gradients.bias += the sum of dY over tokens.
  static void backward_parameters(ConstColumns<Scalar> x, ConstColumns<Scalar> dy, Linear& gradients,
                                  Executor& executor) {
    product_outer(dy, x, gradients.weight, gradients.bias, executor);
  }

  /// Calls f(name, tensor, more...) for weight and, where there is one, bias.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    detail::visit_matrix(f, self, more...);
    if (self.bias.size() > 0) f("bias", self.bias, more.bias...);
  }
};

namespace detail {

[[noreturn, gnu::cold]] HSM_NOINLINE inline void fail_linear(const char* who, const char* name, Shape<2> got,
                                                             Index got_bias, Shape<2> expected,
                                                             Index least_bias) {
  const auto text = [](Shape<2> shape, const std::string& bias) {
    return to_text(shape) + " with a bias of " + bias + " rows";
  };
  const std::string most = std::to_string(expected[0]);
  fail(who, name, text(expected, least_bias < expected[0] ? "at most " + most : most),
       text(got, std::to_string(got_bias)));
}

/// Throws unless the map is [out, in] with a bias of least_bias to `out` values; `name` is what messages call it.
template <class Scalar>
void check_linear(const char* who, const char* name, const Linear<Scalar>& linear, Index out, Index in,
                  Index least_bias) {
  const Index bias = linear.bias.size();
  if (linear.out() != out || linear.in() != in || bias > out || bias < least_bias)
    fail_linear(who, name, {linear.out(), linear.in()}, bias, {out, in}, least_bias);
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
