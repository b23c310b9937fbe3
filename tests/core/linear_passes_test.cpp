// SPDX-License-Identifier: MIT
//
// Maps between the tokens of a view and columns without gaps: every view of the same tokens gives what matrices give.
#include <gtest/gtest.h>

#include <algorithm>
#include <hsm/core/linear_passes.hpp>
#include <hsm/core/parameters.hpp>
#include <hsm/core/random.hpp>
#include <utility>

#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::linear_passes_test {
namespace {

constexpr Index kB = 2, kT = 5, kN = kB * kT, kIn = 3, kOut = 4;
constexpr Index kGap = 2;     // values between the tokens of a view
constexpr Index kBehind = 7;  // values behind each of its sequences

/// Tokens of `width` values in memory with gaps, and the same without, a column each.
template <class Scalar>
struct Spread {
  Spread(Index channels, Random& random) : width(channels), dense(channels, kN), memory(kB * sequence()) {
    for (Index i = 0; i < dense.size(); ++i) dense.data()[i] = static_cast<Scalar>(random.uniform() - 0.5);
    memory.setConstant(kUntouched);
    for (Index i = 0; i < kN; ++i) std::copy_n(dense.data() + i * width, width, view().at(i));
  }
  Index sequence() const { return kT * (width + kGap) + kBehind; }
  Tokens<Scalar> view() { return {memory.data(), kB, kT, width, width + kGap, sequence()}; }
  Tokens<const Scalar> read() { return view(); }
  /// The tokens of the view as columns. Counts values between them that were written to.
  OwnedColumns<Scalar> columns(Index& written) {
    OwnedColumns<Scalar> found(width, kN);
    for (Index i = 0; i < kN; ++i) std::copy_n(view().at(i), width, found.data() + i * width);
    written = memory.size() - (memory.array() == kUntouched).count() - kN * width;
    return found;
  }

  static constexpr Scalar kUntouched = 1000;
  Index width;
  OwnedColumns<Scalar> dense;
  Vector<Scalar> memory;
};

template <class Scalar>
class LinearPasses : public testing::Test {
 protected:
  using Matrix = Eigen::MatrixXd;

  static Matrix wide(const auto& values) { return values.template cast<double>(); }
  void expect_columns(Spread<Scalar>& view, const Matrix& expected) {
    Index written = -1;
    const OwnedColumns<Scalar> found = view.columns(written);
    EXPECT_EQ(written, 0);
    expect_close_to_scale(found, expected, Tolerance<Scalar>::forward, "found");
  }

  Random random{7};
  SerialExecutor executor;
  Linear<Scalar> map{kOut, kIn, kOut, 1, random};
  Linear<Scalar> gradient = zeros_like(map);
};
TYPED_TEST_SUITE(LinearPasses, Scalars);

TYPED_TEST(LinearPasses, ProjectTokensFromAnyOnOfAView) {
  using Scalar = TypeParam;
  Spread<Scalar> x(kIn, this->random);
  for (const auto& [first, n] : {std::pair<Index, Index>{0, kN}, {3, 4}, {kN, 0}}) {
    OwnedColumns<Scalar> y(kOut, n);
    hsm::detail::project_tokens(this->map, x.read(), first, n, y.data(), this->executor);
    const Eigen::MatrixXd expected =
        (this->wide(this->map.weight) * this->wide(x.dense.middleCols(first, n))).colwise() +
        Eigen::VectorXd(this->wide(this->map.bias));
    expect_close_to_scale(y, expected, Tolerance<Scalar>::forward, "y");
  }
}

TYPED_TEST(LinearPasses, WriteTheTokensOfAViewAndNothingBetween) {
  using Scalar = TypeParam;
  Spread<Scalar> z(kIn, this->random), y(kOut, this->random);
  Eigen::MatrixXd expected = this->wide(y.dense);
  expected.middleCols(3, 4) =
      (this->wide(this->map.weight) * this->wide(z.dense.middleCols(3, 4))).colwise() +
      Eigen::VectorXd(this->wide(this->map.bias));
  hsm::detail::write_tokens<Scalar>(this->map, z.dense.data() + 3 * kIn, y.view(), 3, 4, this->executor);
  this->expect_columns(y, expected);
}

TYPED_TEST(LinearPasses, ReturnGradientsOfWhatWasWritten) {
  using Scalar = TypeParam;
  Spread<Scalar> z(kIn, this->random), dy(kOut, this->random);
  OwnedColumns<Scalar> dz(kIn, kN);
  hsm::detail::return_output<Scalar>(this->map, z.dense.data(), dy.read(), dz.data(), this->gradient,
                                     this->executor);
  expect_close_to_scale(dz, Eigen::MatrixXd(this->wide(this->map.weight).transpose() * this->wide(dy.dense)),
                        Tolerance<Scalar>::forward, "dz");
  expect_close_to_scale(this->gradient.weight,
                        Eigen::MatrixXd(this->wide(dy.dense) * this->wide(z.dense).transpose()),
                        Tolerance<Scalar>::gradient, "gradient.weight");
  expect_close_to_scale(this->gradient.bias, Eigen::MatrixXd(this->wide(dy.dense).rowwise().sum()),
                        Tolerance<Scalar>::gradient, "gradient.bias");
}

TYPED_TEST(LinearPasses, ReturnGradientsOfWhatWasProjected) {
  using Scalar = TypeParam;
  Spread<Scalar> x(kIn, this->random), dx(kIn, this->random), d(kOut, this->random);
  Eigen::MatrixXd expected = this->wide(this->map.weight).transpose() * this->wide(d.dense);
  hsm::detail::return_projection<Scalar>(this->map, x.read(), d.dense.data(), Write::kOverwrite, dx.view(),
                                         this->gradient, this->executor);
  this->expect_columns(dx, expected);
  expect_close_to_scale(this->gradient.weight,
                        Eigen::MatrixXd(this->wide(d.dense) * this->wide(x.dense).transpose()),
                        Tolerance<Scalar>::gradient, "gradient.weight");
  hsm::detail::return_projection<Scalar>(this->map, x.read(), d.dense.data(), Write::kAdd, dx.view(),
                                         this->gradient, this->executor);
  this->expect_columns(dx, 2 * expected);
}

}  // namespace
}  // namespace hsm::test::linear_passes_test
