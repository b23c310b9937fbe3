// SPDX-License-Identifier: MIT
//
// Text: the stream of bytes to UTF-8, the byte tokenizer, files and pipes, and quoting in messages. No text is
// refused; what comes out of the stream is well-formed, and well-formed text passes unchanged.
#pragma once

#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include <hsm/io/byte_tokenizer.hpp>
#include <hsm/io/file_handle.hpp>
#include <hsm/io/text_file.hpp>
#include <hsm/io/utf8_stream.hpp>

#include "fuzz/property.hpp"
#include "fuzz/scratch.hpp"

namespace hsm::test {

/// Whether `text` is UTF-8, by decoding each character and asking for its one shortest form.
inline bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t k) {
      return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i + k]));
    };
    const std::uint32_t first = byte(0);
    const std::size_t length = first < 0x80       ? 1
                               : first >> 5 == 6  ? 2
                               : first >> 4 == 14 ? 3
                               : first >> 3 == 30 ? 4
                                                  : 0;
    if (length == 0 || text.size() - i < length) return false;
    std::uint32_t code = length == 1 ? first : first & (0xFFu >> (length + 1));
    for (std::size_t k = 1; k < length; ++k) {
      if (byte(k) >> 6 != 2) return false;
      code = code << 6 | (byte(k) & 63);
    }
    const std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
    i += length;
  }
  return true;
}

/// What a stream makes of `text`.
inline std::string streamed(std::string_view text) {
  Utf8Stream stream;
  std::string result;
  for (const char c : text) {
    const std::string piece = stream.push(c);
    require(is_utf8(piece), "every piece of a stream must be UTF-8");
    result += piece;
  }
  return result + stream.finish();
}

/// Reads `text` (at most a pipe's buffer) through a pipe.
inline std::string through_pipe(const std::string& text) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("the target cannot make a pipe");
  const bool written = ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(ends[1]);
  std::string result = written ? read_text_file("/dev/fd/" + std::to_string(ends[0])) : text;
  ::close(ends[0]);
  return result;
}

/// Returns whether `input` is UTF-8.
inline bool fuzz_text(Input input) {
  const std::string text = text_of(input);
  const bool valid = is_utf8(text);
  const std::string clean = streamed(text);
  require((clean == text) == valid, "a stream must leave well-formed text, and only that, as it is");
  require(is_utf8(clean) && streamed(clean) == clean, "what a stream gives must be well-formed");
  require(clean.size() <= 3 * text.size(), "a byte must become one U+FFFD at most");

  const auto ids = ByteTokenizer::encode(text);
  require(ByteTokenizer::decode(ids) == text, "decoding must give back what was encoded");
  std::vector<std::int32_t> wild(text.size() / 4);
  if (!wild.empty()) std::memcpy(wild.data(), text.data(), 4 * wild.size());
  const bool bytes =
      std::all_of(wild.begin(), wild.end(), [](std::int32_t id) { return id >= 0 && id < 256; });
  require(
      bytes == accepts<std::out_of_range>("ByteTokenizer::decode: ", [&] { ByteTokenizer::decode(wild); }),
      "ids must be refused if and only if one is no byte");

  const auto path = scratch_file("text");
  write_input(path, input);
  require(read_text_file(path) == text, "a file must be read as it is");
  if (text.size() <= 4096) require(through_pipe(text) == text, "a pipe must be read as a file");

  require_message(detail::in_quotes(text), "'");
  return valid;
}

}  // namespace hsm::test
