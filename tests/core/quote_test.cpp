// SPDX-License-Identifier: MIT
//
// Text from outside in messages: short, and nothing but printable ASCII.
#include <gtest/gtest.h>

#include <hsm/core/quote.hpp>

namespace hsm::detail::quote_test {
namespace {

TEST(InQuotes, LeavesPrintableAsciiAsItIs) {
  EXPECT_EQ(in_quotes(""), "''");
  EXPECT_EQ(in_quotes(" ~ab'c"), "' ~ab'c'");
}

TEST(InQuotes, EscapesEverythingElse) {
  EXPECT_EQ(in_quotes("a\x1B[2J\n"), "'a\\x1b[2J\\x0a'");
  EXPECT_EQ(in_quotes("\xC2\x9B\x7F~"), "'\\xc2\\x9b\\x7f~'");
  EXPECT_EQ(in_quotes(std::string_view("\0\n\x1f\x7f\x80\xff", 6)), R"('\x00\x0a\x1f\x7f\x80\xff')");
}

TEST(InQuotes, ShortensAfterEightyBytes) {
  EXPECT_EQ(in_quotes(std::string(80, 'x')), "'" + std::string(80, 'x') + "'");
  EXPECT_EQ(in_quotes(std::string(81, 'x')), "'" + std::string(80, 'x') + "...'");
}

}  // namespace
}  // namespace hsm::detail::quote_test
