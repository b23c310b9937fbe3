// SPDX-License-Identifier: MIT
//
// The axes of plots: from values to pixels, and the round values that stand beside an axis.
#pragma once

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "examples/support/text.hpp"

namespace hsm::examples {

/// How values become places: evenly, or by their logarithm with ticks at 1, 2, 5, 10, ... or at powers of two.
enum class Scale { kLinear, kLog, kLog2 };

/// An axis; without bounds it is as long as what is drawn.
struct PlotAxis {
  std::string label{};
  Scale scale = Scale::kLinear;
  std::optional<double> low{}, high{};
};

/// A number for people: 0.25, 128, 20k, 1.5M.
inline std::string short_number(double value) {
  const char* unit = "";
  for (const char* larger : {"k", "M", "G", "T"}) {
    if (!(std::abs(value) >= 10'000 || (*unit != '\0' && std::abs(value) >= 1000))) break;
    value /= 1000;
    unit = larger;
  }
  return format("%.4g%s", value, unit);
}

/// An axis with its bounds settled, over a length of pixels.
class PlotScale {
 public:
  /// From pixel `start`, where `low` is, to pixel `end`. Bounds without a length, or with one that
  /// their last digits make, are widened.
  PlotScale(const PlotAxis& axis, double low, double high, double start, double end)
      : scale_(axis.scale),
        low_(axis.low.value_or(low)),
        high_(axis.high.value_or(high)),
        start_(start),
        end_(end) {
    const double rounding =
        64 * std::numeric_limits<double>::epsilon() * std::max(std::abs(low_), std::abs(high_));
    if (!(high_ - low_ > rounding)) {
      const double room = scale_ != Scale::kLinear || low_ == 0 ? 1 : std::abs(low_) / 2;
      high_ = scale_ == Scale::kLinear ? low_ + room : low_ * 2;
      low_ = scale_ == Scale::kLinear ? low_ - room : low_ / 2;
    }
  }

  /// Whether the value has a place on the axis.
  bool shows(double value) const {
    const double slack = 1e-9 * (high_ - low_);
    return std::isfinite(value) && (scale_ == Scale::kLinear || value > 0) && value >= low_ - slack &&
           value <= high_ + slack;
  }
  /// Its pixel.
  double operator()(double value) const {
    const double share = (along(value) - along(low_)) / (along(high_) - along(low_));
    return start_ + share * (end_ - start_);
  }
  double low() const { return low_; }
  double high() const { return high_; }

  /// Round values within the bounds, at most about `most`.
  std::vector<double> ticks(int most = 7) const;

 private:
  double along(double value) const { return scale_ == Scale::kLinear ? value : std::log(value); }
  std::vector<double> multiples(std::initializer_list<int> factors, double base) const;

  Scale scale_;
  double low_, high_, start_, end_;
};

inline std::vector<double> PlotScale::ticks(int most) const {
  std::vector<double> all;
  if (scale_ == Scale::kLinear) {
    const double least = (high_ - low_) / most, ten = std::pow(10, std::floor(std::log10(least)));
    double step = 10 * ten;
    for (const double factor : {5.0, 2.0, 1.0}) {
      if (factor * ten >= least) step = factor * ten;
    }
    for (double i = std::ceil(low_ / step - 1e-9); i * step <= high_ + 1e-9 * step; ++i)
      all.push_back(i * step + 0.0);  // -0 becomes 0
    return all;
  }
  all = multiples({1}, scale_ == Scale::kLog2 ? 2 : 10);
  if (scale_ == Scale::kLog && all.size() < 3) all = multiples({1, 2, 5}, 10);
  if (scale_ == Scale::kLog && all.size() < 3) all = multiples({1, 2, 3, 4, 5, 6, 7, 8, 9}, 10);
  const std::size_t every =
      (all.size() + static_cast<std::size_t>(most) - 1) / static_cast<std::size_t>(most);
  std::vector<double> some;
  for (std::size_t i = 0; i < all.size(); i += std::max<std::size_t>(every, 1)) some.push_back(all[i]);
  return some;
}

inline std::vector<double> PlotScale::multiples(std::initializer_list<int> factors, double base) const {
  std::vector<double> all;
  const auto first = static_cast<int>(std::floor(std::log(low_) / std::log(base) - 1e-9));
  const auto last = static_cast<int>(std::ceil(std::log(high_) / std::log(base) + 1e-9));
  for (int power = first; power <= last; ++power) {
    for (const int factor : factors) {
      const double value = factor * std::pow(base, power);
      if (value >= low_ * (1 - 1e-9) && value <= high_ * (1 + 1e-9)) all.push_back(value);
    }
  }
  return all;
}

namespace detail {

/// The least and the largest of some values, as far as an axis of this scale can show them.
struct PlotBounds {
  Scale scale;
  double low = std::numeric_limits<double>::infinity(), high = -low;

  void add(double value) {
    if (!std::isfinite(value) || (scale != Scale::kLinear && value <= 0)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  /// With some room around them; 0 to 1, or 1 to 10, where there are none.
  PlotScale over(const PlotAxis& axis, double start, double end, double room) const {
    if (low > high)
      return PlotScale(axis, scale == Scale::kLinear ? 0 : 1, scale == Scale::kLinear ? 1 : 10, start, end);
    if (scale == Scale::kLinear)
      return PlotScale(axis, low - room * (high - low), high + room * (high - low), start, end);
    const double factor = std::pow(high / low, room);
    return PlotScale(axis, low / factor, high * factor, start, end);
  }
};

}  // namespace detail
}  // namespace hsm::examples
