// SPDX-License-Identifier: MIT
//
// The element types of stored tensors, their names in the safetensors format and their sizes, and the exact
// widening of the two 16-bit floating-point formats.
//
//   bf16   1 sign, 8 exponent,  7 fraction bits: the upper half of a float (core/bfloat16.hpp)
//   f16    1 sign, 5 exponent, 10 fraction bits: IEEE 754 binary16
//
// The library computes in float and double; everything else is a storage type. Formats below one byte are not
// known here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include <hsm/core/bit_cast.hpp>

namespace hsm::inline HSM_ABI {

/// The type of the elements of a stored tensor.
enum class DType : std::uint8_t {
  boolean,
  u8,
  i8,
  f8_e4m3,
  f8_e5m2,
  u16,
  i16,
  f16,
  bf16,
  u32,
  i32,
  f32,
  u64,
  i64,
  f64
};

namespace detail {

struct DTypeRow {
  std::string_view name;
  std::size_t size;
};

// In the order of the enumerators.
inline constexpr std::array<DTypeRow, 15> kDTypeRows{{{"BOOL", 1},
                                                      {"U8", 1},
                                                      {"I8", 1},
                                                      {"F8_E4M3", 1},
                                                      {"F8_E5M2", 1},
                                                      {"U16", 2},
                                                      {"I16", 2},
                                                      {"F16", 2},
                                                      {"BF16", 2},
                                                      {"U32", 4},
                                                      {"I32", 4},
                                                      {"F32", 4},
                                                      {"U64", 8},
                                                      {"I64", 8},
                                                      {"F64", 8}}};

template <class Element>
inline constexpr bool kAlwaysFalse = false;

}  // namespace detail

/// The name of `dtype` in a file, such as "F32".
constexpr std::string_view dtype_name(DType dtype) {
  return detail::kDTypeRows.at(static_cast<std::size_t>(dtype)).name;
}

/// Bytes per element.
constexpr std::size_t dtype_size(DType dtype) {
  return detail::kDTypeRows.at(static_cast<std::size_t>(dtype)).size;
}

/// The type with this name, or nothing if the name is unknown.
constexpr std::optional<DType> find_dtype(std::string_view name) {
  for (std::size_t i = 0; i < detail::kDTypeRows.size(); ++i) {
    if (detail::kDTypeRows[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

/// The stored type of a C++ type: float, double and the fixed-width integers.
template <class Element>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<Element, float>) {
    return DType::f32;
  } else if constexpr (std::is_same_v<Element, double>) {
    return DType::f64;
  } else if constexpr (std::is_same_v<Element, std::int64_t>) {
    return DType::i64;
  } else if constexpr (std::is_same_v<Element, std::uint64_t>) {
    return DType::u64;
  } else if constexpr (std::is_same_v<Element, std::int32_t>) {
    return DType::i32;
  } else if constexpr (std::is_same_v<Element, std::uint32_t>) {
    return DType::u32;
  } else if constexpr (std::is_same_v<Element, std::uint8_t>) {
    return DType::u8;
  } else if constexpr (std::is_same_v<Element, std::int8_t>) {
    return DType::i8;
  } else {
    static_assert(detail::kAlwaysFalse<Element>,
                  "dtype_of: a stored tensor holds float, double, or (u)int32_t, (u)int64_t, (u)int8_t.");
  }
}

/// The value of an IEEE binary16, given by its bits; exact, also for subnormals; the payload of a NaN is
/// kept.
constexpr float float16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1Fu;
  const std::uint32_t fraction = bits & 0x3FFu;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1.0p-24f;
    return detail::bit_cast<float>(detail::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  const std::uint32_t wide_exponent = exponent == 0x1Fu ? 0xFFu : exponent + (127 - 15);
  return detail::bit_cast<float>(sign | (wide_exponent << 23) | (fraction << 13));
}

}  // namespace hsm::inline HSM_ABI
