// SPDX-License-Identifier: MIT
//
// What the page asks, as JSON.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "examples/hsm_lm/stack_json.hpp"

namespace hsm::examples {

/// The whole number that stands under `key`, or `usual` where nothing does. Throws std::invalid_argument unless it is 0 to
/// `most`.
inline std::uint64_t whole_number(const Json& request, const std::string& key, std::uint64_t usual,
                                  std::uint64_t most) {
  const auto found = request.find(key);
  if (found == request.end()) return usual;
  if (!found->is_number_unsigned() || found->get<std::uint64_t>() > most) {
    throw std::invalid_argument(key + " must be a whole number, 0 to " + std::to_string(most) + ", got " +
                                found->dump());
  }
  return found->get<std::uint64_t>();
}

/// The same for sizes, up to 2^20.
inline Index size_in(const Json& request, const std::string& key, Index usual = 0) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 20;
  return static_cast<Index>(whole_number(request, key, static_cast<std::uint64_t>(usual), kMost));
}

}  // namespace hsm::examples
