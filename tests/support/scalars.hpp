// SPDX-License-Identifier: MIT
//
// The scalars of the typed suites: float and double, or, where HSM_TEST_FLOAT_ALONE is defined, float alone. It is
// for sanitizers, which see the same code in either and take half the time with one.
#pragma once

#include <gtest/gtest.h>

namespace hsm::test {

#if defined(HSM_TEST_FLOAT_ALONE)
using Scalars = ::testing::Types<float>;
#else
using Scalars = ::testing::Types<float, double>;
#endif

}  // namespace hsm::test
