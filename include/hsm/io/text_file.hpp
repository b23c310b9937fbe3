// SPDX-License-Identifier: MIT
//
// A whole file as a string, byte for byte: no line endings are changed, no byte-order mark is removed and
// nothing is decoded.
//
// Works for pipes too, which have no size to ask for. Cost O(bytes), memory up to twice the size for a pipe.
// Errors: std::runtime_error with path and reason (missing, a directory, not readable).
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include <hsm/io/input_file.hpp>

namespace hsm::inline HSM_ABI {

/// The bytes of the file at `path`. Throws std::runtime_error if it is missing, a directory or not readable.
inline std::string read_text_file(const std::filesystem::path& path) {
  InputFile file(path);
  constexpr std::size_t kChunk = std::size_t{1} << 16;
  std::string text;
  // One byte more than the size, so that the first read of a regular file also meets its end.
  std::size_t room = file.is_regular() ? static_cast<std::size_t>(file.size()) + 1 : kChunk;
  while (true) {
    const std::size_t old_size = text.size();
    text.resize(old_size + room);
    const std::size_t count = file.read(std::as_writable_bytes(std::span(text).subspan(old_size)));
    text.resize(old_size + count);
    if (count < room) return text;
    room = (std::max)(kChunk, text.size());
  }
}

}  // namespace hsm::inline HSM_ABI
