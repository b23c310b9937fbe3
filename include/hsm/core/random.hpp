// SPDX-License-Identifier: MIT
//
// Random numbers that are the same everywhere: the generator and the distributions are written out here,
// because those of the standard library differ between implementations. bits(), uniform() and below() give the
// same bits on every platform, and with them what is drawn by them: windows of a text, sampled tokens.
// uniform(low, high) and normal() may differ in the last bit of a double, because a compiler may or may not
// round twice, and C libraries differ in log and cos.
//
//   generator   SplitMix64 (Steele, Lea, Flood 2014): add a constant, then two xor-shift-multiply rounds
//   uniform()   53 bits / 2^53, in [0, 1)
//   below(n)    exact: the low values that would favour small numbers are drawn again
//   normal()    Box-Muller, one value per call, so that the state is one integer
//
// The whole state is one 64-bit integer: it can be printed, saved and restored.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <stdexcept>

#include <hsm/core/raise.hpp>

namespace hsm::inline HSM_ABI {

/// A small, seedable generator with its distributions. Copy it to fork a stream. Not for cryptography.
class Random {
 public:
  /// Starts the stream of `seed`; any value is a good seed.
  explicit constexpr Random(std::uint64_t seed) : state_(seed) {}

  /// 64 uniform bits.
  constexpr std::uint64_t bits() {
    state_ += kStride;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }

  /// Uniform in [0, 1).
  constexpr double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

  /// Uniform from low on and below high; where numbers lie so far apart, rounding may give high.
  constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// Uniform in {0, ..., n-1}. Throws std::invalid_argument for n = 0.
  constexpr std::uint64_t below(std::uint64_t n) {
    if (n == 0) detail::raise<std::invalid_argument>("Random::below: n must be at least 1, got 0");
    const std::uint64_t unfair = (0 - n) % n;  // 2^64 mod n
    std::uint64_t value = bits();
    while (value < unfair) value = bits();
    return value % n;
  }

  /// Normal with mean 0 and standard deviation 1.
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

  /// Normal with mean 0 and standard deviation `deviation`.
  double normal(double deviation) { return deviation * normal(); }

  /// Goes on as if bits() had been called n times. O(1).
  constexpr void skip(std::uint64_t n) { state_ += n * kStride; }

  /// The whole state; `Random(state)` continues the stream.
  constexpr std::uint64_t state() const { return state_; }

 private:
  static constexpr std::uint64_t kStride = 0x9E3779B97F4A7C15ull;

  std::uint64_t state_;
};

}  // namespace hsm::inline HSM_ABI
