// SPDX-License-Identifier: MIT
//
// The cells of a table of runs: lines of CSV, and what stands in a cell. A table may have been edited by hand, so that
// a cell that a report reads is checked against its form as the file is opened, before hours of further runs.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>

namespace hsm::examples {

/// The cells of a line, or some of them.
using Cells = std::vector<std::string>;

/// A line of CSV without its end: cells with a comma or a quote are quoted. Throws std::invalid_argument for a
/// cell with the end of a line in it.
inline std::string csv_line(const Cells& cells) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string& cell = cells[i];
    if (cell.find_first_of("\r\n") != std::string::npos)
      throw std::invalid_argument("csv_line: a cell must be one line, got " + hsm::detail::in_quotes(cell));
    if (i > 0) line += ',';
    if (cell.find_first_of(",\"") == std::string::npos) {
      line += cell;
      continue;
    }
    line += '"';
    for (const char c : cell) line.append(c == '"' ? 2 : 1, c);
    line += '"';
  }
  return line;
}

/// The cells of a line; none if its quotes are not in order.
inline std::optional<Cells> csv_cells(std::string_view line) {
  Cells cells;
  for (std::size_t place = 0;; ++place) {
    std::string cell;
    if (place < line.size() && line[place] == '"') {
      for (++place;; ++place) {
        if (place >= line.size()) return {};
        if (line[place] == '"' && (++place >= line.size() || line[place] != '"')) break;
        cell += line[place];
      }
    } else {
      const std::size_t end = std::min(line.find(',', place), line.size());
      cell = line.substr(place, end - place);
      if (cell.find('"') != std::string::npos) return {};
      place = end;
    }
    cells.push_back(std::move(cell));
    if (place >= line.size()) return cells;
    if (line[place] != ',') return {};
  }
}

/// What tells the header `got` from the one that is expected, for a message: all of it where not even the first
/// column agrees, else the first column that differs, or the end of the line.
inline std::string other_header(std::string_view expected, std::string_view got) {
  if (got.ends_with('\r') && got.substr(0, got.size() - 1) == expected) return "lines that end with CR LF";
  const Cells right = csv_cells(expected).value_or(Cells{}), cells = csv_cells(got).value_or(Cells{});
  std::size_t i = 0;
  while (i < std::min(right.size(), cells.size()) && right[i] == cells[i]) ++i;
  if (i == 0) return hsm::detail::in_quotes(got);
  const auto named = [i](const Cells& names) {
    return i < names.size() ? hsm::detail::in_quotes(names[i]) : std::string("none");
  };
  return named(cells) + " as column " + std::to_string(i + 1) + " instead of " + named(right);
}

/// The shortest text that reads back as the same number, for keys.
inline std::string exact_number(double value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return std::string(text, error == std::errc() ? end : text);
}

/// What a cell must be for the reports that are made of it.
struct CellForm {
  const char* text;  ///< for people, "a number"
  bool (*holds)(std::string_view cell);
};

/// Reads a word of numbers with these marks between them, such as "3:1/2" with ":/", into as many numbers; false for
/// any other word.
template <class... Numbers>
bool read_word(std::string_view word, std::string_view marks, Numbers&... numbers) {
  const char *at = word.data(), *const end = at + word.size();
  std::size_t mark = 0;
  const auto read = [&](auto& number) {
    const auto [rest, error] = std::from_chars(at, end, number);
    if (error != std::errc()) return false;
    at = rest;
    if (mark == marks.size()) return at == end;
    if (at == end || *at != marks[mark]) return false;
    ++mark;
    ++at;
    return true;
  };
  return (read(numbers) && ...);
}

/// Calls read(word) for the words of a cell, with a space between them; false as soon as one of them is not right.
template <class Read>
bool read_words(std::string_view cell, Read&& read) {
  while (!cell.empty()) {
    const std::size_t end = std::min(cell.find(' '), cell.size());
    if (!read(cell.substr(0, end))) return false;
    cell.remove_prefix(std::min(end + 1, cell.size()));
  }
  return true;
}

/// A loss, also of a run that diverged.
inline constexpr CellForm kNumberCell{"a number", [](std::string_view cell) {
                                        double value = 0;
                                        return read_word(cell, "", value);
                                      }};
/// Seconds and the like.
inline constexpr CellForm kAmountCell{"a number from 0 on", [](std::string_view cell) {
                                        double value = 0;
                                        return read_word(cell, "", value) && value >= 0 &&
                                               std::isfinite(value);
                                      }};
/// An accuracy.
inline constexpr CellForm kShareCell{"a number from 0 to 1", [](std::string_view cell) {
                                       double value = 0;
                                       return read_word(cell, "", value) && value >= 0 && value <= 1;
                                     }};
/// Steps, parameters, threads.
inline constexpr CellForm kCountCell{"a whole number from 0 on", [](std::string_view cell) {
                                       Index value = 0;
                                       return read_word(cell, "", value) && value >= 0;
                                     }};
/// Whether something is so.
inline constexpr CellForm kFlagCell{"0 or 1",
                                    [](std::string_view cell) { return cell == "0" || cell == "1"; }};

}  // namespace hsm::examples
