// SPDX-License-Identifier: MIT
//
// What a shift mixer remembers between calls: for each group of neighbouring heads with the same shift a ring of the last
// (K-1) s columns that taps read (layer/ring_state.hpp).
#pragma once

#include <hsm/layer/ring_state.hpp>

namespace hsm::inline HSM_ABI {

/// The state of a Mixer.
template <ComputeScalar Scalar>
using MixerState = RingState<Scalar>;

}  // namespace hsm::inline HSM_ABI
