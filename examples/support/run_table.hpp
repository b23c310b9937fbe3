// SPDX-License-Identifier: MIT
//
// Finished runs of an experiment as a CSV file that it resumes from. Each line is one run:
//
//   settings   the same in every line; a file with other settings is refused
//   keys       what tells one run from another; a run that is in the file need not be run again
//   results    what came of it; a file whose results have not the form they should is refused
//
// A line is on the disk before `add` returns. Half a line, which a killed program leaves, is cut off. The file is
// locked: two programs at once would run everything twice.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/io/file_handle.hpp>

#include "examples/support/run_cells.hpp"

namespace hsm::examples {

/// What the columns of a table are.
struct RunColumns {
  std::vector<std::pair<std::string, std::string>> settings{};  ///< names and values
  Cells keys{}, results{};                                      ///< names
  std::map<std::string, CellForm> forms{};                      ///< of results, by name; others are any text

  /// All names, in the order of the file.
  Cells names() const {
    Cells all;
    for (const auto& [name, value] : settings) all.push_back(name);
    all.insert(all.end(), keys.begin(), keys.end());
    all.insert(all.end(), results.begin(), results.end());
    return all;
  }
};

/// The runs that are finished; see the file comment.
class RunTable {
 public:
  /// A table without a file.
  explicit RunTable(RunColumns columns) : columns_(std::move(columns)) {}
  /// Opens `path`, or makes it. Throws std::runtime_error for a file that cannot be written, is in use by another
  /// program, or is not a table of these columns and settings; it is then as it was.
  RunTable(const std::filesystem::path& path, RunColumns columns);
  RunTable(const RunTable&) = delete;
  RunTable& operator=(const RunTable&) = delete;
  ~RunTable() {
    if (file_ >= 0) static_cast<void>(::close(file_));
  }

  const RunColumns& columns() const { return columns_; }
  std::size_t size() const { return runs_.size(); }
  /// The keys of all runs.
  std::vector<Cells> keys() const {
    std::vector<Cells> all;
    for (const auto& [key, results] : runs_) all.push_back(key);
    return all;
  }
  /// Whether the file ended with half a line, which is gone.
  bool cut() const { return cut_; }

  /// The results of a run; null if it is not there.
  const Cells* find(const Cells& key) const {
    const auto found = runs_.find(key);
    return found == runs_.end() ? nullptr : &found->second;
  }
  /// One result of a run. Throws std::out_of_range if there is no such run or column.
  const std::string& cell(const Cells& key, std::string_view column) const;
  /// The same as a number. Throws also std::runtime_error if it is none.
  double number(const Cells& key, std::string_view column) const;

  /// Adds a run. Throws std::invalid_argument for one that is there, or another number of cells;
  /// std::runtime_error if it cannot be written.
  void add(const Cells& key, const Cells& results);

 private:
  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(path_.string() + what); }
  std::string read() const;
  void parse(std::string_view text);
  void take(Cells cells, std::size_t line);
  void append(const std::string& line);

  RunColumns columns_;
  std::filesystem::path path_{};
  int file_ = -1;
  bool cut_ = false;
  std::map<Cells, Cells> runs_{};
};

inline RunTable::RunTable(const std::filesystem::path& path, RunColumns columns)
    : columns_(std::move(columns)), path_(path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
    fail(": must be a regular file to keep finished runs in");
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) throw hsm::detail::file_error(path, "cannot open to keep finished runs in", errno);
  try {
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      fail(": is in use by another program, which adds its runs to it");
    const std::string text = read(), header = csv_line(columns_.names()) + "\n";
    const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
    if (whole > 0 ? !text.starts_with(header) : !header.starts_with(text)) {
      fail(": must be empty or a table of finished runs that begins with " +
           header.substr(0, header.size() - 1) + ", got " +
           hsm::detail::in_quotes(text.substr(0, text.find('\n'))));
    }
    if (whole > 0) parse(std::string_view(text).substr(header.size(), whole - header.size()));
    cut_ = whole < text.size();
    if (cut_ && ::ftruncate(file_, static_cast<off_t>(whole)) != 0)
      throw hsm::detail::file_error(path_, "cannot cut off half a line at the end", errno);
    if (whole == 0) append(header);
  } catch (...) {
    static_cast<void>(::close(file_));
    throw;
  }
}

inline std::string RunTable::read() const {
  std::string text;
  char buffer[4096];
  while (true) {
    const ssize_t got = ::read(file_, buffer, sizeof buffer);
    if (got == 0) return text;
    if (got > 0) {
      text.append(buffer, static_cast<std::size_t>(got));
    } else if (errno != EINTR) {
      throw hsm::detail::file_error(path_, "cannot read", errno);
    }
  }
}

