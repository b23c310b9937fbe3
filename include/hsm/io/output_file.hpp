// SPDX-License-Identifier: MIT
//
// A file that appears whole or not at all: bytes go to a temporary file beside the target, `commit` brings
// them to the disk and renames the temporary over the target. Until then the target is untouched; without a
// commit it stays so.
//
//   OutputFile file("model.safetensors");   // fails here if the directory cannot be written to
//   file.write(bytes);
//   file.commit();
//
// A symbolic link is followed, the permissions of a file that is replaced are kept, and only regular files
// are replaced. A process that is killed leaves `<target>.tmp-<pid>-<n>` behind. Needs POSIX. Errors:
// std::runtime_error with path and reason.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <hsm/io/file_handle.hpp>

namespace hsm::inline HSM_ABI {

/// Writes a file beside its target and renames it into place on `commit`.
class OutputFile {
 public:
  /// Opens a new temporary file beside `path`. Throws std::runtime_error, with nothing changed on disk, if
  /// `path` is a directory, a device or write-protected, or if its directory is missing or cannot be written
  /// to.
  explicit OutputFile(const std::filesystem::path& path);

  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Removes the temporary file unless it was committed.
  ~OutputFile() {
    file_.reset();
    if (!temporary_.empty()) static_cast<void>(::unlink(temporary_.c_str()));
  }

  /// Appends `bytes`. Throws std::runtime_error if the system reports an error, std::logic_error after
  /// `commit`.
  void write(std::span<const std::byte> bytes) {
    require_open("write");
    if (bytes.empty()) return;
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
      throw detail::file_error(target_, "cannot write", errno);
    }
  }

  /// Appends the bytes of `text`; otherwise as the form for bytes.
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

  /// Brings everything to the disk and replaces the target. Throws std::runtime_error if any step or any
  /// earlier write failed, with the target untouched; std::logic_error when called again.
  void commit();

  /// The absolute path that `commit` writes to.
  const std::filesystem::path& target() const { return target_; }

 private:
  void require_open(const char* function) const {
    if (!file_)
      throw std::logic_error("OutputFile::" + std::string(function) +
                             ": the file must be open, got one after commit");
  }

  void open_temporary(std::optional<mode_t> kept_mode);
  void sync_directory() const;

  std::filesystem::path target_;
  std::filesystem::path temporary_;  // empty when there is nothing to remove
  detail::FileHandle file_;
};

inline OutputFile::OutputFile(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status))
    throw std::runtime_error(path.string() + ": must be a file to write, got a directory");
  if (!path.has_filename())
    throw std::runtime_error(path.string() + ": must be a file to write, got a path without a file name");
  std::optional<mode_t> kept_mode;
  if (fs::exists(status)) {
    if (!fs::is_regular_file(status)) {
      throw std::runtime_error(path.string() +
                               ": must be a regular file to be replaced, got a pipe or a device");
    }
    if (::access(path.c_str(), W_OK) != 0) throw detail::file_error(path, "cannot replace the file", errno);
    kept_mode = static_cast<mode_t>(status.permissions()) & mode_t{0777};
    target_ =
        fs::canonical(path, error);  // follows links; absolute, so a later change of directory does no harm
  } else {
    target_ = fs::absolute(path, error);
  }
  if (target_.empty()) throw detail::file_error(path, "cannot resolve the path", error.value());
  open_temporary(kept_mode);
}

inline void OutputFile::open_temporary(std::optional<mode_t> kept_mode) {
  constexpr int kAttempts = 1000;
  const std::string stem = target_.string() + ".tmp-" + std::to_string(::getpid()) + "-";
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::filesystem::path candidate = stem + std::to_string(attempt);
    const int descriptor = ::open(candidate.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) {
      if (errno == EEXIST) continue;
      throw detail::file_error(target_, "cannot create a temporary file beside it", errno);
    }
    const bool mode_kept = !kept_mode || ::fchmod(descriptor, *kept_mode) == 0;
    if (mode_kept) file_.reset(::fdopen(descriptor, "wb"));
    if (!file_) {
      const int reason = errno;
      static_cast<void>(::close(descriptor));
      static_cast<void>(::unlink(candidate.c_str()));
      throw detail::file_error(target_, "cannot prepare a temporary file beside it", reason);
    }
    temporary_ = std::move(candidate);
    return;
  }
  throw detail::file_error(target_, "cannot find a free name for a temporary file beside it", EEXIST);
}

inline void OutputFile::commit() {
  require_open("commit");
  // The stream remembers a failed write, also when the caller went on after the exception.
  if (std::ferror(file_.get()) != 0)
    throw std::runtime_error(target_.string() + ": cannot commit: an earlier write failed");
  if (std::fflush(file_.get()) != 0) throw detail::file_error(target_, "cannot write", errno);
  if (::fsync(::fileno(file_.get())) != 0)
    throw detail::file_error(target_, "cannot bring to the disk", errno);
  if (std::fclose(file_.release()) != 0) throw detail::file_error(target_, "cannot close", errno);
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) {
    throw detail::file_error(target_, "cannot replace the file", errno);
  }
  temporary_.clear();
  sync_directory();
}

// The rename itself reaches the disk with its directory. The new file is complete whether or not this works,
// and some file systems refuse it, so a failure is not an error.
inline void OutputFile::sync_directory() const {
  const int descriptor = ::open(target_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  static_cast<void>(::fsync(descriptor));
  static_cast<void>(::close(descriptor));
}

}  // namespace hsm::inline HSM_ABI
