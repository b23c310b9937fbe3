// SPDX-License-Identifier: MIT
//
// Which past offsets a stack of layers reaches, and along how many paths. In a layer with residual path a
// token reads itself and the tokens s, 2s, ... (K-1)s back. So the paths from d places back are counted by
//
//   P(x) = product over layers of (1 + x^s + x^2s + ... + x^(K-1)s),   paths(d) = coefficient of x^d
//
//   constexpr hsm::DyadicSchedule schedule{.layers = 7};
//   static_assert(hsm::Coverage(schedule).reached_count() == 128);   // each offset 0 ... 127
//
// Where the heads of a layer have different shifts, a path may take any head, because the layers between
// mix the channels; heads at equal distances count once. Attention reaches everything: here its layers are
// passed through, and `hybrid()` tells that offsets without a path rest on layers without shifts alone. Cost: O(window)
// for each distance of each layer, 8 bytes per offset.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/schedule/schedule.hpp>

// A std::vector lives in constant expressions from g++ 12 and libc++ 15 on; before, Coverage is for run time.
#if defined(__cpp_lib_constexpr_vector)
#define HSM_DETAIL_CONSTEXPR constexpr
#else
#define HSM_DETAIL_CONSTEXPR inline
#endif

namespace hsm::inline HSM_ABI {

/// How one layer looks back.
struct CoverageLayer {
  std::vector<Index> shifts{};  ///< of its heads, or one for all; none for an attention layer
  Index taps = 2;  ///< K, the token itself counted; with a shift of 1 it is the window of local attention
};

/// What a schedule does not say of a stack.
struct CoverageOptions {
  Index heads = 1;                 ///< H of every layer
  Index taps = 2;                  ///< K of every layer
  std::vector<Index> attention{};  ///< the layers that are attention
  Index window = 0;                ///< look at the offsets 0 ... window-1 only; 0 = all up to the reach
};

namespace detail {

/// A schedule, asked of no type for which asking would need its own constructors.
template <class S, class Self>
concept ScheduleOtherThan = !std::same_as<S, Self> && Schedule<S>;

}  // namespace detail

/// Counts the paths from each past offset of a stack to its last token; see the file comment.
class Coverage {
 public:
  /// The most offsets that are looked at.
  static constexpr Index kMostOffsets = Index{1} << 22;
  /// The most additions of counts that this may take.
  static constexpr std::int64_t kMostAdditions = std::int64_t{1} << 32;
  /// A count that stands for itself and all above; `paths` refuses it.
  static constexpr std::uint64_t kUncounted = (std::numeric_limits<std::uint64_t>::max)();

  /// The stack whose layers mix by `schedule`. Throws std::invalid_argument for heads < 1, taps < 2, window
  /// < 0, a reach that Index does not hold, and more than kMostOffsets offsets or kMostAdditions additions;
  /// std::out_of_range for an attention layer that is not there; and what the schedule throws.
  template <detail::ScheduleOtherThan<Coverage> S>
  HSM_DETAIL_CONSTEXPR explicit Coverage(const S& schedule, const CoverageOptions& options = {})
      : Coverage(layers_of(schedule, options), options.window) {}

  /// The stack of these layers. Throws as above, but for taps < 1 of a layer, and
  /// std::invalid_argument for a shift < 1.
  HSM_DETAIL_CONSTEXPR explicit Coverage(std::span<const CoverageLayer> layers, Index window = 0);
  /// The same from a vector.
  HSM_DETAIL_CONSTEXPR explicit Coverage(const std::vector<CoverageLayer>& layers, Index window = 0)
      : Coverage(std::span<const CoverageLayer>(layers), window) {}

  /// The farthest offset of any path: the sum over layers of (K-1) s, of its largest s.
  HSM_DETAIL_CONSTEXPR Index reach() const { return reach_; }
  /// Columns that a stream's state keeps, per channel and plane: the sum over layers of (K-1) s, of the
  /// mean s.
  HSM_DETAIL_CONSTEXPR double state_tokens() const { return state_tokens_; }
  /// Whether some layer is attention, which reaches the offsets that no path does.
  HSM_DETAIL_CONSTEXPR bool hybrid() const { return hybrid_; }
  /// How many offsets were looked at, 0 ... window()-1: those up to the reach, as far as the window goes.
  HSM_DETAIL_CONSTEXPR Index window() const { return static_cast<Index>(counts_.size()); }

