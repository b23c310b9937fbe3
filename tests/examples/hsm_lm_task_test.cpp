// SPDX-License-Identifier: MIT
//
// hsm_lm task as its users see it: tables, files, what it goes on from and what it refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <string>
#include <thread>

#include "examples/hsm_lm_runner.hpp"
#include "examples/support/run_table.hpp"

namespace hsm::test::hsm_lm_task_test {
namespace {

using examples::Cells;

class HsmLmTask : public HsmLm {
 protected:
  /// The arguments of a small comparison of parity, and more of them in place of those with the same name.
  static Arguments parity(const Arguments& more = {}) {
    Arguments all{"task",
                  "parity",
                  "--layers",
                  "2*ab",
                  "--layers",
                  "2*attention@learned",
                  "--width",
                  "8",
                  "--context",
                  "8",
                  "--steps",
                  "4",
                  "--batch",
                  "4",
                  "--learning-rates",
                  "1e-3,1e-2",
                  "--seeds",
                  "1,2",
                  "--test-sequences",
                  "16",
                  "--threads",
                  "1"};
    for (std::size_t i = 0; i + 1 < more.size(); i += 2) {
      const auto found = std::find(all.begin(), all.end(), more[i]);
      if (found == all.end()) {
        all.insert(all.end(), {more[i], more[i + 1]});
      } else {
        *(found + 1) = more[i + 1];
      }
    }
    return all;
  }

  std::vector<std::string> lines(const std::string& file) const {
    std::vector<std::string> all;
    const std::string text = read_raw(work_ / file);
    for (std::size_t first = 0; first < text.size();) {
      const std::size_t end = text.find('\n', first);
      all.push_back(text.substr(first, end - first));
      first = end + 1;
    }
    return all;
  }

