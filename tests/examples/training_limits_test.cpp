// SPDX-License-Identifier: MIT
//
// Training under limits and among failures of files, streams and numbers: what was trained is never lost, and a file
// that was there is never replaced by less.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "examples/hsm_lm/training_memory.hpp"
#include "examples/training_runner.hpp"

namespace hsm::test::training_limits_test {
namespace {

namespace fs = std::filesystem;

class TrainingLimits : public TrainingProcess {
 protected:
  void expect_told(const Ending& end, const std::vector<std::string>& words) {
    EXPECT_EQ(end.code, 2) << end.signal << end.err;
    const std::string last = last_line(end.err);
    EXPECT_TRUE(last.starts_with("hsm_lm: ") && last.ends_with("\n")) << end.err;
    EXPECT_TRUE(mentions(last, words));
    expect_no_temporaries();
  }
};

#if defined(HSM_TEST_SANITIZED)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

TEST_F(TrainingLimits, AClosedPipeDoesNotEndTraining) {
  const Ending head =
      shell("(" + command("--steps 200 --validate-every 1") + "; echo $? > code) 2>&1 | head -n 1");
  EXPECT_EQ(head.code, 0);
  EXPECT_EQ(read_raw(work_ / "code"), "0\n");
  expect_model(work_ / "model");
}

TEST_F(TrainingLimits, APipeThatDiesBeforeCtrlCLosesNothing) {
  fs::remove(work_ / "log.csv");
  const Ending end =
      shell("mkfifo pipe; cat pipe > /dev/null & reader=$!; " + command("--steps 100000000 --log log.csv") +
            " > pipe 2>&1 & trained=$!; while ! grep -q ^3, log.csv 2> /dev/null; do sleep 0.05; done; "
            "kill $reader; kill -TERM $trained; wait $trained");
  EXPECT_EQ(end.code, 143) << end.err;
  expect_model(work_ / "model");
  expect_no_temporaries();
}

TEST_F(TrainingLimits, AClosedStreamIsNotTakenForAFile) {
  for (const std::string closed : {"2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"}) {
    SCOPED_TRACE(closed);
    fs::remove(work_ / "model");
    const Ending end = shell("exec " + command("--steps 30 --validate-every 3 --log log.csv ") + closed);
    EXPECT_EQ(end.code, 0) << end.err;
    expect_model(work_ / "model");
    const std::string log = read_raw(work_ / "log.csv");
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 31);
    EXPECT_EQ(log.find("training loss"), std::string::npos);
    EXPECT_EQ(log.find("saved"), std::string::npos);
  }
}

TEST_F(TrainingLimits, AFileSizeLimitIsToldBefore) {
  write_raw(work_ / "model", "what was there");
  expect_told(shell("ulimit -f 10; exec " + command("--steps 100000000")),
              {"model", "room", "File too large"});
  EXPECT_EQ(read_raw(work_ / "model"), "what was there");
}

TEST_F(TrainingLimits, AFullStandardOutputIsTold) {
  for (const char* more : {"--version", "--help", "info --layers ab"}) {
    SCOPED_TRACE(more);
    const Ending end = shell("exec $lm " + std::string(more) + " > /dev/full");
    EXPECT_EQ(end.code, 2);
    EXPECT_TRUE(mentions(end.err, {"hsm_lm: cannot write to the standard output"}));
  }
}

TEST_F(TrainingLimits, ALogThatCannotBeWrittenIsToldOnce) {
  expect_told(shell("exec " + command("--steps 3 --log /dev/full")), {"/dev/full", "cannot write the log"});
  // The limit leaves room for the model and some lines of the log.
  const Ending end = shell("ulimit -f 240; exec " + command("--steps 2500 --log log.csv"));
  EXPECT_EQ(end.code, 0) << end.err;
  const std::string words =
      "log.csv: cannot write the log any more, training goes on without: File too large\n";
  const std::size_t first = end.err.find(words);
  EXPECT_NE(first, std::string::npos) << end.err;
  EXPECT_EQ(end.err.find("cannot write", first + words.size()), std::string::npos);
  expect_model(work_ / "model");
}

TEST_F(TrainingLimits, PipesInPlaceOfFilesAreToldOrReadAndNeverHang) {
  ASSERT_EQ(::mkfifo((work_ / "pipe").c_str(), 0600), 0);
  expect_told(shell("exec " + command("--steps 3 --log pipe")), {"pipe", "nobody reads"});
  expect_told(shell("exec $lm train --text text --out pipe --steps 3"), {"pipe", "regular file"});
  const Ending end = shell(
      "cat text > pipe & exec $lm train --text pipe --out model --layers ab --width 8 --context 8 --steps 3");
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_TRUE(mentions(end.err, {"reading the pipe pipe until its end", "2850 bytes to train on"}));
}

TEST_F(TrainingLimits, OutputsAreNeitherInputsNorEachOther) {
  fs::create_hard_link(work_ / "text", work_ / "hard");
  fs::create_symlink("new", work_ / "link");
  expect_told(shell("exec " + command("--log model")), {"--log and --out must be different files"});
  expect_told(shell("exec $lm train --text text --out new --log link"), {"--log and --out", "new", "link"});
  expect_told(shell("exec $lm train --text text --out hard"), {"--out would overwrite text"});
  expect_told(shell("exec " + command("--valid link --log new")), {"--log would overwrite link"});
}

TEST_F(TrainingLimits, EmptyNamesOfFilesAreRefused) {
  for (const std::string option : {"--log", "--valid"})
    expect_told(shell("exec " + command(option + " ''")), {option, "must name a file"});
  expect_told(shell("exec $lm train --text text --out ''"), {"--out", "must name a file"});
}

TEST_F(TrainingLimits, ADirectoryThatIsDeletedMeanwhileDoesNotLoseTheModel) {
  fs::create_directory(work_ / "folder");
  const pid_t child = start_shell(
      "exec $lm train --text text --out folder/book.safetensors --layers ab --width 16 "
      "--context 16 --steps 100000000 --threads 1 --log log.csv");
  await_lines("log.csv", 3);
  fs::remove_all(work_ / "folder");
  ::kill(child, SIGTERM);
  const Ending end = end_of(child);
  expect_told(end, {"folder/book.safetensors", "No such file", "what was trained is saved as "});
  const std::string where = named_after(end.err, "is saved as ");
  EXPECT_EQ(fs::path(where).filename(), "book.rescued.safetensors");
  expect_model(where);
}

TEST_F(TrainingLimits, ATargetThatCannotBeReplacedAtTheEndLeavesTheCompleteFile) {
  const pid_t child = start_shell("exec " + command("--steps 100000000 --log log.csv"));
  await_lines("log.csv", 3);
  // Between the checks of a new OutputFile and its rename there is no time: a directory is met by the checks.
  fs::create_directory(work_ / "model");
  ::kill(child, SIGINT);
  const Ending end = end_of(child);
  expect_told(end, {"model", "directory", "what was trained is saved as "});
  expect_model(named_after(end.err, "is saved as "));
}

TEST_F(TrainingLimits, AFullDiskIsToldBeforeAndLosesNothingAtTheEnd) {
  fs::create_directory(work_ / "disk");
  const std::string disk = (work_ / "disk").string();
  if (std::system(("mount -t tmpfs -o size=256k tmpfs '" + disk + "' 2> /dev/null").c_str()) != 0)
    GTEST_SKIP() << "no file system can be mounted here";
  struct Unmount {
    std::string disk;
    ~Unmount() { EXPECT_EQ(std::system(("umount '" + disk + "'").c_str()), 0); }
  } const unmount{disk};
  const std::string train =
      "exec $lm train --text text --out disk/model --layers ab --context 16 --threads 1 ";
  write_raw(work_ / "disk/model", "what was there");
  expect_told(shell(train + "--width 256 --steps 100000000"), {"disk/model", "room", "No space left"});
  EXPECT_EQ(read_raw(work_ / "disk/model"), "what was there");
  const pid_t child = start_shell(train + "--width 16 --steps 100000000 --log log.csv");
  await_lines("log.csv", 3);
  const std::string fill = "head -c 1M /dev/zero > '" + disk + "/fill' 2> /dev/null";
  EXPECT_NE(std::system(fill.c_str()), 0);
  ::kill(child, SIGTERM);
  const Ending end = end_of(child);
  expect_told(end, {"disk/model", "No space left", "what was trained is saved as "});
  EXPECT_EQ(read_raw(work_ / "disk/model"), "what was there");
  expect_model(named_after(end.err, "is saved as "));
}

TEST_F(TrainingLimits, AddressSpaceThatIsTooSmallIsToldAndNothingSpins) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer takes terabytes of address space for itself";
  for (const std::string limit : {"120000", "300000"}) {
    SCOPED_TRACE(limit);
    for (const std::string& run :
         {command("--steps 2"), std::string("$lm generate --model absent --prompt a")}) {
      const Ending end = shell("ulimit -v " + limit + "; exec timeout 60 " + run);
      if (end.code == 0) continue;  // products that need no buffers
      EXPECT_NE(end.code, 124) << "it did not end by itself";
      expect_told(end, {});
    }
  }
}

