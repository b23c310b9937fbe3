// SPDX-License-Identifier: MIT
//
// The table of all training steps, CSV, a line per step as it ends. Where a run goes on from a checkpoint, the lines
// up to its step stay, later ones are cut, and it goes on behind them: but for the times the table is that of a run
// that was never stopped.
#pragma once

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <hsm/core/quote.hpp>
#include <hsm/io/file_handle.hpp>
#include <hsm/io/output_file.hpp>
#include <hsm/io/system_file.hpp>
#include <hsm/io/text_file.hpp>
#include <hsm/training/training_config.hpp>

#include "examples/support/progress.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// A table that grows by a line per step. What cannot be written, because a disk is full or who reads a pipe does
/// not keep up, is told once; training goes on. An empty path writes nothing.
class StepLog {
 public:
  /// Begins a table, or goes on after step `done` with one that is there. Throws std::runtime_error if the file
  /// cannot be written, at once for a pipe that nobody reads, or if what is there is no such table.
  explicit StepLog(const std::string& path, std::optional<Index> done = {}) : path_(path) {
    if (path.empty()) return;
    if (done && cut_behind(*done)) {
      file_ = hsm::detail::SystemFile::reopen_log(path);
      if (!file_) throw hsm::detail::file_error(path, "cannot write the log", errno);
      return;
    }
    file_ = hsm::detail::SystemFile::open_log(path);
    if (!file_ && errno == ENXIO)
      throw std::runtime_error(path + ": cannot write the log: nobody reads from this pipe");
    if (!file_ || !put(std::string(kHeader)))
      throw hsm::detail::file_error(path, "cannot write the log", errno);
  }

  void write(const TrainingProgress& p, ProgressLine& line) {
    if (path_.empty()) return;
    const std::string numbers =
        format("%td,%.3f,%.6f,%.6f,%.6g,%.6g,%.1f,", p.step, p.seconds, p.loss, p.smoothed_loss,
               p.learning_rate, p.gradient_norm, p.tokens_per_second);
    if (put(numbers + (p.validation_loss ? format("%.6f", *p.validation_loss) : std::string()) + '\n'))
      return;
    line.keep("hsm_lm: " +
              std::string(hsm::detail::file_error(
                              path_, "cannot write the log any more, training goes on without", errno)
                              .what()));
    path_.clear();
  }

 private:
  static constexpr std::string_view kHeader =
      "step,seconds,loss,smoothed_loss,learning_rate,gradient_norm,tokens_per_second,validation_loss\n";

  bool put(const std::string& text) { return file_.write(std::as_bytes(std::span(text))); }

  /// Leaves the lines up to step `done` of a table that is there; false if there is none or it is empty.
  bool cut_behind(Index done) const {
    std::error_code none;
    if (!std::filesystem::is_regular_file(path_, none)) return false;
    const std::string text = read_text_file(path_);
    if (text.empty()) return false;
    if (!text.starts_with(kHeader)) {
      throw std::runtime_error(path_ +
                               ": must be the log of the run to go on with, got a file that begins with " +
                               hsm::detail::in_quotes(text.substr(0, text.find('\n'))));
    }
    std::size_t end = kHeader.size();  // of what stays
    for (std::size_t next = text.find('\n', end); next != std::string::npos; next = text.find('\n', end)) {
      Index step = 0;
      const char *first = text.data() + end, *last = text.data() + next;
      const auto [rest, error] = std::from_chars(first, last, step);
      if (error != std::errc() || rest == last || *rest != ',' || step > done) break;
      end = next + 1;
    }
    if (end == text.size()) return true;
    OutputFile file(path_);  // whole or not at all
    file.write(std::string_view(text).substr(0, end));
    file.commit();
    return true;
  }

  std::string path_;
  hsm::detail::SystemFile file_;
};

}  // namespace hsm::examples
