// SPDX-License-Identifier: MIT
//
// The passes of attention for every scalar, compiled once for all test programs; see
// attention/attention_engine.hpp.
#include "attention/attention_engine.hpp"

namespace hsm {
HSM_TEST_ATTENTION(, float)
HSM_TEST_ATTENTION(, double)
}  // namespace hsm
