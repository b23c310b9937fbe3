// SPDX-License-Identifier: MIT
//
// What tells one text of token ids from another, so that a run does not go on with a text that it did not begin
// with: the number of tokens and 64 bits,
//
//   h = number of tokens;   h = Random(h xor id).bits() for each id
//
// Any change of a token changes it, but for accidents of 1 in 2^64; no defence against somebody who means to
// deceive. The same on every platform. About 2 ns per token.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <hsm/core/check.hpp>
#include <hsm/core/random.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// The mark of a text; a plain value. The default is that of an empty text.
struct TextMark {
  Index tokens = 0;        ///< how many
  std::uint64_t hash = 0;  ///< of all of them

  TextMark() = default;
  /// The mark of this text.
  explicit TextMark(std::span<const std::int32_t> ids)
      : tokens(static_cast<Index>(ids.size())), hash(static_cast<std::uint64_t>(ids.size())) {
    for (const std::int32_t id : ids) hash = Random(hash ^ static_cast<std::uint32_t>(id)).bits();
  }

  /// Whether both are of one text.
  bool operator==(const TextMark&) const = default;

  /// "2850 tokens with the hash 0123456789abcdef".
  std::string text() const {
    std::string result = detail::counted(tokens, "token") + " with the hash ";
    for (int shift = 60; shift >= 0; shift -= 4) result += "0123456789abcdef"[(hash >> shift) & 15];
    return result;
  }
};

}  // namespace hsm::inline HSM_ABI
