// SPDX-License-Identifier: MIT
//
// Tables of finished runs: what was added is found again, a killed program leaves a file that goes on, and a file
// of anything else is refused and stays as it is.
#include "examples/support/run_table.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "io/io_test_support.hpp"

namespace hsm::examples::run_table_test {
namespace {

using test::mentions;
using test::message_of;
using test::read_raw;
using test::write_raw;

RunColumns columns(const std::string& steps = "100") {
  return {.settings = {{"task", "recall, hard"}, {"steps", steps}},
          .keys = {"recipe", "seed"},
          .results = {"loss", "note"}};
}

const std::string kHeader = "task,steps,recipe,seed,loss,note\n";
const std::string kFirst = "\"recall, hard\",100,\"ab,attention\",1,0.5,\"a \"\"note\"\"\"\n";
const std::string kSecond = "\"recall, hard\",100,2*ab,1,1e-3,\n";

class RunTables : public ::testing::Test {
 protected:
  /// A file with these bytes is refused with these words, and not changed.
  void expect_refused(const std::string& bytes, const std::vector<std::string>& words) {
    write_raw(file_, bytes);
    EXPECT_TRUE(mentions(message_of<std::runtime_error>([&] { RunTable table(file_, columns()); }), words));
    EXPECT_EQ(read_raw(file_), bytes);
  }

