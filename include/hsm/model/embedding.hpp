// SPDX-License-Identifier: MIT
//
// Token embedding with tied output, and learned positions:
//
//   x[t] = E[token] + P[position]       E [V,C], P [context,C] or absent
//   logits[t] = E h[t]
//
// O(C) per token in, 2 V C flop per token out. Initial values: E normal(0.02), P normal(0.01). E may be stored in fewer
// bytes for inference, as the matrix of a Linear may; P, of which a token reads one row, is not.
#pragma once

#include <cstdint>
#include <span>

#include <hsm/core/elementwise.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/narrow_product.hpp>
#include <hsm/core/product.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/tensor_spec.hpp>

namespace hsm::inline HSM_ABI {

/// A table of rows [rows, C], looked up by number.
template <ComputeScalar Scalar>
struct Embedding {
  Weights<Scalar> weight;  ///< [rows, C]; empty where `narrow` holds it
  NarrowMatrix narrow;     ///< [rows, C] in fewer bytes, for inference; else empty

  Embedding() = default;
  /// Values normal with the given deviation.
  Embedding(Index rows, Index channels, double deviation, Random& random) : weight(rows, channels) {
    for (Index i = 0; i < weight.size(); ++i)
      weight.data()[i] = static_cast<Scalar>(random.normal(deviation));
  }

  /// How many rows the table has.
  Index rows() const { return narrow.empty() ? weight.rows() : narrow.rows(); }
  /// C.
  Index channels() const { return narrow.empty() ? weight.cols() : narrow.cols(); }
  /// Whether there is no table: a model without learned positions.
  bool empty() const { return weight.size() == 0 && narrow.empty(); }
  /// Stores the table so from now on; as Linear::store.
  void store(Storage storage) { detail::store_matrix(storage, weight, narrow); }

  /// Y = E X, of columns (C, n) and (rows, n): logits.
  void multiply(ConstColumns<Scalar> x, Columns<Scalar> y, Executor& executor) const {
    if (!narrow.empty()) return product(narrow, x, y, executor);
    product(weight, x, y, executor);
  }

  /// x[j] = weight[row(j)], or += ; row is a function of the token number, x (C, n).
  template <class Row>
  void look_up(const Row& row, Write write, Columns<Scalar> x) const {
    const Index C = channels();
    if (!narrow.empty()) {
      for (Index j = 0; j < x.cols(); ++j) narrow_row(row(j), write, at(x, 0, j));
      return;
    }
    for (Index j = 0; j < x.cols(); ++j) {
      const Scalar* from = weight.data() + row(j) * C;
      Scalar* to = at(x, 0, j);
      if (write == Write::kAdd) {
        detail::add(C, from, to, to);
      } else {
        std::copy(from, from + C, to);
      }
    }
  }

  /// gradients[row(j)] += dx[j], split over channels so that the order of additions is that of the tokens.
  template <class Row>
  static void scatter(const Row& row, ConstColumns<Scalar> dx, Embedding& gradients, Executor& executor) {
    parallel_blocks(executor, dx.rows(), 64, [&](Index first, Index n, int) {
      for (Index j = 0; j < dx.cols(); ++j) {
        Scalar* to = gradients.weight.data() + row(j) * gradients.channels() + first;
        detail::add(n, at(dx, first, j), to, to);
      }
    });
  }

  /// The tensor of a table, which does not decay.
  static TensorSpecs describe(Index rows, Index C) { return {matrix_spec("weight", rows, C)}; }

  /// Calls f(name, tensor, more...) for each tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    if (!self.empty()) detail::visit_matrix(f, self, more...);
  }

 private:
  void narrow_row(Index row, Write write, Scalar* to) const {
    for (Index i = 0; i < channels(); ++i) {
      const auto value = static_cast<Scalar>(narrow.at(row, i));
      to[i] = write == Write::kAdd ? to[i] + value : value;
    }
  }
};

}  // namespace hsm::inline HSM_ABI
