// SPDX-License-Identifier: MIT
//
// Several values of one thing: their mean, and how far they lie apart.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>

namespace hsm::examples {

/// Several values of one thing.
struct Spread {
  double sum = 0, low = std::numeric_limits<double>::infinity(), high = -low;
  std::ptrdiff_t count = 0;

  void add(double value) {
    sum += value;
    low = std::min(low, value);
    high = std::max(high, value);
    ++count;
  }
  double mean() const { return sum / static_cast<double>(count); }
  /// The largest less the smallest; one value has none.
  std::optional<double> width() const { return count > 1 ? std::optional(high - low) : std::nullopt; }
};

}  // namespace hsm::examples
