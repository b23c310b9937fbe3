// SPDX-License-Identifier: MIT
#include "hsm/io/file_handle.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace hsm {
namespace {

TEST(InQuotes, TextFromOutsideIsShortenedAndEscaped) {
  EXPECT_EQ(detail::in_quotes("weight"), "'weight'");
  EXPECT_EQ(detail::in_quotes("a\x1B[2J\n"), "'a\\x1b[2J\\x0a'");
  EXPECT_EQ(detail::in_quotes(std::string(80, 'x')), "'" + std::string(80, 'x') + "'");
  EXPECT_EQ(detail::in_quotes(std::string(81, 'x')), "'" + std::string(80, 'x') + "...'");
  EXPECT_EQ(detail::in_quotes("\xC2\x9B\x7F~"), "'\\xc2\\x9b\\x7f~'");
}

TEST(FileError, PathProblemAndReasonAreNamed) {
  EXPECT_EQ(std::string(detail::file_error("some/path", "cannot open", ENOENT).what()),
            "some/path: cannot open: No such file or directory");
}

}  // namespace
}  // namespace hsm
