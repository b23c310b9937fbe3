// SPDX-License-Identifier: MIT
//
// The calls of the operating system that reading and writing files need, POSIX and Windows, in one place. A
// call that a signal interrupts is made again, and what it did in part is completed; files may be larger than
// 2 GiB on 32-bit systems too. Functions return false or -1 and leave the reason in errno.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <utility>

#include <hsm/core/abi.hpp>

#if defined(_WIN32)
#include <io.h>
#include <process.h>
#include <share.h>
#else
#include <poll.h>
#include <unistd.h>
#endif

namespace hsm::inline HSM_ABI::detail {

/// What the system says of an open file.
struct FileFacts {
  bool regular = false, directory = false, pipe = false;
  std::uint64_t size = 0;  ///< of a regular file
};

/// An open file of the system, closed when it goes out of scope.
class SystemFile {
 public:
  SystemFile() = default;
  /// Takes an open descriptor, or -1.
  explicit SystemFile(int descriptor) : descriptor_(descriptor) {}
  SystemFile(SystemFile&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  SystemFile& operator=(SystemFile&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~SystemFile() { static_cast<void>(close()); }

  /// A new file to write to; fails with EEXIST if there is one.
  static SystemFile create(const std::filesystem::path& path, bool hidden = false);
  /// A file to read. Does not wait for somebody to write to a pipe; the first `read` does.
  static SystemFile open(const std::filesystem::path& path);
  /// A table to be filled line by line: emptied if it exists, and never waited for. A pipe without a reader
  /// fails with ENXIO, and one whose reader does not keep up fails the write with EAGAIN.
  static SystemFile open_log(const std::filesystem::path& path);
  /// The same for a table that is there, to go on at its end.
  static SystemFile reopen_log(const std::filesystem::path& path);

  explicit operator bool() const { return descriptor_ >= 0; }

  bool facts(FileFacts& facts) const;
  /// Writes all bytes.
  bool write(std::span<const std::byte> bytes) const;
  /// Bytes read, fewer than asked for at the end of the file only; -1 for an error.
  std::ptrdiff_t read(std::span<std::byte> bytes) const;
  /// Brings what was written to the disk; true where the file system knows no such thing.
  bool sync() const;
  /// Takes the room of `bytes` bytes on the disk; true where the system cannot tell.
  bool reserve(std::uint64_t bytes, const std::filesystem::path& path) const;
  /// Gives the file the permissions, the owner and the group of another, as far as the system lets this process; where it
  /// keeps the group to itself, that gets no permissions. Nothing where there are none.
  void take_access_of(const std::filesystem::path& other) const;
  bool close();

 private:
  int descriptor_ = -1;
};

/// Whether the existing file may be written to.
bool may_write(const std::filesystem::path& path);
/// Removes a file or an empty directory, from a signal handler too.
void remove_file(const std::filesystem::path::value_type* path) noexcept;
/// Brings a rename in this directory to the disk. The file is complete whether or not this works.
void sync_directory(const std::filesystem::path& directory);
/// The number of this process.
long process_number();

/// One read or write of the system takes at most this many bytes.
inline constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;

#if defined(_WIN32)

inline SystemFile SystemFile::create(const std::filesystem::path& path, bool) {
  return SystemFile(::_wopen(path.c_str(), _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT,
                             _S_IREAD | _S_IWRITE));
}

inline SystemFile SystemFile::open(const std::filesystem::path& path) {
  return SystemFile(::_wopen(path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT));
}

inline SystemFile SystemFile::open_log(const std::filesystem::path& path) {
  return SystemFile(::_wopen(path.c_str(), _O_WRONLY | _O_CREAT | _O_TRUNC | _O_BINARY | _O_NOINHERIT,
                             _S_IREAD | _S_IWRITE));
}

inline SystemFile SystemFile::reopen_log(const std::filesystem::path& path) {
  return SystemFile(::_wopen(path.c_str(), _O_WRONLY | _O_APPEND | _O_BINARY | _O_NOINHERIT));
}

inline bool SystemFile::facts(FileFacts& facts) const {
  struct _stat64 status = {};
  if (::_fstat64(descriptor_, &status) != 0) return false;
  facts.regular = (status.st_mode & _S_IFMT) == _S_IFREG;
  facts.directory = (status.st_mode & _S_IFMT) == _S_IFDIR;
  facts.pipe = (status.st_mode & _S_IFMT) == _S_IFIFO;
  facts.size = static_cast<std::uint64_t>(status.st_size);
  return true;
}

inline bool SystemFile::write(std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const int count =
        ::_write(descriptor_, bytes.data(), static_cast<unsigned>((std::min)(bytes.size(), kMostAtOnce)));
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

inline std::ptrdiff_t SystemFile::read(std::span<std::byte> bytes) const {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto rest = bytes.subspan(done);
    const int count =
        ::_read(descriptor_, rest.data(), static_cast<unsigned>((std::min)(rest.size(), kMostAtOnce)));
    if (count < 0) return -1;
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return static_cast<std::ptrdiff_t>(done);
}

inline bool SystemFile::sync() const { return ::_commit(descriptor_) == 0; }

inline bool SystemFile::reserve(std::uint64_t bytes, const std::filesystem::path& path) const {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(path.parent_path(), error);
  if (error || space.available >= bytes) return true;
  errno = ENOSPC;
  return false;
}

inline void SystemFile::take_access_of(const std::filesystem::path&) const {}

inline bool SystemFile::close() { return descriptor_ < 0 || ::_close(std::exchange(descriptor_, -1)) == 0; }

inline bool may_write(const std::filesystem::path& path) { return ::_waccess(path.c_str(), 2) == 0; }

inline void remove_file(const std::filesystem::path::value_type* path) noexcept {
  static_cast<void>(::_wunlink(path));
}

inline void sync_directory(const std::filesystem::path&) {}

inline long process_number() { return static_cast<long>(::_getpid()); }

#else

/// Makes the call until no signal interrupts it.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// glibc on 32-bit systems opens files beyond 2 GiB only when asked to, call by call: a header cannot choose the
// size of off_t for those who include it.
#if defined(O_LARGEFILE)
inline constexpr int kLargeFile = O_LARGEFILE;
#else
inline constexpr int kLargeFile = 0;
#endif

inline SystemFile SystemFile::create(const std::filesystem::path& path, bool hidden) {
  const mode_t mode = hidden ? mode_t{0600} : mode_t{0666};
  return SystemFile(uninterrupted(
      [&] { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | kLargeFile, mode); }));
}

inline SystemFile SystemFile::open(const std::filesystem::path& path) {
  return SystemFile(uninterrupted(
      [&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | kLargeFile); }));
}

inline SystemFile SystemFile::open_log(const std::filesystem::path& path) {
  return SystemFile(uninterrupted([&] {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | kLargeFile,
                  mode_t{0666});
  }));
}

inline SystemFile SystemFile::reopen_log(const std::filesystem::path& path) {
  return SystemFile(uninterrupted([&] {
    return ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | kLargeFile);
  }));
}

