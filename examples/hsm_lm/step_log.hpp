// SPDX-License-Identifier: MIT
//
// The table of all training steps, CSV, a line per step as it ends. Where a run goes on from a checkpoint, the lines
// up to its step stay, later ones are cut, and it goes on behind them: but for the times the table is that of a run
// that was never stopped. A table that is not of the run, or lacks steps of it, is refused and stays as it is.
#pragma once

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <hsm/core/quote.hpp>
#include <hsm/io/file_handle.hpp>
#include <hsm/io/link_target.hpp>
#include <hsm/io/output_file.hpp>
#include <hsm/io/system_file.hpp>
#include <hsm/io/text_file.hpp>
#include <hsm/training/training_config.hpp>

#include "examples/support/progress.hpp"
#include "examples/support/run_cells.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// A table that grows by a line per step. What cannot be written, because a disk is full or who reads a pipe does
/// not keep up, is told once; training goes on. An empty path writes nothing.
class StepLog {
 public:
  /// Begins a table. Throws std::runtime_error if the file cannot be written, at once for a pipe that nobody reads.
  explicit StepLog(const std::string& path) : path_(path) {
    if (!path.empty()) begin();
  }

  /// Goes on with a table that is there behind the run's step `at`, or behind the one before where this is to be
  /// validated again. Throws std::runtime_error also if what is there is not the table of this run up to that step.
  StepLog(const std::string& path, const TrainingProgress& at, bool again) : path_(path) {
    if (path.empty()) return;
    if (!cut_behind(at, again)) {
      begin();
      return;
    }
    file_ = hsm::detail::SystemFile::reopen_log(path);
    if (!file_) throw hsm::detail::file_error(path, "cannot write the log", errno);
  }

  /// Throws std::runtime_error for a path that no table can be written to, as far as that can be known before.
  static void probe(const std::string& path) {
    namespace fs = std::filesystem;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    const auto refuse = [&](int reason) {
      throw hsm::detail::file_error(path, "cannot write the log", reason);
    };
    if (fs::is_directory(status)) refuse(EISDIR);
    if (fs::is_regular_file(status) && !hsm::detail::may_write(path)) refuse(errno);
    if (fs::exists(status)) return;
    const fs::path target = hsm::detail::link_target(path, error);
    if (target.empty()) refuse(error.value());
    if (!hsm::detail::may_write(target.parent_path() / ".")) refuse(errno);
  }

  void write(const TrainingProgress& p, ProgressLine& line) {
    if (path_.empty()) return;
    if (put(line_of(p) + '\n')) return;
    line.keep("hsm_lm: " +
              std::string(hsm::detail::file_error(
                              path_, "cannot write the log any more, training goes on without", errno)
                              .what()));
    path_.clear();
  }

 private:
  static constexpr std::string_view kHeader =
      "step,seconds,loss,smoothed_loss,learning_rate,gradient_norm,tokens_per_second,validation_loss\n";

  enum Column { kStep = 0, kSeconds = 1, kTokensPerSecond = 6, kValidation = 7, kColumns = 8 };

  static std::string line_of(const TrainingProgress& p) {
    return format("%td,%.3f,%.6f,%.6f,%.6g,%.6g,%.1f,", p.step, p.seconds, p.loss, p.smoothed_loss,
                  p.learning_rate, p.gradient_norm, p.tokens_per_second) +
           (p.validation_loss ? format("%.6f", *p.validation_loss) : std::string());
  }

  /// The step of a line; 0 for one that is no line of such a table.
  static Index step_of(const std::optional<Cells>& cells) {
    Index step = 0;
    if (!cells || cells->size() != kColumns || !read_word((*cells)[kStep], "", step)) return 0;
    const auto number = [](const std::string& cell) { return kNumberCell.holds(cell); };
    const bool numbers = std::all_of(cells->begin(), cells->begin() + kValidation, number);
    return numbers && ((*cells)[kValidation].empty() || number((*cells)[kValidation])) ? step : 0;
  }