TEST_F(TrainingLimits, ThreadsThatCannotBeStartedAreTold) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer takes terabytes of address space for itself";
  expect_told(
      shell("ulimit -v 1000000; exec timeout 60 $lm train --text text --out model --threads 200 --steps 1"),
      {"--threads 200", "does not start so many threads"});
}

TEST_F(TrainingLimits, ABatchThatDoesNotFitIsToldBefore) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer takes terabytes of address space for itself";
  expect_told(shell("exec $lm train --text text --out model --context 1024 --batch 1048576"),
              {"training would take at least", "can be had", "a smaller --batch"});
  expect_told(shell("ulimit -v 4000000; exec $lm train --text text --out model --width 4096 --layers '4*ab'"),
              {"training would take at least", "a smaller model"});
  expect_told(shell("exec $lm demo --batch 1048576 --context 1048576 --threads 1"),
              {"training would take at least", "a smaller --batch"});
}

TEST(TrainingMemory, WhatARunHoldsAlreadyIsNotAskedForAgain) {
  const double left = examples::memory_left();
  if (!(left < 1e18)) GTEST_SKIP() << "the system does not tell how much memory there is";
  const LanguageModelConfig config{.vocabulary = 256,
                                   .width = 1024,
                                   .feed_forward = 1 + static_cast<Index>(1.5 * left / (20 * 2 * 1024)),
                                   .context = 16,
                                   .layers = "ab"};
  const TrainingConfig training{.batch = 1};
  EXPECT_THROW(examples::check_training_fits(config, training), std::invalid_argument);
  const double weights = examples::training_memory(config, training).parameters / 5;
  EXPECT_NO_THROW(examples::check_training_fits(config, training, 0, 4 * weights));
}

