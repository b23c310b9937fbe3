// SPDX-License-Identifier: MIT
//
// Tables for people: aligned for a terminal, and as Markdown.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace hsm::examples {

/// A table for people; rows have as many cells as the header.
struct TextTable {
  std::vector<std::string> header{};
  std::vector<std::vector<std::string>> rows{};

  /// Columns under their names, the first to the left, the others to the right.
  std::string text() const {
    std::vector<std::size_t> widths;
    for (const std::string& name : header) widths.push_back(name.size());
    for (const std::vector<std::string>& row : rows) {
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string all;
    const auto add = [&](const std::vector<std::string>& row) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string room(widths[i] - row[i].size(), ' ');
        all += i == 0 ? row[i] + room : "  " + room + row[i];
      }
      all += '\n';
    };
    add(header);
    for (const std::vector<std::string>& row : rows) add(row);
    return all;
  }

  std::string markdown() const {
    std::string all;
    const auto add = [&](const std::vector<std::string>& row) {
      for (const std::string& cell : row) {
        const bool code = cell.find('*') < cell.size() - 1;  // two of them would be a stress
        all += code ? "| `" + cell + "` " : "| " + cell + " ";
      }
      all += "|\n";
    };
    add(header);
    for (std::size_t i = 0; i < header.size(); ++i) all += i == 0 ? "|---" : "|---:";
    all += "|\n";
    for (const std::vector<std::string>& row : rows) add(row);
    return all;
  }
};

/// Tables under a title, and below them what they leave out, a sentence each.
struct TextReport {
  std::string title{};
  std::vector<TextTable> tables{};
  std::vector<std::string> notes{};

  std::string text() const {
    std::string all = title + "\n";
    for (const TextTable& table : tables) all += "\n" + table.text();
    all += '\n';
    for (const std::string& note : notes) all += note + "\n";
    return all;
  }

  std::string markdown() const {
    std::string all = "# " + title + "\n";
    for (const TextTable& table : tables) all += "\n" + table.markdown();
    all += '\n';
    for (const std::string& note : notes) all += "- " + note + "\n";
    return all;
  }
};

/// " a", "s a, b": what stands behind the name of one thing or several, such as "seed".
template <class Values, class Text>
std::string listed(const Values& values, Text&& text) {
  std::string all;
  for (const auto& value : values) all += (all.empty() ? "" : ", ") + text(value);
  return (values.size() == 1 ? " " : "s ") + all;
}

}  // namespace hsm::examples
