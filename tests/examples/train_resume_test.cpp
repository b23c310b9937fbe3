// SPDX-License-Identifier: MIT
//
// Training that is stopped anywhere and gone on with from its checkpoint: the same log and the same bytes as a run
// that was never stopped, and one sentence for what does not fit. HSM_TEST_ROUNDS=50 tries as many moments.
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
#include <utility>
#include <vector>

#include "examples/training_runner.hpp"

namespace hsm::test::train_resume_test {
namespace {

namespace fs = std::filesystem;

int rounds(int usual) {
  const char* text = std::getenv("HSM_TEST_ROUNDS");
  return text != nullptr ? std::atoi(text) : usual;
}

// Everything that draws, counts and keeps: dropout, validations, the best model.
const std::string kRun =
    "--steps 300 --validate-every 40 --dropout 0.1 --keep-best --learning-rate 0.01 --log log.csv "
    "--checkpoint run --checkpoint-every 7 ";

class TrainResume : public TrainingProcess {
 protected:
  /// The log without the times, which are columns 2 and 7.
  std::string log_without_times() const {
    std::string result;
    const std::string text = read_raw(work_ / "log.csv");
    int column = 1;
    for (const char c : text) {
      if (c == '\n') column = 0;
      if (c == ',' || c == '\n') ++column;
      if (c == ',' || c == '\n' || (column != 2 && column != 7)) result += c;
    }
    return result;
  }

  /// The log and the model of a run that is never stopped.
  std::pair<std::string, std::string> unbroken(const std::string& options) const {
    const Ending end = shell("exec " + command(options));
    EXPECT_EQ(end.code, 0) << end.err;
    std::pair<std::string, std::string> result(log_without_times(), read_raw(work_ / "model"));
    for (const char* name : {"model", "run", "log.csv"}) fs::remove(work_ / name);
    return result;
  }

  void clean() const {
    for (const auto& entry : fs::directory_iterator(work_.path())) {
      if (entry.path().filename() != "text") fs::remove(entry.path());
    }
  }

