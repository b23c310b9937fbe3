// SPDX-License-Identifier: MIT
//
// The manual page and the completion of hsm_lm beside its help, which is read as text: each command and each option
// must be in all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "examples/hsm_lm_runner.hpp"

namespace hsm::test::hsm_lm_help_pages_test {
namespace {

/// The first words of the lines of a part of a help, and the words behind them.
using Rows = std::vector<std::pair<std::string, std::string>>;

Rows rows_of(const std::string& help, const std::string& heading) {
  Rows rows;
  const std::size_t first = help.find("\n" + heading + ":\n");
  if (first == std::string::npos) return rows;
  std::istringstream lines(help.substr(first + heading.size() + 3));
  for (std::string line; std::getline(lines, line) && !line.empty();) {
    if (!line.starts_with("  ") || line[2] == ' ') continue;  // the rest of a description
    const std::size_t end = line.find(' ', 2);
    const std::size_t next = line.find_first_not_of(' ', end);
    rows.emplace_back(line.substr(2, end - 2), next == std::string::npos ? "" : line.substr(next));
  }
  return rows;
}

/// "none learned" of "TEXT:{none,learned}=none".
std::string choices_in(const std::string& text) {
  const std::size_t first = text.find(":{");
  if (!text.starts_with("TEXT:{")) return "";
  std::string words = text.substr(first + 2, text.find('}') - first - 2);
  for (char& c : words) c = c == ',' ? ' ' : c;
  return words;
}

/// Text without what roff needs.
std::string plain(std::string text) {
  for (const auto& [escape, meaning] : std::vector<std::pair<std::string, std::string>>{{"\\fB", ""},
                                                                                        {"\\fI", ""},
                                                                                        {"\\fR", ""},
                                                                                        {"\\-", "-"},
                                                                                        {"\\:", ""},
                                                                                        {"\\(ha", "^"},
                                                                                        {"\\(aq", "'"}}) {
    for (std::size_t at = 0; (at = text.find(escape, at)) != std::string::npos;)
      text.replace(at, escape.size(), meaning);
  }
  return text;
}

/// What is between a heading and the next one.
std::string section_of(const std::string& page, const std::string& heading) {
  const std::size_t first = page.find("\n" + heading + "\n");
  if (first == std::string::npos) return "";
  return page.substr(first, page.find("\n.S", first + 1) - first) + "\n";
}

std::vector<std::string> split(const std::string& text, char between) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, between);) words.push_back(word);
  return words;
}

/// The words of a line in an order of their own.
std::vector<std::string> sorted_words(const std::string& line) {
  std::vector<std::string> words = split(line, ' ');
  std::sort(words.begin(), words.end());
  return words;
}

class HsmLmHelpPages : public HsmLm {
 protected:
  std::string printed(const Arguments& arguments) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }

  /// The help of each command, and of the tool as that of "".
  Rows helps() const {
    Rows all{{"", printed({"--help"})}};
    for (const auto& [command, text] : rows_of(all[0].second, "Subcommands"))
      all.emplace_back(command, printed({command, "--help"}));
    EXPECT_GE(all.size(), 10u);
    return all;
  }

  /// What bash completes each line to, one line for each; FILES stands for the names of files. The last word of a line
  /// is the one to complete; it may be empty.
  std::vector<std::string> completed(const std::vector<std::string>& lines) const {
    std::string script = printed({"--completion"}) +
                         "compopt() { [[ $* == '-o default' ]] && echo -n FILES; }\n"
                         "complete_line() {\n"
                         "  COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))\n"
                         "  _hsm_lm && echo \"${COMPREPLY[*]}\"\n"
                         "}\n";
    for (const std::string& line : lines) script += "complete_line hsm_lm " + line + "\n";
    write_raw(output_ / "script", script);
    const std::string command =
        "bash -eu '" + (output_ / "script").string() + "' >'" + (output_ / "completed").string() + "'";
    EXPECT_EQ(std::system(command.c_str()), 0) << script;
    return split(read_raw(output_ / "completed"), '\n');
  }
};

