// SPDX-License-Identifier: MIT
//
// What hsm_lm generate shows while a text grows: the text itself, and how long its tokens take.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

#include <hsm/core/types.hpp>

#include "examples/support/process.hpp"
#include "examples/support/terminal.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// Text on stdout while it grows, token by token: as it is in a file or a pipe, and made fit for a terminal on
/// one.
class TextOutput {
 public:
  /// `pending`: the first bytes of a character that an earlier part of the text ended in. Where the text goes on later it
  /// is saved first, whatever becomes of what is shown.
  TextOutput(std::string_view pending, bool goes_on) : text_(pending), goes_on_(goes_on) {}

  /// Throws where nothing can be written, unless the text goes on later.
  void push(std::string_view bytes) {
    std::string whole;
    for (const char byte : bytes) whole += text_.push(byte);
    write(terminal_ ? whole : bytes);
  }
  /// Ends the line. A character that was not finished is shown as such unless the text goes on later.
  void finish() {
    if (terminal_ && !goes_on_) write(text_.finish());
    write("\n");
  }
  std::string pending() const { return std::string(text_.pending()); }
  /// Whether nothing can be shown any more.
  bool is_over() const { return over_; }
  /// Once the text is saved: throws where it could not be shown but for a reader who has left.
  void settle() const {
    if (over_ && full_) fail();
    if (over_) std::clearerr(stdout);  // which settle_output does where it is told anew
    settle_output();
  }

 private:
  [[noreturn]] static void fail() { throw std::runtime_error("cannot write to the standard output"); }
  void write(std::string_view text) {
    if (over_) return;
    errno = 0;
    if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
    if (!goes_on_) fail();
    over_ = true;
    full_ = errno != EPIPE && errno != EBADF;
  }

  TerminalText text_;
  bool goes_on_, over_ = false, full_ = false;
  bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
};

/// How long tokens take as the text grows: a line for the first token, the next two, four, eight, ..., as they come, or at the
/// end where the text is on a terminal, which they would cut into pieces.
class TokenTimes {
 public:
  explicit TokenTimes(bool wanted) : wanted_(wanted) {}

  /// `count` tokens are there, and took so many seconds.
  void at(Index count, double seconds) {
    if (!wanted_ || count < next_) return;
    tell(count, seconds);
    while (next_ <= count) next_ = 2 * next_ + 1;
  }
  void finish(Index count, double seconds) {
    if (!wanted_) return;
    if (count > told_) tell(count, seconds);
    std::fputs(kept_.c_str(), stderr);
  }

 private:
  void tell(Index count, double seconds) {
    const Index n = count - told_;
    const double each = (seconds - seconds_) / static_cast<double>(n);
    const std::string which =
        n == 1 ? format("token %td: ", count) : format("tokens %td to %td: each ", told_ + 1, count);
    const std::string line = which + format("%.3f ms, %.0f tokens/s\n", 1e3 * each, each > 0 ? 1 / each : 0);
    if (terminal_) {
      kept_ += line;
    } else {
      std::fputs(line.c_str(), stderr);
    }
    told_ = count;
    seconds_ = seconds;
  }

  bool wanted_, terminal_ = ::isatty(STDOUT_FILENO) != 0;
  Index told_ = 0, next_ = 1;  // a line is due after that many tokens
  double seconds_ = 0;
  std::string kept_;
};

}  // namespace hsm::examples
