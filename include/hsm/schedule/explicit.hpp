// SPDX-License-Identifier: MIT
//
// Any list of shifts, one per layer.
#pragma once

#include <array>
#include <initializer_list>
#include <span>

#include <hsm/schedule/schedule.hpp>

namespace hsm::inline HSM_ABI {

/// The shifts that were listed: `ExplicitSchedule{1, 3, 9}`. Throws std::invalid_argument for a shift below 1
/// or more than kMostLayers.
class ExplicitSchedule {
 public:
  /// The longest list.
  static constexpr Index kMostLayers = 256;

  /// The shifts of layers 0, 1, ... in a list.
  constexpr ExplicitSchedule(std::initializer_list<Index> shifts)
      : ExplicitSchedule(std::span<const Index>(shifts.begin(), shifts.size())) {}

  /// The shifts of layers 0, 1, ... from an array, which is copied.
  constexpr explicit ExplicitSchedule(std::span<const Index> shifts)
      : layers_(static_cast<Index>(shifts.size())) {
    if (layers_ > kMostLayers) {
      detail::raise<std::invalid_argument>("ExplicitSchedule: at most " + std::to_string(kMostLayers) +
                                           " layers, got " + std::to_string(layers_));
    }
    for (std::size_t l = 0; l < shifts.size(); ++l) {
      if (shifts[l] < 1) {
        detail::raise<std::invalid_argument>("ExplicitSchedule: the shift of layer " + std::to_string(l) +
                                             " must be at least 1, got " + std::to_string(shifts[l]));
      }
      shifts_[l] = shifts[l];
    }
  }

  /// L.
  constexpr Index layer_count() const { return layers_; }
  /// The shift of layer l. Throws std::out_of_range for a layer that is not there.
  constexpr Index shift(Index l) const {
    detail::check_layer("ExplicitSchedule::shift", l, layers_);
    return shifts_[static_cast<std::size_t>(l)];
  }
  /// The same for every head.
  constexpr Index shift(Index l, Index /*head*/) const { return shift(l); }

 private:
  std::array<Index, static_cast<std::size_t>(kMostLayers)> shifts_{};
  Index layers_;
};

static_assert(Schedule<ExplicitSchedule>);

}  // namespace hsm::inline HSM_ABI
