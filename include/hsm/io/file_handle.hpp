// SPDX-License-Identifier: MIT
//
// What reading and writing files share: the error that names path and reason.
//
// Messages have the form `path: what was wrong: reason`. Text that came from outside enters them through
// in_quotes (core/quote.hpp).
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <hsm/core/quote.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The path as text for a message: as it is where paths are bytes, UTF-8 where they are wide.
inline std::string path_text(const std::filesystem::path& path) {
  const std::u8string text = path.u8string();
  return std::string(text.begin(), text.end());
}

/// `path: problem: the system's text for error_number`, to be thrown.
inline std::runtime_error file_error(const std::filesystem::path& path, std::string_view problem,
                                     int error_number) {
  return std::runtime_error(path_text(path) + ": " + std::string(problem) + ": " +
                            std::generic_category().message(error_number));
}

}  // namespace hsm::inline HSM_ABI::detail
