// SPDX-License-Identifier: MIT
//
// Timing on a machine that other people use too: a case and its yardstick are run in turns, and what counts
// is the median of the ratios of neighbouring runs. Both are warmed up once; a run is repeated inside until
// it takes at least kShortest seconds. What is published is measured again where it is not steady.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <vector>

namespace hsm::bench {

inline constexpr double kShortest = 4e-3;  // of one timed run, seconds
inline constexpr int kFewestPairs = 5;
inline constexpr double kSteady = 0.1;  // the largest spread of a measurement that is taken as it is

/// What pairs of runs gave.
struct Measured {
  double seconds = 0;            ///< of the case, median
  double yardstick_seconds = 0;  ///< of the yardstick, median; 0 where there is none
  double ratio = 0;              ///< yardstick / case, median of the pairs: above 1 the case is faster
  double spread =
      0;  ///< of the ratios (of the times where there is no yardstick): (80 % - 20 % quantile) / median
  int pairs = 0;

  bool steady() const { return spread <= kSteady; }
};

inline double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(std::lround(q * static_cast<double>(values.size() - 1)))];
}

inline double seconds_of(const std::function<void()>& work, int repeats) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / repeats;
}

inline int repeats_for(const std::function<void()>& work) {
  const double once = std::min(seconds_of(work, 1), seconds_of(work, 1));
  return std::max(1, static_cast<int>(std::ceil(kShortest / std::max(once, 1e-9))));
}

/// Runs case and yardstick in turns for about `budget` seconds, at least kFewestPairs times. An empty
/// yardstick is allowed.
inline Measured measure(const std::function<void()>& work, const std::function<void()>& yardstick,
                        double budget) {
  const int repeats = repeats_for(work), yardstick_repeats = yardstick ? repeats_for(yardstick) : 0;
  std::vector<double> times, yardstick_times, ratios;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  while (static_cast<int>(times.size()) < kFewestPairs || (elapsed() < budget && times.size() < 200)) {
    times.push_back(seconds_of(work, repeats));
    if (!yardstick) continue;
    yardstick_times.push_back(seconds_of(yardstick, yardstick_repeats));
    ratios.push_back(yardstick_times.back() / times.back());
  }
  const std::vector<double>& judged = yardstick ? ratios : times;
  Measured result;
  result.seconds = quantile(times, 0.5);
  result.yardstick_seconds = yardstick ? quantile(yardstick_times, 0.5) : 0;
  result.ratio = yardstick ? quantile(ratios, 0.5) : 0;
  result.spread = (quantile(judged, 0.8) - quantile(judged, 0.2)) / quantile(judged, 0.5);
  result.pairs = static_cast<int>(times.size());
  return result;
}

/// The first of at most `attempts` measurements that is steady, or the steadiest of them.
inline Measured measure_steadily(const std::function<void()>& work, const std::function<void()>& yardstick,
                                 double budget, int attempts) {
  Measured best = measure(work, yardstick, budget);
  for (int i = 1; i < attempts && !best.steady(); ++i) {
    const Measured again = measure(work, yardstick, budget);
    if (again.spread < best.spread) best = again;
  }
  return best;
}

}  // namespace hsm::bench
