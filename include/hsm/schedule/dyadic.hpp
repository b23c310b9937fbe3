// SPDX-License-Identifier: MIT
//
// s_l = 2^l: 1, 2, 4, 8, ... L layers reach 2^L - 1 back, every offset along exactly one path. The default
// schedule.
#pragma once

#include <hsm/schedule/schedule.hpp>

namespace hsm::inline HSM_ABI {

/// The shifts 1, 2, 4, ... 2^(layers-1). A shift that Index does not hold (2^63, or 2^31
/// on 32-bit targets) is refused with std::invalid_argument.
struct DyadicSchedule {
  /// L.
  Index layers = 0;

  /// L.
  constexpr Index layer_count() const { return layers; }
  /// The shift of layer l. Throws std::out_of_range for a layer that is not there.
  constexpr Index shift(Index l) const {
    detail::check_layer("DyadicSchedule::shift", l, layers);
    return detail::power("DyadicSchedule::shift", 2, l);
  }
  /// The same for every head.
  constexpr Index shift(Index l, Index /*head*/) const { return shift(l); }
};

static_assert(Schedule<DyadicSchedule>);

}  // namespace hsm::inline HSM_ABI
