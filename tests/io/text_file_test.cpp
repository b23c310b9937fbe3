// SPDX-License-Identifier: MIT
#include "hsm/io/text_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <thread>

#include "io_test_support.hpp"

namespace hsm::text_file_test {
namespace {

std::string counting_text(std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += static_cast<char>(static_cast<unsigned char>(i * 31 % 251));
  return text;
}

TEST(ReadTextFile, TheBytesAreUnchangedWhateverTheyAre) {
  const test::TemporaryDirectory directory;
  const std::string text = std::string(
      "\xEF\xBB\xBF"
      "a\r\nb\n\0c\xFF\x1A"
      "d",
      14);
  test::write_raw(directory / "text", text);
  EXPECT_EQ(read_text_file(directory / "text"), text);
}

TEST(ReadTextFile, AnySizeAroundTheChunkIsReadWhole) {
  const test::TemporaryDirectory directory;
  for (const std::size_t size : {0u, 1u, 65535u, 65536u, 65537u, 300000u}) {
    const std::string text = counting_text(size);
    test::write_raw(directory / "text", text);
    EXPECT_TRUE(read_text_file(directory / "text") == text) << size;
  }
}

TEST(ReadTextFile, APipeIsReadToItsEnd) {
  const test::TemporaryDirectory directory;
  const std::string text = counting_text(200000);
  ASSERT_EQ(::mkfifo((directory / "pipe").c_str(), 0600), 0);
  std::thread writer([&] { test::write_raw(directory / "pipe", text); });
  const std::string got = read_text_file(directory / "pipe");
  writer.join();
  EXPECT_TRUE(got == text);
}

TEST(ReadTextFile, AMissingFileIsNamed) {
  const test::TemporaryDirectory directory;
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { read_text_file(directory / "absent"); });
  EXPECT_TRUE(test::mentions(message, {"absent", "cannot open", "No such file"}));
}

TEST(ReadTextFile, ADirectoryIsRefused) {
  const test::TemporaryDirectory directory;
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { read_text_file(directory.path()); });
  EXPECT_TRUE(test::mentions(message, {directory.path().string(), "directory"}));
}

TEST(ReadTextFile, AnUnreadableFileIsRefused) {
  if (::geteuid() == 0) GTEST_SKIP() << "the administrator can read every file";
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "secret", "x");
  ASSERT_EQ(::chmod((directory / "secret").c_str(), 0), 0);
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { read_text_file(directory / "secret"); });
  EXPECT_TRUE(test::mentions(message, {"secret", "Permission denied"}));
}

}  // namespace
}  // namespace hsm::text_file_test
