// SPDX-License-Identifier: MIT
//
// The pages that explain, README.md, those of include/hsm and of bench/, and what stands on them: blocks of code, commands,
// names of files. HSM_SOURCE_DIR is where the repository lies.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "paths.hpp"

namespace hsm::test {

inline std::string source_text(const std::filesystem::path& name) {
  std::ifstream file(std::filesystem::path(HSM_SOURCE_DIR) / name, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline bool in_source(const std::filesystem::path& name) {
  return std::filesystem::exists(std::filesystem::path(HSM_SOURCE_DIR) / name);
}

/// The files of `folder` and those below it whose names end so, relative to the repository, in order.
inline std::vector<std::filesystem::path> source_files(const std::filesystem::path& folder,
                                                       const std::set<std::string>& extensions) {
  const std::filesystem::path root(HSM_SOURCE_DIR);
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
    if (extensions.contains(entry.path().extension().string()))
      found.push_back(entry.path().lexically_relative(root));
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// All pages, README.md first.
inline std::vector<std::filesystem::path> pages() {
  std::vector<std::filesystem::path> all{"README.md"};
  for (const char* folder : {"include", "bench"}) {
    const auto more = source_files(folder, {".md"});
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

inline std::string_view trimmed(std::string_view line) {
  const std::size_t first = line.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(' ') + 1 - first);
}

/// The blocks between lines `open` and `close`, which may be indented; each loses the indentation of its `open`.
inline std::vector<std::string> blocks(const std::string& text, std::string_view open,
                                       std::string_view close) {
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
      found.back() += line.substr(std::min(indent, line.find_first_not_of(' ') == std::string::npos
                                                       ? line.size()
                                                       : line.find_first_not_of(' '))) +
                      "\n";
    }
  }
  EXPECT_FALSE(inside) << "a block of " << open << " has no end";
  return found;
}

/// `| a | b |` as {"a", "b"}.
inline std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  for (std::size_t at = 1; at < line.size();) {
    const std::size_t end = std::min(line.find('|', at), line.size());
    cells.emplace_back(trimmed(line.substr(at, end - at)));
    at = end + 1;
  }
  return cells;
}

/// The words of a line, of which some may stand in quotes; what follows a # is none of them.
inline std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words;
  char quote = 0;
  bool begun = false;
  for (const char c : line) {
    if (quote != 0 ? c == quote : c == '"' || c == '\'') {
      quote = quote != 0 ? '\0' : c;
    } else if (quote == 0 && c == ' ') {
      begun = false;
      continue;
    } else if (quote == 0 && !begun && c == '#') {
      break;
    }
    if (!begun) words.emplace_back();
    begun = true;
    if (c != quote && (quote != 0 || (c != '"' && c != '\''))) words.back() += c;
  }
  return words;
}

/// What a page says to do, and what it names.
struct PageText {
  std::vector<std::string>
      commands;  ///< lines of blocks: all of ```sh, and of indented ones those that begin as commands do
  std::vector<std::string> spans;  ///< what stands between ` and ` outside of blocks
  std::vector<std::string> links;  ///< where links lead
};

/// Whether a line of an indented block, which may be a picture, is a command.
inline bool begins_as_command(std::string_view line) {
  for (const std::string_view first :
       {"bash ", "hsm_lm ", "cmake ", "ctest ", "python3 ", "/usr/bin/python3 ", "mpirun "})
    if (line.starts_with(first)) return true;
  return false;
}

inline PageText read_page(const std::string& text) {
  PageText page;
  std::string prose, fence;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const auto whole = [&](std::string command) {  // with the lines that a \ joins to it
      std::string next;
      while (command.ends_with("\\") && std::getline(lines, next)) {
        command.pop_back();
        command += std::string(trimmed(next));
      }
      page.commands.push_back(command);
    };
    if (line.starts_with("```")) {
      fence = fence.empty() ? line : "";
    } else if (!fence.empty()) {
      if (fence == "```sh" && !trimmed(line).empty()) whole(line);
    } else if (line.starts_with("    ")) {
      if (begins_as_command(trimmed(line))) whole(std::string(trimmed(line)));
    } else {
      prose += line + " ";
    }
  }
  std::string span;
  bool inside = false;
  for (const char c : prose) {
    if (c == '`') {
      if (inside) page.spans.push_back(span);
      inside = !inside;
      span.clear();
    } else if (inside) {
      span += c;
    }
  }
  EXPECT_FALSE(inside) << "a ` has no partner, after: " << span.substr(0, 60);
  for (std::size_t at = prose.find("]("); at != std::string::npos; at = prose.find("](", at + 1))
    page.links.push_back(prose.substr(at + 2, prose.find(')', at) - at - 2));
  return page;
}

}  // namespace hsm::test
