// SPDX-License-Identifier: MIT
//
// What every picture of ours must be as text.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace hsm::test {

inline std::size_t count(const std::string& text, const std::string& word) {
  std::size_t number = 0;
  for (std::size_t place = text.find(word); place != std::string::npos; place = text.find(word, place + 1))
    ++number;
  return number;
}

/// Every element is closed, no markup is left in texts, and every coordinate is a number.
inline void expect_well_formed(const std::string& svg) {
  EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
  EXPECT_EQ(count(svg, "<text"), count(svg, "</text>"));
  EXPECT_EQ(count(svg, "<"), count(svg, ">"));
  EXPECT_EQ(count(svg, ">-0<"), 0u);
  EXPECT_EQ(count(svg, "<"), 2 + 2 * count(svg, "<text") + count(svg, "<rect") + count(svg, "<path"));
  for (const char* bad : {"nan", "inf"}) EXPECT_EQ(count(svg, bad), 0u) << bad;
}

}  // namespace hsm::test
