// SPDX-License-Identifier: MIT
//
// The search of a learning rate: all rates of a grid, and then one more beyond the edge on which the best of them
// lies, as far from it as its neighbour is in the grid, until the best has a worse one on both sides.
//
//   RateSearch search({1e-3, 3e-3, 1e-2});
//   while (const auto rate = search.next()) search.set(*rate, loss_at(*rate));
//   search.best()
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <vector>

#include "examples/support/text.hpp"

namespace hsm::examples {

/// The rates that were tried, and which comes next. What follows depends on the losses alone, so a search that was
/// interrupted goes on where it was.
class RateSearch {
 public:
  /// So many rates are added to a grid at most; its edge is then told.
  static constexpr int kMostMore = 4;

  /// `grid` must have rates above 0, each once.
  explicit RateSearch(const std::vector<double>& grid) {
    if (grid.empty()) throw std::invalid_argument("RateSearch: there must be at least one rate, got none");
    for (const double rate : grid) losses_[rate] = std::nullopt;
    given_ = losses_.size();
  }

  /// The rate to be tried now, or nothing.
  std::optional<double> next() const {
    for (const auto& [rate, loss] : losses_) {
      if (!loss) return rate;
    }
    if (losses_.size() >= given_ + kMostMore) return std::nullopt;
    return beyond();
  }

  /// The loss at this rate; infinity or NaN for a run that diverged.
  void set(double rate, double loss) {
    losses_[rate] = std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity();
  }

  /// The rates so far, the one that comes next included.
  std::size_t size() const { return losses_.size() + (all_known() && next() ? 1 : 0); }
  /// Whether every rate so far has a loss.
  bool all_known() const {
    return std::all_of(losses_.begin(), losses_.end(),
                       [](const auto& one) { return one.second.has_value(); });
  }
  /// The rates so far, ascending.
  std::vector<double> rates() const {
    std::vector<double> all;
    for (const auto& [rate, loss] : losses_) all.push_back(rate);
    return all;
  }
  /// The rate with the lowest loss; of equal ones the lowest. All rates must be known.
  double best() const {
    double rate = losses_.begin()->first;
    for (const auto& [other, loss] : losses_) {
      if (*loss < *losses_.at(rate)) rate = other;
    }
    return rate;
  }
  /// Whether the best is the first or last of several.
  bool edge() const {
    return losses_.size() > 1 && (best() == losses_.begin()->first || best() == losses_.rbegin()->first);
  }

 private:
  /// The rate past the edge that the best lies on: rounded to three digits.
  std::optional<double> beyond() const {
    if (!edge()) return std::nullopt;
    const bool low = best() == losses_.begin()->first;
    const double edge = low ? losses_.begin()->first : losses_.rbegin()->first;
    const double inner = low ? std::next(losses_.begin())->first : std::next(losses_.rbegin())->first;
    const double rate = std::strtod(format("%.2e", edge * (edge / inner)).c_str(), nullptr);
    const bool outside = low ? rate > 1e-12 && rate < edge : rate < 1e3 && rate > edge;
    return outside ? std::optional(rate) : std::nullopt;
  }

  std::map<double, std::optional<double>> losses_;
  std::size_t given_ = 0;
};

}  // namespace hsm::examples