  /// Whether a path leads from `offset` places back; false past the window. Throws std::invalid_argument for
  /// offset < 0.
  HSM_DETAIL_CONSTEXPR bool reached(Index offset) const { return count(offset) > 0; }
  /// How many do. Throws std::out_of_range for 2^64 - 1 paths or more.
  HSM_DETAIL_CONSTEXPR std::uint64_t paths(Index offset) const { return counted(count(offset)); }
  /// The least paths of an offset that has any, in the window. Throws as `paths`.
  HSM_DETAIL_CONSTEXPR std::uint64_t least_paths() const {
    std::uint64_t least = kUncounted;
    for (const std::uint64_t count : counts_) {
      if (count > 0) least = (std::min)(least, count);
    }
    return counted(least);
  }
  /// The most paths of an offset in the window. Throws as `paths`.
  HSM_DETAIL_CONSTEXPR std::uint64_t most_paths() const {
    return counted(*std::max_element(counts_.begin(), counts_.end()));
  }
  /// The counts themselves, [window()]; kUncounted = that many or more.
  HSM_DETAIL_CONSTEXPR std::span<const std::uint64_t> counts() const { return counts_; }

  /// How many offsets of the window have a path, 0 (the token itself) included.
  HSM_DETAIL_CONSTEXPR Index reached_count() const { return window() - hole_count(); }
  /// How many have none: holes, or in a hybrid the offsets that rest on layers without shifts alone.
  HSM_DETAIL_CONSTEXPR Index hole_count() const {
    return static_cast<Index>(std::count(counts_.begin(), counts_.end(), std::uint64_t{0}));
  }
  /// The nearest offset of the window without a path; window() if there is none.
  HSM_DETAIL_CONSTEXPR Index first_hole() const {
    return static_cast<Index>(std::find(counts_.begin(), counts_.end(), std::uint64_t{0}) - counts_.begin());
  }
  /// The most offsets in a row without a path, in the window.
  HSM_DETAIL_CONSTEXPR Index largest_gap() const {
    Index largest = 0, run = 0;
    for (const std::uint64_t count : counts_) {
      run = count == 0 ? run + 1 : 0;
      largest = (std::max)(largest, run);
    }
    return largest;
  }

 private:
  template <Schedule S>
  static HSM_DETAIL_CONSTEXPR std::vector<CoverageLayer> layers_of(const S& schedule,
                                                                   const CoverageOptions& options);
  [[noreturn]] static void fail(const std::string& what) {
    detail::raise<std::invalid_argument>("Coverage: " + what);
  }
  HSM_DETAIL_CONSTEXPR std::uint64_t count(Index offset) const {
    if (offset < 0) fail("the offset must be at least 0, got " + std::to_string(offset));
    return offset < window() ? counts_[static_cast<std::size_t>(offset)] : 0;
  }
  static HSM_DETAIL_CONSTEXPR std::uint64_t counted(std::uint64_t count) {
    if (count == kUncounted)
      detail::raise<std::out_of_range>("Coverage: the number of paths must be below 2^64 - 1, got more");
    return count;
  }
  HSM_DETAIL_CONSTEXPR void measure(const CoverageLayer& layer);
  static HSM_DETAIL_CONSTEXPR std::vector<Index> distances_of(const CoverageLayer& layer, Index size);
  HSM_DETAIL_CONSTEXPR void pass(std::span<const Index> distances);

