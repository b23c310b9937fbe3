// SPDX-License-Identifier: MIT
//
// Progress for people. On a terminal one line is rewritten, several times a second; in a log a line is written
// every few seconds.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>

#include "examples/support/process.hpp"
#include "examples/support/terminal.hpp"

namespace hsm::examples {

/// A line of progress on a stream. What it shows is lost but for the lines that are kept.
class ProgressLine {
 public:
  explicit ProgressLine(std::FILE* out = stderr, double log_seconds = 10)
      : out_(out), terminal_(is_terminal(out)), pause_(terminal_ ? 0.1 : log_seconds) {}
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() { clear(); }

  /// Whether enough time has gone by since the last line; making the text may be left out otherwise.
  bool due() const { return std::chrono::duration<double>(Clock::now() - last_).count() >= pause_; }

  /// Shows `text`, as shown() does, if it is due.
  void update(std::string_view text) {
    if (!due()) return;
    last_ = Clock::now();
    if (!terminal_) return print(text);
    const std::string visible = shown(text).substr(0, width());
    static_cast<void>(std::fprintf(out_, "\r%s\x1b[K", visible.c_str()));
    static_cast<void>(std::fflush(out_));
    shown_ = true;
  }

  /// Writes `text` as a line that stays.
  void keep(std::string_view text) {
    clear();
    print(text);
  }

  /// Takes the rewritten line away.
  void clear() {
    if (!shown_) return;
    static_cast<void>(std::fputs("\r\x1b[K", out_));
    static_cast<void>(std::fflush(out_));
    shown_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void print(std::string_view text) {
    static_cast<void>(std::fprintf(out_, "%s\n", shown(text).c_str()));
    static_cast<void>(std::fflush(out_));
  }

  // A line that wraps could not be rewritten.
  std::size_t width() const { return terminal_columns(out_) - 1; }

  std::FILE* out_;
  bool terminal_;
  double pause_;
  bool shown_ = false;
  Clock::time_point last_ = Clock::now();
};

}  // namespace hsm::examples
