// SPDX-License-Identifier: MIT
//
// The tests of products with Eigen alone, whatever library the others are compiled with.
#undef HSM_USE_BLAS
#include "core/product_test.cpp"

namespace hsm::test {
namespace {

TEST(ProductLibrary, IsEigen) { EXPECT_EQ(std::string_view(product_library()), "Eigen"); }

}  // namespace
}  // namespace hsm::test
