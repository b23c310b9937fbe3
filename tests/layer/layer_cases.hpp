// SPDX-License-Identifier: MIT
//
// What tests of layers that are no shift mixers read, how they lay out what they compare, and what holds for each of them.
#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/random.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>

#include "support/matchers.hpp"

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

/// Outputs, gradients and states of recorded extends of T tokens have the same bits with any number of threads.
template <class Mixer>
void expect_threads_change_no_bit(const Mixer& mixer, Index T, const std::vector<Index>& batches = {1, 5},
                                  const std::vector<int>& thread_counts = {2, 5}) {
  using Scalar = typename Mixer::Scalar;
  const Index C = mixer.channels();
  Random random(7);
  for (const Index B : batches) {
    const auto x = random_matrix<Scalar>(C, B * T, random), dy = random_matrix<Scalar>(C, B * T, random);
    const Tokens<const Scalar> in(x.data(), B, T, C), given(dy.data(), B, T, C);
    const auto run = [&](Workspace& workspace) {
      Matrix<Scalar> y(C, B * T), dx(C, B * T);
      auto saved = mixer.make_saved();
      auto gradients = mixer.make_gradients();
      auto state = mixer.make_state({.streams = B, .spare = 2}), d_state = state;
      mixer.extend(in, state, Tokens<Scalar>(y.data(), B, T, C), saved, workspace);
      mixer.backward(in, saved, given, Tokens<Scalar>(dx.data(), B, T, C), gradients, workspace, &d_state);
      std::vector<Scalar> all = flat(gradients);
      all.insert(all.end(), y.data(), y.data() + y.size());
      all.insert(all.end(), dx.data(), dx.data() + dx.size());
      return std::pair(all, state);
    };
    Workspace serial;
    const auto expected = run(serial);
    for (const int threads : thread_counts) {
      ThreadedExecutor executor(threads);
      Workspace workspace(executor);
      workspace.poison = true;
      const auto got = run(workspace);
      expect_same_bits(got.first, expected.first, std::to_string(threads) + " threads");
      EXPECT_TRUE(got.second == expected.second) << threads << " threads";
    }
  }
}

/// Whatever one of `tokens` holds in the first of two packed documents of T tokens, no bit before it or in the other
/// document changes; from it on, NaN and infinity are seen.
template <class Mixer>
void expect_later_tokens_unseen(const Mixer& mixer, Index T, const std::vector<Index>& tokens) {
  using Scalar = typename Mixer::Scalar;
  const Index C = mixer.channels();
  Random random(8);
  const auto x = random_matrix<Scalar>(C, 2 * T, random);
  Matrix<Scalar> y(C, 2 * T), z(C, 2 * T);
  const std::vector<Index> offsets{0, T, 2 * T};
  Workspace workspace;
  mixer.packed(x, offsets, y, workspace);
  for (const Index t : tokens) {
    for (const Scalar value :
         {std::numeric_limits<Scalar>::quiet_NaN(), std::numeric_limits<Scalar>::infinity()}) {
      auto bad = x;
      bad.col(t).setConstant(value);
      mixer.packed(bad, offsets, z, workspace);
      expect_same_bits(z.leftCols(t).eval(), y.leftCols(t).eval(), "before token " + std::to_string(t));
      expect_same_bits(z.rightCols(T).eval(), y.rightCols(T).eval(), "another document");
      EXPECT_TRUE((z.middleCols(t, T - t).array() != z.middleCols(t, T - t).array()).all()) << t;
    }
  }
}

}  // namespace hsm::test
