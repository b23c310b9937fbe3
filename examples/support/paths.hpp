// SPDX-License-Identifier: MIT
//
// The files of one command, checked against each other: nothing that it writes may be what it reads or writes
// elsewhere, under whatever name.
//
//   CommandFiles files;
//   files.reads("--model", options.model);                  // an empty path is an option that was not given
//   files.writes("--save-session", options.save_session);   // throws if it is the model
//
// Files are told apart by what they are, not by how they are spelled: symbolic links, hard links, other
// spellings of a directory, and files that do not exist yet. Devices and pipes keep nothing, so they may be
// named twice. Where the standard output and error go is written to as well, and the standard input may be read.
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <hsm/core/quote.hpp>
#include <hsm/io/link_target.hpp>

namespace hsm::examples {

/// Whether both paths stand for one file that can keep what is written to it.
inline bool same_file(const std::filesystem::path& a, const std::filesystem::path& b) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status first = fs::status(a, error), second = fs::status(b, error);
  if (fs::exists(first) && fs::exists(second)) {
    if (fs::is_other(first) || fs::is_character_file(first) || fs::is_fifo(first)) return false;
    return fs::equivalent(a, b, error) && !error;
  }
  if (fs::exists(first) || fs::exists(second)) return false;
  const fs::path target = hsm::detail::link_target(a, error);
  return !target.empty() && target == hsm::detail::link_target(b, error);
}

/// The files of one command and the options that name them.
class CommandFiles {
 public:
  /// Adds a file that the command reads. Throws std::invalid_argument if it is one that it writes.
  void reads(const std::string& option, const std::string& path) { add({option, path, false}); }

  /// Adds a file that the command writes. Throws std::invalid_argument if it is any of those before.
  void writes(const std::string& option, const std::string& path) { add({option, path, true}); }

 private:
  struct File {
    std::string option, path;
    bool written;
  };

  void add(File file) {
    if (file.path.empty()) return;
    if (file.written) check_streams(file);
    for (const File& other : files_) {
      if ((file.written || other.written) && same_file(file.path, other.path)) refuse(other, file);
    }
    files_.push_back(std::move(file));
  }

  /// A file that the standard output or error goes to would be replaced with what is printed in it, or mixed with it; that
  /// of the standard input is somebody's text.
  static void check_streams(const File& file) {
#if !defined(_WIN32)
    struct stat own = {}, stream = {};
    if (::stat(file.path.c_str(), &own) != 0 || !S_ISREG(own.st_mode)) return;
    constexpr const char* kNames[] = {"input", "output", "error"};
    for (const int descriptor : {0, 1, 2}) {
      if (::fstat(descriptor, &stream) != 0 || stream.st_dev != own.st_dev || stream.st_ino != own.st_ino)
        continue;
      throw std::invalid_argument(file.option + " and the standard " + kNames[descriptor] +
                                  " must be different files, got " + file.path + " for both");
    }
#else
    static_cast<void>(file);
#endif
  }

  [[noreturn]] static void refuse(const File& a, const File& b) {
    if (a.written && b.written && a.option == b.option)
      throw std::invalid_argument(b.option + " must lead to different files, got " + a.path + " and " +
                                  b.path + ", which are one");
    if (a.written && b.written) {
      throw std::invalid_argument(b.option + " and " + a.option + " must be different files, got " + b.path +
                                  (a.path == b.path ? " for both" : " and " + a.path + ", which are one"));
    }
    const File &output = a.written ? a : b, &input = a.written ? b : a;
    throw std::invalid_argument(output.option + " would overwrite " + input.path + ", the file of " +
                                input.option);
  }

  std::vector<File> files_;
};

}  // namespace hsm::examples
