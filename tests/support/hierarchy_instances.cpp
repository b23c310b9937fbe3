// SPDX-License-Identifier: MIT
//
// The passes of attention over a hierarchy for every scalar, compiled once for all test programs; see
// hierarchical_attention/hierarchical_attention_cases.hpp.
#include "hierarchical_attention/hierarchical_attention_cases.hpp"

namespace hsm {
HSM_TEST_HIERARCHY(, float)
HSM_TEST_HIERARCHY(, double)
}  // namespace hsm
