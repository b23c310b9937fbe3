// SPDX-License-Identifier: MIT
//
// What the pages show is what runs: their C++ is marked text of examples and tests, their commands of hsm_lm are run, and what
// other commands name is there: scripts, options, presets, targets, files. What tables say of files and of random numbers is
// compared in file_pages_test.cpp and random_page_test.cpp.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "examples/hsm_lm_runner.hpp"
#include "examples/pages.hpp"

namespace hsm::test::pages_test {
namespace {

constexpr std::string_view kWordCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-";

/// Whether `text` has `word` as a word of its own.
bool has_word(std::string_view text, std::string_view word) {
  for (std::size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const auto is_part = [&](std::size_t i) {
      return i < text.size() && kWordCharacters.find(text[i]) != std::string_view::npos;
    };
    if ((at == 0 || !is_part(at - 1)) && !is_part(at + word.size())) return true;
  }
  return false;
}

/// A name of the page's own, such as FILE or REVISION.
bool is_placeholder(std::string_view word) {
  return !word.empty() && word.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_.-") == std::string_view::npos;
}

TEST(Pages, EachBlockOfTheirCodeIsAMarkedPartOfAnExampleOrATest) {
  std::set<std::string> marked, shown;
  for (const char* folder : {"examples", "tests"}) {
    for (const auto& file : source_files(folder, {".cpp", ".hpp"})) {
      if (file.filename() == "pages_test.cpp") continue;
      for (const std::string& part : blocks(source_text(file), "// [shown]", "// [/shown]"))
        marked.insert(part);
    }
  }
  for (const auto& page : pages()) {
    for (const std::string& block : blocks(source_text(page), "```cpp", "```")) {
      EXPECT_TRUE(marked.contains(block)) << page << ": nothing that is compiled has\n" << block;
      shown.insert(block);
    }
  }
  for (const std::string& part : marked) EXPECT_TRUE(shown.contains(part)) << "no page shows\n" << part;
  EXPECT_GE(shown.size(), 20u);
}

TEST(Pages, HaveNoOtherKindOfBlock) {
  for (const auto& page : pages()) {
    bool inside = false;
    std::istringstream lines(source_text(page));
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("```")) continue;
      if (!inside) {
        EXPECT_TRUE(line == "```cpp" || line == "```sh") << page << ": " << line;
      }
      inside = !inside;
    }
  }
}

TEST(Pages, MarkedPartsLoseTheirIndentation) {
  EXPECT_EQ(blocks("a\n  // [x]\n  b\n\n    c\n d\n  // [/x]\n", "// [x]", "// [/x]"),
            std::vector<std::string>{"b\n\n  c\nd\n"});
}

TEST(Pages, CommandsAreReadWithQuotesRemarksAndLinesThatAreJoined) {
  const PageText page = read_page(
      "Do `a --b`\n\n    bash x 'y z' \\\n      \"q\"   # remark\n    a picture\n\n```sh\ncmp 1 "
      "2\n```\n[t](u.md)\n");
  EXPECT_EQ(page.commands, (std::vector<std::string>{"bash x 'y z' \"q\"   # remark", "cmp 1 2"}));
  EXPECT_EQ(page.spans, std::vector<std::string>{"a --b"});
  EXPECT_EQ(page.links, std::vector<std::string>{"u.md"});
  EXPECT_EQ(words_of(page.commands[0]), (std::vector<std::string>{"bash", "x", "y z", "q"}));
  EXPECT_TRUE(has_word("--text FILE", "--text") && !has_word("--texts", "--text") &&
              !has_word("---text", "--text"));
}

TEST(Pages, LinksLeadToFiles) {
  for (const auto& page : pages()) {
    for (const std::string& link : read_page(source_text(page)).links) {
      if (link.starts_with("http")) continue;
      EXPECT_TRUE(in_source(page.parent_path() / link)) << page << ": " << link;
    }
  }
}

/// Commands, checked without being run. What is wrong is told in a sentence, "" if nothing.
class PageCommands : public HsmLm {
 protected:
  const std::string& help(const std::string& subcommand) {
    const auto [entry, fresh] = help_.try_emplace(subcommand);
    if (fresh) {
      const Outcome outcome = run({subcommand, "--help"});
      if (outcome.code == 0) entry->second = outcome.out;
    }
    return entry->second;
  }

