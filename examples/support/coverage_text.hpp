// SPDX-License-Identifier: MIT
//
// The coverage of a stack in sentences for people.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <hsm/schedule/coverage.hpp>

#include "examples/support/text.hpp"

namespace hsm::examples {

/// What is said of the coverage of a context.
struct CoverageText {
  std::string coverage;  ///< how many offsets have paths, and how many of them
  std::string holes;     ///< the offsets without, as far as the shifts reach
  std::vector<std::string>
      warnings;  ///< a sentence for each reason why some token of the context is not seen
};

/// "1 path each", "1 to 16 paths each"; counts past 2^64 - 2 are not told.
inline std::string paths_text(const Coverage& coverage) {
  const auto counts = coverage.counts();
  if (std::find(counts.begin(), counts.end(), Coverage::kUncounted) != counts.end())
    return "up to 2^64 paths and more";
  const auto least = coverage.least_paths(), most = coverage.most_paths();
  return (least < most ? std::to_string(least) + " to " : "") + counted(most, "path") + " each";
}

/// The sentences for the offsets 0 ... window-1, where `coverage` was made for this window. The window is
/// the context, or what could be counted of it.
inline CoverageText coverage_text(const Coverage& coverage, Index window, Index context) {
  const Index reached = coverage.reached_count(), holes = coverage.hole_count();
  const std::string scope =
      window < context ? counted(window, "nearest offset") : counted(window, "offset") + " of the context";
  CoverageText text;
  text.coverage = reached == window ? (window == 1 ? "the " : "all ") : std::to_string(reached) + " of the ";
  text.coverage += scope + (coverage.hybrid() ? " by shifts, " : ", ") + paths_text(coverage);
  if (coverage.hybrid())
    text.coverage += format("; %td rest on layers without shifts alone", window - reached);
  text.holes = "none";
  if (holes > 0) {
    text.holes = format("%td of the %td offsets within reach, the nearest %td back, at most %td in a row",
                        holes, coverage.window(), coverage.first_hole(), coverage.largest_gap());
  }
  if (coverage.hybrid()) return text;
  if (holes > 0) {
    text.warnings.push_back(
        format("no path leads to a token from %td of the %td offsets within its reach, the "
               "nearest %td back",
               holes, coverage.window(), coverage.first_hole()));
  }
  if (coverage.reach() < context - 1) {
    text.warnings.push_back(
        format("the context of %s is longer than the reach: no path leads to a token from "
               "more than %td back",
               counted(context, "token").c_str(), coverage.reach()));
  }
  return text;
}

}  // namespace hsm::examples
