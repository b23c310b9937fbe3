// SPDX-License-Identifier: MIT
//
// A file that is read from front to back, with every failure turned into a sentence.
//
// The size is that of the opened file, so a file that is replaced on disk in between cannot mix two versions.
// Reading a file that shrinks meanwhile ends early, and the caller sees it from the count that `read`
// returns. Needs POSIX. Errors: std::runtime_error with path and reason (missing, a directory, not readable).
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>

#include <hsm/io/file_handle.hpp>

namespace hsm::inline HSM_ABI {

/// An open file, read in order.
class InputFile {
 public:
  /// Opens `path`. Throws std::runtime_error if it is missing, a directory or not readable.
  explicit InputFile(const std::filesystem::path& path) : path_(path), file_(std::fopen(path.c_str(), "rb")) {
    if (!file_) throw detail::file_error(path_, "cannot open for reading", errno);
    struct stat status = {};
    if (::fstat(::fileno(file_.get()), &status) != 0)
      throw detail::file_error(path_, "cannot read the size", errno);
    if (S_ISDIR(status.st_mode))
      throw std::runtime_error(path_.string() + ": must be a file, got a directory");
    regular_ = S_ISREG(status.st_mode);
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  /// Whether the file has a size of its own; a pipe or a device has none.
  bool is_regular() const { return regular_; }

  /// Size in bytes of a regular file. Throws std::runtime_error for anything else.
  std::uint64_t size() const {
    if (!regular_)
      throw std::runtime_error(path_.string() + ": must be a regular file, got a pipe or a device");
    return size_;
  }

  /// Fills `buffer` from the file and returns how many bytes came; fewer than asked for means the end of the
  /// file. Throws std::runtime_error if the system reports an error.
  std::size_t read(std::span<std::byte> buffer) {
    if (buffer.empty()) return 0;
    const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), file_.get());
    if (count < buffer.size() && std::ferror(file_.get()) != 0)
      throw detail::file_error(path_, "cannot read", errno);
    return count;
  }

  /// The path as it was given.
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  detail::FileHandle file_;
  std::uint64_t size_ = 0;
  bool regular_ = false;
};

}  // namespace hsm::inline HSM_ABI