  /// `name` among the subcommands of hsm_lm.
  bool is_subcommand(const std::string& name) {
    static const std::set<std::string> kAll{"train",   "tokenize", "generate", "evaluate", "info",
                                            "convert", "demo",     "task",     "compare"};
    return kAll.contains(name);
  }

  /// What options a script has: its text, and the help of what it gives its arguments to.
  std::string known_to(const std::string& script) {
    std::string text = source_text(script);
    for (const char* subcommand : {"compare", "task", "demo"})
      if (text.find(std::string("OPTION OF hsm_lm ") + subcommand) != std::string::npos)
        text += help(subcommand);
    if (text.find("ARGUMENT OF hsm_bench") != std::string::npos) text += source_text("bench/main.cpp");
    const std::filesystem::path python = std::filesystem::path(script).replace_extension(".py");
    if (text.find("run.py") != std::string::npos && in_source(python)) text += source_text(python);
    return text;
  }

  std::string check_tool(const std::vector<std::string>& words, std::size_t first) {
    if (first >= words.size()) return "";
    const std::string& subcommand = words[first];
    if (subcommand == "--version") return "";
    if (help(subcommand).empty()) return "hsm_lm has no " + subcommand;
    for (std::size_t i = first + 1; i < words.size(); ++i) {
      const bool value = words[i - 1].starts_with("--");
      if (words[i].starts_with("--")) {
        if (!has_word(help(subcommand), words[i])) return "hsm_lm " + subcommand + " has no " + words[i];
      } else if (value) {  // one of {...}, where the help lists them
        const std::string open = words[i - 1] + " TEXT:{";
        const std::size_t at = help(subcommand).find(open);
        if (at == std::string::npos || is_placeholder(words[i])) continue;
        const std::string all = help(subcommand).substr(at + open.size());
        if (!has_word(all.substr(0, all.find('}')), words[i]))
          return words[i - 1] + " does not take " + words[i];
      } else if (words[i] != "..." && !is_placeholder(words[i]) && !has_word(help(subcommand), words[i])) {
        return "hsm_lm " + subcommand + " does not take " + words[i];
      }
    }
    return "";
  }

  std::string check_script(const std::vector<std::string>& words) {
    if (words.size() < 2 || !in_source(words[1]))
      return "there is no " + (words.size() < 2 ? "script" : words[1]);
    const std::string known = known_to(words[1]);
    for (std::size_t i = 2; i < words.size(); ++i) {
      const std::string& word = words[i];
      if (word.starts_with("-")) {
        const std::string option = word.substr(0, word.find('='));
        if (!has_word(known, option)) return words[1] + " has no " + option;
        continue;
      }
      const bool value = words[i - 1].starts_with("-");
      if (value) {  // one of a|b, where the script lists them
        const std::size_t at = known.find(words[i - 1] + " ");
        if (at == std::string::npos) continue;
        std::string choices = known.substr(at + words[i - 1].size() + 1, 60);
        choices = choices.substr(0, choices.find_first_of(" ]\n'"));
        if (choices.find('|') != std::string::npos && !has_word(choices, word))
          return words[i - 1] + " takes " + choices + ", not " + word;
        continue;
      }
      const bool number = word.find_first_not_of("0123456789") == std::string::npos;
      const bool compiler =
          word.find("g++") != std::string::npos || word.find("clang++") != std::string::npos;
      if (!number && !compiler && !is_placeholder(word) && !has_word(known, word))
        return words[1] + " does not know " + word;
    }
    return "";
  }

  /// A folder build/PRESET, or a path in it.
  static std::string check_build(const std::string& path) {
    const std::string preset = path.substr(6, path.find('/', 6) - 6);
    if (path.starts_with("build/") && has_word(source_text("CMakePresets.json"), preset)) return "";
    return "there is no preset for " + path;
  }

  /// Whether a path in build/ is what a script writes.
  static bool is_written(const std::string& path) {
    const std::string folder = path.substr(0, path.find('/', 6));
    for (const char* script :
         {".ci/single-header", ".ci/docs", ".ci/platforms", "bench/run.sh", "tests/fuzz/run.sh"})
      if (has_word(source_text(script), folder)) return true;
    return false;
  }

