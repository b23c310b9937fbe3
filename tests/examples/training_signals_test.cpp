// SPDX-License-Identifier: MIT
//
// Training that is told to end, by each signal, at moments drawn from a seed: before, in and after the steps, in a
// validation and while the model is saved. HSM_TEST_ROUNDS=50 tries as many moments of each.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <hsm/core/random.hpp>
#include <string>
#include <thread>
#include <tuple>

#include "examples/training_runner.hpp"

namespace hsm::test::training_signals_test {
namespace {

constexpr const char* kFormer = "what was there";

int rounds(int usual) {
  const char* text = std::getenv("HSM_TEST_ROUNDS");
  return text != nullptr ? std::atoi(text) : usual;
}

class TrainingSignals : public TrainingProcess {
 protected:
  /// How many runs ended in which way.
  struct Count {
    int finished = 0, saved = 0, before = 0, killed = 0;
  };

  // Whatever the moment: a whole model or the former file, no temporary, one sentence, the documented code.
  void check(const Ending& end, int signal, Count& count) {
    expect_no_temporaries();
    const bool former = read_raw(work_ / "model") == kFormer;
    if (end.signal != 0) {  // before there was anything to save
      EXPECT_EQ(end.signal, signal);
      EXPECT_TRUE(former);
      // Empty if it came before the program had begun.
      EXPECT_TRUE(end.err.empty() || end.err.ends_with(", nothing was saved\n")) << end.err;
      ++count.killed;
    } else if (end.out.find("before the first step") != std::string::npos) {
      EXPECT_EQ(end.code, 128 + signal);
      EXPECT_TRUE(former);
      ++count.before;
    } else {
      EXPECT_TRUE(end.code == 0 || end.code == 128 + signal) << end.code << end.err;
      EXPECT_TRUE(end.out.ends_with("model: saved\n")) << end.out;
      EXPECT_EQ(std::count(end.out.begin(), end.out.end(), '\n'), 1);
      EXPECT_EQ(end.code != 0, end.out.starts_with("ended by ")) << end.out;
      EXPECT_FALSE(former);
      expect_model(work_ / "model");
      // The last step in the log is the last that was done.
      const std::string last = last_line(read_raw(work_ / "log.csv"));
      const std::string steps = last.substr(0, last.find(','));
      EXPECT_NE(end.err.find(steps + (steps == "1" ? " step in " : " steps in ")), std::string::npos)
          << last << end.err;
      ++(end.code == 0 ? count.finished : count.saved);
    }
  }

  static void print(const char* what, const Count& count) {
    std::printf(
        "%s: %d finished, %d ended and saved, %d before the first step, %d before there was a model\n", what,
        count.finished, count.saved, count.before, count.killed);
  }

  void at_random_moments(int signal, const char* name) {
    Random random(static_cast<std::uint64_t>(signal));
    Count count;
    for (int round = 0; round < rounds(4); ++round) {
      SCOPED_TRACE(std::string(name) + ", round " + std::to_string(round));
      write_raw(work_ / "model", kFormer);
      std::filesystem::remove(work_ / "log.csv");
      const pid_t child = start_shell("exec " + command("--steps 400 --validate-every 50 --log log.csv"));
      // In turns over a short time, for the beginning, and over the time that a run takes.
      const std::uint64_t most = round % 2 == 0 ? 150'000 : 900'000;
      std::this_thread::sleep_for(std::chrono::microseconds(random.below(most)));
      ::kill(child, signal);  // it may have ended
      check(end_of(child), signal, count);
    }
    print(name, count);
  }

