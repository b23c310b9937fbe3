// SPDX-License-Identifier: MIT
//
// Finished runs of an experiment as a CSV file that it resumes from. Each line is one run:
//
//   settings   the same in every line; a file with other settings is refused
//   keys       what tells one run from another; a run that is in the file need not be run again
//   results    what came of it; a file whose results have not the form they should is refused
//
// A line is on the disk before `add` returns. Half a line, which a killed program leaves, counts for nothing, and is cut
// off by the first `add`; a last line that lacks nothing but its end counts where its last result is a flag or a count: of
// any other number, list or text a part would look the same. The file is locked: two programs at once would run
// everything twice.
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
  /// program, or is not a table of these columns and settings; it is then as it was. One that is there is not written
  /// to before a run is added.
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
  /// Whether the file ended with half a line, which counts for nothing.
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
  void parse(const std::string& text);
  std::size_t of_other_form(const Cells& cells) const;
  void take(Cells cells, std::size_t line);
  void begin(bool made);
  void settle();
  void append(const std::string& line, const char* problem);

  RunColumns columns_;
  std::filesystem::path path_{};
  int file_ = -1;
  bool cut_ = false, settled_ = false;
  std::size_t kept_ = 0;     // bytes of the file that count
  std::string behind_them_;  // what they lack: the header, or the end of the last line
  std::map<Cells, Cells> runs_{};
};

inline RunTable::RunTable(const std::filesystem::path& path, RunColumns columns)
    : columns_(std::move(columns)), path_(path) {
  struct stat status = {};
  const bool there = ::stat(path.c_str(), &status) == 0;
  if (there && !S_ISREG(status.st_mode)) fail(": must be a regular file to keep finished runs in");
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) throw hsm::detail::file_error(path, "cannot open to keep finished runs in", errno);
  try {
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
      fail(": is in use by another program, which adds its runs to it");
    const std::string text = read();
    parse(text);
    if (text.empty()) begin(!there);
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

// All of the file.
inline void RunTable::parse(const std::string& text) {
  const std::string names = csv_line(columns_.names()), header = names + "\n";
  if (!text.starts_with(header)) {
    if (!header.starts_with(text)) {
      fail(": must be empty or a table of finished runs that begins with " + names + ", got " +
           other_header(names, std::string_view(text).substr(0, text.find('\n'))));
    }
    behind_them_ = header;
    cut_ = !text.empty();
    return;
  }
  kept_ = header.size();
  for (std::size_t line = 2; kept_ < text.size(); ++line) {
    const std::size_t end = std::min(text.find('\n', kept_), text.size());
    auto cells = csv_cells(std::string_view(text).substr(kept_, end - kept_));
    if (end == text.size()) {
      const std::size_t width = columns_.names().size();
      // Of a number or a list a part has the same form: only a flag tells its end, and a count of threads will do.
      const auto form = columns_.forms.find(columns_.results.back());
      const bool told = form != columns_.forms.end() &&
                        (form->second.text == kFlagCell.text || form->second.text == kCountCell.text);
      cut_ = !told || !cells || cells->size() != width || of_other_form(*cells) < width;
      if (cut_) return;
      behind_them_ = "\n";
    }
    if (!cells) fail(", line " + std::to_string(line) + ": the quotes must be in pairs");
    take(std::move(*cells), line);
    kept_ = std::min(end + 1, text.size());
  }
}

// The place of the first result that has not the form it should, in a line of all cells; their number for none.
inline std::size_t RunTable::of_other_form(const Cells& cells) const {
  std::size_t place = columns_.settings.size() + columns_.keys.size();
  for (const std::string& name : columns_.results) {
    const auto form = columns_.forms.find(name);
    if (form != columns_.forms.end() && !form->second.holds(cells[place])) break;
    ++place;
  }
  return place;
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
  if (const std::size_t place = of_other_form(cells); place < width) {
    const std::string name = columns_.names()[place];
    fail(where + name + " must be " + columns_.forms.at(name).text + ", got " +
         hsm::detail::in_quotes(cells[place]));
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
  if (file_ >= 0) {
    settle();
    append(csv_line(cells) + "\n", "cannot write a finished run");
  }
  runs_.emplace(key, results);
}

// Writes the header at once: a full disk is told now, and leaves no file that was made here.
inline void RunTable::begin(bool made) {
  try {
    settle();
  } catch (const std::runtime_error&) {
    if (made) static_cast<void>(::unlink(path_.c_str()));
    throw;
  }
}

// What counts of a file that was there, and whole.
inline void RunTable::settle() {
  if (settled_) return;
  if (cut_ && ::ftruncate(file_, static_cast<off_t>(kept_)) != 0)
    throw hsm::detail::file_error(path_, "cannot cut off half a line at the end", errno);
  if (!behind_them_.empty()) append(behind_them_, "cannot write the table of finished runs");
  settled_ = true;
}

// All of a line or nothing of it.
inline void RunTable::append(const std::string& line, const char* problem) {
  const off_t before = ::lseek(file_, 0, SEEK_END);
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t wrote = ::write(file_, line.data() + done, line.size() - done);
    if (wrote > 0) {
      done += static_cast<std::size_t>(wrote);
    } else if (wrote == 0 || errno != EINTR) {
      const int reason = errno;
      // If this fails too, the next program cuts the half line off.
      if (before < 0 || ::ftruncate(file_, before) != 0) cut_ = true;
      throw hsm::detail::file_error(path_, problem, reason);
    }
  }
  int synced = ::fsync(file_);
  while (synced != 0 && errno == EINTR) synced = ::fsync(file_);
  // Some file systems know no such thing; the line is written all the same.
  if (synced == 0 || errno == EINVAL || errno == ENOTSUP || errno == ENOSYS) return;
  const int reason = errno;  // of what the system only now found that it cannot keep
  if (before < 0 || ::ftruncate(file_, before) != 0) cut_ = true;
  throw hsm::detail::file_error(path_, problem, reason);
}

}  // namespace hsm::examples
