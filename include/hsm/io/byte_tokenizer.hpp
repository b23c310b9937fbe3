// SPDX-License-Identifier: MIT
//
// The tokenizer that needs no file: a token is a byte, V = 256. Any text can be encoded, and decoding gives
// back its bytes.
//
// Generated tokens can stop in the middle of a character or spell no valid UTF-8 at all; show them through
// `Utf8Stream`. Cost O(bytes). Errors: std::out_of_range for an id that is no byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/io/tokenizer.hpp>
#include <hsm/io/utf8_stream.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// All bytes, in order.
inline constexpr std::array<char, 256> kAllBytes = [] {
  std::array<char, 256> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(static_cast<unsigned char>(i));
  return bytes;
}();

}  // namespace detail

/// Bytes as token ids 0..255.
struct ByteTokenizer {
  /// The number of different ids, V.
  static constexpr std::int32_t kVocabulary = 256;

  /// The same, as every tokenizer says it.
  static constexpr std::int32_t vocabulary() { return kVocabulary; }

  /// One id per byte of `text`.
  static std::vector<std::int32_t> encode(std::string_view text) {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }

  /// The byte of one id. Throws std::out_of_range for an id outside 0..255.
  static std::string_view piece(std::int32_t id) {
    detail::check_token("ByteTokenizer::piece: id", id, kVocabulary);
    return {detail::kAllBytes.data() + id, 1};
  }

  /// One byte per id. Throws std::out_of_range, naming the position, for an id outside 0..255.
  static std::string decode(std::span<const std::int32_t> ids);
};

inline std::string ByteTokenizer::decode(std::span<const std::int32_t> ids) {
  return detail::join_pieces("ByteTokenizer", ByteTokenizer{}, ids);
}

}  // namespace hsm::inline HSM_ABI
