// SPDX-License-Identifier: MIT
//
// The passes of attention for every scalar, which are compiled once, in support/attention_instances.cpp.
#pragma once

#include <hsm/attention/causal_attention.hpp>

// With an empty `storage` they are compiled; here `storage` is extern.
#define HSM_TEST_ATTENTION(storage, Scalar) storage template class AttentionLayer<Scalar>;

namespace hsm {
HSM_TEST_ATTENTION(extern, float)
HSM_TEST_ATTENTION(extern, double)
}  // namespace hsm
