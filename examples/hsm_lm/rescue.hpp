// SPDX-License-Identifier: MIT
//
// Saving what took hours: where it was to go, or, if that fails, anywhere else, and the place is named.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <hsm/io/model_file.hpp>

#include "examples/hsm_lm/model.hpp"

namespace hsm::examples {

/// `book.safetensors`, `mark` -> `book.mark.safetensors` in `directory`, with a number where that exists.
inline std::filesystem::path unused_name(const std::filesystem::path& directory,
                                         const std::filesystem::path& file, const std::string& mark) {
  namespace fs = std::filesystem;
  const auto utf8 = [](const std::string& text) { return fs::path(std::u8string(text.begin(), text.end())); };
  const std::string stem = hsm::detail::short_name(hsm::detail::path_text(file.stem()));
  const std::string extension = hsm::detail::short_name(hsm::detail::path_text(file.extension()));
  std::error_code none;
  fs::path name = directory / utf8(stem + "." + mark + extension);
  for (int i = 2; fs::exists(fs::symlink_status(name, none)); ++i)
    name = directory / utf8(stem + "." + mark + "-" + std::to_string(i) + extension);
  return name;
}

/// save(path) under a name like `out` that nothing has, in the directory of `out` or, if that does not work, in
/// the current one, the home, or one for temporary files. Returns the path. Throws std::runtime_error with the
/// last reason if none takes it.
template <class Save>
std::filesystem::path save_beside(const std::string& out, const std::string& mark, const Save& save) {
  namespace fs = std::filesystem;
  std::error_code none;
  std::vector<fs::path> directories{hsm::detail::link_target(out, none).parent_path(),
                                    fs::current_path(none)};
  if (const char* home = std::getenv("HOME")) directories.emplace_back(home);
  directories.push_back(fs::temp_directory_path(none));
  directories.emplace_back("/dev/shm");
  std::string reason = "no directory can be written to";
  for (const fs::path& directory : directories) {
    if (directory.empty() || !fs::is_directory(directory, none)) continue;
    const fs::path path = unused_name(directory, fs::path(out).filename(), mark);
    try {
      save(path);
      return path;
    } catch (const CommitError& error) {
      return error.complete();
    } catch (const std::runtime_error& error) {
      reason = error.what();
    }
  }
  throw std::runtime_error(reason);
}

/// save(out). Where that fails it is saved elsewhere, and std::runtime_error tells why and where; `what` it was.
template <class Save>
void save_or_rescue(const std::string& out, const std::string& what, const Save& save) {
  try {
    save(std::filesystem::path(std::u8string(out.begin(), out.end())));
  } catch (const CommitError&) {
    throw;  // says where the complete file is
  } catch (const std::runtime_error& error) {
    std::string where;
    try {
      where = "; " + what + " is saved as " + hsm::detail::path_text(save_beside(out, "rescued", save));
    } catch (const std::runtime_error& other) {
      where = "; nor could it be saved elsewhere: " + std::string(other.what());
    }
    throw std::runtime_error(error.what() + where);
  }
}

/// A model that was trained.
inline void save_trained(const Model& model, const TextTokenizer& tokenizer, const std::string& out) {
  save_or_rescue(out, "what was trained",
                 [&](const std::filesystem::path& path) { save_model(path, model, tokenizer); });
}

}  // namespace hsm::examples