inline bool SystemFile::facts(FileFacts& facts) const {
#if defined(__GLIBC__) && defined(__USE_LARGEFILE64)
  struct stat64 status = {};
  if (::fstat64(descriptor_, &status) != 0) return false;
#else
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) return false;
#endif
  facts.regular = S_ISREG(status.st_mode);
  facts.directory = S_ISDIR(status.st_mode);
  facts.pipe = S_ISFIFO(status.st_mode);
  facts.size = static_cast<std::uint64_t>(status.st_size);
  return true;
}

inline bool SystemFile::write(std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = uninterrupted(
        [&] { return ::write(descriptor_, bytes.data(), (std::min)(bytes.size(), kMostAtOnce)); });
    if (count == 0) errno = EIO;
    if (count <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

inline std::ptrdiff_t SystemFile::read(std::span<std::byte> bytes) const {
  std::size_t done = 0;
  while (done < bytes.size()) {
    // A pipe that nobody has opened for writing yet, and a writer that is slower than the reader.
    struct pollfd ready = {descriptor_, POLLIN, 0};
    if (uninterrupted([&] { return ::poll(&ready, 1, -1); }) < 0) return -1;
    const auto rest = bytes.subspan(done);
    const ssize_t count =
        uninterrupted([&] { return ::read(descriptor_, rest.data(), (std::min)(rest.size(), kMostAtOnce)); });
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) continue;
    if (count < 0) return -1;
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return static_cast<std::ptrdiff_t>(done);
}

inline bool SystemFile::sync() const {
  if (uninterrupted([&] { return ::fsync(descriptor_); }) == 0) return true;
  return errno == EINVAL || errno == ENOTSUP || errno == ENOSYS;
}

inline bool SystemFile::reserve(std::uint64_t bytes, const std::filesystem::path& path) const {
#if defined(__linux__) && defined(FALLOC_FL_KEEP_SIZE) && defined(__USE_LARGEFILE64)
  // All at once, so that nothing is taken where there is not as much. A signal makes tmpfs undo the call that it interrupts:
  // where they keep coming, in parts, each short.
  std::uint64_t done = 0, part = bytes;
  const auto take = [&] {
    return ::fallocate64(descriptor_, FALLOC_FL_KEEP_SIZE, static_cast<off64_t>(done),
                         static_cast<off64_t>((std::min)(part, bytes - done)));
  };
  int result = take();
  for (int tries = 0; result != 0 && errno == EINTR && tries < 8; ++tries) result = take();
  if (result == 0) return true;
  if (errno == EINTR) {
    std::error_code none;
    const std::filesystem::space_info room = std::filesystem::space(path.parent_path(), none);
    if (!none && room.available < bytes) {
      errno = ENOSPC;
      return false;
    }
    part = std::uint64_t{4} << 20;
    int interrupted = 0;
    while (done < bytes && interrupted < 1000) {
      if (take() == 0) {
        done += (std::min)(part, bytes - done);
      } else if (errno == EINTR) {
        ++interrupted;
        part = (std::max)(part / 2, std::uint64_t{1} << 16);
      } else {
        break;
      }
    }
    if (done == bytes) return true;
  }
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) return false;
#endif
  // A file system that cannot set room aside still knows how much there is.
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(path.parent_path(), error);
  if (error || space.available >= bytes) return true;
  errno = ENOSPC;
  return false;
}

inline void SystemFile::take_access_of(const std::filesystem::path& other) const {
#if defined(__GLIBC__) && defined(__USE_LARGEFILE64)
  struct stat64 wanted = {}, own = {};
  if (::stat64(other.c_str(), &wanted) != 0 || ::fstat64(descriptor_, &own) != 0) return;
#else
  struct stat wanted = {}, own = {};
  if (::stat(other.c_str(), &wanted) != 0 || ::fstat(descriptor_, &own) != 0) return;
#endif
  mode_t mode = wanted.st_mode & mode_t{0777};
  constexpr mode_t kOfGroup = 0070;
  if (wanted.st_gid != own.st_gid && ::fchown(descriptor_, static_cast<uid_t>(-1), wanted.st_gid) != 0)
    mode &= static_cast<mode_t>(~kOfGroup);
  if (wanted.st_uid != own.st_uid)  // which the administrator alone may
    static_cast<void>(::fchown(descriptor_, wanted.st_uid, static_cast<gid_t>(-1)) == 0);
  static_cast<void>(::fchmod(descriptor_, mode) == 0);
}

inline bool SystemFile::close() {
  if (descriptor_ < 0) return true;
  // After EINTR the file is closed on Linux, and asking again could close another thread's.
  return ::close(std::exchange(descriptor_, -1)) == 0 || errno == EINTR;
}

inline bool may_write(const std::filesystem::path& path) { return ::access(path.c_str(), W_OK) == 0; }

inline void remove_file(const std::filesystem::path::value_type* path) noexcept {
  if (::unlink(path) != 0) static_cast<void>(::rmdir(path));
}

inline void sync_directory(const std::filesystem::path& directory) {
  const int descriptor =
      uninterrupted([&] { return ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (descriptor < 0) return;
  static_cast<void>(::fsync(descriptor));
  static_cast<void>(::close(descriptor));
}

inline long process_number() { return static_cast<long>(::getpid()); }

#endif

}  // namespace hsm::inline HSM_ABI::detail
