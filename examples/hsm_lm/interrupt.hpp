// SPDX-License-Identifier: MIT
//
// Ctrl-C as a question that a loop asks. A second Ctrl-C ends the program as usual.
#pragma once

#include <csignal>

namespace hsm::examples {

/// While one lives, Ctrl-C is noted instead of ending the program. One at a time.
class InterruptGuard {
 public:
  InterruptGuard() : previous_(std::signal(SIGINT, note)) { noted_ = 0; }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  ~InterruptGuard() { static_cast<void>(std::signal(SIGINT, previous_)); }

  /// Whether Ctrl-C was pressed.
  bool interrupted() const { return noted_ != 0; }

 private:
  static void note(int) {
    noted_ = 1;
    static_cast<void>(std::signal(SIGINT, SIG_DFL));
  }

  static inline volatile std::sig_atomic_t noted_ = 0;
  void (*previous_)(int);
};

}  // namespace hsm::examples
