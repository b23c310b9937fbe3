// SPDX-License-Identifier: MIT
//
// Streaming stores: copies that go past the cache. A result larger than the cache is evicted before anyone
// reads it; written by ordinary stores each of its lines is first read from memory, written by streaming
// stores it is not, which saves a third of the traffic of a copy. Values are computed into a block that stays
// in the first-level cache and copied out from there, so a policy knows nothing of it and the bits are the
// same with and without.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>

namespace hsm {

/// Results of at least this many bytes are written by streaming stores: more than a core's share of the usual
/// last-level cache.
inline constexpr std::size_t kStreamingBytes = std::size_t{24} << 20;

/// Whether a result of `bytes` should be streamed.
inline bool should_stream(Stores stores, std::size_t bytes) {
#if defined(__AVX__) || defined(__SSE2__)
  return stores == Stores::kStreaming || (stores == Stores::kAutomatic && bytes >= kStreamingBytes);
#else
  (void)stores, (void)bytes;
  return false;
#endif
}

/// Copies n values by streaming stores; the ranges must not overlap. stream_fence() must follow before
/// another thread reads them.
template <class Scalar>
void stream_copy(Index n, const Scalar* in, Scalar* out) {
#if defined(__AVX__) || defined(__SSE2__)
#if defined(__AVX__)
  constexpr std::size_t kWidth = 32;
#else
  constexpr std::size_t kWidth = 16;
#endif
  auto* to = reinterpret_cast<std::byte*>(out);
  auto* from = reinterpret_cast<const std::byte*>(in);
  std::size_t bytes = static_cast<std::size_t>(n) * sizeof(Scalar);
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(to) % kWidth;
  const std::size_t head = misaligned == 0 ? 0 : kWidth - misaligned < bytes ? kWidth - misaligned : bytes;
  std::memcpy(to, from, head);
  to += head, from += head, bytes -= head;
  for (; bytes >= kWidth; to += kWidth, from += kWidth, bytes -= kWidth) {
#if defined(__AVX__)
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#else
    _mm_stream_si128(reinterpret_cast<__m128i*>(to), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#endif
  }
  std::memcpy(to, from, bytes);
#else
  std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(Scalar));
#endif
}

/// Orders the streaming stores of this thread before what it writes next, so that a reader synchronised with
/// it sees them.
inline void stream_fence() {
#if defined(__AVX__) || defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace hsm
