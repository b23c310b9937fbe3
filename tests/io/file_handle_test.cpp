// SPDX-License-Identifier: MIT
#include "hsm/io/file_handle.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace hsm::file_handle_test {
namespace {

TEST(FileError, PathProblemAndReasonAreNamed) {
  EXPECT_EQ(std::string(detail::file_error("some/path", "cannot open", ENOENT).what()),
            "some/path: cannot open: No such file or directory");
}

}  // namespace
}  // namespace hsm::file_handle_test
