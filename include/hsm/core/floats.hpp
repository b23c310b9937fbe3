// SPDX-License-Identifier: MIT
//
// Some floats in a register: AVX-512, AVX2 with FMA, or plain C++, whatever the translation unit is compiled for. Read from
// memory, widened from bfloat16 and 8 bits, or summed of products of whole numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include <hsm/core/bfloat16.hpp>
#include <hsm/core/types.hpp>

#if !defined(EIGEN_DONT_VECTORIZE) && ((defined(__AVX512F__) && defined(__AVX512BW__)) || \
                                       (defined(__AVX2__) && defined(__FMA__) && defined(__AVX__)))
#include <immintrin.h>
#define HSM_FLOATS_IN_REGISTERS 1
#else
/// 1 where `Floats` is a register of the processor, else 0.
#define HSM_FLOATS_IN_REGISTERS 0
#endif

namespace hsm::inline HSM_ABI::detail {

#if defined(__AVX512F__) && defined(__AVX512BW__) && !defined(EIGEN_DONT_VECTORIZE)
/// 16 floats in a register. dot(q, x): what 32 products q x sum to, over all of them. write_whole(to): the next whole numbers.
struct Floats {
  static constexpr Index kSize = 16;
  static constexpr int kRegisters = 32;
  __m512 values = _mm512_setzero_ps();

  static Floats read(const float* from) { return {_mm512_loadu_ps(from)}; }
  static Floats of(float value) { return {_mm512_set1_ps(value)}; }
  static Floats widen(const std::uint16_t* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  static Floats widen(const std::int8_t* from) {
    return {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))))};
  }
  static Floats dot(const std::int8_t* q, const std::int16_t* x) {
    const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)));
    return {_mm512_cvtepi32_ps(_mm512_madd_epi16(wide, _mm512_loadu_si512(x)))};
  }
  void write_whole(std::int16_t* to) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(values)));
  }
  Floats times(Floats factor) const { return {_mm512_mul_ps(values, factor.values)}; }
  void add_product(Floats a, Floats x) { values = _mm512_fmadd_ps(a.values, x.values, values); }
  void write(float* to) const { _mm512_storeu_ps(to, values); }
  float sum() const { return _mm512_reduce_add_ps(values); }
};
#elif defined(__AVX2__) && defined(__FMA__) && !defined(EIGEN_DONT_VECTORIZE)
/// 8 floats in a register.
struct Floats {
  static constexpr Index kSize = 8;
  static constexpr int kRegisters = 16;
  __m256 values = _mm256_setzero_ps();

  static Floats read(const float* from) { return {_mm256_loadu_ps(from)}; }
  static Floats of(float value) { return {_mm256_set1_ps(value)}; }
  static Floats widen(const std::uint16_t* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  static Floats widen(const std::int8_t* from) {
    return {
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))))};
  }
  static Floats dot(const std::int8_t* q, const std::int16_t* x) {
    const auto half = [&](int i) {
      const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i));
      return _mm256_madd_epi16(_mm256_cvtepi8_epi16(narrow),
                               _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i)));
    };
    return {_mm256_cvtepi32_ps(_mm256_add_epi32(half(0), half(16)))};
  }
  void write_whole(std::int16_t* to) const {
    const __m256i whole = _mm256_cvtps_epi32(values);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
  }
  Floats times(Floats factor) const { return {_mm256_mul_ps(values, factor.values)}; }
  void add_product(Floats a, Floats x) { values = _mm256_fmadd_ps(a.values, x.values, values); }
  void write(float* to) const { _mm256_storeu_ps(to, values); }
  float sum() const {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
};
#else
/// 4 floats, which many compilers keep in a register.
struct Floats {
  static constexpr Index kSize = 4;
  static constexpr int kRegisters = 16;
  float values[4] = {};

  static Floats read(const float* from) {
    Floats result;
    std::memcpy(result.values, from, sizeof result.values);
    return result;
  }
  static Floats of(float value) { return {{value, value, value, value}}; }
  static Floats widen(const std::uint16_t* from) {
    return {{bfloat16_to_float(from[0]), bfloat16_to_float(from[1]), bfloat16_to_float(from[2]),
             bfloat16_to_float(from[3])}};
  }
  static Floats widen(const std::int8_t* from) {
    return {{static_cast<float>(from[0]), static_cast<float>(from[1]), static_cast<float>(from[2]),
             static_cast<float>(from[3])}};
  }
  static Floats dot(const std::int8_t* q, const std::int16_t* x) {
    std::int32_t sums[4] = {};
    for (int i = 0; i < 32; ++i) sums[i % 4] += std::int32_t{q[i]} * x[i];
    return {{static_cast<float>(sums[0]), static_cast<float>(sums[1]), static_cast<float>(sums[2]),
             static_cast<float>(sums[3])}};
  }
  void write_whole(std::int16_t* to) const {
    // Rounded upward, the largest of a group can come out one above what is held.
    for (int i = 0; i < 4; ++i)
      to[i] = static_cast<std::int16_t>(std::clamp(std::lrint(values[i]), -32767L, 32767L));
  }
  Floats times(Floats factor) const {
    Floats result;
    for (int i = 0; i < 4; ++i) result.values[i] = values[i] * factor.values[i];
    return result;
  }
  void add_product(Floats a, Floats x) {
    for (int i = 0; i < 4; ++i) values[i] = multiply_add(a.values[i], x.values[i], values[i]);
  }
  void write(float* to) const { std::memcpy(to, values, sizeof values); }
  float sum() const { return (values[0] + values[2]) + (values[1] + values[3]); }
};
#endif

/// Asks for what lies two pages behind a place of a matrix, into the second-level cache: rows in fewer bytes end before a
/// processor has seen that it could fetch ahead.
template <class Value>
HSM_INLINE void prefetch(const Value* place) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(reinterpret_cast<const char*>(place) + 8192, 0, 2);
#else
  static_cast<void>(place);
#endif
}

}  // namespace hsm::inline HSM_ABI::detail
