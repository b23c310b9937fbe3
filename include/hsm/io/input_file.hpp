// SPDX-License-Identifier: MIT
//
// A file that is read from front to back, with every failure turned into a sentence.
//
// The size is that of the opened file, so a file that is replaced on disk in between cannot mix two versions.
// Reading a file that shrinks meanwhile ends early, and the caller sees it from the count that `read`
// returns. Opening never waits; reading a pipe waits for who writes to it. Errors: std::runtime_error with
// path and reason (missing, a directory, not readable).
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>

#include <hsm/io/file_handle.hpp>
#include <hsm/io/system_file.hpp>

namespace hsm::inline HSM_ABI {

/// An open file, read in order.
class InputFile {
 public:
  /// Opens `path`. Throws std::runtime_error if it is missing, a directory or not readable.
  explicit InputFile(const std::filesystem::path& path) : path_(path), file_(detail::SystemFile::open(path)) {
    if (!file_) {
      const int reason = errno;
      std::error_code none;  // where opening a directory fails, the reason is of no use
      if (!std::filesystem::is_directory(path_, none))
        throw detail::file_error(path_, "cannot open for reading", reason);
      facts_.directory = true;
    } else if (!file_.facts(facts_)) {
      throw detail::file_error(path_, "cannot read the size", errno);
    }
    if (facts_.directory)
      throw std::runtime_error(detail::path_text(path_) + ": must be a file, got a directory");
  }

  /// Whether the file has a size of its own; a pipe or a device has none.
  bool is_regular() const { return facts_.regular; }

  /// Whether reading may wait for somebody who writes.
  bool is_pipe() const { return facts_.pipe; }

  /// Size in bytes of a regular file. Throws std::runtime_error for anything else.
  std::uint64_t size() const {
    if (!facts_.regular) {
      throw std::runtime_error(detail::path_text(path_) + ": must be a regular file, got a pipe or a device");
    }
    return facts_.size;
  }

  /// Fills `buffer` from the file and returns how many bytes came; fewer than asked for means the end of the
  /// file. Throws std::runtime_error if the system reports an error.
  std::size_t read(std::span<std::byte> buffer) {
    const std::ptrdiff_t count = file_.read(buffer);
    if (count < 0) throw detail::file_error(path_, "cannot read", errno);
    return static_cast<std::size_t>(count);
  }

  /// The path as it was given.
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  detail::SystemFile file_;
  detail::FileFacts facts_;
};

}  // namespace hsm::inline HSM_ABI
