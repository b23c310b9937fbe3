// SPDX-License-Identifier: MIT
#include "hsm/io/input_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <span>
#include <stdexcept>
#include <string>

#include "io_test_support.hpp"

namespace hsm::input_file_test {
namespace {

TEST(InputFile, OnlyARegularFileHasASize) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "five", "12345");
  EXPECT_EQ(InputFile(directory / "five").size(), 5u);
  const std::string message =
      test::message_of_exactly<std::runtime_error>([] { InputFile("/dev/null").size(); });
  EXPECT_TRUE(test::mentions(message, {"/dev/null", "regular file"}));
}

TEST(InputFile, ReadingPastTheEndGivesFewerBytes) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "five", "12345");
  InputFile file(directory / "five");
  std::string buffer(4, '.');
  EXPECT_EQ(file.read(std::as_writable_bytes(std::span(buffer))), 4u);
  EXPECT_EQ(buffer, "1234");
  EXPECT_EQ(file.read(std::as_writable_bytes(std::span(buffer))), 1u);
  EXPECT_EQ(buffer.front(), '5');
  EXPECT_EQ(file.read(std::as_writable_bytes(std::span(buffer))), 0u);
}

TEST(InputFile, OpeningAPipeWaitsForNobody) {
  const test::TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "pipe").c_str(), 0600), 0);
  InputFile file(directory / "pipe");  // would hang
  EXPECT_TRUE(file.is_pipe());
  EXPECT_TRUE(
      test::mentions(test::message_of_exactly<std::runtime_error>([&] { file.size(); }), {"regular file"}));
}

}  // namespace
}  // namespace hsm::input_file_test
