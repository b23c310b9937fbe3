// SPDX-License-Identifier: MIT
//
// A file that appears whole or not at all: bytes go to a temporary file beside the target, `commit` brings
// them to the disk and renames the temporary over the target. Until then the target is untouched; without a
// commit it stays so.
//
//   OutputFile file("model.safetensors");   // fails here if the directory cannot be written to
//   file.reserve(size);                     // and here if there is not so much room
//   file.write(bytes);
//   file.commit();
//
// Symbolic links are followed, to a file that does not exist yet too; permissions, owner and group of a file
// that is replaced are kept as far as the system lets this process, and only regular files are replaced. If the last step fails, the rename, then the
// temporary is complete: it stays, and the error names it. A process that is ended without warning leaves
// `<target, shortened>.tmp-<pid>-<n>` behind; see io/temporary_files.hpp for one with warning. Errors:
// std::runtime_error with path and reason.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/io/file_handle.hpp>
#include <hsm/io/link_target.hpp>
#include <hsm/io/replaceable.hpp>
#include <hsm/io/system_file.hpp>
#include <hsm/io/temporary_files.hpp>

namespace hsm::inline HSM_ABI {

/// The rename at the end of a commit failed, and the complete new file is still there under another name.
class CommitError : public std::runtime_error {
 public:
  /// `complete`: where the new file is.
  CommitError(const std::string& what, std::filesystem::path complete)
      : std::runtime_error(what), complete_(std::move(complete)) {}

  /// The path of the complete new file.
  const std::filesystem::path& complete() const { return complete_; }

 private:
  std::filesystem::path complete_;
};

/// Writes a file beside its target and renames it into place on `commit`.
class OutputFile {
 public:
  /// Opens a new temporary file beside `path`. Throws std::runtime_error, with nothing changed on disk, if
  /// `path` is a directory, a pipe, a device, write-protected, cannot be replaced or has too long a name, or if its
  /// directory is missing or cannot be written to.
  explicit OutputFile(const std::filesystem::path& path);

  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Removes the temporary file unless it was committed.
  ~OutputFile() {
    static_cast<void>(file_.close());
    if (!temporary_.empty()) detail::remove_file(temporary_.c_str());
    detail::TemporaryFiles::forget(place_);
  }

  /// Takes the room for a file of `bytes` bytes. Throws std::runtime_error if the disk, a quota or a limit of
  /// the process does not have it; file systems that cannot tell are believed.
  void reserve(std::uint64_t bytes) {
    require_open("reserve");
    if (detail::above_file_size_limit(bytes)) throw no_room(bytes, EFBIG);
    if (!file_.reserve(bytes, target_)) throw no_room(bytes, errno);
  }

  /// Appends `bytes`. Throws std::runtime_error if the system reports an error, std::logic_error after
  /// `commit`.
  void write(std::span<const std::byte> bytes) {
    require_open("write");
    if (bytes.size() > buffer_.size() - buffered_) flush();
    if (bytes.size() > buffer_.size()) return write_out(bytes);
    if (!bytes.empty()) std::memcpy(buffer_.data() + buffered_, bytes.data(), bytes.size());
    buffered_ += bytes.size();
  }

  /// Appends the bytes of `text`; otherwise as the form for bytes.
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

  /// Brings everything to the disk and replaces the target. Throws std::runtime_error if any step or any
  /// earlier write failed, with the target untouched, of the kind CommitError if only the rename did;
  /// std::logic_error when called again.
  void commit();

  /// The absolute path that `commit` writes to.
  const std::filesystem::path& target() const { return target_; }

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{1} << 16;

  void require_open(const char* function) const {
    if (!file_)
      throw std::logic_error("OutputFile::" + std::string(function) +
                             ": the file must be open, got one after commit");
  }

  std::runtime_error no_room(std::uint64_t bytes, int reason) const {
    return detail::file_error(target_, "cannot take the room for " + detail::counted(bytes, "byte"), reason);
  }

  void write_out(std::span<const std::byte> bytes) {
    if (file_.write(bytes)) return;
    failed_ = true;
    throw detail::file_error(target_, "cannot write", errno);
  }

