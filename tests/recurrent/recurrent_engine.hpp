// SPDX-License-Identifier: MIT
//
// The passes of the recurrent layers for every scalar, which are compiled once, in support/hierarchy_instances.cpp.
#pragma once

#include <hsm/recurrent/causal_linear_attention.hpp>
#include <hsm/recurrent/moving_average.hpp>

// With an empty `storage` they are compiled; here `storage` is extern.
#define HSM_TEST_RECURRENT(storage, Scalar)            \
  storage template class LinearAttentionLayer<Scalar>; \
  storage template class EmaLayer<Scalar>;

namespace hsm {
HSM_TEST_RECURRENT(extern, float)
HSM_TEST_RECURRENT(extern, double)
}  // namespace hsm
