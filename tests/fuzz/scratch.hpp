// SPDX-License-Identifier: MIT
//
// A directory for the files of fuzz targets: below TMPDIR, else in memory where the system has such a place. It
// is removed at the end of the process; what a crash leaves is removed by tests/fuzz/run.sh.
#pragma once

#include <stdlib.h>  // mkdtemp, getenv

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz/property.hpp"

namespace hsm::test {

/// A new empty directory.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    namespace fs = std::filesystem;
    const fs::path memory = "/dev/shm";
    const bool use_memory = ::getenv("TMPDIR") == nullptr && fs::is_directory(memory);
    std::string pattern = ((use_memory ? memory : fs::temp_directory_path()) / "hsm_fuzz_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error("cannot create a directory for the targets");
    path_ = pattern;
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// The path of a file of that name in the process's own directory.
inline std::filesystem::path scratch_file(const std::string& name) {
  static const ScratchDirectory directory;
  return directory.path() / name;
}

inline void write_input(const std::filesystem::path& path, Input input) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
  if (!stream.flush()) throw std::runtime_error("cannot write the input to a file");
}

inline std::vector<std::byte> bytes_of(Input input) {
  const auto bytes = std::as_bytes(input);
  return {bytes.begin(), bytes.end()};
}

}  // namespace hsm::test
