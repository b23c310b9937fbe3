// SPDX-License-Identifier: MIT
//
// The passes of attention over a hierarchy and of the recurrent layers for every scalar, compiled once for all test
// programs; see hierarchical_attention/hierarchy_engine.hpp and recurrent/recurrent_engine.hpp.
#include "hierarchical_attention/hierarchy_engine.hpp"
#include "recurrent/recurrent_engine.hpp"

namespace hsm {
HSM_TEST_HIERARCHY(, float)
HSM_TEST_HIERARCHY(, double)
HSM_TEST_RECURRENT(, float)
HSM_TEST_RECURRENT(, double)
}  // namespace hsm