  test::TemporaryDirectory directory_;
  std::filesystem::path file_ = directory_ / "runs.csv";
};

TEST_F(RunTables, WriteALineAfterEachRunAndFindItAgain) {
  {
    RunTable table(file_, columns());
    EXPECT_EQ(read_raw(file_), kHeader);
    table.add({"ab,attention", "1"}, {"0.5", "a \"note\""});
    EXPECT_EQ(read_raw(file_), kHeader + kFirst);
    table.add({"2*ab", "1"}, {"1e-3", ""});
    EXPECT_EQ(read_raw(file_), kHeader + kFirst + kSecond);
  }
  RunTable table(file_, columns());
  EXPECT_EQ(table.size(), 2u);
  EXPECT_FALSE(table.cut());
  ASSERT_NE(table.find({"ab,attention", "1"}), nullptr);
  EXPECT_EQ(*table.find({"ab,attention", "1"}), (Cells{"0.5", "a \"note\""}));
  EXPECT_EQ(table.find({"ab,attention", "2"}), nullptr);
  EXPECT_EQ(table.cell({"2*ab", "1"}, "note"), "");
  EXPECT_EQ(table.number({"2*ab", "1"}, "loss"), 1e-3);
  table.add({"2*ab", "2"}, {"nan", "x"});
  EXPECT_TRUE(std::isnan(table.number({"2*ab", "2"}, "loss")));
  EXPECT_EQ(read_raw(file_), kHeader + kFirst + kSecond + "\"recall, hard\",100,2*ab,2,nan,x\n");
}

TEST_F(RunTables, GoOnWhereverAProgramWasKilled) {
  const std::string all = kHeader + kFirst + kSecond;
  for (std::size_t size = 0; size <= all.size(); ++size) {
    SCOPED_TRACE(size);
    write_raw(file_, all.substr(0, size));
    RunTable table(file_, columns());
    const std::size_t lines = static_cast<std::size_t>(
        std::count(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(size), '\n'));
    EXPECT_EQ(table.size(), lines == 0 ? 0 : lines - 1);
    EXPECT_EQ(table.cut(), size > 0 && all[size - 1] != '\n');
    EXPECT_EQ(read_raw(file_), size == 0 ? kHeader : all.substr(0, size)) << "written to without a new run";
    if (table.find({"ab,attention", "1"}) == nullptr) table.add({"ab,attention", "1"}, {"0.5", "a \"note\""});
    if (table.find({"2*ab", "1"}) == nullptr) table.add({"2*ab", "1"}, {"1e-3", ""});
    table.add({"2*ab", "2"}, {"2", ""});
    EXPECT_EQ(read_raw(file_), all + "\"recall, hard\",100,2*ab,2,2,\n");
  }
}

TEST_F(RunTables, ALastLineWithoutItsEndCountsWhereItsResultsHaveTheirForm) {
  RunColumns formed = columns();
  formed.forms = {{"loss", kNumberCell}, {"note", kFlagCell}};
  const std::string one = "\"recall, hard\",100,ab,1,0.5,1";
  for (const auto& [last, size] : std::vector<std::pair<std::string, std::size_t>>{
           {"0.25,0", 2}, {"0.25,", 1}, {"0.25", 1}, {"0.25,0,", 1}}) {
    SCOPED_TRACE(last);
    write_raw(file_, kHeader + one + "\n\"recall, hard\",100,2*ab,1," + last);
    const RunTable table(file_, formed);
    EXPECT_EQ(table.size(), size);
    EXPECT_EQ(table.cut(), size == 1);
  }
  RunColumns numbers = columns();  // half of a number is one too
  numbers.forms = {{"loss", kNumberCell}, {"note", kNumberCell}};
  write_raw(file_, kHeader + one + "\n\"recall, hard\",100,2*ab,1,0.25,0.12");
  EXPECT_EQ(RunTable(file_, numbers).size(), 1u);
  write_raw(file_, kHeader + one);
  {
    RunTable table(file_, formed);
    table.add({"2*ab", "1"}, {"0.25", "0"});
  }
  EXPECT_EQ(read_raw(file_), kHeader + one + "\n\"recall, hard\",100,2*ab,1,0.25,0\n");
}

TEST_F(RunTables, AreNotLeftBehindWhereTheyCannotBeBegun) {
  if (std::system(
          ("mount -t tmpfs -o size=4k tmpfs '" + directory_.path().string() + "' 2> /dev/null").c_str()) != 0)
    GTEST_SKIP() << "no file system can be mounted here";
  struct Unmount {
    std::string disk;
    ~Unmount() { EXPECT_EQ(std::system(("umount '" + disk + "'").c_str()), 0); }
  } const unmount{directory_.path().string()};
  write_raw(directory_ / "fill", std::string(4096, 'x'));
  EXPECT_TRUE(mentions(message_of<std::runtime_error>([&] { RunTable table(file_, columns()); }),
                       {"runs.csv: cannot write the table of finished runs", "No space left"}));
  EXPECT_FALSE(std::filesystem::exists(file_));
  write_raw(file_, "");  // one that was there stays
  EXPECT_NE(message_of<std::runtime_error>([&] { RunTable table(file_, columns()); }), "");
  EXPECT_TRUE(std::filesystem::exists(file_));
}

TEST_F(RunTables, WorkWithoutAFile) {
  RunTable table(columns());
  table.add({"ab", "1"}, {"2", ""});
  EXPECT_EQ(table.number({"ab", "1"}, "loss"), 2);
  EXPECT_EQ(directory_.entries(), 0);
}

TEST_F(RunTables, RefuseFilesOfAnythingElse) {
  expect_refused(kHeader + kFirst + "\"recall, hard\",200,2*ab,1,1e-3,\n",
                 {"runs.csv, line 3", "steps", "'200'", "'100'", "another one"});
  expect_refused("Once upon a time\n", {"runs.csv", "task,steps,recipe", "got 'Once upon a time'"});
  expect_refused("Once upon a time, no end of a line", {"runs.csv", "got 'Once"});
  expect_refused("task,steps,recipe,seed,loss\n", {"got none as column 6 instead of 'note'"});
  expect_refused("task,steps,recipe,seed,loss,note,more\n", {"got 'more' as column 7 instead of none"});
  expect_refused("task,steps,recipe,seed,lost,note\n" + kFirst, {"got 'lost' as column 5 instead of 'loss'"});
  expect_refused(kHeader.substr(0, kHeader.size() - 1) + "\r\n", {"got lines that end with CR LF"});
  expect_refused(kHeader + kFirst + "a,b\n", {"line 3", "must have 6 cells, got 2"});
  expect_refused(kHeader + kFirst + kFirst, {"line 3", "not in the lines before"});
  expect_refused(kHeader + "\"recall, hard,100,ab,1,0,\n", {"line 2", "quotes"});
  expect_refused(kHeader + kSecond + "half\na line", {"line 3"});
  const auto open = [](const std::filesystem::path& path) {
    return message_of<std::runtime_error>([&] { RunTable table(path, columns()); });
  };
  EXPECT_TRUE(mentions(open(directory_.path()), {"regular file"}));
  EXPECT_TRUE(mentions(open(directory_ / "none" / "runs.csv"), {"none/runs.csv", "cannot open"}));
}

TEST_F(RunTables, RefuseResultsOfAnotherForm) {
  RunColumns formed = columns();
  formed.forms = {{"loss", kNumberCell}, {"note", kFlagCell}};
  const auto open = [&](const std::string& results) {
    write_raw(file_,
              kHeader + "\"recall, hard\",100,ab,1,1,0\n\"recall, hard\",100,2*ab,1," + results + "\n");
    return message_of<std::runtime_error>([&] { RunTable table(file_, formed); });
  };
  EXPECT_TRUE(mentions(open("two,1"), {"runs.csv, line 3: loss must be a number, got 'two'"}));
  EXPECT_TRUE(mentions(open("2x,1"), {"got '2x'"}));
  EXPECT_TRUE(mentions(open(",1"), {"loss must be a number, got ''"}));
  EXPECT_TRUE(mentions(open("2,yes"), {"line 3: note must be 0 or 1, got 'yes'"}));
  for (const char* results : {"2,1", "inf,0", "nan,0"}) {
    write_raw(file_, kHeader + "\"recall, hard\",100,2*ab,1," + results + "\n");
    const RunTable table(file_, formed);
    EXPECT_EQ(table.keys(), std::vector<Cells>(1, Cells{"2*ab", "1"})) << results;
  }
}

TEST_F(RunTables, RefuseASecondProgram) {
  RunTable table(file_, columns());
  EXPECT_TRUE(mentions(message_of<std::runtime_error>([&] { RunTable second(file_, columns()); }),
                       {"runs.csv", "in use by another program"}));
  table.add({"ab", "1"}, {"2", ""});
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(RunTables, RefuseRunsThatDoNotFit) {
  RunTable table(file_, columns());
  table.add({"ab", "1"}, {"two", ""});
  const std::string before = read_raw(file_);
  using Invalid = std::invalid_argument;
  EXPECT_TRUE(mentions(message_of<Invalid>([&] { table.add({"ab", "1"}, {"3", ""}); }), {"new", "ab,1"}));
  EXPECT_TRUE(mentions(message_of<Invalid>([&] { table.add({"ab"}, {"3", ""}); }), {"2 keys", "got 1"}));
  EXPECT_TRUE(mentions(message_of<Invalid>([&] { table.add({"ab", "2"}, {"3", "a\nb"}); }), {"one line"}));
  EXPECT_EQ(read_raw(file_), before);
  EXPECT_EQ(table.find({"ab", "2"}), nullptr);
  EXPECT_TRUE(mentions(message_of<std::runtime_error>([&] {
                         table.number({"ab", "1"}, "loss");
                       }),
                       {"loss", "number", "'two'"}));
  EXPECT_TRUE(mentions(message_of<std::out_of_range>([&] { table.number({"ab", "1"}, "los"); }), {"'los'"}));
  EXPECT_TRUE(mentions(message_of<std::out_of_range>([&] { table.cell({"ab", "3"}, "loss"); }), {"ab,3"}));
}

TEST(CellForms, HoldWhatTheySay) {
  const auto holds = [](const CellForm& form, const std::vector<const char*>& right,
                        const std::vector<const char*>& wrong) {
    for (const char* cell : right) EXPECT_TRUE(form.holds(cell)) << form.text << ": " << cell;
    for (const char* cell : wrong) EXPECT_FALSE(form.holds(cell)) << form.text << ": " << cell;
  };
  holds(kNumberCell, {"0", "-1.5e3", "inf", "nan"}, {"", " 1", "1 ", "1,5", "1e999", "x"});
  holds(kAmountCell, {"0", "1.5"}, {"-1", "nan", "inf", ""});
  holds(kShareCell, {"0", "0.5", "1"}, {"-0.1", "1.1", "nan"});
  holds(kCountCell, {"0", "17"}, {"-1", "1.5", "99999999999999999999", ""});
  holds(kFlagCell, {"0", "1"}, {"2", "", "00", "true"});
}

TEST(CellForms, WordsAreReadWhole) {
  double a = 0;
  Index b = 0, c = 0;
  EXPECT_TRUE(read_word("1.5:-2/3", ":/", a, b, c));
  EXPECT_EQ(a, 1.5);
  EXPECT_EQ(b, -2);
  EXPECT_EQ(c, 3);
  for (const char* word : {"", "1", "1:2", "1:2/", "1:2/3x", "1:2/3/4", "1:2:3", ":2/3", "1:2.5/3"})
    EXPECT_FALSE(read_word(word, ":/", a, b, c)) << word;
  std::vector<std::string> words;
  const auto note = [&](std::string_view word) { return words.emplace_back(word) != "end"; };
  EXPECT_TRUE(read_words("", note));
  EXPECT_TRUE(read_words("a  bc", note));
  EXPECT_FALSE(read_words("end d", note));
  EXPECT_EQ(words, (std::vector<std::string>{"a", "", "bc", "end"}));
}

TEST(CsvCells, ReadWhatCsvLineWrites) {
  for (const Cells& cells :
       {Cells{""}, Cells{"", ""}, Cells{"a", "b,c", "\"", "\"\"", ",", " d "}, Cells{"a\"b"}})
    EXPECT_EQ(csv_cells(csv_line(cells)), cells);
  for (const char* line : {"\"", "\"a", "\"a\"b", "a\"", "a,\"b\"\"", "\"a\" ,b"})
    EXPECT_EQ(csv_cells(line), std::nullopt) << line;
}

}  // namespace
}  // namespace hsm::examples::run_table_test
