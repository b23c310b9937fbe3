// SPDX-License-Identifier: MIT
//
// How many processors this process may use: those of its affinity mask where the system has one, which taskset,
// containers and batch systems set; otherwise those of the machine.
#pragma once

#include <algorithm>
#include <thread>

#if defined(__linux__) && defined(__GLIBC__)
#include <sched.h>
#endif

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI {

/// The processors that this process may use, at least 1.
inline int available_processors() {
#if defined(__linux__) && defined(__GLIBC__) && defined(CPU_COUNT)
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return (std::max)(1, CPU_COUNT(&set));
#endif
  return static_cast<int>((std::max)(1u, std::thread::hardware_concurrency()));
}

}  // namespace hsm::inline HSM_ABI
