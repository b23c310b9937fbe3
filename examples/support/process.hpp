// SPDX-License-Identifier: MIT
//
// What a program owes the process that it runs in: its standard streams, the signals that ask it to end, and the
// limits that it runs under. POSIX and Windows in one place.
#pragma once

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

#include <hsm/io/temporary_files.hpp>

#if defined(_WIN32)
#include <io.h>
#else
#include <sys/ioctl.h>
#include <unistd.h>
#endif

namespace hsm::examples {

/// The signals that ask a program to end, by a person or by the system.
inline constexpr int kEndSignals[] = {
    SIGINT,
    SIGTERM,
#if !defined(_WIN32)
    SIGHUP,
    SIGXCPU,
#endif
};

/// What people call a signal.
inline const char* signal_name(int signal) {
  switch (signal) {
    case SIGINT:
      return "Ctrl-C";
    case SIGTERM:
      return "SIGTERM";
#if !defined(_WIN32)
    case SIGHUP:
      return "SIGHUP";
    case SIGXCPU:
      return "the limit of processor time";
#endif
    default:
      return "a signal";
  }
}

/// Whether a stream goes to a terminal.
inline bool is_terminal(std::FILE* stream) {
#if defined(_WIN32)
  return ::_isatty(::_fileno(stream)) != 0;
#else
  return ::isatty(::fileno(stream)) != 0;
#endif
}

/// Whether a path names a terminal.
inline bool is_terminal([[maybe_unused]] const std::string& path) {
#if defined(_WIN32)
  return false;
#else
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  const bool is = descriptor >= 0 && ::isatty(descriptor) != 0;
  if (descriptor >= 0) static_cast<void>(::close(descriptor));
  return is;
#endif
}

/// The columns of the terminal behind a stream; 80 where it does not say.
inline std::size_t terminal_columns([[maybe_unused]] std::FILE* stream) {
#if !defined(_WIN32)
  struct winsize size = {};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 1) return size.ws_col;
#endif
  return 80;
}

/// Writes to the standard error from a signal handler.
inline void say_in_handler(std::string_view text) {
#if defined(_WIN32)
  static_cast<void>(::_write(2, text.data(), static_cast<unsigned>(text.size())));
#else
  [[maybe_unused]] const ssize_t written = ::write(2, text.data(), text.size());
#endif
}

/// Whether the signal is ignored, as nohup and shells do for what they start in the background: then it stays so.
inline bool is_ignored(int signal) {
#if defined(_WIN32)
  const auto before = std::signal(signal, SIG_IGN);
  static_cast<void>(std::signal(signal, before));
  return before == SIG_IGN;
#else
  struct sigaction action = {};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
#endif
}

/// Calls handler(signal) from now on, without interrupting what the system does.
inline void on_signal(int signal, void (*handler)(int)) {
#if defined(_WIN32)
  static_cast<void>(std::signal(signal, handler));
#else
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  static_cast<void>(::sigaction(signal, &action, nullptr));
#endif
}

/// For a handler: ends the process as the signal does by itself, with no temporary file left behind.
[[noreturn]] inline void end_by(int signal) {
  hsm::remove_temporary_files();
#if !defined(_WIN32)
  on_signal(signal, SIG_DFL);
  sigset_t unblocked;
  sigemptyset(&unblocked);
  sigaddset(&unblocked, signal);
  static_cast<void>(::raise(signal));  // waits until it is not blocked
  static_cast<void>(::pthread_sigmask(SIG_UNBLOCK, &unblocked, nullptr));
#endif
  std::_Exit(128 + signal);
}

/// The handler of a program that has nothing to save.
extern "C" inline void end_with_a_word(int signal) {
  say_in_handler("hsm_lm: ended by ");
  say_in_handler(signal_name(signal));
  say_in_handler(", nothing was saved\n");
  end_by(signal);
}

#if !defined(_WIN32)
/// The same for a pipe that nobody reads any more: ended without a word, as other programs are.
extern "C" inline void end_silently(int signal) { end_by(signal); }
#endif

/// Opens what is closed of descriptors 0 to 2, so that no file gets their number and with it what is printed.
/// Reading from them and writing to them fails as before.
inline void open_standard_streams() {
#if !defined(_WIN32)
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is this one. The wrong direction: what is printed is not taken for printed.
    static_cast<void>(::open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY));
  }
#endif
}

/// For the first lines of main: standard streams that are open, an end by a signal that leaves no temporary
/// file, and a file that grows too large as an error that can be told.
inline void prepare_process() {
  open_standard_streams();
  for (const int signal : kEndSignals) {
    if (!is_ignored(signal)) on_signal(signal, end_with_a_word);
  }
#if !defined(_WIN32)
  if (!is_ignored(SIGPIPE)) on_signal(SIGPIPE, end_silently);
  on_signal(SIGXFSZ, SIG_IGN);
#endif
}

/// For a command whose outcome is a file, once that is written: a reader of the standard output who has left ends nothing.
inline void file_is_written() {
#if !defined(_WIN32)
  on_signal(SIGPIPE, SIG_IGN);
#endif
}

/// Brings what was printed to the standard output. A stream that nobody reads any more, or that was closed from
/// the start, is no failure of a command whose outcome is a file.
inline void settle_output() {
  if (std::fflush(stdout) == 0) return;
#if !defined(_WIN32)
  if (errno != EPIPE && errno != EBADF) return;
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere < 0) return;
  static_cast<void>(::dup2(nowhere, 1));
  static_cast<void>(::close(nowhere));
  std::clearerr(stdout);
  static_cast<void>(std::fflush(stdout));
#endif
}

}  // namespace hsm::examples