// The lines after the header, each with its end.
inline void RunTable::parse(std::string_view text) {
  for (std::size_t line = 2; !text.empty(); ++line) {
    const std::size_t end = text.find('\n');
    auto cells = csv_cells(text.substr(0, end));
    if (!cells) fail(", line " + std::to_string(line) + ": the quotes must be in pairs");
    take(std::move(*cells), line);
    text.remove_prefix(end + 1);
  }
}

inline void RunTable::take(Cells cells, std::size_t line) {
  const std::string where = ", line " + std::to_string(line) + ": ";
  const std::size_t width = columns_.names().size(), first = columns_.settings.size();
  if (cells.size() != width)
    fail(where + "must have " + std::to_string(width) + " cells, got " + std::to_string(cells.size()));
  for (std::size_t i = 0; i < first; ++i) {
    const auto& [name, value] = columns_.settings[i];
    if (cells[i] == value) continue;
    fail(where + "its runs were made with " + name + " = " + hsm::detail::in_quotes(cells[i]) +
         ", and now it is " + hsm::detail::in_quotes(value) +
         "; the same settings go on with this file, others need another one");
  }
  const auto keys = cells.begin() + static_cast<std::ptrdiff_t>(first);
  const std::size_t behind = first + columns_.keys.size();
  for (std::size_t i = 0; i < columns_.results.size(); ++i) {
    const auto form = columns_.forms.find(columns_.results[i]);
    const std::string& cell = cells[behind + i];
    if (form == columns_.forms.end() || form->second.holds(cell)) continue;
    fail(where + form->first + " must be " + form->second.text + ", got " + hsm::detail::in_quotes(cell));
  }
  const auto results = keys + static_cast<std::ptrdiff_t>(columns_.keys.size());
  if (!runs_.emplace(Cells(keys, results), Cells(results, cells.end())).second)
    fail(where + "must be a run that is not in the lines before");
}

inline const std::string& RunTable::cell(const Cells& key, std::string_view column) const {
  const Cells* results = find(key);
  const auto name = std::find(columns_.results.begin(), columns_.results.end(), column);
  if (results == nullptr || name == columns_.results.end()) {
    throw std::out_of_range("RunTable::cell: there must be a run " + hsm::detail::in_quotes(csv_line(key)) +
                            " with a result " + hsm::detail::in_quotes(column) + ", got none");
  }
  return (*results)[static_cast<std::size_t>(name - columns_.results.begin())];
}

inline double RunTable::number(const Cells& key, std::string_view column) const {
  const std::string& text = cell(key, column);
  double value = 0;
  if (!read_word(text, "", value)) {
    fail(": " + std::string(column) + " of the run " + hsm::detail::in_quotes(csv_line(key)) +
         " must be a number, got " + hsm::detail::in_quotes(text));
  }
  return value;
}

inline void RunTable::add(const Cells& key, const Cells& results) {
  if (key.size() != columns_.keys.size() || results.size() != columns_.results.size()) {
    throw std::invalid_argument("RunTable::add: a run must have " +
                                hsm::detail::counted(columns_.keys.size(), "key") + " and " +
                                hsm::detail::counted(columns_.results.size(), "result") + ", got " +
                                std::to_string(key.size()) + " and " + std::to_string(results.size()));
  }
  if (find(key) != nullptr)
    throw std::invalid_argument("RunTable::add: the run must be new, got " +
                                hsm::detail::in_quotes(csv_line(key)));
  Cells cells;
  for (const auto& [name, value] : columns_.settings) cells.push_back(value);
  cells.insert(cells.end(), key.begin(), key.end());
  cells.insert(cells.end(), results.begin(), results.end());
  if (file_ >= 0) append(csv_line(cells) + "\n");
  runs_.emplace(key, results);
}

// All of a line or nothing of it.
inline void RunTable::append(const std::string& line) {
  const off_t before = ::lseek(file_, 0, SEEK_END);
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t wrote = ::write(file_, line.data() + done, line.size() - done);
    if (wrote > 0) {
      done += static_cast<std::size_t>(wrote);
    } else if (wrote == 0 || errno != EINTR) {
      const int reason = errno;
      // If this fails too, the next program cuts the half line off.
      if (before < 0 || ::ftruncate(file_, before) != 0) cut_ = true;
      throw hsm::detail::file_error(path_, "cannot write a finished run", reason);
    }
  }
  // Some file systems refuse it for what they do not keep on a disk; the line is written all the same.
  static_cast<void>(::fsync(file_));
}

}  // namespace hsm::examples
