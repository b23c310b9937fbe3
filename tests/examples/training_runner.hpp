// SPDX-License-Identifier: MIT
//
// Training as a process that is disturbed: started through a shell, which sets limits, closes streams and ignores
// signals, watched while it runs, and looked at when it has ended.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <hsm/io/safetensors_file.hpp>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "examples/hsm_lm_runner.hpp"

namespace hsm::test {

/// How a process ended: an exit code, or a signal.
struct Ending {
  int code = -1, signal = 0;
  std::string out, err;
};

class TrainingProcess : public HsmLm {
 protected:
  /// Starts `exec`s of the shell: "$lm" is the tool; the script should end with `exec $lm ...`, so that signals
  /// meet the tool itself.
  pid_t start_shell(const std::string& script) const {
    const std::string all = "lm='" HSM_LM "'; " + script;
    const std::string out = (output_ / "out").string(), err = (output_ / "err").string();
    // Emptied here: a signal may end the child before it does anything.
    write_raw(out, "");
    write_raw(err, "");
    const pid_t child = ::fork();
    if (child != 0) return child;
    // Whatever the tests themselves were started with, such as nohup.
    for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGXFSZ}) ::signal(signal, SIG_DFL);
    ::dup2(::open(out.c_str(), O_WRONLY), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_WRONLY), STDERR_FILENO);
    if (::chdir(work_.path().c_str()) == 0) ::execl("/bin/sh", "sh", "-c", all.c_str(), nullptr);
    ::_exit(99);
  }

  /// How the process ends; one that goes on for two minutes is ended and has failed.
  Ending end_of(pid_t child) const {
    const auto ended = [&] {
      siginfo_t info = {};
      return ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
             info.si_pid != 0;
    };
    for (int i = 0; i < 12000 && !ended(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (!ended()) {
      ADD_FAILURE() << "does not end";
      ::kill(child, SIGKILL);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    Ending end{.out = read_raw(output_ / "out"), .err = read_raw(output_ / "err")};
    if (WIFEXITED(status)) end.code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
    return end;
  }

  /// Runs a script.
  Ending shell(const std::string& script) const {
    SCOPED_TRACE(script);
    return end_of(start_shell(script));
  }

  /// "$lm train ..." of the small model with `more` behind it.
  static std::string command(const std::string& more) {
    std::string text = "$lm";
    for (const std::string& argument : training()) text += " '" + argument + "'";
    return text + " " + more;
  }

  /// Waits until the log has so many lines.
  void await_lines(const std::string& log, std::ptrdiff_t lines) const {
    for (int i = 0; i < 6000; ++i) {
      if (std::filesystem::exists(work_ / log)) {
        const std::string text = read_raw(work_ / log);
        if (std::count(text.begin(), text.end(), '\n') >= lines) return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "training has not begun";
  }

  void expect_no_temporaries() const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(work_.path()))
      EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
  }

  /// The file is a whole model, with finite weights.
  void expect_model(const std::filesystem::path& path) const {
    const auto file = SafetensorsFile::load(path);  // throws unless the file is complete
    EXPECT_EQ(file.metadata().find("format")->second, "hsm-language-model");
    EXPECT_GT(file.tensors().size(), 5u);
    for (const TensorInfo& info : file.tensors()) {
      std::vector<float> values(static_cast<std::size_t>((info.end - info.begin) / sizeof(float)));
      file.read(info.name, info.shape, std::span(values));
      EXPECT_TRUE(std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
          << info.name;
    }
  }

  static std::string last_line(const std::string& text) {
    const std::size_t end = text.size() < 2 ? std::string::npos : text.rfind('\n', text.size() - 2);
    return end == std::string::npos ? text : text.substr(end + 1);
  }

  /// The rest of the last line behind `words`: the file that a sentence names.
  static std::string named_after(const std::string& text, const std::string& words) {
    const std::string line = last_line(text);
    const std::size_t place = line.rfind(words);
    if (place == std::string::npos) return {};
    std::string name = line.substr(place + words.size());
    while (!name.empty() && name.back() == '\n') name.pop_back();
    return name;
  }
};

}  // namespace hsm::test
