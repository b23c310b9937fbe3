// SPDX-License-Identifier: MIT
//
// What reading and writing files share: a C stream that closes itself, the error that names path and reason,
// and the way in which text from a file is shown inside a message.
//
// Messages have the form `path: what was wrong: reason`. Text that came from outside is shortened, and all
// but printable ASCII in it is escaped, before it enters a message: a hostile file cannot steer a terminal or
// fill a log.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace hsm::detail {

/// Closes a C stream and forgets the result. Writers that care close by hand first.
struct FileCloser {
  void operator()(std::FILE* file) const { static_cast<void>(std::fclose(file)); }
};

/// A C stream that is closed when it goes out of scope.
using FileHandle = std::unique_ptr<std::FILE, FileCloser>;

/// `path: problem: the system's text for error_number`, to be thrown.
inline std::runtime_error file_error(const std::filesystem::path& path, std::string_view problem,
                                     int error_number) {
  return std::runtime_error(path.string() + ": " + std::string(problem) + ": " +
                            std::system_category().message(error_number));
}

/// `text` in single quotes for a message: at most 80 bytes of it, and all but printable ASCII as \xNN.
inline std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLimit = 80;
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result = "'";
  for (const char c : text.substr(0, kLimit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7E) {
      result += "\\x";
      result += kDigits[byte >> 4];
      result += kDigits[byte & 15u];
    } else {
      result += c;
    }
  }
  return result + (text.size() > kLimit ? "...'" : "'");
}

}  // namespace hsm::detail
