// SPDX-License-Identifier: MIT
#include "examples/support/paths.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "io/io_test_support.hpp"

namespace hsm::examples::paths_test {
namespace {

namespace fs = std::filesystem;
using test::mentions;
using test::message_of;

class CommandFilesTest : public ::testing::Test {
 protected:
  CommandFilesTest() {
    test::write_raw(work_ / "text", "a");
    test::write_raw(work_ / "other", "a");
    fs::create_directory(work_ / "folder");
    fs::create_symlink("text", work_ / "link");
    fs::create_symlink("link", work_ / "link_of_link");
    fs::create_hard_link(work_ / "text", work_ / "hard");
    fs::create_directory_symlink("folder", work_ / "folder_link");
    fs::create_symlink("folder/../new", work_ / "dangling");
    fs::create_symlink("loop", work_ / "loop");
  }

  std::string at(const std::string& name) const { return (work_ / name).string(); }

  test::TemporaryDirectory work_;
};

TEST_F(CommandFilesTest, AFileIsItselfUnderEveryName) {
  for (const std::string name : {"text", "link", "link_of_link", "hard", "./text", "folder/../text",
                                 "folder//../text", "folder_link/../text"}) {
    EXPECT_TRUE(same_file(at("text"), at(name))) << name;
    EXPECT_TRUE(same_file(at(name), at("text"))) << name;
    EXPECT_FALSE(same_file(at("other"), at(name))) << name;
    EXPECT_FALSE(same_file(at("new"), at(name))) << name;
  }
  const fs::path before = fs::current_path();
  fs::current_path(work_.path());
  EXPECT_TRUE(same_file("text", at("text")));
  EXPECT_TRUE(same_file("new", at("dangling")));
  fs::current_path(before);
}

TEST_F(CommandFilesTest, SoIsOneThatDoesNotExistYet) {
  for (const std::string name : {"new", "./new", "folder/../new", "folder_link/../new", "dangling"})
    EXPECT_TRUE(same_file(at("new"), at(name))) << name;
  EXPECT_TRUE(same_file(at("folder/new"), at("folder_link/new")));
  EXPECT_TRUE(same_file(at("none/new"), at("none/./new")));
  EXPECT_FALSE(same_file(at("new"), at("New")));
  EXPECT_FALSE(same_file(at("new"), at("folder/new")));
  EXPECT_FALSE(same_file(at("loop"), at("new")));
}

TEST_F(CommandFilesTest, NothingIsWrittenOverWhatIsReadInWhateverOrder) {
  const std::string message = message_of<std::invalid_argument>([&] {
    CommandFiles files;
    files.reads("--model", at("text"));
    files.reads("--text", at("other"));
    files.writes("--save-session", at("link"));
  });
  EXPECT_TRUE(mentions(message, {"--save-session would overwrite " + at("text"), "--model"}));
  EXPECT_TRUE(mentions(message_of<std::invalid_argument>([&] {
                         CommandFiles files;
                         files.writes("--out", at("hard"));
                         files.reads("--text", at("text"));
                       }),
                       {"--out would overwrite " + at("text"), "--text"}));
}

TEST_F(CommandFilesTest, TwoOutputsAreTwoFiles) {
  const std::string message = message_of<std::invalid_argument>([&] {
    CommandFiles files;
    files.writes("--out", at("new"));
    files.writes("--log", at("dangling"));
  });
  EXPECT_TRUE(mentions(message, {"--log and --out must be different files", at("new"), at("dangling")}));
}

TEST_F(CommandFilesTest, WhatIsPrintedGoesElsewhere) {
  const auto written = [&](int stream, const std::string& name) {
    std::fflush(stdout);
    const int before = ::dup(stream), file = ::open(at("other").c_str(), O_WRONLY);
    ::dup2(file, stream);
    const std::string message =
        message_of<std::invalid_argument>([&] { CommandFiles().writes("--out", at(name)); });
    ::dup2(before, stream);
    ::close(before);
    ::close(file);
    return message;
  };
  EXPECT_TRUE(
      mentions(written(1, "other"), {"--out and the standard output must be different files", "other"}));
  EXPECT_TRUE(mentions(written(2, "other"), {"the standard error", "other"}));
  EXPECT_NO_THROW(CommandFiles().writes("--out", at("other")));
}

TEST_F(CommandFilesTest, TwoNamesOfOneOptionAreTold) {
  const std::string message = message_of<std::invalid_argument>([&] {
    CommandFiles files;
    files.writes("--out", at("text"));
    files.writes("--out", at("hard"));
  });
  EXPECT_TRUE(mentions(message, {"--out must lead to different files", at("text"), at("hard")}));
}

TEST_F(CommandFilesTest, WhatDoesNoHarmIsAllowed) {
  CommandFiles files;
  files.reads("--text", at("text"));
  files.reads("--valid", at("text"));
  files.writes("--out", at("other"));
  files.writes("--log", "");
  files.writes("--picture", "");
  files.writes("--log", "/dev/null");
  files.writes("--picture", "/dev/null");
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  files.reads("--session", at("pipe"));
  files.writes("--save-session", at("pipe"));
}

}  // namespace
}  // namespace hsm::examples::paths_test
