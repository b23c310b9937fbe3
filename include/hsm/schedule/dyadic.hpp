// SPDX-License-Identifier: MIT
//
// s_l = 2^l: 1, 2, 4, 8, ... L layers reach 2^L - 1 back, every offset along exactly one path. The default
// schedule.
#pragma once

#include <hsm/schedule/schedule.hpp>

namespace hsm {

/// The shifts 1, 2, 4, ... 2^(layers-1). A shift of 2^63 or more is refused with std::invalid_argument.
struct DyadicSchedule {
  Index layers = 0;

  constexpr Index layer_count() const { return layers; }
  constexpr Index shift(Index l) const {
    detail::check_layer("DyadicSchedule::shift", l, layers);
    return detail::power("DyadicSchedule::shift", 2, l);
  }
  constexpr Index shift(Index l, Index /*head*/) const { return shift(l); }
};

static_assert(Schedule<DyadicSchedule>);

}  // namespace hsm