  static std::string check_cmake(const std::vector<std::string>& words) {
    for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
      const std::string& value = words[i + 1];
      std::string wrong;
      if (words[i] == "--preset") {
        wrong = check_build("build/" + value);
      } else if (words[i] == "--build" || words[i] == "--install") {
        wrong = check_build(value);
      } else if (words[i] == "-D") {
        if (!value.starts_with("CMAKE_") &&
            !has_word(source_text("CMakeLists.txt"), value.substr(0, value.find('='))))
          wrong = "there is no option " + value;
      } else if (words[i] != "--target" ||
                 source_text("examples/CMakeLists.txt").find("add_executable(" + value + " ") ==
                     std::string::npos) {
        wrong = "cmake " + words[i] + " " + value;
      }
      if (!wrong.empty()) return wrong;
    }
    return words.size() % 2 == 1 ? "" : "a word of cmake stands alone";
  }

  static std::string check_ctest(const std::vector<std::string>& words) {
    for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
      if (words[i] == "-R" && !in_source("tests/" + words[i + 1] + "_test.cpp"))
        return "no test is " + words[i + 1];
      if (words[i] == "--test-dir" && !check_build(words[i + 1]).empty()) return check_build(words[i + 1]);
    }
    return "";
  }

  /// Each command of a line that && joins.
  std::string check(const std::string& line) {
    const std::size_t both = line.find(" && ");
    if (both != std::string::npos) {
      const std::string first = check(line.substr(0, both));
      return first.empty() ? check(line.substr(both + 4)) : first;
    }
    std::vector<std::string> words = words_of(line);
    if (words.size() > 3 && words[0] == "mpirun") words.erase(words.begin(), words.begin() + 3);
    if (words.empty()) return "";
    if (words[0] == "hsm_lm") return check_tool(words, 1);
    if (words[0] == "bash" || words[0] == "python3" || words[0] == "/usr/bin/python3")
      return check_script(words);
    if (words[0] == "cmake") return check_cmake(words);
    if (words[0] == "ctest") return check_ctest(words);
    if (words[0] == "cmp") return words.size() == 3 ? "" : "cmp compares two files";
    if (words[0].starts_with("build/")) {
      if (words.size() > 1 && !in_source("tests/" + words[1])) return "there is no tests/" + words[1];
      return check_build(words[0]);
    }
    return "what is " + words[0] + "?";
  }

  /// An option that stands alone: one of the tool, a script or the benchmarks.
  bool is_known_option(const std::string& option) {
    for (const char* subcommand :
         {"train", "tokenize", "generate", "evaluate", "info", "convert", "demo", "task", "compare"})
      if (has_word(help(subcommand), option)) return true;
    for (const char* script :
         {"tests/run.sh", "bench/run.sh", "bench/ranks/run.sh", "bench/paper/twin.py", ".ci/platforms"})
      if (has_word(source_text(script), option)) return true;
    return false;
  }

  /// A file or a folder, as seen from the top, from include/, from include/hsm/ or from the page. What does not begin as one
  /// of ours does is none.
  static std::string check_path(const std::string& path, const std::filesystem::path& page) {
    static const std::set<std::string> kFiles{".hpp", ".cpp", ".md", ".py", ".sh", ".txt"};
    const std::size_t slash = path.find('/');
    if (slash == std::string::npos) return "";
    if (!path.ends_with("/") && !kFiles.contains(std::filesystem::path(path).extension().string())) return "";
    bool ours = false;
    const std::filesystem::path top, include("include"), headers("include/hsm"), beside = page.parent_path();
    for (const std::filesystem::path& from : {top, include, headers, beside}) {
      if (in_source(from / path)) return "";
      ours = ours || in_source(from / path.substr(0, slash));
    }
    return ours ? "there is no " + path : "";
  }

  /// The names behind hsm:: in a span are those of headers, or of targets.
  static std::string check_names(const std::string& span) {
    static const std::string headers = [] {
      std::string all = source_text("CMakeLists.txt");
      for (const auto& file : source_files("include", {".hpp"})) all += source_text(file);
      return all;
    }();
    for (std::size_t at = span.find("hsm::"); at != std::string::npos; at = span.find("hsm::", at + 1)) {
      const std::string rest = span.substr(at + 5),
                        name = rest.substr(0, rest.find_first_not_of(kWordCharacters));
      if (!has_word(headers, name)) return "there is no hsm::" + name;
    }
    return "";
  }

  /// A code span, which may be anything: a command, an option, a file or a name.
  std::string check_span(const std::string& span, const std::filesystem::path& page) {
    const std::vector<std::string> words = words_of(span);
    if (words.empty()) return "";
    if (const std::string wrong = check_names(span); !wrong.empty()) return wrong;
    if (begins_as_command(span)) return check(span);
    if (words[0].starts_with("build/")) return is_written(words[0]) ? "" : check(span);
    if (words.size() > 1 && is_subcommand(words[0]) && words[1].starts_with("--"))
      return check_tool(words, 0);
    for (const std::string& word : words) {
      if (word.starts_with("--") && words[0].starts_with("--") && !is_known_option(word))
        return "what has " + word + "?";
    }
    if (words.size() == 1 && span.find_first_of("<>*(=@:,") == std::string::npos)
      return check_path(span, page);
    return "";
  }

 private:
  std::map<std::string, std::string> help_;
};

