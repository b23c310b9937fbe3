// SPDX-License-Identifier: MIT
//
// How a thread rounds and whether it takes denormal numbers for 0: a state of the thread that programs set (audio hosts,
// PyTorch's set_flush_denormal, fesetround), and that new threads do not all begin with. On x86 with SSE and on aarch64;
// elsewhere there is none to be had.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The floating-point mode of a thread, but for the flags of what has happened.
class FloatingMode {
 public:
  /// That of the calling thread.
  static FloatingMode of_this_thread() {
    FloatingMode mode;
#if defined(__SSE2__)
    mode.bits_ = _mm_getcsr() & ~0x3Fu;
#elif defined(__aarch64__) && defined(__GNUC__)
    asm volatile("mrs %0, fpcr" : "=r"(mode.bits_));
#endif
    return mode;
  }

  /// Makes it that of the calling thread.
  void set() const {
#if defined(__SSE2__)
    _mm_setcsr(static_cast<unsigned>(bits_));
#elif defined(__aarch64__) && defined(__GNUC__)
    asm volatile("msr fpcr, %0" : : "r"(bits_));
#endif
  }

 private:
  std::uint64_t bits_ = 0;
};

}  // namespace hsm::inline HSM_ABI::detail
