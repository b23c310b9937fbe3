// SPDX-License-Identifier: MIT
//
// Heads at different distances in one layer: head h of layer l uses the distance of layer (l + h) mod L, so
// that every layer mixes over as many distances as it has heads.
#pragma once

#include <hsm/schedule/schedule.hpp>

namespace hsm::inline HSM_ABI {

/// shift(l, h) of the inner schedule at layer (l + h) mod L.
template <Schedule Inner>
struct HeadRotated {
  /// The schedule that is rearranged.
  Inner inner;

  /// L.
  constexpr Index layer_count() const { return inner.layer_count(); }
  /// The shift of layer l. Throws std::out_of_range for a layer that is not there.
  constexpr Index shift(Index l) const { return shift(l, 0); }
  /// Throws std::out_of_range for a layer that is not there or head < 0.
  constexpr Index shift(Index l, Index head) const {
    detail::check_layer("HeadRotated::shift", l, layer_count());
    if (head < 0)
      detail::raise<std::out_of_range>("HeadRotated::shift: head must be at least 0, got " +
                                       std::to_string(head));
    return inner.shift((l + head % layer_count()) % layer_count());
  }
};

/// The type follows from the inner schedule.
template <Schedule Inner>
HeadRotated(Inner) -> HeadRotated<Inner>;

}  // namespace hsm::inline HSM_ABI