TEST_F(HsmLmHelpPages, ManualPageHasEveryCommandOptionAndExitCode) {
  const std::string page = plain(printed({"--man"}));
  for (const auto& [command, help] : helps()) {
    SCOPED_TRACE(command);
    const std::string section = section_of(page, command.empty() ? ".SH OPTIONS" : ".SS " + command);
    EXPECT_NE(page.find("\nhsm_lm " + command), std::string::npos);
    const Rows options = rows_of(help, "Options");
    EXPECT_GE(options.size(), 3u);
    for (const auto& [names, rest] : options) {
      if (names == "-h,--help" && !command.empty()) continue;  // told once
      EXPECT_TRUE(section.find(".TP\n" + names + "\n") != std::string::npos ||
                  section.find(".TP\n" + names + " ") != std::string::npos)
          << names;
    }
    for (const auto& [name, rest] : rows_of(help, "Positionals"))
      EXPECT_NE(section.find(".TP\n" + name + "\n"), std::string::npos) << name;
  }
  const Rows codes = rows_of(printed({"--help"}), "Exit codes");
  EXPECT_EQ(codes.size(), 3u);
  for (const auto& [code, meaning] : codes)
    EXPECT_NE(section_of(page, ".SH EXIT STATUS").find(".TP\n" + code + "\n" + meaning + "\n"),
              std::string::npos)
        << code;
  EXPECT_NE(section_of(page, ".SH RECIPES").find("\nattention\nheads (1 to 2^20), rotary"),
            std::string::npos);
}

TEST_F(HsmLmHelpPages, ManualPageIsTheSameOnEveryMachine) {
  const std::string page = printed({"--man"});
  EXPECT_EQ(page, printed({"--man"}));
  const std::string threads = section_of(plain(page), ".SS train");
  EXPECT_NE(threads.find("\n--threads 1 to 1024\n"), std::string::npos);
  EXPECT_EQ(threads.find("they change no result (default"), std::string::npos);
}

TEST_F(HsmLmHelpPages, CompletionHasEveryCommandOptionFileAndChoice) {
  std::vector<std::string> lines, expected;
  const Rows all = helps();
  for (const auto& [command, help] : all) {
    std::string words;
    const auto add = [&](const std::string& word) { words += (words.empty() ? "" : " ") + word; };
    if (command.empty())
      for (const auto& [name, rest] : rows_of(help, "Subcommands")) add(name);
    for (const auto& [name, rest] : rows_of(help, "Positionals")) add(choices_in(rest));
    for (const auto& [names, rest] : rows_of(help, "Options")) {
      for (const std::string& name : split(names, ',')) {
        add(name);
        if (command.empty() || rest.empty() || name.starts_with("-h") || name == "--help") continue;
        const std::string before = command + " " + name;
        const std::string choices = choices_in(rest);
        if (!choices.empty()) {
          lines.push_back(before + " ''");
          expected.push_back(choices);
          lines.push_back(before + " = " + choices.substr(0, 2));
          expected.push_back(choices.substr(0, choices.find(' ')));
        } else if (rest.starts_with("FILE")) {
          lines.push_back(before + " te");
          expected.emplace_back("FILES");
        } else if (rest.starts_with("TEXT") || (rest[0] >= '0' && rest[0] <= '9')) {
          lines.push_back(before + " ''");
          expected.emplace_back("");
        }
      }
    }
    lines.push_back(command + (command.empty() ? "''" : " ''"));
    expected.push_back(words);
  }
  const auto got = completed(lines);
  ASSERT_EQ(got.size(), lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i)
    EXPECT_EQ(sorted_words(got[i]), sorted_words(expected[i])) << lines[i];
  EXPECT_GE(lines.size(), 80u);
}

TEST_F(HsmLmHelpPages, CompletesBeginningsAndNothingOfUnknownCommands) {
  EXPECT_EQ(completed({"tr", "train --sequence", "task se", "unknown --te", "train --keep-best --lo"}),
            (std::vector<std::string>{"train", "--sequence-ranks", "selective-copy", "", "--log"}));
}

}  // namespace
}  // namespace hsm::test::hsm_lm_help_pages_test
