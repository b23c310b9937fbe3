// SPDX-License-Identifier: MIT
//
// Which file a path stands for, whether it exists or not: what a chain of symbolic links leads to, in the
// canonical spelling of its directory. Two spellings of one file that does not exist yet have the same target,
// and writing to it does what opening the path would do.
#pragma once

#include <filesystem>
#include <system_error>

#include <hsm/core/abi.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The absolute path of the file that opening `path` for writing would make or change. `error` is set, and the result
/// empty, if the system cannot tell, and for a chain of more than 40 links, which no system follows either.
inline std::filesystem::path link_target(const std::filesystem::path& path, std::error_code& error) {
  namespace fs = std::filesystem;
  constexpr int kMostLinks = 40;
  error.clear();
  fs::path target = fs::absolute(path, error);
  if (error) return {};
  for (int links = 0;; ++links) {
    std::error_code none;
    const fs::file_status status = fs::symlink_status(target, none);
    if (!fs::is_symlink(status)) break;
    if (links == kMostLinks) {
      error = std::make_error_code(std::errc::too_many_symbolic_link_levels);
      return {};
    }
    const fs::path next = fs::read_symlink(target, none);
    if (none || next.empty()) break;
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
  // Links and ".." among the directories; a directory that does not exist keeps its spelling.
  fs::path directory = fs::weakly_canonical(target.parent_path(), error);
  if (error) return {};
  return directory / target.filename();
}

}  // namespace hsm::inline HSM_ABI::detail
