// SPDX-License-Identifier: MIT
//
// What reading and writing files share: a C stream that closes itself, and the error that names path and
// reason.
//
// Messages have the form `path: what was wrong: reason`. Text that came from outside enters them through
// in_quotes (core/quote.hpp).
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <hsm/core/quote.hpp>

#if !defined(__cpp_exceptions)
#error "hsm: files report what is wrong by exceptions; compile what includes hsm/io without -fno-exceptions"
#endif

namespace hsm::inline HSM_ABI::detail {

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

}  // namespace hsm::inline HSM_ABI::detail
