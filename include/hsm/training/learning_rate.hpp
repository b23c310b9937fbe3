// SPDX-License-Identifier: MIT
//
// The learning rate over a run: a linear rise, then half a cosine down to a floor (the cosine: Loshchilov &
// Hutter, arXiv 1608.03983). With x steps done of `total`:
//
//   x < warmup    peak x / warmup
//   else          floor + (peak - floor) (1 + cos(pi (x - warmup) / (total - warmup))) / 2,
//                 floor = floor_fraction peak; it stays there after the end
//
// A run of a known number of steps asks by step; a run by the clock asks by the share of its time. A warm-up of
// the whole run (warmup = total) is a rise alone: it ends at the peak and the floor is only what comes after.
#pragma once

#include <cmath>
#include <numbers>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// The schedule; a plain value. Its fields are checked where it is asked.
struct WarmupCosine {
  double peak = 1e-3;           ///< highest rate, > 0
  Index warmup = 0;             ///< steps of the rise, 0 ... total
  Index total = 1;              ///< steps of the run, >= 1; by the clock any unit: warmup = 2, total = 100
  double floor_fraction = 0.1;  ///< last rate / peak, in [0, 1]

  /// The rate of step 0, 1, ...: step warmup - 1 has the peak, step total - 1 the floor (the peak, where warmup
  /// is total), and step 0 is not 0.
  /// Throws std::invalid_argument for step < 0 or a field outside its bounds.
  double at(Index step) const {
    detail::check_at_least("WarmupCosine::at", "step", step, 0);
    return rate("WarmupCosine::at", static_cast<double>(step) + 1);
  }

  /// The rate when `progress` of the run is done: 0 at its start (the first step then moves nothing, unless
  /// warmup is 0), 1 at its end; above 1 it is the floor. Continuous. Throws std::invalid_argument for
  /// progress < 0 or NaN or a field outside its bounds.
  double at_progress(double progress) const {
    detail::check_number("WarmupCosine::at_progress", progress >= 0, "progress", "at least 0", progress);
    return rate("WarmupCosine::at_progress", progress * static_cast<double>(total));
  }

 private:
  double rate(const char* who, double x) const {
    detail::check_number(who, peak > 0 && detail::is_finite(peak), "peak", "above 0 and finite", peak);
    detail::check_at_least(who, "total", total, 1);
    detail::check_at_least(who, "warmup", warmup, 0);
    if (warmup > total)
      detail::fail(who, "warmup", "at most total, " + std::to_string(total), std::to_string(warmup));
    detail::check_number(who, floor_fraction >= 0 && floor_fraction <= 1, "floor_fraction", "in [0, 1]",
                         floor_fraction);
    const double rise = static_cast<double>(warmup), end = static_cast<double>(total);
    if (x < rise) return peak * (x / rise);
    if (x == rise) return peak;
    if (x >= end) return peak * floor_fraction;
    const double share = (1 + std::cos(std::numbers::pi * (x - rise) / (end - rise))) / 2;
    return peak * (floor_fraction + (1 - floor_fraction) * share);
  }
};

}  // namespace hsm::inline HSM_ABI
