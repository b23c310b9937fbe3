// SPDX-License-Identifier: MIT
//
// Small pieces of text for people: formatted numbers, durations and sizes.
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

#include <hsm/core/check.hpp>

// MinGW chooses between its own printf and that of Windows, which knows no %t and %z.
#if defined(__MINGW_PRINTF_FORMAT)
#define HSM_EXAMPLES_PRINTF __MINGW_PRINTF_FORMAT
#else
#define HSM_EXAMPLES_PRINTF printf
#endif

namespace hsm::examples {

/// What printf would print, as a string; the compiler checks the arguments.
[[gnu::format(HSM_EXAMPLES_PRINTF, 1, 2)]] inline std::string format(const char* pattern, ...) {
  std::va_list arguments, again;
  va_start(arguments, pattern);
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, pattern, arguments);
  std::string text(size > 0 ? static_cast<std::size_t>(size) : 0, '\0');
  if (size > 0) std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  va_end(arguments);
  return text;
}

/// "1 token", "2 tokens"; also of a count that is kept as a double.
using hsm::detail::counted;
inline std::string counted(double count, std::string_view what) {
  return format("%.0f ", count).append(what) + (count == 1 ? "" : "s");
}

/// A message of the library as a user reads it: without the name of a class or function, such as
/// "Attention: " or "feed_forward_for: ", in front.
inline std::string without_name(const std::string& message) {
  const std::size_t end = message.find(": ");
  if (end == std::string::npos) return message;
  bool code = false;  // no word of a sentence
  for (const char c : message.substr(0, end)) {
    const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
    if (!upper && !lower && c != '_' && c != ':') return message;
    code = code || !lower;
  }
  return code ? message.substr(end + 2) : message;
}

/// "42 s", "3:07 min" or "2:03:07 h".
inline std::string duration_text(double seconds) {
  constexpr double kMost = 1e9;
  const long whole = std::lround(std::fmin(std::fmax(seconds, 0), kMost));
  if (whole < 60) return format("%ld s", whole);
  if (whole < 3600) return format("%ld:%02ld min", whole / 60, whole % 60);
  return format("%ld:%02ld:%02ld h", whole / 3600, whole / 60 % 60, whole % 60);
}

/// "1 byte", "512 bytes", "1.5 KiB", "20.0 MiB".
inline std::string bytes_text(double bytes) {
  if (bytes < 1024) return counted(std::round(bytes), "byte");
  const char* units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  int unit = 0;
  for (bytes /= 1024; bytes >= 1024 && unit < 5; bytes /= 1024) ++unit;
  return format("%.1f %s", bytes, units[unit]);
}

}  // namespace hsm::examples
