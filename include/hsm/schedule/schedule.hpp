// SPDX-License-Identifier: MIT
//
// The schedule: which distance a layer mixes over. A schedule is a small constexpr value that maps (layer l,
// head h) to a shift s >= 1; a stack of L layers with shifts s_0 ... s_{L-1} reaches up to their sum back.
//
//   layer 0 (s=1)   o o o o o o o o        DyadicSchedule: after 3 layers the last token has seen all 8,
//                   |/|/|/|/|/|/|/|        each of them along exactly one path.
//   layer 1 (s=2)   o o o o o o o o
//   layer 2 (s=4)   o o o o o o o o
#pragma once

#include <concepts>
#include <limits>
#include <stdexcept>
#include <string>

#include <hsm/core/raise.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// `layers` layers; shift(l) is the distance of layer l, shift(l, h) that of its head h. Both throw
/// std::out_of_range for l outside [0, layers) and std::invalid_argument where the schedule itself is not
/// one.
template <class S>
concept Schedule = std::copyable<S> && requires(const S& schedule, Index l, Index h) {
  { schedule.layer_count() } -> std::same_as<Index>;
  { schedule.shift(l) } -> std::same_as<Index>;
  { schedule.shift(l, h) } -> std::same_as<Index>;
};

namespace detail {

// Out of line: where it is inlined, g++ 12 sees an overlap in the joined text that is not there.
[[noreturn]] HSM_NOINLINE inline void fail_layer_number(const char* who, Index l, Index layers) {
  detail::raise<std::out_of_range>(std::string(who) + ": layer must be 0 to " + std::to_string(layers - 1) +
                                   ", got " + std::to_string(l));
}

/// Throws std::out_of_range unless 0 <= l < layers.
constexpr void check_layer(const char* who, Index l, Index layers) {
  if (l < 0 || l >= layers) fail_layer_number(who, l, layers);
}

[[noreturn]] HSM_NOINLINE inline void fail_power(const char* who, Index base, Index exponent) {
  detail::raise<std::invalid_argument>(std::string(who) + ": the shift must be an index below 2^" +
                                       std::to_string(kIndexBits) + ", got " + std::to_string(base) + "^" +
                                       std::to_string(exponent));
}

/// base^exponent; throws std::invalid_argument where it is not an Index.
constexpr Index power(const char* who, Index base, Index exponent) {
  Index value = 1;
  for (Index i = 0; i < exponent; ++i) {
    if (value > (std::numeric_limits<Index>::max)() / base) fail_power(who, base, exponent);
    value *= base;
  }
  return value;
}

}  // namespace detail
}  // namespace hsm::inline HSM_ABI
