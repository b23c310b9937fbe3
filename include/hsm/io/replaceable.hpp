// SPDX-License-Identifier: MIT
//
// What can be known before a file is written: whether a rename may replace the file that is there, how large a
// file this process may write, and a name for the temporary that every file system takes.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include <hsm/io/temporary_files.hpp>

#if !defined(_WIN32)
#include <sys/resource.h>
#endif

namespace hsm::inline HSM_ABI::detail {

/// Whether a limit of this process forbids files of so many bytes.
inline bool above_file_size_limit([[maybe_unused]] std::uint64_t bytes) {
#if defined(_WIN32)
  return false;
#else
  struct rlimit limit = {};
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
         bytes > static_cast<std::uint64_t>(limit.rlim_cur);
#endif
}

/// Whether the file is a mount point of its own, as containers make them of single files.
inline bool is_mount_point([[maybe_unused]] const std::filesystem::path& file) {
#if defined(STATX_MNT_ID)
  struct statx own = {}, parent = {};
  return ::statx(AT_FDCWD, file.c_str(), AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &own) == 0 &&
         ::statx(AT_FDCWD, file.parent_path().c_str(), 0, STATX_MNT_ID, &parent) == 0 &&
         (own.stx_mask & STATX_MNT_ID) != 0 && (parent.stx_mask & STATX_MNT_ID) != 0 &&
         own.stx_mnt_id != parent.stx_mnt_id;
#else
  return false;
#endif
}

/// Why a rename could not replace the existing file `target`; empty if it could, as far as one can know.
/// `unused` is a path in the same directory from which a name is made that nothing has.
inline std::string why_not_replaceable(const std::filesystem::path& target,
                                       const std::filesystem::path& unused) {
  namespace fs = std::filesystem;
  if (is_mount_point(target)) return "it is a mount point of its own";
#if !defined(_WIN32)
  // No directory ever replaces a file, but the system looks first whether anything may: a directory of others
  // with the sticky bit, a file or directory that is immutable or for appending alone.
  fs::path directory = unused;
  directory += "d";
  std::error_code error;
  const int place = TemporaryFiles::add(directory);
  if (fs::create_directory(directory, error)) {
    fs::rename(directory, target, error);
    std::error_code none;
    fs::remove(error ? directory : target,
               none);  // which went there where somebody took the file away meanwhile
  } else {
    error.clear();
  }
  TemporaryFiles::forget(place);
  if (error == std::errc::operation_not_permitted || error == std::errc::permission_denied ||
      error == std::errc::read_only_file_system || error == std::errc::text_file_busy) {
    return error.message();
  }
#else
  static_cast<void>(unused);
#endif
  return {};
}

/// The beginning of a file's name, whole characters of UTF-8, short enough for any file system with more
/// behind it.
inline std::string short_name(std::string_view name) {
  constexpr std::size_t kLongest = 96;
  if (name.size() <= kLongest) return std::string(name);
  std::size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0u) == 0x80u) --end;
  return std::string(name.substr(0, end));
}

}  // namespace hsm::inline HSM_ABI::detail
