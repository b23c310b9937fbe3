// SPDX-License-Identifier: MIT
//
// s_l = b^l: 1, b, b^2, ... Reaches further per layer than the dyadic schedule and leaves holes for b > 2
// (schedule/coverage.hpp).
#pragma once

#include <hsm/schedule/schedule.hpp>

namespace hsm::inline HSM_ABI {

/// The shifts 1, b, b^2, ... b^(layers-1). Throws std::invalid_argument for base < 1 or a shift that
/// Index does not hold.
struct GeometricSchedule {
  /// L.
  Index layers = 0;
  /// b, at least 1.
  Index base = 2;

  /// L.
  constexpr Index layer_count() const { return layers; }
  /// The shift of layer l. Throws std::out_of_range for a layer that is not there.
  constexpr Index shift(Index l) const {
    detail::check_layer("GeometricSchedule::shift", l, layers);
    if (base < 1)
      detail::raise<std::invalid_argument>("GeometricSchedule::shift: base must be at least 1, got " +
                                           std::to_string(base));
    return detail::power("GeometricSchedule::shift", base, l);
  }
  /// The same for every head.
  constexpr Index shift(Index l, Index /*head*/) const { return shift(l); }
};

static_assert(Schedule<GeometricSchedule>);

}  // namespace hsm::inline HSM_ABI
