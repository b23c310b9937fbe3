// SPDX-License-Identifier: MIT
//
// Training over the ranks of mpirun: the curve of one process, one message for what goes wrong on any rank, and
// checkpoints that any number of ranks goes on from. Skipped where the tool is built without MPI.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "examples/training_runner.hpp"

#ifndef HSM_MPIEXEC
#define HSM_MPIEXEC ""
#endif

namespace hsm::test::train_ranks_test {
namespace {

namespace fs = std::filesystem;

/// Dropout, validations and the best model besides; the name of the log is to follow.
const std::string kRest = "--validate-every 40 --dropout 0.1 --keep-best --log ";
const std::string kRun = "--steps 200 " + kRest, kShortRun = "--steps 100 " + kRest;

class TrainRanks : public TrainingProcess {
 protected:
  void SetUp() override {
    if (std::string(HSM_MPIEXEC).empty()) GTEST_SKIP() << "MPI was not found, or HSM_MPI is OFF";
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    ::setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 1);
    ::setenv("OMPI_MCA_mpi_yield_when_idle", "1", 1);
    ::setenv("ASAN_OPTIONS", "fast_unwind_on_malloc=0", 1);
    ::setenv("LSAN_OPTIONS", "use_tls=0:suppressions='" HSM_SOURCE_DIR "/tests/distributed/leaks.txt'", 1);
  }

  /// The small run of `command` over so many ranks; one is the tool alone.
  static std::string over(int ranks, const std::string& more) {
    if (ranks == 1) return "exec " + command(more);
    return "exec '" HSM_MPIEXEC "' -n " + std::to_string(ranks) + " " + command(more);
  }

  /// The same with another value of an option that `command` gives.
  static std::string with(std::string script, const std::string& option, const std::string& value) {
    const std::size_t at = script.find("'" + option + "' '") + option.size() + 4;
    return script.replace(at, script.find('\'', at) - at, value);
  }

  /// A column of the log.
  std::vector<double> column(const std::string& log, int number) const {
    const std::string text = read_raw(work_ / log);
    std::vector<double> values;
    for (std::size_t at = text.find('\n') + 1; at < text.size(); at = text.find('\n', at) + 1) {
      std::size_t field = at;
      for (int i = 0; i < number; ++i) field = text.find(',', field) + 1;
      values.push_back(std::strtod(text.c_str() + field, nullptr));  // 0 where it is empty
    }
    return values;
  }

  void expect_same_curve(const std::string& got, const std::string& expected) const {
    for (const int number : {0, 2, 7}) {  // step, loss, validation loss
      const std::vector<double> a = column(got, number), b = column(expected, number);
      ASSERT_EQ(a.size(), b.size());
      EXPECT_GE(a.size(), 100u);
      for (std::size_t i = 0; i < a.size(); ++i)
        EXPECT_LE(std::abs(a[i] - b[i]), 1.1e-5) << "line " << i << ", of numbers of 6 digits";
    }
  }