TEST_F(PageCommands, NameWhatIsThere) {
  int commands = 0, spans = 0;
  for (const auto& name : pages()) {
    const PageText page = read_page(source_text(name));
    for (const std::string& line : page.commands) {
      EXPECT_EQ(check(line), "") << name << ": " << line;
      ++commands;
    }
    for (const std::string& span : page.spans) {
      EXPECT_EQ(check_span(span, name), "") << name << ": `" << span << "`";
      ++spans;
    }
  }
  EXPECT_GE(commands, 18);
  EXPECT_GE(spans, 500);
}

TEST_F(PageCommands, ThatAreWrongAreSeen) {
  for (const std::string line :
       {"hsm_lm train --texts FILE", "hsm_lm tell --text FILE", "hsm_lm task remember",
        "hsm_lm convert --storage int4", "bash tests/go.sh", "bash tests/run.sh --quick",
        "bash tests/run.sh --sanitize memory", "bash bench/paper/run.sh slow", "bash bench/run.sh --weak",
        "cmake --preset none", "cmake --build build/examples --target hsm", "cmake -D HSM_NO=1",
        "ctest -R io/none", "build/tests-gcc/tests/hsm_io_test io/none_test.cpp", "build/none/x", "rm x"})
    EXPECT_NE(check(line), "") << line;
  EXPECT_NE(check_span("--none", "README.md"), "");
  EXPECT_NE(check_span("generate --none", "README.md"), "");
  EXPECT_NE(check_span("core/none.hpp", "README.md"), "");
  EXPECT_NE(check_span("hsm::Mixer<hsm::None>", "README.md"), "");
}

/// Those of the tool that ask for no file of the reader's, in the order of the pages.
TEST_F(PageCommands, OfTheToolRunOneAfterAnother) {
  std::filesystem::rename(work_ / "text", work_ / "tales.txt");
  int commands = 0;
  for (const auto& page : pages()) {
    for (const std::string& line : read_page(source_text(page)).commands) {
      std::vector<std::string> words = words_of(line);
      if (std::any_of(words.begin(), words.end(), is_placeholder)) continue;
      if (words[0] == "cmp") {
        EXPECT_TRUE(read_raw(work_ / words.at(1)) == read_raw(work_ / words.at(2))) << line;
        ++commands;
      }
      if (words[0] != "hsm_lm") continue;
      words.erase(words.begin());
      // Ten minutes of training are three steps here.
      const auto minutes = std::find(words.begin(), words.end(), "--minutes");
      if (minutes != words.end()) {
        *minutes = "--steps";
        *(minutes + 1) = "3";
      }
      const Outcome outcome = run(words);
      EXPECT_EQ(outcome.code, 0) << page << ": " << line << "\n" << outcome.err;
      ++commands;
    }
  }
  EXPECT_GE(commands, 7);
}

}  // namespace
}  // namespace hsm::test::pages_test
