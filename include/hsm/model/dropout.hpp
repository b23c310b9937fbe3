// SPDX-License-Identifier: MIT
//
// Inverted dropout for training (Srivastava et al., JMLR 15, 2014): each element of the embedding sum and of the
// output of every residual branch is set to 0 with probability p, and what stays is multiplied so that the mean
// is kept:
//
//   y[i] = bits[i] < n ? 0 x[i] : x[i] / (1 - n / 2^32),   n = floor(2^32 p),   i over [C, B T], a token's channels first
//
// bits[i] are 32 bits of the numbers that Random gives from a seed made of the call's key and the place in the
// model: half of number i / 2, the low half first. So a mask is settled by (key, place, i) alone, the same for any
// number of threads and on every platform, and backward computes it again: no memory is kept for it. About 1 ns
// per element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// What one call drops; a plain value. The default drops nothing and costs nothing.
struct Dropout {
  double probability = 0;  ///< p, in [0, 1)
  std::uint64_t key = 0;   ///< draws the masks: another one for each step
  Index first = 0;         ///< tokens of the batch before those of the call, where it is a part of one

  /// The place of the embedding sum.
  static constexpr std::uint64_t kEmbedding = 0;
  /// The place of the mixer of layer l.
  static constexpr std::uint64_t mixer(std::size_t l) { return 2 * std::uint64_t{l} + 1; }
  /// The place of the feed-forward network of layer l.
  static constexpr std::uint64_t feed_forward(std::size_t l) { return 2 * std::uint64_t{l} + 2; }

  /// Whether anything is dropped.
  bool drops() const { return threshold() > 0; }

  /// The generator of the mask at `place`; each of its numbers serves two elements.
  Random mask(std::uint64_t place) const {
    Random seed(key);
    seed.skip(place);
    return Random(seed.bits());
  }

  /// Drops from x (C, n), whose columns lie one after another, in place.
  template <class Scalar>
  void apply(std::uint64_t place, Columns<Scalar> x, Executor& executor) const {
    if (drops()) run(place, x.data(), x.data(), x.rows(), x.cols(), executor);
  }

  /// y = x without what is dropped; y may be x. Does nothing, so that y must be x, where nothing is dropped.
  template <class Scalar>
  void copy(std::uint64_t place, ConstColumns<Scalar> x, Columns<Scalar> y, Executor& executor) const {
    if (drops()) run(place, x.data(), y.data(), x.rows(), x.cols(), executor);
  }

  /// Throws std::invalid_argument unless the probability is in [0, 1).
  void check(const char* who) const {
    detail::check_number(who, probability >= 0 && probability < 1, "dropout", "a probability in [0, 1)",
                         probability);
  }

 private:
  static constexpr double kRange = 4294967296.0;  // 2^32

  std::uint32_t threshold() const { return static_cast<std::uint32_t>(probability * kRange); }

  template <class Scalar>
  void run(std::uint64_t place, const Scalar* x, Scalar* y, Index C, Index n, Executor& executor) const {
    constexpr Index kTokens = 32;  // per task; even, so that a task begins with a whole number
    const std::uint32_t least = threshold();
    const auto scale = static_cast<Scalar>(1 / (1 - static_cast<double>(least) / kRange));
    const Random all = mask(place);
    const Index before = first;
    parallel_blocks(executor, n, kTokens, [&](Index block, Index tokens, int) {
      const Index begin = block * C, end = begin + tokens * C;
      const Index place_in_batch = before * C + begin;
      Random random = all;
      random.skip(static_cast<std::uint64_t>(place_in_batch / 2));
      const auto kept = [&](std::uint64_t bits) {
        return static_cast<std::uint32_t>(bits) < least ? Scalar(0) : scale;
      };
      Index i = begin;
      if (place_in_batch % 2 == 1 && i < end) {
        y[i] = x[i] * kept(random.bits() >> 32);
        ++i;
      }
      for (; i + 1 < end; i += 2) {
        const std::uint64_t bits = random.bits();
        y[i] = x[i] * kept(bits);
        y[i + 1] = x[i + 1] * kept(bits >> 32);
      }
      if (i < end) y[i] = x[i] * kept(random.bits());
    });
  }
};

}  // namespace hsm::inline HSM_ABI
