// SPDX-License-Identifier: MIT
//
// Runs the hsm_lm tool in a directory of its own and tells what came of it. HSM_LM is the path of the program.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "io/io_test_support.hpp"
#include "paths.hpp"

namespace hsm::test {

using Arguments = std::vector<std::string>;

/// What a run of the tool did.
struct Outcome {
  int code = -1;
  std::string out, err;
};

/// A directory in which the tool runs, with a text of 3000 bytes.
class HsmLm : public ::testing::Test {
 protected:
  HsmLm() {
    std::string text;
    for (int i = 0; text.size() < 3000; ++i)
      text += i % 3 == 0 ? "the cat sat. " : i % 5 == 0 ? "a dog ran! " : "so it was, ";
    write_raw(work_ / "text", text.substr(0, 3000));
  }

  /// Starts the tool; its output goes to files beside the directory that it works in.
  pid_t start(const Arguments& arguments) const {
    std::vector<char*> argv{const_cast<char*>(HSM_LM)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const std::string out = (output_ / "out").string(), err = (output_ / "err").string();
    const pid_t child = ::fork();
    if (child != 0) return child;
    const auto redirect = [](const std::string& path, int descriptor) {
      ::dup2(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), descriptor);
    };
    ::dup2(::open(input_.c_str(), O_RDONLY), STDIN_FILENO);
    redirect(out, STDOUT_FILENO);
    redirect(err, STDERR_FILENO);
    if (::chdir(work_.path().c_str()) == 0) ::execv(HSM_LM, argv.data());
    ::_exit(99);
  }

  Outcome finish(pid_t child) const {
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_raw(output_ / "out"),
            read_raw(output_ / "err")};
  }

  Outcome run(const Arguments& arguments) const { return finish(start(arguments)); }

  /// The arguments of a small training run, and more of them.
  static Arguments training(const Arguments& more = {}) {
    Arguments all{"train", "--text",    "text", "--out",   "model", "--layers",  "3*ab", "--width",
                  "16",    "--context", "16",   "--batch", "4",     "--threads", "2"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  void train_small(const Arguments& more = {}) const {
    const Outcome outcome = run(training(more));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }

  TemporaryDirectory work_, output_;
  std::filesystem::path input_ = "/dev/null";  ///< what the tool reads from its standard input
};

/// Exit code 2, one line on stderr with all the words (after the line about the machine, if it got so far),
/// nothing on stdout.
inline void expect_refused(const Outcome& outcome, const std::vector<std::string>& words) {
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  const std::size_t end = outcome.err.size() < 2 ? 0 : outcome.err.rfind('\n', outcome.err.size() - 2);
  const std::string last = end == std::string::npos ? outcome.err : outcome.err.substr(end + 1);
  EXPECT_TRUE(last.starts_with("hsm_lm: ") && last.ends_with("\n")) << outcome.err;
  EXPECT_TRUE(mentions(last, words));
}

}  // namespace hsm::test
