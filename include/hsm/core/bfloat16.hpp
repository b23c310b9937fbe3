// SPDX-License-Identifier: MIT
//
// bfloat16, the upper half of a float: 1 sign, 8 exponent, 7 fraction bits. It is a way to store numbers, which are
// widened, exactly, to be computed with. A number is kept as its bits, a std::uint16_t.
#pragma once

#include <cstdint>

#include <hsm/core/bit_cast.hpp>

namespace hsm::inline HSM_ABI {

/// The value of a bfloat16, given by its bits; exact.
constexpr float bfloat16_to_float(std::uint16_t bits) {
  return detail::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// The bits of the bfloat16 next to x, of two equally near the one whose last bit is 0: off by at most 2^-8 |x| where
/// |x| is a normal number. Infinity and NaN stay what they are; from about 3.396e38 on, numbers become infinity.
constexpr std::uint16_t float_to_bfloat16(float x) {
  const auto bits = detail::bit_cast<std::uint32_t>(x);
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  // A NaN whose upper half is that of infinity stays one by the bit that makes it quiet.
  if (is_nan) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace hsm::inline HSM_ABI
