// SPDX-License-Identifier: MIT
//
// The same with Eigen's own kernels, as on processors and compilers for which the library has no kernel of its own
// (core/eigen_kernel.hpp): without vectors that is so everywhere.
#define EIGEN_DONT_VECTORIZE
#include "core/product_eigen_test.cpp"

namespace hsm::test {
namespace {

TEST(ProductLibrary, UsesNoKernelOfItsOwn) {
  constexpr int kKernel = HSM_EIGEN_KERNEL;
  EXPECT_EQ(kKernel, 0);
}

}  // namespace
}  // namespace hsm::test
