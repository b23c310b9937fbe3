// SPDX-License-Identifier: MIT
//
// The serial product, with another multiply-add where there is one, gives the bits of Eigen's own, whatever the
// sizes and how the factors lie in memory.
#include <hsm/core/eigen_kernel.hpp>

#include <algorithm>

#include "support/matchers.hpp"
#include "support/scalars.hpp"

namespace hsm::test::eigen_kernel_test {
namespace {

#if HSM_EIGEN_SERIAL

template <class Scalar>
class EigenKernel : public ::testing::Test {};
TYPED_TEST_SUITE(EigenKernel, Scalars);

template <class Scalar, int kAOrder, int kBOrder>
void expect_eigens_bits(Eigen::Index rows, Eigen::Index cols, Eigen::Index depth) {
  SCOPED_TRACE(::testing::Message() << rows << " x " << cols << " x " << depth << ", orders " << kAOrder
                                    << ' ' << kBOrder);
  using Result = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
  using A = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, kAOrder>;
  using B = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, kBOrder>;
  std::srand(1);  // what Random() draws from
  const A a = A::Random(rows, depth);
  const B b = B::Random(depth, cols);
  Result expected = Result::Random(rows, cols), got = expected;
  expected.noalias() += a * b;
  hsm::detail::add_product<kAOrder, kBOrder>(rows, cols, depth, a.data(), a.outerStride(), b.data(),
                                             b.outerStride(), got.data(), got.outerStride());
  expect_same_bits(got, expected, "product");
}

TYPED_TEST(EigenKernel, GivesTheBitsOfEigen) {
  constexpr int kRow = Eigen::RowMajor, kColumn = Eigen::ColMajor;
  for (const Eigen::Index rows : {2, 7, 16, 24, 25, 131}) {
    for (const Eigen::Index cols : {2, 3, 4, 17, 64}) {
      for (const Eigen::Index depth : {16, 33, 300}) {
        expect_eigens_bits<TypeParam, kColumn, kColumn>(rows, cols, depth);
        expect_eigens_bits<TypeParam, kRow, kColumn>(rows, cols, depth);
        expect_eigens_bits<TypeParam, kColumn, kRow>(rows, cols, depth);
        expect_eigens_bits<TypeParam, kRow, kRow>(rows, cols, depth);
      }
    }
  }
}

#else

TEST(EigenKernel, GivesTheBitsOfEigen) {
  GTEST_SKIP() << "products go the usual way here, which product_plain_eigen_test.cpp sees on every machine";
}

#endif

}  // namespace
}  // namespace hsm::test::eigen_kernel_test
