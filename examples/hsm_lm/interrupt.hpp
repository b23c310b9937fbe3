// SPDX-License-Identifier: MIT
//
// The end of a long run by a signal, as a question that the run asks. The first Ctrl-C or SIGTERM, SIGHUP or
// limit of processor time asks the run to end, and says so at once; the second Ctrl-C or SIGTERM says what a third
// one would do; the third ends the program as the signal does by itself. Systems send some signals twice, or every
// second: what comes within a fifth of a second of the one before, and any but those two, is not counted again.
#pragma once

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <string_view>

#include "examples/support/process.hpp"

namespace hsm::examples {

/// What is said when a signal comes, after its name; literals, since a handler reads them.
struct InterruptWords {
  const char* first;   ///< the first signal
  const char* saving;  ///< the first signal, after begin_saving()
  const char* second;  ///< what the next one would do
  const char* last;    ///< when it has come
};

inline constexpr InterruptWords kTrainingWords{
    ": training ends after this step, then the model is saved\n",
    ": the model is being saved, then the program ends\n",
    ": still saving what was trained; the next one ends the program at once without\n",
    ": ended at once, nothing was saved\n"};

/// Of a run over ranks, where mpirun sends the signal too when one of them is gone.
inline constexpr InterruptWords kRanksWords{
    ": training ends after this step, then the model is saved, unless a rank is gone\n",
    kTrainingWords.saving, kTrainingWords.second, kTrainingWords.last};

/// Of a text whose session is saved.
inline constexpr InterruptWords kTextWords{
    ": the text ends after this token, then the session is saved\n",
    ": the session is being saved, then the program ends\n",
    ": still saving the session; the next one ends the program at once without\n", kTrainingWords.last};

/// Of its prompt, before there is one.
inline constexpr InterruptWords kPromptWords{
    ": the prompt is left after this part, nothing is saved\n", kTextWords.saving,
    ": still reading a part of the prompt; the next one ends the program at once\n", kTrainingWords.last};

/// Of an experiment of many runs.
inline constexpr InterruptWords kRunsWords{
    ": ends after this step; what is finished stays in the table\n", ": ends after this step\n",
    ": still in a step; the next one ends the program at once\n", ": ended at once\n"};

/// The same where nothing is kept.
inline constexpr InterruptWords kLostRunsWords{
    ": ends after this step; what is finished is lost, with --out it would be kept\n", kRunsWords.saving,
    kRunsWords.second, kRunsWords.last};

/// While one lives, and from begin_saving() on, the signals that end a program are noted instead, and a pipe that nobody reads any more ends
/// nothing. Signals that were ignored stay so. One at a time.
class InterruptGuard {
 public:
  /// `words` must outlive it.
  explicit InterruptGuard(const InterruptWords& words = kTrainingWords) {
    words_.store(&words);
    signal_.store(0);
    count_.store(0);
    saving_.store(false);
    terminal_.store(is_terminal(stderr));
    for (const int signal : kEndSignals) {
      if (!is_ignored(signal)) on_signal(signal, note);
    }
#if !defined(_WIN32)
    on_signal(SIGPIPE, SIG_IGN);
#endif
  }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  /// What ends a program says that nothing was saved, so after begin_saving() signals go on being noted: its end is near.
  ~InterruptGuard() {
    if (saving_.load()) return;
    for (const int signal : kEndSignals) {
      if (!is_ignored(signal)) on_signal(signal, end_with_a_word);
    }
  }

  /// The signal that came first; 0 if none has come.
  int signal() const { return signal_.load(); }

  /// What is said from now on; `words` must outlive it.
  void use(const InterruptWords& words) const { words_.store(&words); }

  /// From now on a signal finds the model being saved.
  void begin_saving() const { saving_.store(true); }

 private:
  // Modulo 2^32, lock-free everywhere.
  static std::uint32_t milliseconds() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
  }

  // Takes the line of progress away, where it may stand on a terminal.
  static void say(int signal, std::string_view what) {
    if (terminal_.load()) say_in_handler("\r\x1b[K");
    say_in_handler("hsm_lm: ");
    say_in_handler(signal_name(signal));
    say_in_handler(what);
  }

  static void note(int signal) {
#if defined(_WIN32)
    on_signal(signal, note);  // Windows forgets the handler
#endif
    const int reason = errno;
    constexpr std::uint32_t kApart = 200;
    const std::uint32_t now = milliseconds();
    const bool soon = now - last_.exchange(now) < kApart;
    if (int none = 0; signal_.compare_exchange_strong(none, signal)) {
      count_.store(1);
      say(signal, saving_.load() ? words_.load()->saving : words_.load()->first);
    } else if (!soon && (signal == SIGINT || signal == SIGTERM)) {
      if (count_.fetch_add(1) == 1) {
        say(signal, words_.load()->second);
      } else {
        say(signal, words_.load()->last);
        end_by(signal);
      }
    }
    errno = reason;
  }

  static inline std::atomic<const InterruptWords*> words_{&kTrainingWords};
  static inline std::atomic<int> signal_{0}, count_{0};
  static inline std::atomic<bool> saving_{false}, terminal_{false};
  static inline std::atomic<std::uint32_t> last_{0};
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free &&
                std::atomic<const InterruptWords*>::is_always_lock_free);
};

}  // namespace hsm::examples
