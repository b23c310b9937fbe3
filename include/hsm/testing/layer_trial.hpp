// SPDX-License-Identifier: MIT
//
// What all checks of a layer share: the tokens that are tried, bounds, and sentences about where results differ. A check
// is a function that takes a LayerTrial and returns a sentence, empty where nothing is wrong.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/bit_cast.hpp>
#include <hsm/core/random.hpp>
#include <hsm/testing/check_result.hpp>
#include <hsm/testing/tested_layer.hpp>

namespace hsm::inline HSM_ABI::detail {

/// What replaces tokens that must not be read: NaN, which whatever touches it becomes. Where the compiler may take
/// all for numbers, a value that is easy to tell from others.
inline constexpr double kUntouchable = HSM_FAST_MATH ? 1e6 : std::numeric_limits<double>::quiet_NaN();

/// A layer and what it is tried with.
struct LayerTrial {
  static constexpr Index kStreams = 3;

  TestedLayer& layer;
  Random random;
  TokenValues x, dy;
  /// forward of x.
  TokenValues y = {};

  LayerTrial(TestedLayer& tested, const CheckOptions& options, Index tokens)
      : layer(tested), random(options.seed), x(drawn(tokens)), dy(drawn(tokens)) {}

  Index tokens() const { return x.time; }
  /// Normal values that the layer's scalar has.
  TokenValues drawn(Index count) {
    TokenValues tokens(kStreams, count, layer.channels());
    for (double& value : tokens.values) value = layer.rounded(random.normal());
    return tokens;
  }

  /// Bounds, of the largest value. Results by two modes, where the order of sums differs: 1e-4 and 2e-9, far above the
  /// rounding of sums of thousands of terms and far below what a token more or less changes.
  double mode_bound() const { return 1e7 * layer.epsilon() > 1e-4 ? 1e-4 : 1e7 * layer.epsilon(); }
  /// Central differences, 2e-2 and 1e-6: their own error is step^2 and epsilon / step, each times a few derivatives.
  double difference_bound() const { return is_double() ? 1e-6 : 2e-2; }
  /// The step of central differences, near the cube root of epsilon, where that error is smallest.
  double step() const { return is_double() ? 1e-5 : 1e-2; }

 private:
  bool is_double() const { return layer.epsilon() < 1e-10; }
};

/// "0.417", "nan": a number for a sentence.
inline std::string number_text(double value) {
  if (is_nan(value)) return "nan";  // whatever its sign
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

/// "token 5", or "token 5 of sequence 1" where there are several.
inline std::string token_text(const TokenValues& tokens, Index b, Index t) {
  return "token " + std::to_string(t) + (tokens.batch > 1 ? " of sequence " + std::to_string(b) : "");
}

inline double largest_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double value : values) largest = (std::max)(largest, (std::abs)(value));
  return largest;
}

inline bool same_bits(double a, double b) { return bit_cast<std::uint64_t>(a) == bit_cast<std::uint64_t>(b); }

/// Where results are farther apart than they may be: the place with the largest distance, NaN first.
struct Difference {
  bool found = false;
  Index b = 0, t = 0, c = 0;
  double got = 0, expected = 0;

  explicit operator bool() const { return found; }
};

/// Whether each value is within bound of the largest expected one; NaN is not.
inline Difference difference(const TokenValues& got, const TokenValues& expected, double bound) {
  const double tolerance = bound * largest_of(expected.values);
  Difference worst;
  double distance = tolerance;
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    const double apart = (std::abs)(got.values[i] - expected.values[i]);
    if (is_finite(got.values[i]) && apart <= distance) continue;
    const Index flat = static_cast<Index>(i), token = flat / expected.channels;
    worst = {true,          token / expected.time, token % expected.time, flat % expected.channels,
             got.values[i], expected.values[i]};
    if (!is_finite(got.values[i])) break;
    distance = apart;
  }
  return worst;
}

/// The first token among first ... first + n - 1 of sequence b whose bits differ; -1 where all are the same.
inline Index first_change(const TokenValues& got, const TokenValues& expected, Index b, Index first,
                          Index n) {
  for (Index i = 0; i < n * expected.channels; ++i) {
    if (!same_bits(got.at(b, first)[i], expected.at(b, first)[i])) return first + i / expected.channels;
  }
  return -1;
}

/// "step gives", a place: "step gives 0.41 at token 3 of sequence 1, channel 2, where forward gives 0.2": the start of a sentence.
inline std::string difference_text(std::string_view what, const Difference& worst, const TokenValues& tokens,
                                   std::string_view reference) {
  return std::string(what) + " " + number_text(worst.got) + " at " + token_text(tokens, worst.b, worst.t) +
         ", channel " + std::to_string(worst.c) + ", where " + std::string(reference) + " gives " +
         number_text(worst.expected);
}

/// The same as a whole sentence, or nothing.
inline std::string compare(std::string_view what, const TokenValues& got, const TokenValues& expected,
                           double bound, std::string_view hint, std::string_view reference = "forward") {
  const Difference worst = difference(got, expected, bound);
  return worst ? difference_text(std::string(what) + " gives", worst, expected, reference) + ": " +
                     std::string(hint)
               : std::string();
}

}  // namespace hsm::inline HSM_ABI::detail