  /// The processes that mpirun has started.
  static std::vector<pid_t> ranks_of(pid_t mpirun) {
    std::vector<pid_t> all;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream file(entry.path() / "stat");
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      const std::size_t end = text.rfind(')');
      if (end == std::string::npos || std::atoi(text.c_str() + end + 4) != mpirun) continue;
      all.push_back(std::atoi(name.c_str()));
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  static std::ptrdiff_t count(const std::string& text, const std::string& words) {
    std::ptrdiff_t found = 0;
    for (std::size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++found;
    return found;
  }
};

TEST_F(TrainRanks, TheCurveIsThatOfOneProcessAndOnlyOneRankPrints) {
  ASSERT_EQ(shell(over(1, kRun + "one")).code, 0);
  const Ending end = shell(over(2, kRun + "two"));
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_TRUE(end.out.starts_with("model: saved, the best of the run: step ")) << end.out;
  EXPECT_EQ(count(end.out, "\n"), 1) << end.out;
  for (const char* once : {"batch 4 over 2 ranks", "step 40: ", "200 steps in", "products by"})
    EXPECT_EQ(count(end.err, once), 1) << once << " in " << end.err;
  expect_same_curve("two", "one");
  expect_no_temporaries();
}

TEST_F(TrainRanks, GroupsThatShareAWindowGiveTheCurveOfOneProcess) {
  ASSERT_EQ(shell(with(over(1, kShortRun + "one"), "--batch", "2")).code, 0);
  const Ending end = shell(with(over(4, kShortRun + "four --sequence-ranks 2"), "--batch", "2"));
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_EQ(count(end.err, "batch 2 over 2 groups of 2 ranks"), 1) << end.err;
  expect_same_curve("four", "one");
}

TEST_F(TrainRanks, ARankThatIsKilledEndsAllAndAnyNumberOfRanksGoesOn) {
  ASSERT_EQ(shell(over(1, kShortRun + "one")).code, 0);
  fs::remove(work_ / "model");
  const std::string options = kShortRun + "log --checkpoint run --checkpoint-every 7 ";
  int ranks = 2;
  for (const std::size_t victim : {1u, 0u}) {
    const pid_t child =
        start_shell(over(ranks, options + (victim == 0 ? "--resume run --sequence-ranks 2" : "")));
    await_lines("log", victim == 0 ? 50 : 20);
    const std::vector<pid_t> all = ranks_of(child);
    ASSERT_EQ(all.size(), static_cast<std::size_t>(ranks));
    ::kill(all[victim], SIGKILL);
    const auto start = std::chrono::steady_clock::now();
    const Ending end = end_of(child);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
    EXPECT_NE(end.code, 0);
    EXPECT_EQ(end.out, "");
    EXPECT_EQ(count(end.err, "exited on signal 9 (Killed)"), 1) << end.err;
    EXPECT_FALSE(fs::exists(work_ / "model"));
    ranks = 4;
  }
  const Ending end = shell(over(1, options + "--resume run"));
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_TRUE(mentions(end.err, {"run: goes on after step "}));
  expect_same_curve("log", "one");
}

TEST_F(TrainRanks, ASignalToOneRankEndsTheStepOnAllAndSaves) {
  ASSERT_EQ(shell(over(1, kRun + "one")).code, 0);
  const std::string options = kRun + "log --checkpoint run ";
  struct Case {
    int signal, code;
    const char* name;
    std::size_t rank;
  };
  std::ptrdiff_t lines = 10;
  for (const Case& each :
       {Case{SIGTERM, 143, "SIGTERM", 1}, Case{SIGINT, 130, "Ctrl-C", 0}, Case{SIGHUP, 129, "SIGHUP", 1}}) {
    SCOPED_TRACE(each.name);
    const pid_t child = start_shell(over(2, options + (lines > 10 ? "--resume run" : "")));
    await_lines("log", lines);
    const std::vector<pid_t> all = ranks_of(child);
    ASSERT_EQ(all.size(), 2u);
    ::kill(all[each.rank], each.signal);
    const Ending end = end_of(child);
    EXPECT_EQ(end.code, each.code) << end.err;
    EXPECT_TRUE(end.out.starts_with(std::string("ended by ") + each.name + "; model: saved")) << end.out;
    EXPECT_EQ(count(end.out, "\n"), 1) << end.out;
    expect_model(work_ / "model");
    expect_no_temporaries();
    lines = static_cast<std::ptrdiff_t>(column("log", 0).size()) + 3;
  }
  const Ending rest = shell(over(2, options + "--resume run"));
  EXPECT_EQ(rest.code, 0) << rest.err;
  expect_same_curve("log", "one");
}

TEST_F(TrainRanks, WhatGoesWrongIsToldOnce) {
  const auto expect_told = [&](const std::string& script, const std::string& sentence) {
    const Ending end = shell(script);
    EXPECT_EQ(end.code, 2) << end.err;
    EXPECT_EQ(count(end.err, "hsm_lm: " + sentence), 1) << end.err;
    EXPECT_EQ(count(end.err, "hsm_lm: "), 1 + count(end.err, ", products by ")) << end.err;
    EXPECT_FALSE(fs::exists(work_ / "model"));
  };
  expect_told(over(3, ""), "--batch must be a multiple of the 3 ranks, got 4\n");
  for (const int n : {1, 2}) {
    expect_told(over(n, "--sequence-ranks 3"),
                "--sequence-ranks must divide the number of ranks, " + std::to_string(n) + ", got 3\n");
  }
  expect_told(with(over(2, "--sequence-ranks 2"), "--layers", "ab,hkt:levels=2:heads=2"),
              "--sequence-ranks: a layer must be one that can be cut over ranks, got hkt heads 2 levels 2\n");
  expect_told(over(2, "--no-such-option"), "The following argument was not expected: --no-such-option");
  expect_told(over(2, "--valid none"), "none: ");
  expect_told(over(2, "--log none/log"), "none/log: ");
  expect_told(over(2, "--steps 400 --learning-rate 1000"), "the ");  // diverges: told once too
}

TEST_F(TrainRanks, HelpTellsOfThem) {
  EXPECT_TRUE(mentions(shell("$lm train --help").out, {"mpirun -np N hsm_lm train", "--sequence-ranks"}));
}

}  // namespace
}  // namespace hsm::test::train_ranks_test
