// SPDX-License-Identifier: MIT
//
// s_l = 2^(l mod p): the first p dyadic shifts over and over, for stacks deeper than the context needs.
#pragma once

#include <hsm/schedule/schedule.hpp>

namespace hsm::inline HSM_ABI {

/// The shifts 1, 2, ... 2^(period-1), 1, 2, ... over `layers` layers. Throws std::invalid_argument for period
/// < 1 and a shift that Index does not hold.
struct CyclicSchedule {
  /// L.
  Index layers = 0;
  /// How many different shifts there are, at least 1.
  Index period = 1;

  /// L.
  constexpr Index layer_count() const { return layers; }
  /// The shift of layer l. Throws std::out_of_range for a layer that is not there.
  constexpr Index shift(Index l) const {
    detail::check_layer("CyclicSchedule::shift", l, layers);
    if (period < 1) {
      detail::raise<std::invalid_argument>("CyclicSchedule::shift: period must be at least 1, got " +
                                           std::to_string(period));
    }
    return detail::power("CyclicSchedule::shift", 2, l % period);
  }
  /// The same for every head.
  constexpr Index shift(Index l, Index /*head*/) const { return shift(l); }
};

static_assert(Schedule<CyclicSchedule>);

}  // namespace hsm::inline HSM_ABI