TEST(GroupMemory, FilesThatWereReadGiveWay) {
  const TemporaryDirectory directory;
  const std::string group = (directory / "").string();
  EXPECT_FALSE(examples::detail::group_memory_left(group).has_value());
  write_raw(directory / "memory.max", "max\n");
  EXPECT_FALSE(examples::detail::group_memory_left(group).has_value());
  write_raw(directory / "memory.max", "1000\n");
  write_raw(directory / "memory.current", "900\n");
  EXPECT_EQ(examples::detail::group_memory_left(group), 100);
  write_raw(directory / "memory.stat", "anon 50\nfile 850\ninactive_file 500\nactive_file 300\n");
  EXPECT_EQ(examples::detail::group_memory_left(group), 900);
  write_raw(directory / "memory.current", "2000\n");
  EXPECT_EQ(examples::detail::group_memory_left(group), 0);
}

TEST(GroupLimits, AreThoseOfAllGroupsAround) {
  using Directories = std::vector<std::string>;
  EXPECT_EQ(examples::detail::groups_around("/r", "/a/b"), (Directories{"/r/a/b/", "/r/a/", "/r/"}));
  EXPECT_EQ(examples::detail::groups_around("/r", "/a/"), (Directories{"/r/a/", "/r/"}));
  EXPECT_EQ(examples::detail::groups_around("/r", "/"), Directories{"/r/"});
  const TemporaryDirectory directory;
  const std::string group = (directory / "").string();
  EXPECT_FALSE(examples::detail::group_processors(group).has_value());
  write_raw(directory / "cpu.max", "max 100000\n");
  EXPECT_FALSE(examples::detail::group_processors(group).has_value());
  write_raw(directory / "cpu.max", "150000 100000\n");
  EXPECT_EQ(examples::detail::group_processors(group), 1.5);
}

TEST_F(TrainingLimits, TheBestOfARunThatDivergesIsSavedToo) {
  const Ending end = shell(
      "exec $lm train --text text --out model --layers ab --width 16 --context 16 --threads 1 "
      "--learning-rate 1000 --weight-decay 1000 --warmup 1 --steps 100 --validate-every 1 --keep-best");
  expect_told(end, {"must be finite", "these weights are saved as ", ", and the best of the run, of step "});
  const std::string where = named_after(end.err, ", as ");
  EXPECT_TRUE(fs::path(where).filename().string().starts_with("model.best-")) << where;
  expect_model(where);
}

TEST_F(TrainingLimits, NothingNotFiniteReplacesAFileAndTheLastGoodWeightsAreSavedBeside) {
  write_raw(work_ / "model", "what was there");
  const std::string far = "--learning-rate 1000 --weight-decay 1000 --warmup 0 ";
  const Ending end = shell("exec " + command(far + "--steps 50"));
  expect_told(end, {"must be finite", "these weights are saved as "});
  EXPECT_EQ(read_raw(work_ / "model"), "what was there");
  const std::string where = named_after(end.err, "are saved as ");
  EXPECT_TRUE(fs::path(where).filename().string().starts_with("model.step-")) << where;
  expect_model(where);
  // A run that ends before a loss shows it.
  for (const std::string steps : {"1", "2", "3", "4", "5", "6"}) {
    const Ending early = shell("exec " + command(far + "--steps " + steps));
    EXPECT_EQ(early.err.find("nan"), std::string::npos) << early.err;
    if (early.code == 0) {
      expect_model(work_ / "model");
      write_raw(work_ / "model", "what was there");
    } else {
      expect_told(early, {"must be finite"});
      EXPECT_EQ(read_raw(work_ / "model"), "what was there");
    }
  }
}

TEST_F(TrainingLimits, TheThreadsFollowTheAffinityMask) {
  if (std::system("taskset -c 0 true 2> /dev/null") != 0) GTEST_SKIP() << "no taskset here";
  EXPECT_TRUE(mentions(
      shell("taskset -c 0 $lm train --text text --out model --layers ab --width 8 --context 8 --steps 1").err,
      {", 1 thread, products by"}));
}

}  // namespace
}  // namespace hsm::test::training_limits_test
