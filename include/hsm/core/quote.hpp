// SPDX-License-Identifier: MIT
//
// The way in which text that came from outside is shown inside a message: shortened, and all but printable
// ASCII in it escaped. A hostile file cannot steer a terminal or fill a log.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI::detail {

/// `text` in single quotes for a message: at most 80 bytes of it, and all but printable ASCII as \xNN.
inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLimit = 80;
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result = "'";
  for (const char c : text.substr(0, kLimit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7E) {
      result += "\\x";
      result += kDigits[byte >> 4];
      result += kDigits[byte & 15u];
    } else {
      result += c;
    }
  }
  return result + (text.size() > kLimit ? "...'" : "'");
}

}  // namespace hsm::inline HSM_ABI::detail
