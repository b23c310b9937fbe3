// SPDX-License-Identifier: MIT
//
// How text is cut before SentencePiece sees it, so that nothing is lost:
//
//   plain bytes   what is no valid UTF-8; control characters, newlines and tabs among them; U+2581, which
//                 SentencePiece writes for a space; U+2585 and U+FFFD, which it writes for what it does not know
//   words         one space, if there is one, and the characters up to the next; at most kMostWordBytes
//
// Pieces never reach beyond a word: they are learned from words, so an encoding word by word is the same as one
// of the whole line. A character is well-formed as in `Utf8Stream`. Cost O(bytes). Errors: none.
#pragma once

#include <cstddef>
#include <string_view>

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The length of the longest part of a word that is looked at as one.
inline constexpr std::size_t kMostWordBytes = 1024;

/// The bytes of the well-formed UTF-8 character at the start of `text`, 1 to 4, or 0 if there is none.
inline std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.empty()) return 0;
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (text.size() < length) return 0;
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i)
    if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
  return length;
}

/// The bytes of the character at the start of `text` if it may be part of a word, else 0.
inline std::size_t word_character_bytes(std::string_view text) {
  const std::size_t length = character_bytes(text);
  if (length == 1) {
    const auto value = static_cast<unsigned char>(text[0]);
    return value < 0x20 || value == 0x7F ? 0 : 1;
  }
  const std::string_view character = text.substr(0, length);
  const bool special =
      character == "\xE2\x96\x81" || character == "\xE2\x96\x85" || character == "\xEF\xBF\xBD";
  return special ? 0 : length;
}

/// Calls word(part) for each word and plain(part) for each run of plain bytes; the parts, one after another, are the
/// text.
template <class Word, class Plain>
void cut_words(std::string_view text, Word&& word, Plain&& plain) {
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at, length = word_character_bytes(text.substr(at));
    if (length == 0) {
      for (; end < text.size() && word_character_bytes(text.substr(end)) == 0; ++end) continue;
      plain(text.substr(at, end - at));
    } else {
      do {
        end += length;
        length = word_character_bytes(text.substr(end));
      } while (length > 0 && text[end] != ' ' && end - at + length <= kMostWordBytes);
      word(text.substr(at, end - at));
    }
    at = end;
  }
}

}  // namespace hsm::inline HSM_ABI::detail
