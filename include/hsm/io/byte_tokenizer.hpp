// SPDX-License-Identifier: MIT
//
// The tokenizer that needs no file: a token is a byte, V = 256. Any text can be encoded, and decoding gives
// back its bytes.
//
// Generated tokens can stop in the middle of a character or spell no valid UTF-8 at all; show them through
// `Utf8Stream`. Cost O(bytes). Errors: std::out_of_range for an id that is no byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/io/utf8_stream.hpp>

namespace hsm::inline HSM_ABI {

/// Bytes as token ids 0..255.
struct ByteTokenizer {
  /// The number of different ids, V.
  static constexpr std::int32_t kVocabulary = 256;

  /// One id per byte of `text`.
  static std::vector<std::int32_t> encode(std::string_view text) {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }

  /// One byte per id. Throws std::out_of_range, naming the position, for an id outside 0..255.
  static std::string decode(std::span<const std::int32_t> ids) {
    std::string text;
    text.reserve(ids.size());
    for (std::size_t position = 0; position < ids.size(); ++position) {
      const std::int32_t id = ids[position];
      if (id < 0 || id >= kVocabulary) {
        throw std::out_of_range("ByteTokenizer::decode: id at position " + std::to_string(position) +
                                " must be in 0..255, got " + std::to_string(id));
      }
      text += static_cast<char>(id);
    }
    return text;
  }
};

}  // namespace hsm::inline HSM_ABI
