// SPDX-License-Identifier: MIT
//
// The engine for every policy and scalar, compiled once for all test programs; see mixing/mixer_cases.hpp.
#include "mixing/mixer_cases.hpp"

namespace hsm {
HSM_TEST_ENGINES()
}
