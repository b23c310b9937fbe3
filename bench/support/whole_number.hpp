// SPDX-License-Identifier: MIT
//
// A whole number above 0 among the arguments of a benchmark program.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace hsm::bench {

/// The number that `text` is, all of it. Throws std::invalid_argument, which names `what`.
inline std::size_t whole_number(const char* what, const std::string& text) {
  std::size_t end = 0;
  unsigned long value = 0;
  try {
    value = std::stoul(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  if (end == 0 || end != text.size() || text.front() == '-' || value == 0)
    throw std::invalid_argument(std::string(what) + " must be a whole number above 0, got '" + text + "'");
  return value;
}

}  // namespace hsm::bench