  void flush() { write_out(std::span(buffer_).first(std::exchange(buffered_, 0))); }

  void open_temporary(bool replaces);

  std::filesystem::path target_;
  std::filesystem::path temporary_;  // empty when there is nothing to remove
  int place_ = -1;                   // of its name in TemporaryFiles
  detail::SystemFile file_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kBufferBytes);
  std::size_t buffered_ = 0;
  bool failed_ = false;  // a write; the caller may have gone on after the exception
};

inline OutputFile::OutputFile(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const auto refuse = [&](const char* got) {
    throw std::runtime_error(detail::path_text(path) + ": must be a file to write, got " + got);
  };
  if (fs::is_directory(status)) refuse("a directory");
  if (!path.has_filename()) refuse("a path without a file name");
  if (fs::exists(status) && !fs::is_regular_file(status)) refuse("a pipe or a device, not a regular file");
  target_ = detail::link_target(path, error);  // absolute: a later change of directory does no harm
  if (target_.empty()) throw detail::file_error(path, "cannot resolve the path", error.value());
  if (!target_.has_filename()) refuse("a link to a path without a file name");
  static_cast<void>(fs::symlink_status(target_, error));  // a temporary has a shorter name
  if (error == std::errc::filename_too_long)
    throw detail::file_error(path, "cannot write a file of this name", error.value());
  if (fs::exists(status) && !detail::may_write(target_))
    throw detail::file_error(path, "cannot replace the file", errno);
  open_temporary(fs::exists(status));
  if (!fs::exists(status)) return;
  if (const std::string problem = detail::why_not_replaceable(target_, temporary_); !problem.empty()) {
    static_cast<void>(file_.close());
    detail::remove_file(temporary_.c_str());
    detail::TemporaryFiles::forget(place_);
    throw std::runtime_error(detail::path_text(path) + ": cannot replace the file: " + problem);
  }
}

inline void OutputFile::open_temporary(bool replaces) {
  constexpr int kAttempts = 1000;
  const std::filesystem::path directory = target_.parent_path();
  const std::string stem = detail::short_name(detail::path_text(target_.filename())) + ".tmp-" +
                           std::to_string(detail::process_number()) + "-";
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::string name = stem + std::to_string(attempt);
    std::filesystem::path candidate = directory / std::u8string(name.begin(), name.end());
    // Noted before it exists: a signal in between finds nothing to remove.
    place_ = detail::TemporaryFiles::add(candidate);
    file_ =
        detail::SystemFile::create(candidate, replaces);  // nobody else reads what a closed file will hold
    const int reason = errno;
    if (!file_) {
      detail::TemporaryFiles::forget(std::exchange(place_, -1));
      if (reason == EEXIST) continue;
      throw detail::file_error(target_, "cannot create a temporary file beside it", reason);
    }
    temporary_ = std::move(candidate);
    if (replaces) file_.take_access_of(target_);
    return;
  }
  throw detail::file_error(target_, "cannot find a free name for a temporary file beside it", EEXIST);
}

inline void OutputFile::commit() {
  require_open("commit");
  if (failed_)
    throw std::runtime_error(detail::path_text(target_) + ": cannot commit: an earlier write failed");
  flush();
  if (!file_.sync()) {
    failed_ = true;  // a system tells of what it lost once
    throw detail::file_error(target_, "cannot bring to the disk", errno);
  }
  if (!file_.close()) throw detail::file_error(target_, "cannot close", errno);
  std::error_code error;
  std::filesystem::rename(temporary_, target_, error);
  detail::TemporaryFiles::forget(std::exchange(place_, -1));
  const std::filesystem::path complete = std::exchange(temporary_, {});
  if (error) {
    throw CommitError(detail::path_text(target_) + ": cannot replace the file: " + error.message() +
                          "; the complete new file is " + detail::path_text(complete),
                      complete);
  }
  detail::sync_directory(target_.parent_path());
}

}  // namespace hsm::inline HSM_ABI
