// SPDX-License-Identifier: MIT
//
// The engine for every policy and scalar, compiled once for all test programs; see shift/mixer_engines.hpp.
#include "shift/mixer_engines.hpp"

namespace hsm {
#define HSM_TEST_DEFINED(Policy) HSM_TEST_ENGINES_OF(, Policy)
HSM_TEST_ENGINES(HSM_TEST_DEFINED)
}  // namespace hsm
