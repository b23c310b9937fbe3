// SPDX-License-Identifier: MIT
//
// A few values that stay in one register, by the vector types of g++ and clang: for sums over long arrays, which
// both keep in memory when they are arrays. Everything else is plain loops.
#pragma once

#include <cstring>

#include <hsm/core/bit_cast.hpp>
#include <hsm/core/nontemporal.hpp>
#include <hsm/core/types.hpp>

#if defined(__AVX__) && defined(__FMA__)
#include <immintrin.h>
#endif

namespace hsm::inline HSM_ABI::detail {

/// kNontemporalAlignment bytes of Scalar: 8 floats or 4 doubles with AVX, half as many without.
template <class Scalar>
struct Pack {
  static constexpr Index kSize = static_cast<Index>(kNontemporalAlignment / sizeof(Scalar));
  typedef Scalar Values __attribute__((vector_size(kNontemporalAlignment)));
  Values values{};

  /// The same value everywhere.
  static Pack of(Scalar value) { return {value - Values{}}; }
  static Pack read(const Scalar* from) {
    Pack pack;
    std::memcpy(&pack.values, from, sizeof pack.values);
    return pack;
  }
  /// Read once and then held in a register: g++ otherwise reads again wherever the value is used.
  static Pack read_once(const Scalar* from) {
    Pack pack = read(from);
#if defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
    asm("" : "+x"(pack.values));
#endif
    return pack;
  }
  void write(Scalar* to) const { std::memcpy(to, &values, sizeof values); }
  /// Past the cache where `nontemporal`, and then to a multiple of kNontemporalAlignment.
  void write(Scalar* to, bool nontemporal) const {
    if (nontemporal) {
#if defined(__AVX__)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to), bit_cast<__m256i>(values));
      return;
#elif defined(__SSE2__)
      _mm_stream_si128(reinterpret_cast<__m128i*>(to), bit_cast<__m128i>(values));
      return;
#endif
    }
    write(to);
  }

  friend Pack operator*(const Pack& a, const Pack& b) { return {a.values * b.values}; }

  /// this += a x, rounded as multiply_add of core/types.hpp rounds.
  void add_product(const Pack& a, const Pack& x) {
#if defined(__AVX__) && defined(__FMA__)
    if constexpr (sizeof(Scalar) == 4) {
      values = _mm256_fmadd_ps(a.values, x.values, values);
    } else {
      values = _mm256_fmadd_pd(a.values, x.values, values);
    }
#else
    for (Index i = 0; i < kSize; ++i) values[i] = multiply_add(a.values[i], x.values[i], values[i]);
#endif
  }
};

}  // namespace hsm::inline HSM_ABI::detail