  std::vector<std::uint64_t> counts_;  // [window]
  Index reach_ = 0;
  double state_tokens_ = 0;
  bool hybrid_ = false;
};

HSM_DETAIL_CONSTEXPR Coverage::Coverage(std::span<const CoverageLayer> layers, Index window) {
  if (window < 0) fail("the window must be at least 0, got " + std::to_string(window));
  for (const CoverageLayer& layer : layers) measure(layer);
  const Index size = window > 0 ? (std::min)(window, reach_ + 1) : reach_ + 1;
  if (size > kMostOffsets) {
    fail("the window must be at most " + std::to_string(kMostOffsets) + " offsets, got " +
         (window > 0 ? std::to_string(window) : "none and a reach of " + std::to_string(reach_)));
  }
  counts_.assign(static_cast<std::size_t>(size), 0);
  counts_[0] = 1;
  std::int64_t steps = 0;
  for (const CoverageLayer& layer : layers) {
    const std::vector<Index> distances = distances_of(layer, size);
    steps += static_cast<std::int64_t>(distances.size());
    if (steps > kMostAdditions / size) {
      fail("the layers must have at most " + std::to_string(kMostAdditions / size) +
           " distances in all for a window of " + std::to_string(size) + ", got more");
    }
    pass(distances);
  }
}

template <Schedule S>
HSM_DETAIL_CONSTEXPR std::vector<CoverageLayer> Coverage::layers_of(const S& schedule,
                                                                    const CoverageOptions& options) {
  if (options.heads < 1) fail("heads must be at least 1, got " + std::to_string(options.heads));
  if (options.taps < 2) fail("taps must be at least 2, got " + std::to_string(options.taps));
  const Index L = schedule.layer_count();
  std::vector<CoverageLayer> layers;
  for (Index l = 0; l < L; ++l) {
    layers.push_back({.taps = options.taps});
    for (Index h = 0; h < options.heads; ++h) layers.back().shifts.push_back(schedule.shift(l, h));
  }
  for (const Index l : options.attention) {
    detail::check_layer("Coverage", l, L);
    layers[static_cast<std::size_t>(l)].shifts.clear();
  }
  return layers;
}

// Adds a layer to reach and state.
HSM_DETAIL_CONSTEXPR void Coverage::measure(const CoverageLayer& layer) {
  if (layer.taps < 1) fail("taps must be at least 1, got " + std::to_string(layer.taps));
  if (layer.shifts.empty()) {
    hybrid_ = true;
    return;
  }
  Index largest = 0;
  double sum = 0;
  for (const Index s : layer.shifts) {
    if (s < 1) fail("a shift must be at least 1, got " + std::to_string(s));
    largest = (std::max)(largest, s);
    sum += static_cast<double>(s);
  }
  // reach + 1 is an Index too.
  if (layer.taps == 1) return;  // it sees itself
  if (largest > ((std::numeric_limits<Index>::max)() - 1 - reach_) / (layer.taps - 1)) {
    fail("the reach must be below 2^" + std::to_string(kIndexBits) + " - 1, got " + std::to_string(reach_) +
         " and one more layer with " + detail::counted(layer.taps, "tap") + " at " + std::to_string(largest));
  }
  reach_ += (layer.taps - 1) * largest;
  state_tokens_ += static_cast<double>(layer.taps - 1) * sum / static_cast<double>(layer.shifts.size());
}

// The distances s, 2s, ... (K-1)s of a layer over all heads that are in a window of `size`, each once,
// rising.
HSM_DETAIL_CONSTEXPR std::vector<Index> Coverage::distances_of(const CoverageLayer& layer, Index size) {
  const auto once = [](std::vector<Index>& values) {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
  };
  std::vector<Index> shifts = layer.shifts, distances;
  once(shifts);
  for (const Index s : shifts) {
    for (Index k = 1; k < layer.taps && k <= (size - 1) / s; ++k) distances.push_back(k * s);
  }
  once(distances);
  return distances;
}

// counts[d] += the sum of counts[d - distance], from the far end, so that what is read is not yet added to.
HSM_DETAIL_CONSTEXPR void Coverage::pass(std::span<const Index> distances) {
  for (Index d = window() - 1; d > 0; --d) {
    std::uint64_t sum = counts_[static_cast<std::size_t>(d)];
    for (const Index distance : distances) {
      if (distance > d) break;
      const std::uint64_t more = counts_[static_cast<std::size_t>(d - distance)];
      sum = more > kUncounted - sum ? kUncounted : sum + more;
    }
    counts_[static_cast<std::size_t>(d)] = sum;
  }
}

}  // namespace hsm::inline HSM_ABI
