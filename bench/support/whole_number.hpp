// SPDX-License-Identifier: MIT
//
// A whole number above 0 among the arguments of a benchmark program.
#pragma once

#include <charconv>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <system_error>

namespace hsm::bench {

/// The number that `text` is, all of it. Throws std::invalid_argument, which names `what`.
inline std::size_t whole_number(const char* what, const std::string& text) {
  std::size_t value = 0;
  const char* end = text.data() + text.size();
  const auto [read, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || read != end || value == 0)
    throw std::invalid_argument(std::string(what) + " must be a whole number above 0, got '" + text + "'");
  return value;
}

}  // namespace hsm::bench
