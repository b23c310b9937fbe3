// SPDX-License-Identifier: MIT
//
// hsm_lm compare as its users see it: a whole quick run, what it goes on from, and what it refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "examples/hsm_lm_runner.hpp"
#include "examples/support/run_table.hpp"
#include "examples/svg_form.hpp"

namespace hsm::test::compare_test {
namespace {

using examples::Cells;
using Rows = std::vector<std::map<std::string, std::string>>;

class HsmLmCompare : public HsmLm {
 protected:
  /// The arguments of a small comparison on the text of the fixture, more of them in place of those with the same
  /// name, and more recipes.
  static Arguments small(const Arguments& more = {}) {
    Arguments all{"compare",          "--quick",
                  "--text",           "text",
                  "--layers",         "2*ab",
                  "--layers",         "ab,attention",
                  "--layers",         "2*ab:heads=4@rotated:dyadic",
                  "--width",          "8",
                  "--context",        "8",
                  "--tokens",         "128",
                  "--learning-rates", "1e-3,1e-2",
                  "--seeds",          "1,2",
                  "--threads",        "1"};
    for (std::size_t i = 0; i + 1 < more.size(); i += 2) {
      const auto found = std::find(all.begin(), all.end(), more[i]);
      if (found == all.end() || more[i] == "--layers") {
        all.insert(all.end(), {more[i], more[i + 1]});
      } else {
        *(found + 1) = more[i + 1];
      }
    }
    return all;
  }

