// SPDX-License-Identifier: MIT
//
// Any schedule from its last layer to its first: far partners first, near ones last.
#pragma once

#include <hsm/schedule/schedule.hpp>

namespace hsm::inline HSM_ABI {

/// shift(l) of the inner schedule at layer L - 1 - l.
template <Schedule Inner>
struct Reversed {
  /// The schedule that is rearranged.
  Inner inner;

  /// L.
  constexpr Index layer_count() const { return inner.layer_count(); }
  /// The shift of layer l. Throws std::out_of_range for a layer that is not there.
  constexpr Index shift(Index l) const { return shift(l, 0); }
  /// The shift of head `head` of layer l.
  constexpr Index shift(Index l, Index head) const {
    detail::check_layer("Reversed::shift", l, layer_count());
    return inner.shift(layer_count() - 1 - l, head);
  }
};

/// The type follows from the inner schedule.
template <Schedule Inner>
Reversed(Inner) -> Reversed<Inner>;

}  // namespace hsm::inline HSM_ABI
