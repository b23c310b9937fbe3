// SPDX-License-Identifier: MIT
//
// What a terminal may be shown. It would obey escape sequences and control characters (also those above ASCII,
// such as U+009B, which begins a sequence as ESC [ does), and bidirectional controls show a text in another
// order than it has. Text that comes from outside therefore passes through here:
//
//   shown          a name or a value inside a message: such characters, and bytes that are no UTF-8, as \xNN
//   TerminalText   a text on its way to a terminal, byte by byte: U+FFFD for them
//
// Files and pipes get every byte as it is; see TextOutput of the tool.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <hsm/io/utf8_stream.hpp>

namespace hsm::examples {

namespace detail {

/// The code point of the well-formed UTF-8 sequence at the start of `text`, and its length.
struct CodePoint {
  explicit CodePoint(std::string_view text) {
    const auto byte = [&](std::size_t i) {
      return i < text.size() ? static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])) : 0u;
    };
    const std::uint32_t first = byte(0);
    length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    value = length == 1 ? first : first & (0xFFu >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) value = value << 6 | (byte(i) & 0x3Fu);
  }

  std::uint32_t value = 0;
  std::size_t length = 1;
};

/// Whether a terminal would obey this character, or show its neighbours in another order.
inline bool steers_terminal(std::uint32_t c) {
  const auto in = [c](std::uint32_t first, std::uint32_t last) { return c >= first && c <= last; };
  return c < 0x20 || in(0x7F, 0x9F) || c == 0x061C || in(0x200E, 0x200F) || in(0x2028, 0x202E) ||
         in(0x2066, 0x2069) || in(0xFFF9, 0xFFFB);
}

inline std::string escaped(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += "\\x";
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15u];
  }
  return text;
}

}  // namespace detail

/// `text` as part of a message: what a terminal would obey, and bytes that are no UTF-8, as \xNN; of a text of
/// more than `most` bytes the middle is left out.
inline std::string shown(std::string_view text, std::size_t most = 2000) {
  if (text.size() > most)
    return shown(text.substr(0, most / 2)) + " ... " + shown(text.substr(text.size() - most / 2));
  std::string result, raw;  // raw: what has come since the last whole character
  Utf8Stream stream;
  for (const char byte : text) {
    raw += byte;
    const std::string piece = stream.push(byte);
    if (piece.empty()) continue;
    if (piece == raw) {
      result += detail::steers_terminal(detail::CodePoint(piece).value) ? detail::escaped(raw) : raw;
      raw.clear();
      continue;
    }
    // No UTF-8, up to what may begin a character of its own.
    const std::string_view rest = stream.pending();
    const bool ascii = rest.empty() && static_cast<unsigned char>(byte) < 0x80;
    const std::size_t kept = ascii ? 1 : rest.size();
    result += detail::escaped(std::string_view(raw).substr(0, raw.size() - kept));
    if (ascii)
      result += detail::steers_terminal(static_cast<unsigned char>(byte))
                    ? detail::escaped(std::string_view(&byte, 1))
                    : std::string(1, byte);
    raw = std::string(rest);
  }
  return result + detail::escaped(raw);
}

/// A text of any bytes, made fit for a terminal piece by piece. Line breaks and tabs stay.
class TerminalText {
 public:
  /// Goes on with the first bytes of a character, of a text that was cut there.
  explicit TerminalText(std::string_view pending = {}) {
    for (const char byte : pending) static_cast<void>(stream_.push(byte));
  }

  /// Takes one byte; returns what can be shown now.
  std::string push(char byte) { return harmless(stream_.push(byte)); }
  /// Ends the text: U+FFFD for a character that was not finished.
  std::string finish() { return harmless(stream_.finish()); }
  /// The bytes of a character that has begun.
  std::string_view pending() const { return stream_.pending(); }

 private:
  static std::string harmless(const std::string& text) {
    std::string result;
    for (std::size_t at = 0; at < text.size();) {
      const detail::CodePoint c(std::string_view(text).substr(at));
      const bool stays = c.value == '\n' || c.value == '\t' || !detail::steers_terminal(c.value);
      result += stays ? std::string_view(text).substr(at, c.length) : Utf8Stream::kReplacement;
      at += c.length;
    }
    return result;
  }

  Utf8Stream stream_;
};

}  // namespace hsm::examples
