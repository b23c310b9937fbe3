// SPDX-License-Identifier: MIT
//
// The files that an experiment writes: all begin alike, and nothing of others is overwritten.
#pragma once

#include <cstdio>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <hsm/io/output_file.hpp>

#include "examples/support/paths.hpp"
#include "examples/support/run_table.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// The names of the files, or none where nothing is to be written.
class ReportFiles {
 public:
  /// `endings` beside ".csv". In the directory `out`, beginning with `name`, or beginning with `out`; none if `out`
  /// is empty. Throws std::invalid_argument for a device or a pipe.
  ReportFiles(const std::string& out, const std::string& name, std::vector<std::string> endings)
      : endings_(std::move(endings)) {
    if (out.empty()) return;
    std::error_code none;  // what cannot be looked at cannot be opened either, which is told
    const auto status = std::filesystem::status(out, none);
    if (std::filesystem::exists(status) && !std::filesystem::is_directory(status) &&
        !std::filesystem::is_regular_file(status))
      throw std::invalid_argument(
          "--out must be a directory or how the names of files begin, got a pipe or a device, " + out);
    const bool directory = out.ends_with('/') || std::filesystem::is_directory(status);
    stem_ = directory ? (std::filesystem::path(out) / name).string() : out;
  }

  /// Whether there are any.
  bool any() const { return !stem_.empty(); }
  /// The one with this ending.
  std::string with(const std::string& ending) const { return stem_ + ending; }
  /// The table of runs.
  std::string table() const { return with(".csv"); }
  /// All of them.
  std::vector<std::string> all() const {
    std::vector<std::string> files;
    if (!any()) return files;
    files.push_back(table());
    for (const std::string& ending : endings_) files.push_back(with(ending));
    return files;
  }

  /// Checks them with the other files of the command, `names`, before hours of runs: throws std::invalid_argument where
  /// one of them is another of these files, std::runtime_error for files that another program made, or a report that
  /// cannot be written.
  void check(CommandFiles& names) const {
    for (const std::string& file : all()) names.writes("--out", file);
    const bool fresh = any() && !exists(table());
    for (const std::string& file : all()) {
      if (fresh && exists(file))
        throw std::runtime_error("--out would overwrite " + file + ", which is there without " + table());
    }
    for (const std::string& file : all()) {
      if (!file.ends_with(".csv")) const OutputFile probe(file);
    }
  }
  /// Whether the file is there.
  static bool exists(const std::string& file) {
    std::error_code none;
    return std::filesystem::exists(file, none);
  }

  /// Writes the file with this ending.
  void write(const std::string& ending, const std::string& content) const {
    OutputFile file(with(ending));
    file.write(content);
    file.commit();
  }

  /// "a.csv, a.md: written".
  std::string written() const {
    std::string names;
    for (const std::string& file : all()) names += (names.empty() ? "" : ", ") + file;
    return names + ": written";
  }

 private:
  std::string stem_{};
  std::vector<std::string> endings_;
};

/// Opens the table of runs with this ending, or makes one in memory where nothing is to be written.
inline void open_table(std::optional<RunTable>& table, const ReportFiles& files, const std::string& ending,
                       RunColumns columns) {
  if (files.any()) {
    table.emplace(files.with(ending), std::move(columns));
  } else {
    table.emplace(std::move(columns));
  }
}

/// Says what a signal has left.
inline void tell_interrupted(std::size_t done, std::size_t all, const ReportFiles& files) {
  std::printf("ended by a signal: %zu of %s %s finished", done, counted(all, "run").c_str(),
              done == 1 ? "is" : "are");
  if (files.any()) {
    std::printf(" and in %s; the same command goes on from there\n", shown(files.table()).c_str());
  } else {
    std::printf(" and lost; with --out they are kept\n");
  }
}

}  // namespace hsm::examples
