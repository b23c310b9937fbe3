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

#include "reference/plain_loops.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {

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

/// The values of a tensor as they are stored, in double.
template <class Tensor>
Values plain(const Tensor& tensor) {
  return Values(tensor.data(), tensor.data() + tensor.size());
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

/// C, and two numbers that a layer's case says the meaning of.
struct LayerSize {
  Index channels, first, second = 0;
};

inline std::string text_of(const LayerSize& size) {
  return "C " + std::to_string(size.channels) + ", " + std::to_string(size.first) + ", " +
         std::to_string(size.second);
}

/// What the tests of every layer (layer/every_layer_test.cpp) ask of a layer's case, which derives from this. It states
///
///   Scalar, Reference, kType         its scalar; its oracle, with forward(x) and loss(x, dy); its name in messages
///   make(size)                       a mixer, all tensors random
///   of(C)                            a size with any C that is a multiple of 4
///   definition(), small(), state()   sizes to compare with the oracle; of every kind; of every kind, with a small state
///   gradients()                      sizes and tokens to compare with central differences
///   others(size)                     layers of as many channels that refuse a state of `size`
///   tensors(reference)               the tensors of an oracle, in the order of visit
///
/// and what differs from the constants and functions here.
struct LayerCase {
  struct Gradient {
    LayerSize size;
    Index T;
  };
  static constexpr bool kSameBits = false;      ///< whether every mode and cut of time has the same bits
  static constexpr bool kKeepsStreams = false;  ///< whether a call that throws leaves every stream as it was
  static constexpr Index kLoops = 1;            ///< loops of tasks, at least, in a call
  /// Whether any number of tokens can be taken back.
  static bool rewinds_all(const LayerSize&) { return false; }
  /// Whether outputs of T tokens depend on a tensor, beyond rounding.
  static bool counts(std::string_view, Index) { return true; }
  /// How many times the usual error central differences may have.
  static double difference_factor(const LayerSize&) { return 1; }
};

/// The mixers of cases with a scalar each.
template <template <class> class... Cases>
struct LayerCaseList {
  using Float = ::testing::Types<Cases<float>...>;
  using Double = ::testing::Types<Cases<double>...>;
#if defined(HSM_TEST_FLOAT_ALONE)
  using All = Float;
#else
  using All = ::testing::Types<Cases<float>..., Cases<double>...>;
#endif
};

/// "MovingAverageFloat" and so on.
struct LayerCaseName {
  template <class Case>
  static std::string GetName(int) {
    return std::string(Case::kType) + (sizeof(typename Case::Scalar) == sizeof(float) ? "Float" : "Double");
  }
};

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
      EXPECT_FALSE(z.middleCols(t, T - t).array().isFinite().any()) << t;
    }
  }
}

/// Of two ways to one result.
template <class Case, class Got, class Expected>
void expect_same(const Got& got, const Expected& expected, const std::string& label,
                 double tolerance = Tolerance<typename Case::Scalar>::mode) {
  if constexpr (Case::kSameBits) {
    expect_same_bits(got, expected, label);
  } else {
    expect_close_to_scale(wide(got), wide(expected), tolerance, label);
  }
}

}  // namespace hsm::test
