// SPDX-License-Identifier: MIT
//
// std::bit_cast, also where the standard library does not have it yet (libc++ before 14, which Debian's
// Emscripten brings).
#pragma once

#include <bit>
#include <type_traits>

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The value of type To that has the bits of `from`.
template <class To, class From>
constexpr To bit_cast(const From& from) noexcept {
  static_assert(
      sizeof(To) == sizeof(From) && std::is_trivially_copyable_v<To> && std::is_trivially_copyable_v<From>,
      "bit_cast: both types must be plain and of one size");
#if defined(__cpp_lib_bit_cast)
  return std::bit_cast<To>(from);
#else
  return __builtin_bit_cast(To, from);
#endif
}

}  // namespace hsm::inline HSM_ABI::detail