  bool await_file(const std::string& name) const {
    for (int i = 0; i < 6000 && !fs::exists(work_ / name); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return fs::exists(work_ / name);
  }

  /// Starts the run, or goes on where there is a checkpoint.
  pid_t start_again(const std::string& options) const {
    return start_shell("exec " + command(options + (fs::exists(work_ / "run") ? "--resume run" : "")));
  }

  void expect_told(const Ending& end, const std::vector<std::string>& words) const {
    EXPECT_EQ(end.code, 2) << end.signal << end.err;
    const std::string last = last_line(end.err);
    EXPECT_TRUE(last.starts_with("hsm_lm: ") && last.ends_with("\n")) << end.err;
    EXPECT_TRUE(mentions(last, words));
    expect_no_temporaries();
  }
};

TEST_F(TrainResume, KilledAtRandomMomentsItHasTheSameLogAndTheSameBytes) {
  const auto [log, model] = unbroken(kRun);
  ASSERT_EQ(std::count(log.begin(), log.end(), '\n'), 301);
  Random random(1);
  int killed = 0, resumed = 0;
  pid_t child = start_again(kRun);
  for (int round = 0; round < rounds(10); ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(20'000 + random.below(150'000)));
    ::kill(child, SIGKILL);
    const Ending end = end_of(child);
    killed += end.signal == SIGKILL ? 1 : 0;
    if (end.signal == 0) {  // it was done: from the start again
      EXPECT_EQ(end.code, 0) << end.err;
      EXPECT_EQ(log_without_times(), log);
      EXPECT_TRUE(read_raw(work_ / "model") == model);
      clean();
    }
    resumed += fs::exists(work_ / "run") ? 1 : 0;
    child = start_again(kRun);
  }
  const Ending end = end_of(child);
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_TRUE(end.out.starts_with("model: saved, the best of the run: step ")) << end.out;
  EXPECT_EQ(log_without_times(), log);
  EXPECT_TRUE(read_raw(work_ / "model") == model) << "another model than that of a run never stopped";
  EXPECT_GT(killed, rounds(10) / 2);
  std::printf("%d killed, %d gone on with from a checkpoint\n", killed, resumed);
}

TEST_F(TrainResume, StoppedByASignalItGoesOnFromThatStep) {
  const auto [log, model] = unbroken(kRun);
  const std::string options = kRun.substr(0, kRun.find("--checkpoint-every")) + "--checkpoint-every 100000 ";
  Random random(2);
  int stopped = 0;
  for (int round = 0; round < rounds(4); ++round) {
    clean();
    pid_t child = start_again(options);
    for (int i = 0; i < 3; ++i) {
      await_lines("log.csv", 3);
      std::this_thread::sleep_for(std::chrono::microseconds(random.below(100'000)));
      ::kill(child, SIGTERM);
      const Ending end = end_of(child);
      expect_no_temporaries();
      if (end.code == 143) {
        ++stopped;
        if (end.out.find("before the first step") == std::string::npos) {
          EXPECT_TRUE(fs::exists(work_ / "run"));
          EXPECT_TRUE(fs::exists(work_ / "model")) << "the model is saved too";
        }
      } else {
        EXPECT_TRUE(end.code == 0 || end.signal == SIGTERM) << end.code << end.err;  // before it had begun
      }
      child = start_again(options);
    }
    const Ending end = end_of(child);
    EXPECT_EQ(end.code, 0) << end.err;
    EXPECT_EQ(log_without_times(), log);
    EXPECT_TRUE(read_raw(work_ / "model") == model);
  }
  EXPECT_GT(stopped, 0);
}

TEST_F(TrainResume, TheCheckpointAloneSaysHowToTrain) {
  const auto [log, model] = unbroken(kRun);
  pid_t child = start_again(kRun);
  ASSERT_TRUE(await_file("run"));
  ::kill(child, SIGKILL);
  end_of(child);
  const std::string before = read_raw(work_ / "run");
  fs::remove(work_ / "log.csv");
  const Ending end = shell("exec $lm train --resume run --text text --out model --log log.csv --threads 1");
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_TRUE(mentions(end.err, {"run: goes on after step ", "context 16", "dropout 0.1", "300 steps in"}));
  EXPECT_TRUE(read_raw(work_ / "model") == model);
  EXPECT_TRUE(read_raw(work_ / "run") == before) << "only --checkpoint writes one";
  const std::string rest = log_without_times();  // no log was there: it begins behind the checkpoint
  const std::size_t header = rest.find('\n') + 1;
  EXPECT_EQ(rest.substr(0, header), log.substr(0, header));
  EXPECT_TRUE(log.ends_with(rest.substr(header)));
  EXPECT_LT(rest.size(), log.size());
}

TEST_F(TrainResume, AtItsEndItGivesTheModelAgain) {
  const Ending end = shell("exec " + command(kRun));
  ASSERT_EQ(end.code, 0) << end.err;
  const std::string model = read_raw(work_ / "model"), log = read_raw(work_ / "log.csv");
  fs::remove(work_ / "model");
  const Ending again = shell("exec " + command(kRun + "--resume run"));
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, end.out);
  EXPECT_TRUE(read_raw(work_ / "model") == model);
  EXPECT_EQ(read_raw(work_ / "log.csv"), log);
}

TEST_F(TrainResume, PatienceEndsTheRunAndSaysWhichStepIsKept) {
  const std::string options =
      "--steps 5000 --learning-rate 0.05 --validate-every 5 --patience 3 --log log.csv --checkpoint run ";
  const Ending end = shell("exec " + command(options));
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_TRUE(mentions(end.err, {"3 validations in a row were no better than that of step "}));
  EXPECT_TRUE(mentions(end.out, {"model: saved, the best of the run: step ", ", validation loss "}));
  const std::string log = read_raw(work_ / "log.csv"), last = last_line(log);
  const int steps = std::atoi(last.c_str());
  EXPECT_TRUE(mentions(end.out, {"step " + std::to_string(steps - 15) + ","}));
  EXPECT_LT(steps, 5000);
  const Ending again = shell("exec " + command(options + "--resume run"));
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, end.out);
  EXPECT_EQ(read_raw(work_ / "log.csv"), log);
  expect_told(shell("exec " + command("--steps 5 --patience 3")), {"--patience", "--validate-every"});
  expect_told(shell("exec " + command("--steps 5 --dropout 1")), {"--dropout", "0 to 0.99", "got '1'"});
}

TEST_F(TrainResume, ByTheClockItGoesOnWithTheRestOfTheMinutes) {
  const std::string options = "--minutes 0.03 --log log.csv --checkpoint run --checkpoint-every 5 ";
  pid_t child = start_again(options);
  ASSERT_TRUE(await_file("run"));
  ::kill(child, SIGTERM);
  EXPECT_EQ(end_of(child).code, 143);
  const Ending end = shell("exec " + command(options + "--resume run"));
  EXPECT_EQ(end.code, 0) << end.err;
  const std::string last = last_line(read_raw(work_ / "log.csv"));
  const double seconds = std::atof(last.substr(last.find(',') + 1).c_str());
  EXPECT_TRUE(seconds >= 1.8) << last;
}

TEST_F(TrainResume, OptionsThatSayOtherwiseAreRefusedByName) {
  ASSERT_EQ(shell("exec " + command(kRun)).code, 0);
  const std::string model = read_raw(work_ / "model");
  const std::string resume = "exec $lm train --resume run --text text --out model ";
  for (const auto& [option, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"--width 32", {"--width must be 16", "got 32"}},
           {"--context 8", {"--context must be 16", "got 8"}},
           {"--layers 2*ab", {"--layers must be 3*ab", "got 2*ab"}},
           {"--layers nothing", {"nothing"}},
           {"--schedule cyclic=2", {"--schedule must be dyadic", "got cyclic=2"}},
           {"--positions learned", {"--positions must be none", "got learned"}},
           {"--feed-forward 65", {"--feed-forward must be 64", "got 65"}},
           {"--parameters 100000", {"--parameters must be about ", "got 100000"}},
           {"--steps 301", {"--steps must be 300", "got 301"}},
           {"--minutes 1", {"--minutes must be left out to go on from run, got 1"}},
           {"--batch 5", {"--batch must be 4", "got 5"}},
           {"--learning-rate 0.02", {"--learning-rate must be 0.01", "got 0.02"}},
           {"--warmup 0.5", {"--warmup must be 0.02", "got 0.5"}},
           {"--weight-decay 0", {"--weight-decay must be 0.1"}},
           {"--validate-every 41", {"--validate-every must be 40", "got 41"}},
           {"--validation-tokens 5", {"--validation-tokens must be 100000", "got 5"}},
           {"--seed 2", {"--seed must be 1", "got 2"}},
           {"--dropout 0.2", {"--dropout must be 0.1", "got 0.2"}},
           {"--patience 3", {"--patience must be left out to go on from run, got 3"}}}) {
    expect_told(shell(resume + option), words);
  }
  const Ending same = shell("exec " + command(kRun + "--resume run --schedule dyadic --seed 1"));
  EXPECT_EQ(same.code, 0) << same.err;
  EXPECT_TRUE(read_raw(work_ / "model") == model);
}

TEST_F(TrainResume, WhereTheRunHasNoSuchValueTheOptionMustBeLeftOut) {
  ASSERT_EQ(shell("exec " + command("--minutes 0.005 --checkpoint run")).code, 0);
  const std::string resume = "exec $lm train --resume run --text text --out model ";
  expect_told(shell(resume + "--steps 5"), {"--steps must be left out to go on from run, got 5"});
  expect_told(shell(resume + "--keep-best"), {"--keep-best must be left out to go on from run, got true"});
}

TEST_F(TrainResume, OnlyTheLogOfTheRunIsGoneOnWith) {
  const std::string options = "--steps 9 --validate-every 3 --log log.csv ";
  ASSERT_EQ(shell("exec " + command(options + "--checkpoint run")).code, 0);
  const std::string log = read_raw(work_ / "log.csv"), model = read_raw(work_ / "model");
  const std::size_t header = log.find('\n') + 1, second = log.find('\n', header) + 1;
  const std::size_t last = log.rfind('\n', log.size() - 2) + 1;
  const auto refused = [&](const std::string& text, const std::vector<std::string>& words) {
    write_raw(work_ / "log.csv", text);
    expect_told(shell("exec " + command(options + "--resume run")), words);
    EXPECT_EQ(read_raw(work_ / "log.csv"), text);
  };
  const auto taken = [&](const std::string& text, const std::string& left) {
    write_raw(work_ / "log.csv", text);
    const Ending end = shell("exec " + command(options + "--resume run"));
    EXPECT_EQ(end.code, 0) << end.err;
    EXPECT_EQ(read_raw(work_ / "log.csv"), left);
  };
  taken(log.substr(0, log.size() - 1), log);  // complete but for its end
  taken(log + "10,1,1", log);                 // half a line
  taken(log + "10,1,1,1,1,1,1,\n11,1,1,1,1,1,1,\n", log);
  taken(log.substr(0, header), log.substr(0, header));
  const std::string must = "log.csv: must be the log of the run to go on with, ";
  refused(log.substr(0, last), {must + "which is at step 9, got one that ends with step 8"});
  refused(log.substr(0, last + 5), {must + "which is at step 9, got one that ends with step 8"});
  // Half of the validation loss, which is a number too.
  refused(log.substr(0, log.size() - 4), {must, "got one that ends with step 8; give another --log"});
  const std::string later = log.substr(0, header) + log.substr(second);
  taken(later, later);  // as a run that went on begins one
  refused(log.substr(0, header) + "1;" + log.substr(header + 2),
          {must + "got line 2, which is no step: '1;"});
  const std::size_t third = log.find('\n', second) + 1;
  refused(log.substr(0, second) + log.substr(third), {must + "got step 3 in line 3, where step 2 belongs"});
  refused(log.substr(0, header) + "11,1,1,1,1,1,1,\n",
          {must + "got step 11 in line 2, where step 10 belongs"});
  std::string windows = log;
  windows.insert(header - 1, "\r");
  refused(windows, {must + "got lines that end with CR LF"});
  refused("steps" + log.substr(4), {must + "got 'steps,seconds"});
  ASSERT_EQ(shell("exec " + command("--steps 12 --validate-every 3 --seed 2 --log log.csv")).code, 0);
  refused(read_raw(work_ / "log.csv"), {must + "whose step 9 has the loss '", "' in line 10"});
  EXPECT_TRUE(read_raw(work_ / "model") != model);
  // What cannot be written is told before the texts are read.
  expect_told(shell("exec " + command("--steps 9 --log none/log.csv --resume run --valid missing")),
              {"none/log.csv"});
}

TEST_F(TrainResume, WhatDoesNotFitIsRefused) {
  const std::string resume = "exec $lm train --text text --out new --resume ";
  expect_told(shell(resume + "run"), {"run: there is no checkpoint", "without --resume"});
  expect_told(shell("exec " + command("--checkpoint run --resume run")), {"run: there is no checkpoint"});
  ASSERT_EQ(shell("exec " + command("--steps 20 --checkpoint run --log log.csv")).code, 0);
  expect_told(shell(resume + "model"), {"model: metadata 'format' must be 'hsm-checkpoint'"});
  expect_told(shell(resume + "text"), {"text: "});
  const std::string bytes = read_raw(work_ / "run");
  write_raw(work_ / "cut", bytes.substr(0, bytes.size() - 100));
  expect_told(shell(resume + "cut"), {"cut: "});
  std::string text = read_raw(work_ / "text");
  text[100] = '!';
  write_raw(work_ / "other", text);
  expect_told(shell("exec $lm train --text other --out new --resume run"),
              {"run: the run is to go on with its own training text, 2850 tokens"});
  expect_told(shell(resume + "run --valid other"), {"run: the run is to go on with its own"});
  write_raw(work_ / "table", "a,b\n1,2\n");
  expect_told(shell(resume + "run --log table"), {"table: must be the log of the run", "'a,b'"});
  EXPECT_EQ(read_raw(work_ / "table"), "a,b\n1,2\n");
  EXPECT_FALSE(fs::exists(work_ / "new"));
}

TEST_F(TrainResume, FilesAreNotEachOther) {
  ASSERT_EQ(shell("exec " + command("--steps 20 --checkpoint run")).code, 0);
  fs::create_symlink("run", work_ / "link");
  expect_told(shell("exec " + command("--checkpoint model")), {"--checkpoint and --out must be different"});
  expect_told(shell("exec " + command("--checkpoint text")), {"--checkpoint would overwrite text"});
  expect_told(shell("exec " + command("--checkpoint log --log log")), {"--checkpoint and --log"});
  expect_told(shell("exec " + command("--resume run --log link")), {"--log would overwrite"});
  expect_told(shell("exec $lm train --text text --out link --resume run"), {"--out would overwrite"});
  expect_told(shell("exec " + command("--checkpoint-every 5")), {"--checkpoint-every", "--checkpoint"});
  expect_told(shell("exec " + command("--checkpoint ''")), {"--checkpoint", "must name a file"});
  expect_told(shell("exec " + command("--checkpoint none/run")), {"none/run"});
  EXPECT_EQ(shell("exec " + command("--steps 20 --checkpoint link --resume run")).code, 0);
}

TEST_F(TrainResume, ACheckpointThatCannotBeWrittenLeavesTheFormerOneAndTrainingGoesOn) {
  fs::create_directory(work_ / "disk");
  const std::string disk = (work_ / "disk").string();
  if (std::system(("mount -t tmpfs -o size=768k tmpfs '" + disk + "' 2> /dev/null").c_str()) != 0)
    GTEST_SKIP() << "no file system can be mounted here";
  struct Unmount {
    std::string disk;
    ~Unmount() { EXPECT_EQ(std::system(("umount '" + disk + "'").c_str()), 0); }
  } const unmount{disk};
  expect_told(shell("exec $lm train --text text --out model --width 256 --context 16 --checkpoint disk/run"),
              {"disk/run", "room", "No space left"});
  const std::string options = "--steps 100000000 --log log.csv --checkpoint disk/run --checkpoint-every 10 ";
  const pid_t child = start_shell("exec " + command(options));
  ASSERT_TRUE(await_file("disk/run"));
  const std::string fill = "head -c 2M /dev/zero > '" + disk + "/fill' 2> /dev/null";
  EXPECT_NE(std::system(fill.c_str()), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const std::string former = read_raw(work_ / "disk/run");
  const std::string log = read_raw(work_ / "log.csv");
  await_lines("log.csv", std::count(log.begin(), log.end(), '\n') + 30);
  ::kill(child, SIGTERM);
  const Ending end = end_of(child);
  EXPECT_EQ(end.code, 143) << end.err;
  const std::string words = "No space left on device; the checkpoint before stays as it was";
  EXPECT_TRUE(mentions(end.err, {"disk/run", words + ", and training goes on\n", words + "\n"}));
  EXPECT_TRUE(read_raw(work_ / "disk/run") == former);
  expect_model(work_ / "model");
  expect_no_temporaries();
  fs::remove(work_ / "disk/fill");
  const pid_t again = start_shell("exec " + command(options + "--resume disk/run"));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  ::kill(again, SIGTERM);
  EXPECT_EQ(end_of(again).code, 143);
}

}  // namespace
}  // namespace hsm::test::train_resume_test
