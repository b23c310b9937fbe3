// SPDX-License-Identifier: MIT
//
// What README.md shows is what runs: its C++ is marked text of the examples, and its commands of hsm_lm are run.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "examples/hsm_lm_runner.hpp"
#include "paths.hpp"

namespace hsm::test::readme_test {
namespace {

std::string file_text(const std::filesystem::path& name) {
  std::ifstream file(std::filesystem::path(HSM_SOURCE_DIR) / name, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string_view trimmed(std::string_view line) {
  const std::size_t first = line.find_first_not_of(' ');
  return first == std::string_view::npos ? std::string_view() : line.substr(first);
}

/// The blocks between lines `open` and `close`, which may be indented; each loses the indentation of its `open`.
std::vector<std::string> blocks(const std::string& text, std::string_view open, std::string_view close) {
  std::vector<std::string> found;
  bool inside = false;
  std::size_t indent = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!inside && trimmed(line) == open) {
      inside = true;
      indent = line.size() - open.size();
      found.emplace_back();
    } else if (inside && trimmed(line) == close) {
      inside = false;
    } else if (inside) {
      found.back() += line.substr(std::min(indent, line.size() - trimmed(line).size())) + "\n";
    }
  }
  EXPECT_FALSE(inside) << "a block of " << open << " has no end";
  return found;
}

TEST(Readme, EachBlockOfItsCodeIsAMarkedPartOfAnExample) {
  std::vector<std::string> marked;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(HSM_SOURCE_DIR) / "examples")) {
    if (entry.path().extension() != ".cpp") continue;
    const auto parts = blocks(file_text(entry.path()), "// [readme]", "// [/readme]");
    marked.insert(marked.end(), parts.begin(), parts.end());
  }
  const auto shown = blocks(file_text("README.md"), "```cpp", "```");
  EXPECT_GE(shown.size(), 2u);
  EXPECT_EQ(shown.size(), marked.size()) << "as many marked parts as blocks";
  for (const std::string& block : shown)
    EXPECT_NE(std::find(marked.begin(), marked.end(), block), marked.end()) << "no example has:\n" << block;
}

TEST(Readme, MarkedPartsLoseTheirIndentation) {
  EXPECT_EQ(blocks("a\n  // [x]\n  b\n\n    c\n d\n  // [/x]\n", "// [x]", "// [/x]"),
            std::vector<std::string>{"b\n\n  c\nd\n"});
}

/// The words of a command, of which some may stand in double quotes.
Arguments words_of(const std::string& command) {
  Arguments words;
  bool quoted = false, begun = false;
  for (const char c : command) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ' ' && !quoted) {
      begun = false;
      continue;
    }
    if (!begun) words.emplace_back();
    begun = true;
    if (c != '"') words.back() += c;
  }
  return words;
}

class ReadmeCommands : public HsmLm {};

TEST_F(ReadmeCommands, RunOneAfterAnother) {
  std::filesystem::rename(work_ / "text", work_ / "tales.txt");
  std::istringstream lines(file_text("README.md"));
  int commands = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("    hsm_lm ")) continue;
    Arguments arguments = words_of(line.substr(4));
    arguments.erase(arguments.begin());
    // Ten minutes of training are three steps here.
    const auto minutes = std::find(arguments.begin(), arguments.end(), "--minutes");
    if (minutes != arguments.end()) {
      *minutes = "--steps";
      *(minutes + 1) = "3";
    }
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 0) << line << "\n" << outcome.err;
    ++commands;
  }
  EXPECT_GE(commands, 4);
}

}  // namespace
}  // namespace hsm::test::readme_test