  void while_saving(int signal, const char* name) {
    Random random(static_cast<std::uint64_t>(signal));
    Count count;
    for (int round = 0; round < rounds(2); ++round) {
      SCOPED_TRACE(std::string(name) + ", round " + std::to_string(round));
      write_raw(work_ / "model", kFormer);
      std::filesystem::remove(work_ / "log.csv");
      // A model that is large for its steps.
      const pid_t child = start_shell(
          "exec $lm train --text text --out model --layers ab --width 8 --feed-forward 60000 --context 4 "
          "--batch 1 --steps 2 --threads 1 --log log.csv --valid text --validation-tokens 4");
      await_saving(child);
      std::this_thread::sleep_for(std::chrono::microseconds(random.below(4'000)));
      ::kill(child, signal);
      const Ending end = end_of(child);
      check(end, signal, count);
      EXPECT_EQ(end.code, 0) << "training had come to its end: " << end.err;
    }
    print((std::string(name) + " while saving").c_str(), count);
  }

  // Until the temporary file holds something; the ones that probe are empty.
  void await_saving(pid_t child) const {
    for (int i = 0; i < 600'000; ++i) {
      std::error_code none;
      for (const auto& entry : std::filesystem::directory_iterator(work_.path(), none)) {
        if (entry.path().filename().string().find(".tmp-") == std::string::npos) continue;
        const auto size = std::filesystem::file_size(entry.path(), none);
        if (!none && size > 0) return;
      }
      siginfo_t info = {};
      ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT);
      if (info.si_pid != 0) return;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
};

TEST_F(TrainingSignals, CtrlCAtRandomMoments) { at_random_moments(SIGINT, "SIGINT"); }
TEST_F(TrainingSignals, SigtermAtRandomMoments) { at_random_moments(SIGTERM, "SIGTERM"); }
TEST_F(TrainingSignals, SighupAtRandomMoments) { at_random_moments(SIGHUP, "SIGHUP"); }

TEST_F(TrainingSignals, CtrlCWhileSaving) { while_saving(SIGINT, "SIGINT"); }
TEST_F(TrainingSignals, SigtermWhileSaving) { while_saving(SIGTERM, "SIGTERM"); }
TEST_F(TrainingSignals, SighupWhileSaving) { while_saving(SIGHUP, "SIGHUP"); }

TEST_F(TrainingSignals, EachSignalSavesWithTheCodeThatIsDocumented) {
  for (const auto& [signal, name, code] :
       {std::tuple(SIGINT, "Ctrl-C", 130), std::tuple(SIGTERM, "SIGTERM", 143),
        std::tuple(SIGHUP, "SIGHUP", 129)}) {
    std::filesystem::remove(work_ / "log.csv");
    const pid_t child = start_shell("exec " + command("--steps 100000000 --log log.csv"));
    await_lines("log.csv", 3);
    ASSERT_EQ(::kill(child, signal), 0);
    const Ending end = end_of(child);
    EXPECT_EQ(end.code, code) << end.err;
    EXPECT_EQ(end.out, "ended by " + std::string(name) + "; model: saved\n");
    EXPECT_TRUE(mentions(end.err, {std::string(name) + ": training ends after this step"}));
    expect_model(work_ / "model");
  }
  EXPECT_TRUE(mentions(shell("$lm train --help").out, {"130, 143 or 129"}));
}

TEST_F(TrainingSignals, TheSecondSaysWhatTheThirdDoes) {
  write_raw(work_ / "model", kFormer);
  // One step takes seconds.
  const pid_t child = start_shell(
      "exec $lm train --text text --out model --layers '6*ab' --width 1024 --context 16 --batch 256 --steps "
      "1000 --threads 1");
  const auto await = [&](const std::string& words) {
    for (int i = 0; i < 6000 && read_raw(output_ / "err").find(words) == std::string::npos; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  };
  await("batch 256");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  for (const char* words :
       {"training ends after this step", "the next one ends the program at once", "ended at once"}) {
    ASSERT_EQ(::kill(child, SIGINT), 0);
    if (std::string(words) == "ended at once") break;
    await(words);
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    ::kill(child, SIGHUP);  // a terminal that closes sends more than one: they do not count
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
  }
  const Ending end = end_of(child);
  EXPECT_EQ(end.signal, SIGINT) << end.code << end.err;
  EXPECT_TRUE(mentions(end.err, {"training ends after this step", "the next one ends the program at once",
                                 "ended at once, nothing was saved\n"}));
  EXPECT_EQ(read_raw(work_ / "model"), kFormer);
  expect_no_temporaries();
}

TEST_F(TrainingSignals, WhatIsIgnoredStaysIgnored) {
  const pid_t child = start_shell("trap '' INT HUP; exec " + command("--steps 300 --log log.csv"));
  await_lines("log.csv", 3);
  ::kill(child, SIGINT);
  ::kill(child, SIGHUP);
  const Ending end = end_of(child);
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_EQ(end.out, "model: saved\n");
  EXPECT_TRUE(mentions(end.err, {"300 steps in"}));
}

TEST_F(TrainingSignals, OtherCommandsEndByTheSignalItself) {
  ASSERT_EQ(shell(command("--steps 1")).code, 0);
  const pid_t child = start_shell("exec $lm generate --model model --prompt a --tokens 100000000");
  for (int i = 0; i < 12000 && std::filesystem::file_size(output_ / "out") < 10; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ::kill(child, SIGTERM);
  EXPECT_EQ(end_of(child).signal, SIGTERM);
  EXPECT_EQ(shell("$lm generate --model model --prompt a --tokens 100000000 | head -c 10 > /dev/null").code,
            0);
}

}  // namespace
}  // namespace hsm::test::training_signals_test
