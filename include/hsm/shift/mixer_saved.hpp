// SPDX-License-Identifier: MIT
//
// What forward leaves for backward: the segments, the projections, the combined columns where an output
// product follows, and the state at entry where there was one. The type depends on the scalar alone; one
// object serves any number of calls and keeps its memory.
//
//   (a,b): nothing per token.  gated: C.  softmax-local: 4 C values per token.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include <hsm/layer/recorded_call.hpp>
#include <hsm/shift/mixer_state.hpp>
#include <hsm/shift/timeline.hpp>

namespace hsm::inline HSM_ABI {

/// The record of one forward call of a mixer; made by Mixer::make_saved, filled by forward, read by backward.
template <ComputeScalar Scalar>
struct MixerSaved : RecordedCall {
  OwnedColumns<Scalar> projected;         ///< of the products with project: [(local + shifted) C, B T]
  OwnedColumns<Scalar> mixed;             ///< z, [C, B T]
  MixerState<Scalar> entry;               ///< the state at entry, empty where all segments are fresh
  std::string_view policy;                ///< kName of the policy, a literal
  Index taps = 0;                         ///< K
  std::vector<detail::HeadGroup> groups;  ///< the shifts of all heads

  /// Bytes held.
  std::size_t bytes() const {
    return static_cast<std::size_t>(projected.size() + mixed.size()) * sizeof(Scalar) + entry.bytes();
  }
};

}  // namespace hsm::inline HSM_ABI
