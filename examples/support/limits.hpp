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
#include <vector>

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

/// The directories under `root` of a control group of the unified hierarchy, "/a/b", and of all that it is in: the limits of
/// each of them hold.
inline std::vector<std::string> groups_around(const std::string& root, std::string group) {
  std::vector<std::string> directories;
  while (group.ends_with('/')) group.pop_back();
  for (; !group.empty(); group.resize(group.rfind('/'))) directories.push_back(root + group + "/");
  directories.push_back(root + "/");
  return directories;
}

/// Those of this process, the innermost first; none where there is no such hierarchy.
inline std::vector<std::string> control_groups() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::/")) return groups_around("/sys/fs/cgroup", line.substr(3));
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

/// The processors that a control group gives time for, if it has a limit.
inline std::optional<double> group_processors(const std::string& group) {
  std::ifstream file(group + "cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || !(quota > 0 && period > 0)) return std::nullopt;
  return quota / period;
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
/// its control group, and each that this is in, gives it time for.
inline int hardware_threads() {
  double processors = hsm::available_processors();
  for (const std::string& group : detail::control_groups())
    processors = std::min(processors, std::ceil(detail::group_processors(group).value_or(processors)));
  return std::max(1, static_cast<int>(processors));
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
  for (const std::string& group : detail::control_groups())
    left = std::min(left, detail::group_memory_left(group).value_or(left));
  return left;
}

}  // namespace hsm::examples
