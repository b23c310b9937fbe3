// SPDX-License-Identifier: MIT
//
// Non-temporal stores: results that go past the cache. A result larger than the cache is evicted before anyone
// reads it; written by ordinary stores each of its lines is first read from memory, written by non-temporal
// ones it is not, which saves a third of the traffic of a copy. Values are computed a few cache lines at a
// time in registers and written from there, by the same instructions and to the same bits as without.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace hsm::inline HSM_ABI {

/// Results of at least this many bytes are written by non-temporal stores: from here on the tokens and the
/// result no longer stay in a core's share of the usual last-level cache. Measured with two layers in turns
/// on one core of a Zen 3 (32 MB shared by two): as fast at 8 MB, 1.2 times at 16 MB, 1.4 times at 32 MB;
/// alone 1.3 times at 8 MB.
inline constexpr std::size_t kNontemporalBytes = std::size_t{8} << 20;

/// Whether a result of `bytes` should be written past the cache.
inline bool should_be_nontemporal(Stores stores, std::size_t bytes) {
#if defined(__AVX__) || defined(__SSE2__)
  return stores == Stores::kNontemporal || (stores == Stores::kAutomatic && bytes >= kNontemporalBytes);
#else
  (void)stores, (void)bytes;
  return false;
#endif
}

/// Alignment in bytes that a non-temporal store asks of where it writes.
#if defined(__AVX__)
inline constexpr std::size_t kNontemporalAlignment = 32;
#else
inline constexpr std::size_t kNontemporalAlignment = 16;
#endif

namespace detail {

template <class Scalar>
bool is_aligned(const Scalar* out) {
  return reinterpret_cast<std::uintptr_t>(out) % kNontemporalAlignment == 0;
}

/// Writes a whole block to an aligned address, past the cache.
template <class Scalar, std::size_t n>
inline void store_nontemporal(const Scalar (&block)[n], Scalar* out) {
  constexpr std::size_t kBytes = n * sizeof(Scalar);
  static_assert(kBytes % kNontemporalAlignment == 0);
#if defined(__AVX__)
  for (std::size_t i = 0; i < kBytes; i += kNontemporalAlignment) {
    _mm256_stream_si256(
        reinterpret_cast<__m256i*>(reinterpret_cast<std::byte*>(out) + i),
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(reinterpret_cast<const std::byte*>(block) + i)));
  }
#elif defined(__SSE2__)
  for (std::size_t i = 0; i < kBytes; i += kNontemporalAlignment) {
    _mm_stream_si128(
        reinterpret_cast<__m128i*>(reinterpret_cast<std::byte*>(out) + i),
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(reinterpret_cast<const std::byte*>(block) + i)));
  }
#else
  std::memcpy(out, block, kBytes);
#endif
}

}  // namespace detail

/// out[i] = value(i) for i < n, in any order; past the cache where `nontemporal`, and then nontemporal_fence() must
/// follow before another thread reads it, and value(i) must not read what is written. The same bits either
/// way.
template <class Scalar, class Value>
inline void write_each(Index n, Scalar* out, bool nontemporal, Value&& value) {
  Index i = 0;
  if (nontemporal) {
    // Two cache lines at a time: as much as stays in registers on its way, so that reads and writes overlap.
    constexpr Index kAtOnce = 128 / static_cast<Index>(sizeof(Scalar));
    for (; i < n && !detail::is_aligned(out + i); ++i) out[i] = value(i);
    for (; i + kAtOnce <= n; i += kAtOnce) {
      alignas(kNontemporalAlignment) Scalar block[kAtOnce];
      HSM_INDEPENDENT
      for (Index j = 0; j < kAtOnce; ++j) block[j] = value(i + j);
      detail::store_nontemporal(block, out + i);
    }
  }
  HSM_UNROLLED
  for (Index j = i; j < n; ++j) out[j] = value(j);
}

/// Copies n values by non-temporal stores; the ranges must not overlap. nontemporal_fence() must follow before
/// another thread reads them.
template <class Scalar>
void stream_copy(Index n, const Scalar* in, Scalar* out) {
  write_each(n, out, true, [in](Index i) { return in[i]; });
}

/// Orders the non-temporal stores of this thread before what it writes next, so that a reader synchronised with
/// it sees them.
inline void nontemporal_fence() {
#if defined(__AVX__) || defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace hsm::inline HSM_ABI