  /// A table without the columns that depend on the clock and the machine.
  Rows rows(const std::string& file) const {
    std::vector<Cells> lines;
    const std::string text = read_raw(work_ / file);
    for (std::size_t first = 0; first < text.size();) {
      const std::size_t end = text.find('\n', first);
      lines.push_back(examples::csv_cells(text.substr(first, end - first)).value());
      first = end + 1;
    }
    Rows all;
    for (std::size_t i = 1; i < lines.size(); ++i) {
      all.emplace_back();
      for (std::size_t c = 0; c < lines[0].size(); ++c) all.back()[lines[0][c]] = lines[i].at(c);
      for (const char* clock : {"tokens_per_second", "seconds", "threads"}) all.back().erase(clock);
      std::string& curve = all.back()["training_loss"];  // tokens:seconds:loss
      for (std::size_t first = curve.find(':'); first != std::string::npos;
           first = curve.find(':', first + 2))
        curve.erase(first, curve.find(':', first + 1) - first);
    }
    return all;
  }
};

TEST_F(HsmLmCompare, RunsTheWholeQuickForm) {
  const Outcome outcome = run({"compare", "--quick", "--speeds", "--threads", "2", "--out", "./"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(
      mentions(outcome.out, {"recipe",
                             "learning rate",
                             "bits per byte",
                             "training tokens/s",
                             "generated/s at 32",
                             "at 128",
                             "training cost",
                             "3*attention@learned",
                             "3*ab",
                             "3*ab:heads=8@rotated:dyadic",
                             "3*channel",
                             "3*matrix",
                             "3*gated",
                             "3*gated-pair",
                             "3*softmax-local",
                             "3*fusion",
                             "ab,2*attention",
                             "gated-pair,2*attention",
                             "seeds 1, 2",
                             "built-in stories",
                             "fnv1a-64:",
                             "first half of the validation text",
                             "./compare.csv, ./compare-curves.csv, ./compare-speeds.csv, ./compare.md"}));
  EXPECT_TRUE(
      mentions(outcome.err, {"2 threads,", "run 1/", "3*attention@learned, rate 0.001, seed 1", "loss"}));
  EXPECT_EQ(work_.entries(), 9);  // the text of the fixture too
  // Every recipe has its grid and the other seed, and a sound loss.
  std::map<std::string, std::size_t> runs;
  for (auto& row : rows("compare.csv")) {
    ++runs[row["recipe"]];
    EXPECT_EQ(row["steps_done"], "16");
    EXPECT_EQ(row["diverged"], "0");
    const double loss = std::stod(row["loss"]);
    EXPECT_TRUE(loss > 1 && loss < 8) << loss;
    EXPECT_NEAR(std::stod(row["bits_per_byte"]), loss / 0.69314718056, 1e-5);
    EXPECT_NE(row["loss"], row["selection_loss"]);
  }
  EXPECT_EQ(runs.size(), 12u);
  for (const auto& [recipe, count] : runs) EXPECT_TRUE(count >= 4 && count <= 3 + 4 + 1) << recipe << count;
  EXPECT_EQ(rows("compare-curves.csv").size(), rows("compare.csv").size());
  EXPECT_EQ(rows("compare-speeds.csv").size(), 12u * 3 * 3);  // training and two contexts, three rounds
  const std::string page = read_raw(work_ / "compare.md");
  EXPECT_TRUE(mentions(page, {"# Recipes at about", "| `3*ab` |", "|---:|", "- seeds 1, 2"}));
  std::size_t columns = 0;
  for (std::size_t first = page.find('|'), end = 0; first < page.size() && page[first] == '|';
       first = end + 1) {
    end = page.find('\n', first);
    const std::size_t here = count(page.substr(first, end - first), "|");
    if (columns == 0) columns = here;
    EXPECT_EQ(here, columns);
  }
  EXPECT_EQ(columns, 14u);
  for (const char* ending : {"tokens", "seconds", "cost", "positions"}) {
    const std::string picture = read_raw(work_ / ("compare-" + std::string(ending) + ".svg"));
    SCOPED_TRACE(ending);
    expect_well_formed(picture);
    EXPECT_TRUE(mentions(picture, {"3*fusion", "nats per token", "seeds 1, 2"}));
  }
  EXPECT_TRUE(mentions(read_raw(work_ / "compare-positions.svg"), {"reach 8"}));
  EXPECT_TRUE(mentions(read_raw(work_ / "compare-seconds.svg"), {"at the measured speed"}));
}

TEST_F(HsmLmCompare, GivesAllRecipesTheSameParametersAndKeepsTheirNames) {
  const Outcome outcome = run(small({"--out", "c", "--parameters", "4000", "--seeds", "3"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::map<std::string, long> parameters;
  for (auto& row : rows("c.csv")) parameters[row["recipe"]] = std::stol(row["parameters"]);
  ASSERT_EQ(parameters.size(), 3u);
  for (const char* name : {"2*ab", "ab,attention", "2*ab:heads=4@rotated:dyadic"}) {
    ASSERT_TRUE(parameters.contains(name)) << name;
    EXPECT_LE(std::abs(parameters[name] - 4000), 17) << name;
  }
  EXPECT_TRUE(mentions(outcome.out, {"seed 3;", "speeds were not measured"}));
  EXPECT_FALSE(mentions(read_raw(work_ / "c-seconds.svg"), {"at the measured speed"}));
}

TEST_F(HsmLmCompare, OnlyReportsWhatIsFinished) {
  const Outcome first = run(small({"--out", "c"}));
  ASSERT_EQ(first.code, 0) << first.err;
  const std::string runs = read_raw(work_ / "c.csv"), curves = read_raw(work_ / "c-curves.csv");
  std::map<std::string, std::string> pages;
  for (const char* ending : {".md", "-tokens.svg", "-seconds.svg", "-cost.svg", "-positions.svg"}) {
    pages[ending] = read_raw(work_ / ("c" + std::string(ending)));
    std::filesystem::remove(work_ / ("c" + std::string(ending)));
  }
  const Outcome again = run(small({"--out", "c", "--threads", "2"}));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.err.find("run "), std::string::npos) << again.err;
  EXPECT_EQ(again.out, first.out);
  EXPECT_EQ(read_raw(work_ / "c.csv"), runs);
  EXPECT_EQ(read_raw(work_ / "c-curves.csv"), curves);
  for (const auto& [ending, page] : pages) EXPECT_EQ(read_raw(work_ / ("c" + ending)), page) << ending;
}

TEST_F(HsmLmCompare, GoesOnFromAnyPlaceWithTheSameValues) {
  ASSERT_EQ(run(small({"--out", "c"})).code, 0);
  const std::string all = read_raw(work_ / "c.csv");
  const Rows expected = rows("c.csv"), curves = rows("c-curves.csv");
  ASSERT_GE(expected.size(), 9u);
  for (const std::size_t size : {all.size() / 3, all.size() - 3}) {
    write_raw(work_ / "c.csv", all.substr(0, size));  // the curves of what is missing stay
    const Outcome resumed = run(small({"--out", "c", "--threads", "2"}));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_TRUE(mentions(resumed.err, {"of them in c.csv, where half a line at the end does not count"}));
    EXPECT_EQ(rows("c.csv"), expected);
    EXPECT_EQ(rows("c-curves.csv"), curves);
  }
}

TEST_F(HsmLmCompare, WritesToNoTableThatItOnlyReads) {
  Arguments speeds = small({"--out", "c"});
  speeds.push_back("--speeds");
  ASSERT_EQ(run(speeds).code, 0);
  for (const std::string name : {"c.csv", "c-curves.csv", "c-speeds.csv"}) {
    SCOPED_TRACE(name);
    const std::string all = read_raw(work_ / name), without_end = all.substr(0, all.size() - 1);
    write_raw(work_ / name, without_end);
    const Outcome again = run(small({"--out", "c"}));
    if (name == "c-curves.csv") {  // a list that is cut short is one too
      expect_refused(again, {"c-curves.csv: must have the curves of every run"});
    } else {
      EXPECT_EQ(again.code, 0) << again.err;
    }
    EXPECT_EQ(again.err.find("run 1/"), std::string::npos) << again.err;
    EXPECT_EQ(read_raw(work_ / name), without_end);
    write_raw(work_ / name, all);
  }
  // A run whose line lacks its end counts, and another one goes behind it.
  const std::string all = read_raw(work_ / "c.csv");
  write_raw(work_ / "c.csv", all.substr(0, all.size() - 1));
  ASSERT_EQ(run(small({"--out", "c", "--layers", "2*gated"})).code, 0);
  EXPECT_TRUE(read_raw(work_ / "c.csv").starts_with(all));
  // Half a line and the end of another: what is refused stays as it is.
  const std::string runs = read_raw(work_ / "c.csv"), curves = read_raw(work_ / "c-curves.csv");
  const std::string half = runs.substr(0, runs.size() - 3);
  write_raw(work_ / "c.csv", half);
  write_raw(work_ / "c-curves.csv", curves.substr(0, curves.find('\n') + 1));
  expect_refused(run(small({"--out", "c"})), {"c-curves.csv: must have the curves of every run"});
  EXPECT_EQ(read_raw(work_ / "c.csv"), half);
}

TEST_F(HsmLmCompare, SaysOnceWhatIsMeasuredAtOneContext) {
  const Outcome outcome = run(small({"--speed-contexts", "32", "--speed-windows", "4"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::size_t first = outcome.out.find("recipe ");
  const std::string header = outcome.out.substr(first, outcome.out.find('\n', first) - first);
  EXPECT_TRUE(mentions(header, {"training tokens/s at 4", "generated/s at 32  state at 32"})) << header;
}

TEST_F(HsmLmCompare, SaysThatRunsAreLostWhereNothingIsKept) {
  const pid_t child = start(small({"--tokens", "1000000"}));
  for (int i = 0; i < 6000; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const std::filesystem::path err = output_ / "err";
    if (std::filesystem::exists(err) && count(read_raw(err), "; at least ") > 0) break;
  }
  ASSERT_EQ(::kill(child, SIGTERM), 0);
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.code, 143) << outcome.err;
  EXPECT_TRUE(mentions(outcome.err, {"SIGTERM: ends after this step; what is finished is lost, with --out"}));
}

TEST_F(HsmLmCompare, EndsBySignalsAndGoesOn) {
  const Arguments arguments = small({"--out", "c", "--tokens", "10000"});
  const pid_t child = start(arguments);
  for (int i = 0; i < 6000; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (std::filesystem::exists(work_ / "c.csv") && count(read_raw(work_ / "c.csv"), "\n") >= 3) break;
  }
  ASSERT_EQ(::kill(child, SIGTERM), 0);
  const Outcome outcome = finish(child);
  if (outcome.code == 0) GTEST_SKIP() << "all runs were finished before the signal";
  EXPECT_EQ(outcome.code, 143) << outcome.err;
  EXPECT_TRUE(mentions(outcome.out, {"ended by a signal: ", " finished and in c.csv"}));
  EXPECT_EQ(work_.entries(), 3);  // the text and two tables
  const Outcome resumed = run(arguments);
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  Arguments unbroken = arguments;
  *std::find(unbroken.begin(), unbroken.end(), "c") = "d";  // --out
  ASSERT_EQ(run(unbroken).code, 0);
  EXPECT_EQ(rows("c.csv"), rows("d.csv"));
  EXPECT_EQ(rows("c-curves.csv"), rows("d-curves.csv"));
}

TEST_F(HsmLmCompare, KeepsARunThatDivergesAsARow) {
  const Outcome outcome =
      run({"compare", "--quick", "--layers", "2*gated", "--width", "8", "--context", "8", "--learning-rates",
           "1e-3,1e3", "--seeds", "1", "--threads", "1", "--out", "c", "--tokens", "3200"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  bool sound = false, diverged = false;
  for (auto& row : rows("c.csv")) {
    if (row["diverged"] == "1") {
      diverged = true;
      EXPECT_EQ(row["loss"], "inf");
      EXPECT_LT(std::stol(row["steps_done"]), 100);
    } else {
      EXPECT_LT(std::stod(row["loss"]), 1e3);
      sound = true;
    }
  }
  EXPECT_TRUE(sound && diverged);
}

TEST_F(HsmLmCompare, SaysOfOneRateThatItIsOne) {
  const Outcome outcome = run(small({"--learning-rates", "1e-2", "--seeds", "1"}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(mentions(outcome.out, {"learning rate 0.01 for all; seed 1"}));
  EXPECT_FALSE(mentions(outcome.out, {"more while"}));
  EXPECT_FALSE(mentions(outcome.out, {"searched"}));
}

TEST_F(HsmLmCompare, RefusesBeforeAnythingIsWritten) {
  write_raw(work_ / "one", "1");
  for (const auto& [more, words] : std::vector<std::pair<Arguments, std::vector<std::string>>>{
           {{"--layers", "2*zz"}, {"'zz'"}},
           {{"--layers", "2*ab@rotating"}, {"positions", "schedule", "'rotating'"}},
           {{"--layers", "2*ab@cyclic=0"}, {"schedule", "character"}},
           {{"--layers", "2*ab"}, {"--layers", "once"}},
           {{"--layers", "2*ab@dyadic"}, {"--layers", "once"}},
           {{"--layers", "2*attention:rotating=1"}, {"'rotating'"}},
           {{"--depth", "3"}, {"--depth", "--layers"}},
           {{"--parameters", "10"}, {"parameters", "got 10"}},
           {{"--tokens", "31"}, {"--tokens", "32", "got 31"}},
           {{"--context", "4000"}, {"--tokens"}},
           {{"--context", "4000", "--tokens", "100000"}, {"text", "4000", "got 2850"}},
           {{"--batch", "0"}, {"--batch"}},
           {{"--learning-rates", "1e-3,0.001"}, {"--learning-rates", "once"}},
           {{"--seeds", "1,1"}, {"--seeds", "once"}},
           {{"--speed-contexts", "0"}, {"--speed-contexts"}},
           {{"--valid", "none"}, {"none"}},
           {{"--valid", "one"}, {"hsm_lm: one: must have at least 2 tokens"}},
           {{"--out", "/dev/null"}, {"--out must be a directory", "got a pipe or a device, /dev/null"}},
           {{"--out", std::string(300, 'c')}, {"File name too long"}},
           {{"--out", std::string(243, 'c')}, {"-positions.svg", "File name too long"}},
           {{"--out", "none/c"}, {"none/c.", "No such file"}}}) {
    SCOPED_TRACE(more[0] + " " + more[1]);
    expect_refused(run(small(more)), words);
    EXPECT_EQ(work_.entries(), 2);
  }
  std::filesystem::remove(work_ / "one");
  expect_refused(run({"compare", "--valid", "text"}), {"--valid", "--text"});
  for (const auto& [option, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"--speed-windows", {"training would take", "16777216 tokens"}},
           {"--speed-contexts", {"2*attention", "after 16777216 tokens", "--speed-contexts"}}}) {
    SCOPED_TRACE(option);  // the speeds come after all training
    Arguments all{"compare", "--quick", "--layers", "2*attention", "--width",
                  "2048",    "--seeds", "1",        "--speeds"};
    all.insert(all.end(), {option, "16777216"});
    expect_refused(run(all), words);
  }
  expect_refused(run({"compare", "--text", "none", "--out", "c"}), {"none"});
  std::filesystem::rename(work_ / "text", work_ / "c.md");
  expect_refused(run({"compare", "--text", "c.md", "--out", "c"}), {"--out", "overwrite", "c.md"});
  EXPECT_EQ(work_.entries(), 1);
}

TEST_F(HsmLmCompare, RefusesTablesThatWereEditedByHand) {
  ASSERT_EQ(run(small({"--out", "c"})).code, 0);
  // Before the run of one more recipe, not in the report behind it.
  const auto more = [] { return small({"--out", "c", "--layers", "2*gated"}); };
  const auto edit = [&](const std::string& file, const std::string& column, const std::string& cell) {
    const std::string all = read_raw(work_ / file);
    const std::size_t line = all.find('\n') + 1, end = all.find('\n', line);
    const Cells names = examples::csv_cells(all.substr(0, line - 1)).value();
    Cells cells = examples::csv_cells(all.substr(line, end - line)).value();
    cells[static_cast<std::size_t>(std::find(names.begin(), names.end(), column) - names.begin())] = cell;
    write_raw(work_ / file, all.substr(0, line) + examples::csv_line(cells) + all.substr(end));
    expect_refused(run(more()), {file + ", line 2: " + column + " must be ", "'" + cell + "'"});
    write_raw(work_ / file, all);
  };
  edit("c.csv", "loss", "low");
  edit("c.csv", "selection_loss", "1e999");
  edit("c.csv", "diverged", "maybe");
  edit("c-curves.csv", "training_loss", "32:0.1:nan");
  edit("c-curves.csv", "training_loss", "32:0.1:2x");
  edit("c-curves.csv", "loss_by_position", "0-1:2");
  edit("c-curves.csv", "loss_by_position", "2-1:2");
  const std::string curves = read_raw(work_ / "c-curves.csv"), runs = read_raw(work_ / "c.csv");
  write_raw(work_ / "c-curves.csv", curves.substr(0, curves.find('\n') + 1));
  expect_refused(run(more()), {"c-curves.csv: must have the curves of every run in c.csv"});
  std::filesystem::remove(work_ / "c-curves.csv");
  expect_refused(run(more()), {"c-curves.csv: must have the curves of every run in c.csv", "no such file"});
  EXPECT_FALSE(std::filesystem::exists(work_ / "c-curves.csv"));
  EXPECT_EQ(read_raw(work_ / "c.csv"), runs);
}

TEST_F(HsmLmCompare, PutsNoSpeedsOfTwoMachinesBesideEachOther) {
  const auto measured = [](const Arguments& more) {
    Arguments all = small(more);
    all.push_back("--speeds");
    return all;
  };
  const Outcome first = run(measured({"--out", "c"}));
  ASSERT_EQ(first.code, 0) << first.err;
  const std::string speeds = read_raw(work_ / "c-speeds.csv");
  const Outcome again = run(measured({"--out", "c", "--threads", "2"}));  // nothing is measured
  EXPECT_EQ(again.code, 0) << again.err;
  expect_refused(run(measured({"--out", "c", "--threads", "2", "--layers", "2*gated"})),
                 {"--speeds: the table of speeds was measured on '", "1 thread,", "2 threads,"});
  EXPECT_EQ(read_raw(work_ / "c-speeds.csv"), speeds);
}

TEST_F(HsmLmCompare, RefusesFilesOfOtherSettingsAndOfOthers) {
  ASSERT_EQ(run(small({"--out", "c"})).code, 0);
  const std::string before = read_raw(work_ / "c.csv"), page = read_raw(work_ / "c.md");
  expect_refused(run(small({"--out", "c", "--batch", "5"})), {"c.csv, line 2", "batch", "'4'", "'5'"});
  const std::string text = read_raw(work_ / "text");  // the same bytes, cut elsewhere
  write_raw(work_ / "first", text.substr(0, text.size() * 9 / 10));
  write_raw(work_ / "rest", text.substr(text.size() * 9 / 10));
  expect_refused(run(small({"--out", "c", "--text", "first", "--valid", "rest"})),
                 {"c.csv, line 2", "texts", "fnv1a-64"});
  write_raw(work_ / "text", read_raw(work_ / "text") + "more");
  expect_refused(run(small({"--out", "c"})), {"c.csv, line 2", "texts", "fnv1a-64"});
  EXPECT_EQ(read_raw(work_ / "c.csv"), before);
  EXPECT_EQ(read_raw(work_ / "c.md"), page);
  for (const char* name : {"notes.md", "notes-speeds.csv", "notes-curves.csv"}) {
    write_raw(work_ / name, "mine");
    expect_refused(run(small({"--out", "notes"})), {"would overwrite " + std::string(name)});
    EXPECT_EQ(read_raw(work_ / name), "mine");
    std::filesystem::remove(work_ / name);
  }
}

}  // namespace
}  // namespace hsm::test::compare_test
