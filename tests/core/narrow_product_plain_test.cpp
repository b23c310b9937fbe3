// SPDX-License-Identifier: MIT
//
// The same in plain C++, as where the compiler may use neither AVX-512 nor AVX2.
#define EIGEN_DONT_VECTORIZE
#include "core/narrow_product_test.cpp"