  void begin() {
    file_ = hsm::detail::SystemFile::open_log(path_);
    if (!file_ && errno == ENXIO)
      throw std::runtime_error(path_ + ": cannot write the log: nobody reads from this pipe");
    if (!file_ || !put(std::string(kHeader)))
      throw hsm::detail::file_error(path_, "cannot write the log", errno);
  }

  bool put(const std::string& text) { return file_.write(std::as_bytes(std::span(text))); }

  [[noreturn]] void refuse(const std::string& what) const {
    throw std::runtime_error(path_ + ": must be the log of the run to go on with, " + what);
  }

  /// The first cell that is not of the step, kColumns for none. Times differ where steps were run again; nothing else of
  /// a step does, but for a validation that was to come.
  static std::size_t other_cell(const Cells& got, const TrainingProgress& at, bool again) {
    const Cells expected = csv_cells(line_of(at)).value();
    std::size_t i = 0;
    while (i < kColumns &&
           (got[i] == expected[i] || i == kSeconds || i == kTokensPerSecond || (again && i == kValidation)))
      ++i;
    return i;
  }

  [[noreturn]] void refuse_step(const Cells& got, const TrainingProgress& at, std::size_t i,
                                Index line) const {
    const Cells names = csv_cells(kHeader.substr(0, kHeader.size() - 1)).value();
    refuse(format("whose step %td has the %s ", at.step, names[i].c_str()) +
           hsm::detail::in_quotes(csv_cells(line_of(at)).value()[i]) + ", got " +
           hsm::detail::in_quotes(got[i]) + format(" in line %td", line));
  }

  /// Leaves the lines up to the step of a table that is there; false if there is none or it is empty.
  bool cut_behind(const TrainingProgress& at, bool again) const {
    const Index done = at.step - (again ? 1 : 0);
    std::error_code none;
    if (!std::filesystem::is_regular_file(path_, none)) return false;
    const std::string text = read_text_file(path_);
    if (text.empty()) return false;
    if (!text.starts_with(kHeader))
      refuse("got " + other_header(kHeader.substr(0, kHeader.size() - 1), text.substr(0, text.find('\n'))));
    std::size_t kept = kHeader.size();
    Index before = 0, line = 2;  // the step of the line before, and the number of the line
    for (std::size_t first = kept; first < text.size(); ++line) {
      const std::size_t end = std::min(text.find('\n', first), text.size());
      const auto cells = csv_cells(std::string_view(text).substr(first, end - first));
      const Index step = step_of(cells);
      if (step <= 0 && end == text.size()) break;  // half a line, which a killed program leaves
      if (step <= 0) {
        refuse(format("got line %td, which is no step: ", line) +
               hsm::detail::in_quotes(std::string_view(text).substr(first, end - first)));
      }
      if (before > 0 ? step != before + 1 : step > done + 1)
        refuse(format("got step %td in line %td, where step %td belongs", step, line,
                      before > 0 ? before + 1 : done + 1));
      if (step == at.step) {
        const std::size_t other = other_cell(*cells, at, again);
        if (other < kColumns && end == text.size()) break;  // half a line too
        if (other < kColumns) refuse_step(*cells, at, other, line);
      }
      first = std::min(end + 1, text.size());
      if (step <= done) kept = first;
      before = step;
    }
    // Where it has no steps at all, it begins behind the checkpoint.
    if (before > 0 && before < done)
      refuse(
          format("which is at step %td, got one that ends with step %td; give another --log", done, before));
    const bool ended = text[kept - 1] == '\n';
    if (kept == text.size() && ended) return true;
    OutputFile file(path_);  // whole or not at all
    file.write(std::string_view(text).substr(0, kept));
    if (!ended) file.write("\n");
    file.commit();
    return true;
  }

  std::string path_;
  hsm::detail::SystemFile file_;
};

}  // namespace hsm::examples
