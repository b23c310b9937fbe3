// SPDX-License-Identifier: MIT
//
// A text whose session is saved is told to end, nobody reads it any more, or the disk of its text is full: what was generated
// until then is what the session goes on from.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <string>
#include <thread>

#include "examples/training_runner.hpp"

namespace hsm::test::session_signals_test {
namespace {

const std::string kBegin = "$lm generate --model model --threads 1 --seed 5 --prompt 'the c' ";
const std::string kEndless = kBegin + "--tokens 100000000 --save-session session ";

class SessionSignals : public TrainingProcess {
 protected:
  void SetUp() override { train_small({"--steps", "20"}); }

  /// Goes on with the session; both together must be a text without a break, of which `start` is the beginning.
  void expect_goes_on(const std::string& start) const {
    const Ending end = shell("exec $lm generate --model model --threads 1 --session session --tokens 30");
    ASSERT_EQ(end.code, 0) << end.err;
    const std::string tokens = std::to_string(start.size() - 5 + 30);  // of a byte each
    const Ending whole = shell("exec " + kBegin + "--tokens " + tokens);
    ASSERT_EQ(whole.code, 0) << whole.err;
    EXPECT_TRUE(whole.out == start + end.out) << start.size();
  }
};

TEST_F(SessionSignals, TheTextUntilThenIsSaved) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    const pid_t child = start_shell("exec " + kEndless);
    for (int i = 0; i < 6000 && read_raw(output_ / "out").size() < 200; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_EQ(::kill(child, signal), 0);
    const Ending end = end_of(child);
    EXPECT_EQ(end.code, 128 + signal);
    EXPECT_TRUE(mentions(
        end.err, {"the text ends after this token, then the session is saved", "session: saved, ", "seed 5"}))
        << end.err;
    ASSERT_TRUE(end.out.ends_with("\n"));
    expect_goes_on(end.out.substr(0, end.out.size() - 1));
    expect_no_temporaries();
  }
}

TEST_F(SessionSignals, AReaderWhoLeavesIsTheEndOfTheText) {
  const Ending end = shell("{ " + kEndless + "2> told; echo $? > code; } | head -c 20");
  EXPECT_EQ(end.out.size(), 20u);
  EXPECT_EQ(read_raw(work_ / "code"), "0\n");
  const std::string told = read_raw(work_ / "told");
  EXPECT_TRUE(mentions(told, {"session: saved, ", "decode "})) << told;
  const Ending more = shell("exec $lm generate --model model --threads 1 --session session --tokens 3");
  EXPECT_EQ(more.code, 0) << more.err;
  EXPECT_FALSE(more.out.empty());
}

TEST_F(SessionSignals, ATextThatCannotBeWrittenIsToldAfterItIsSaved) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full here";
  const Ending end = shell("exec " + kEndless + "> /dev/full");
  EXPECT_EQ(end.code, 2);
  EXPECT_TRUE(mentions(end.err, {"session: saved, ", "cannot write to the standard output"})) << end.err;
  EXPECT_TRUE(std::filesystem::exists(work_ / "session"));
}

TEST_F(SessionSignals, ASessionThatCannotBeWrittenIsToldBeforeOrSavedElsewhere) {
  const Ending limited = shell("ulimit -f 1; exec " + kBegin + "--tokens 30 --save-session session");
  EXPECT_EQ(limited.code, 2);
  EXPECT_TRUE(mentions(limited.err, {"session", "cannot take the room"})) << limited.err;
  EXPECT_EQ(limited.out, "") << "before anything is generated";

  std::filesystem::create_directory(work_ / "folder");
  const pid_t child = start_shell("exec " + kBegin + "--tokens 100000000 --save-session folder/session");
  for (int i = 0; i < 6000 && read_raw(output_ / "out").size() < 200; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::filesystem::remove_all(work_ / "folder");
  ASSERT_EQ(::kill(child, SIGTERM), 0);
  const Ending end = end_of(child);
  EXPECT_EQ(end.code, 2);
  EXPECT_TRUE(mentions(end.err, {"folder/session", "No such file", "the session is saved as ", "seed 5"}))
      << end.err;
  const std::string where = named_after(end.err, "is saved as ");
  ASSERT_TRUE(std::filesystem::exists(where)) << where;
  std::filesystem::rename(where, work_ / "session");
  expect_goes_on(end.out.substr(0, end.out.size() - 1));
}

TEST_F(SessionSignals, ALongPromptIsLeft) {
  std::string prompt;
  for (int i = 0; prompt.size() < 20'000'000; ++i) prompt += "the cat " + std::to_string(i);
  write_raw(work_ / "prompt", prompt);
  const pid_t child = start_shell(
      "exec $lm generate --model model --threads 1 --prompt-file prompt --chunk 64 --save-session session");
  std::this_thread::sleep_for(std::chrono::milliseconds(700));  // it reads, for some minutes
  ASSERT_EQ(::kill(child, SIGTERM), 0);
  const Ending end = end_of(child);
  EXPECT_TRUE(end.code == 143 || end.signal == SIGTERM)
      << end.code << ", before it has begun to read: a signal";
  EXPECT_TRUE(mentions(end.err, {"nothing was saved"})) << end.err;
  EXPECT_FALSE(std::filesystem::exists(work_ / "session"));
  expect_no_temporaries();
}

TEST_F(SessionSignals, WithoutASessionNothingIsKept) {
  const Ending end = shell("{ " + kBegin + "--tokens 100000000 2> told; echo $? > code; } | head -c 20");
  EXPECT_EQ(end.out.size(), 20u);
  EXPECT_EQ(read_raw(work_ / "code"), "141\n");
}

}  // namespace
}  // namespace hsm::test::session_signals_test
