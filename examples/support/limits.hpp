// SPDX-License-Identifier: MIT
//
// What this process may use of the machine: threads and memory, after the limits of its control group, of its
// affinity mask and of ulimit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <sys/resource.h>
#include <unistd.h>
#endif

#include <hsm/core/processors.hpp>

namespace hsm::examples {

namespace detail {

/// The directory of this process's control group under the unified hierarchy; empty where there is none.
inline std::string control_group() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::")) return "/sys/fs/cgroup" + line.substr(3) + (line.ends_with('/') ? "" : "/");
  }
  return {};
}

/// The first number in a file, if it begins with one; control groups write "max" for no limit.
inline std::optional<double> number_in_file(const std::string& path) {
  std::ifstream file(path);
  double value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

/// The number behind a name at the beginning of a line.
inline std::optional<double> named_number(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name + " ")) continue;
    std::istringstream rest(line.substr(name.size()));
    double value = 0;
    if (rest >> value) return value;
  }
  return std::nullopt;
}

/// The value of "<name>: <number> kB" in /proc/meminfo, in bytes.
inline std::optional<double> meminfo(const std::string& name) {
  const auto kilobytes = named_number("/proc/meminfo", name + ":");
  return kilobytes ? std::optional(1024 * *kilobytes) : std::nullopt;
}

/// What a control group leaves in bytes, if it has a limit. Files that were read and written count as its memory, but
/// give way to what is asked for.
inline std::optional<double> group_memory_left(const std::string& group) {
  const auto most = number_in_file(group + "memory.max");
  if (!most) return std::nullopt;
  const std::string parts = group + "memory.stat";
  const double files =
      named_number(parts, "inactive_file").value_or(0) + named_number(parts, "active_file").value_or(0);
  return std::max(0.0, *most - std::max(0.0, number_in_file(group + "memory.current").value_or(0) - files));
}

}  // namespace detail

/// The threads that this process may run at once, at least 1: processors of its affinity mask, and no more than
/// its control group gives it time for.
inline int hardware_threads() {
  const int processors = hsm::available_processors();
  std::ifstream file(detail::control_group() + "cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || !(quota > 0 && period > 0)) return processors;
  return std::clamp(static_cast<int>(std::ceil(std::min(quota / period, 1e6))), 1, processors);
}

/// The memory of this machine in bytes; 0 where the system does not say.
inline double memory_bytes() {
#if defined(_WIN32)
  MEMORYSTATUSEX status = {};
  status.dwLength = sizeof status;
  return ::GlobalMemoryStatusEx(&status) != 0 ? static_cast<double>(status.ullTotalPhys) : 0;
#else
  const long pages = ::sysconf(_SC_PHYS_PAGES), size = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<double>(pages) * static_cast<double>(size) : 0;
#endif
}

/// The bytes of address space that a limit (ulimit -v) leaves; infinity without a limit.
inline double address_space_left() {
#if !defined(_WIN32)
  struct rlimit limit = {};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    const double pages = detail::number_in_file("/proc/self/statm").value_or(0);
    return std::max(
        0.0, static_cast<double>(limit.rlim_cur) - pages * static_cast<double>(::sysconf(_SC_PAGESIZE)));
  }
#endif
  return std::numeric_limits<double>::infinity();
}

/// The bytes that this process can still take before the system has to end one; infinity where nothing is known.
inline double memory_left() {
  double left = address_space_left();
  const std::optional<double> available = detail::meminfo("MemAvailable");
  if (available) {
    left = std::min(left, *available + detail::meminfo("SwapFree").value_or(0));
  } else if (const double all = memory_bytes(); all > 0) {
    left = std::min(left, all);
  }
  if (const auto of_group = detail::group_memory_left(detail::control_group()))
    left = std::min(left, *of_group);
  return left;
}

}  // namespace hsm::examples