  /// The lines of a table of runs without the columns that depend on the clock and the machine.
  std::vector<std::string> results(const std::string& file) const {
    std::vector<std::string> all = lines(file);
    for (std::string& line : all) {
      for (int i = 0; i < 2; ++i) line.resize(line.rfind(','));
    }
    return all;
  }
};

TEST_F(HsmLmTask, PrintsATableAndWritesAllFiles) {
  const Outcome outcome = run(parity({"--out", "p"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(mentions(outcome.out, {"parity: of the bits so far; length 8", "recipe", "best rate", "spread",
                                     "chance", "50.0 %", "2*ab", "2*attention@learned", "seeds 1, 2",
                                     "4 steps of 4 x 8", "p.csv, p.md, p.svg, p-places.svg: written"}));
  EXPECT_TRUE(mentions(outcome.err, {"1 thread,", "8 runs of 4 steps", "run 1/8: 2*ab, rate 0.001, seed 1",
                                     "run 8/8: 2*attention@learned, rate 0.01, seed 2", "accuracy"}));
  EXPECT_EQ(work_.entries(), 5);
  EXPECT_EQ(lines("p.csv").size(), 9u);
  EXPECT_TRUE(
      lines("p.csv")[0].starts_with("task,context,items,symbols,width,target_parameters,schedule,steps"));
  EXPECT_TRUE(mentions(read_raw(work_ / "p.md"), {"# parity", "| `2*ab` |", "|---:|", "seeds 1, 2"}));
  EXPECT_TRUE(mentions(read_raw(work_ / "p.svg"), {"<svg", "2*attention@learned", "chance", "seeds 1, 2"}));
  EXPECT_TRUE(mentions(read_raw(work_ / "p-places.svg"), {"<svg", "bits so far", "seeds 1, 2"}));
}

TEST_F(HsmLmTask, GivesAllRecipesTheSameParametersAndSaysWhatIsLeftOver) {
  const Outcome outcome = run(parity({"--out", "p", "--parameters", "2000", "--steps", "1", "--seeds", "1"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(mentions(outcome.out, {"about 2000 parameters each", "seed 1;"}));
  for (std::size_t i = 1; i < 5; ++i) {
    const Cells cells = examples::csv_cells(lines("p.csv")[i]).value();
    const long parameters = std::stol(cells[13]), difference = parameters - 2000;
    EXPECT_LE(std::abs(difference), 17);  // half of what one more unit in each of two layers costs
    char text[40];
    std::snprintf(text, sizeof text, "%ld (%+ld)", parameters, difference);
    EXPECT_TRUE(mentions(outcome.out, {text}));
  }
}

TEST_F(HsmLmTask, TakesWhatTheTableHasAndGoesOnFromAnyPlace) {
  ASSERT_EQ(run(parity({"--out", "p"})).code, 0);
  const std::string all = read_raw(work_ / "p.csv");
  const auto expected = results("p.csv");
  const Outcome again = run(parity({"--out", "p", "--threads", "2"}));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_TRUE(mentions(again.err, {"8 runs of 4 steps, 8 of them in p.csv"}));
  EXPECT_EQ(read_raw(work_ / "p.csv"), all);
  for (const std::size_t size : {all.size() / 3, all.size() - 3}) {
    write_raw(work_ / "p.csv", all.substr(0, size));
    const Outcome resumed = run(parity({"--out", "p", "--threads", "2"}));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_TRUE(mentions(resumed.err, {"of them in p.csv, where half a line at the end does not count"}));
    EXPECT_EQ(results("p.csv"), expected);
  }
  // One more seed: four runs more.
  const Outcome more = run(parity({"--out", "p", "--seeds", "1,2,3"}));
  EXPECT_TRUE(mentions(more.err, {"12 runs of 4 steps, 8 of them in p.csv"}));
  EXPECT_EQ(lines("p.csv").size(), 13u);
}

TEST_F(HsmLmTask, KeepsFinishedRunsWhenItIsInterrupted) {
  const Arguments arguments = parity({"--out", "p", "--steps", "400"});
  const pid_t child = start(arguments);
  for (int i = 0; i < 6000; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (std::filesystem::exists(work_ / "p.csv") && lines("p.csv").size() >= 3) break;
  }
  ASSERT_EQ(::kill(child, SIGINT), 0);
  const Outcome outcome = finish(child);
  if (outcome.code == 0) GTEST_SKIP() << "all runs were finished before Ctrl-C";
  EXPECT_EQ(outcome.code, 130) << outcome.err;
  EXPECT_TRUE(mentions(outcome.out, {"ended by a signal: ", "of 8 runs ", " finished and in p.csv"}));
  EXPECT_GE(lines("p.csv").size(), 3u);
  EXPECT_EQ(work_.entries(), 2);
  const Outcome resumed = run(arguments);
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(lines("p.csv").size(), 9u);
}

TEST_F(HsmLmTask, TrainsAModelForEachDistanceOfCopy) {
  const Outcome outcome = run({"task",
                               "copy",
                               "--layers",
                               "2*ab",
                               "--layers",
                               "ab,attention",
                               "--width",
                               "16",
                               "--symbols",
                               "4",
                               "--steps",
                               "2",
                               "--batch",
                               "2",
                               "--learning-rates",
                               "1e-2",
                               "--seeds",
                               "5",
                               "--test-sequences",
                               "8",
                               "--threads",
                               "1",
                               "--out",
                               "./"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  // Shifts 1 and 2 reach 3 back, so the distances are 0 to 6.
  EXPECT_EQ(lines("copy.csv").size(), 15u);
  EXPECT_TRUE(
      mentions(outcome.out, {"within", "past", "distance", "\n6 ", "all", "25.0 %", "seed 5", "2 x 14"}));
  EXPECT_TRUE(mentions(read_raw(work_ / "copy.svg"), {"reach of shifts 3", "ab,attention", "distance"}));
  EXPECT_EQ(work_.entries(), 4);
}

TEST_F(HsmLmTask, RunsEveryTaskWithItsDefaults) {
  for (const char* name : {"recall", "selective-copy", "copy", "induction", "parity", "listops"}) {
    SCOPED_TRACE(name);
    Arguments arguments{"task",
                        name,
                        "--width",
                        "8",
                        "--steps",
                        "1",
                        "--batch",
                        "2",
                        "--learning-rates",
                        "1e-2",
                        "--seeds",
                        "1",
                        "--test-sequences",
                        "4",
                        "--threads",
                        "1"};
    if (std::string(name) == "copy") arguments.insert(arguments.end(), {"--distances", "0,18"});
    const Outcome outcome = run(arguments);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(mentions(outcome.out, {"attention:heads=4@learned", "*ab", "*gated", "*softmax-local",
                                       "ab,attention", "seed 1"}));
  }
  EXPECT_EQ(work_.entries(), 1);
}

TEST_F(HsmLmTask, LearnsWhatItsShiftsReach) {
  const Outcome outcome = run({"task",
                               "copy",
                               "--layers",
                               "2*ab",
                               "--width",
                               "16",
                               "--symbols",
                               "4",
                               "--steps",
                               "150",
                               "--batch",
                               "16",
                               "--learning-rates",
                               "1e-2",
                               "--seeds",
                               "1",
                               "--distances",
                               "0,1,3,4",
                               "--context",
                               "12",
                               "--out",
                               "c"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::map<std::string, double> accuracy;
  for (const std::string& line : lines("c.csv")) {
    const Cells cells = examples::csv_cells(line).value();
    if (cells[0] == "copy") accuracy[cells[10]] = std::stod(cells[18]);
  }
  ASSERT_EQ(accuracy.size(), 4u);
  for (const char* within : {"0", "1", "3"}) EXPECT_GT(accuracy[within], 0.9) << within;
  EXPECT_LT(accuracy["4"], 0.35) << "chance is 0.25";
}

TEST_F(HsmLmTask, RefusesWhatDoesNotFit) {
  expect_refused(run({"task"}), {"name", "required"});
  expect_refused(run({"task", "recal"}), {"recal"});
  for (const auto& [more, words] : std::vector<std::pair<Arguments, std::vector<std::string>>>{
           {{"--layers", "2*zz"}, {"'zz'"}},
           {{"--layers", "2*attention@learned"}, {"--layers", "once"}},
           {{"--layers", "ab@rotating"}, {"positions", "'rotating'"}},
           {{"--seeds", "1,1"}, {"--seeds", "once"}},
           {{"--seeds", "-1"}, {"--seeds"}},
           {{"--seeds", "4611686018427387904"}, {"2^62 - 1"}},
           {{"--learning-rates", "0.1,nan"}, {"--learning-rates"}},
           {{"--learning-rates", "1e-3,0.001"}, {"--learning-rates", "once"}},
           {{"--steps", "0"}, {"--steps"}},
           {{"--parameters", "10"}, {"parameters", "got 10"}},
           {{"--distances", "1"}, {"--distances", "parity"}},
           {{"--items", "2"}, {"--items", "parity"}},
           {{"--symbols", "2"}, {"--symbols", "parity"}},
           {{"--depth", "2"}, {"--depth", "--layers"}},
           {{"--context", "1048576", "--batch", "1048576"},
            {"training would take", "1048576 windows", "--batch"}},
           {{"--out", std::string(300, 'p')}, {"File name too long"}},
           {{"--out", "none/p"}, {"none/p.", "No such file"}}}) {
    SCOPED_TRACE(more[0] + " " + more[1]);
    expect_refused(run(parity(more)), words);
    EXPECT_EQ(work_.entries(), 1);
  }
  expect_refused(run({"task", "listops", "--context", "4", "--items", "20000", "--width", "8"}),
                 {"listops", "hardly any"});
  expect_refused(run({"task", "recall", "--context", "8", "--width", "8"}),
                 {"hsm_lm: recall: context must be at least 16, got 8"});
}

TEST_F(HsmLmTask, RefusesFilesOfOtherSettingsAndOfOthers) {
  ASSERT_EQ(run(parity({"--out", "p"})).code, 0);
  const std::string before = read_raw(work_ / "p.csv"), page = read_raw(work_ / "p.md");
  expect_refused(run(parity({"--out", "p", "--steps", "5"})), {"p.csv, line 2", "steps", "'4'", "'5'"});
  EXPECT_EQ(read_raw(work_ / "p.csv"), before);
  write_raw(work_ / "notes.md", "mine");
  expect_refused(run(parity({"--out", "notes"})), {"would overwrite notes.md"});
  EXPECT_EQ(read_raw(work_ / "notes.md"), "mine");
  EXPECT_EQ(read_raw(work_ / "p.md"), page);
  std::filesystem::create_symlink("loop", work_ / "loop");
  expect_refused(run(parity({"--out", "loop/p"})), {"loop/p", "symbolic links"});
}

TEST_F(HsmLmTask, RefusesATableThatWasEditedByHand) {
  ASSERT_EQ(run(parity({"--out", "p"})).code, 0);
  const std::string all = read_raw(work_ / "p.csv");
  for (const auto& [column, cell] :
       std::vector<std::pair<std::string, std::string>>{{"selection_accuracy", "nan"},
                                                        {"selection_loss", "low"},
                                                        {"test_accuracy", "1.5"},
                                                        {"steps_done", "-1"},
                                                        {"seconds", "-1"},
                                                        {"by_place", "3:1/0"},
                                                        {"by_place", "3:2/1"},
                                                        {"by_place", "9223372036854775807:1/2"},
                                                        {"by_place", "3:1/2x"}}) {
    SCOPED_TRACE(column + " " + cell);
    const std::size_t line = all.find('\n') + 1, end = all.find('\n', line);
    Cells names = examples::csv_cells(all.substr(0, line - 1)).value();
    Cells cells = examples::csv_cells(all.substr(line, end - line)).value();
    cells[static_cast<std::size_t>(std::find(names.begin(), names.end(), column) - names.begin())] = cell;
    const std::string edited = all.substr(0, line) + examples::csv_line(cells) + all.substr(end);
    write_raw(work_ / "p.csv", edited);
    expect_refused(run(parity({"--out", "p", "--seeds", "1,2,3"})),
                   {"p.csv, line 2: " + column + " must be ", "'" + cell + "'"});
    EXPECT_EQ(read_raw(work_ / "p.csv"), edited);
  }
}

TEST_F(HsmLmTask, ReportsNeverReplaceTheTable) {
  ASSERT_EQ(run(parity({"--out", "p"})).code, 0);
  const std::string before = read_raw(work_ / "p.csv");
  std::filesystem::remove(work_ / "p.md");
  std::filesystem::create_symlink("p.csv", work_ / "p.md");
  expect_refused(run(parity({"--out", "p"})), {"--out", "p.csv and p.md", "are one"});
  EXPECT_EQ(read_raw(work_ / "p.csv"), before);
  std::filesystem::remove(work_ / "p.md");
  std::filesystem::create_directory(work_ / "p.md");
  // Before the runs of one more seed, not behind them.
  expect_refused(run(parity({"--out", "p", "--seeds", "1,2,3"})), {"p.md", "directory"});
  EXPECT_EQ(read_raw(work_ / "p.csv"), before);
}

TEST_F(HsmLmTask, ScoresWhatWasBeforeTheUpdateThatWasTooMuch) {
  int diverged = 0;
  for (const char* steps : {"1", "6", "8", "9", "10", "11", "12", "13", "14", "15", "16", "20"}) {
    SCOPED_TRACE(steps);
    const Outcome outcome = run(parity(
        {"--out", std::string("p") + steps, "--steps", steps, "--seeds", "1", "--learning-rates", "1000"}));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto table = lines(std::string("p") + steps + ".csv");
    for (std::size_t i = 1; i < table.size(); ++i) EXPECT_FALSE(mentions(table[i], {"nan"})) << table[i];
    diverged += mentions(outcome.out, {"(diverged)"});
  }
  EXPECT_GT(diverged, 0);
}

TEST_F(HsmLmTask, EndsWithinATestToo) {
  const pid_t child =
      start(parity({"--out", "p", "--steps", "1", "--batch", "1", "--test-sequences", "1000000"}));
  for (int i = 0; i < 6000 && !std::filesystem::exists(work_ / "p.csv"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the one step is over
  ASSERT_EQ(::kill(child, SIGTERM), 0);
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.code, 143) << outcome.err;
  EXPECT_TRUE(mentions(outcome.out, {"0 of 8 runs are finished"}));
}

}  // namespace
}  // namespace hsm::test::hsm_lm_task_test
