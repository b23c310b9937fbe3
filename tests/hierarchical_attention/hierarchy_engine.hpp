// SPDX-License-Identifier: MIT
//
// The passes of attention over a hierarchy for every scalar, which are compiled once, in
// support/hierarchy_instances.cpp.
#pragma once

#include <hsm/hierarchical_attention/hierarchical_kernel_attention.hpp>

// With an empty `storage` they are compiled; here `storage` is extern.
#define HSM_TEST_HIERARCHY(storage, Scalar) storage template class HierarchicalAttentionLayer<Scalar>;

namespace hsm {
HSM_TEST_HIERARCHY(extern, float)
HSM_TEST_HIERARCHY(extern, double)
}  // namespace hsm
