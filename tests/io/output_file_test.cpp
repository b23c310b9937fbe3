// SPDX-License-Identifier: MIT
#include "hsm/io/output_file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "io_test_support.hpp"

namespace hsm {
namespace {

namespace fs = std::filesystem;

// Makes writes beyond `bytes` per file fail, as a full disk does, until the end of the scope.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    if (::getrlimit(RLIMIT_FSIZE, &old_) != 0) throw std::runtime_error("getrlimit failed");
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) throw std::runtime_error("setrlimit failed");
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST(OutputFile, ACommittedFileHoldsWhatWasWrittenAndNothingElseIsLeft) {
  const test::TemporaryDirectory directory;
  const std::string big(100000, 'x');
  OutputFile file(directory / "out");
  file.write("one ");
  file.write(std::as_bytes(std::span(big)));
  file.write("");
  file.write(" two");
  EXPECT_FALSE(fs::exists(directory / "out"));
  file.commit();
  EXPECT_EQ(test::read_raw(directory / "out"), "one " + big + " two");
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, AnExistingFileStaysUntilTheCommitAndIsThenReplaced) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "a long old content");
  OutputFile file(directory / "out");
  file.write("new");
  EXPECT_EQ(test::read_raw(directory / "out"), "a long old content");
  file.commit();
  EXPECT_EQ(test::read_raw(directory / "out"), "new");
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, WithoutACommitNothingChanges) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  {
    OutputFile file(directory / "out");
    file.write("new");
    EXPECT_EQ(directory.entries(), 2);
  }
  EXPECT_EQ(test::read_raw(directory / "out"), "old");
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, TwoWritersOfOneTargetDoNotMix) {
  const test::TemporaryDirectory directory;
  OutputFile first(directory / "out");
  OutputFile second(directory / "out");
  first.write("first");
  second.write("second");
  second.commit();
  EXPECT_EQ(test::read_raw(directory / "out"), "second");
  first.commit();
  EXPECT_EQ(test::read_raw(directory / "out"), "first");
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, ADirectoryIsRefused) {
  const test::TemporaryDirectory directory;
  const std::string message =
      test::message_of<std::runtime_error>([&] { OutputFile file(directory.path()); });
  EXPECT_TRUE(test::mentions(message, {directory.path().string(), "directory"}));
  EXPECT_EQ(directory.entries(), 0);
}

TEST(OutputFile, APathWithoutAFileNameIsRefused) {
  const test::TemporaryDirectory directory;
  EXPECT_TRUE(
      test::mentions(test::message_of<std::runtime_error>([] { OutputFile file(""); }), {"file name"}));
  EXPECT_TRUE(test::mentions(
      test::message_of<std::runtime_error>([&] { OutputFile file(directory / "absent/"); }), {"file name"}));
}

TEST(OutputFile, ADeviceIsRefused) {
  const std::string message = test::message_of<std::runtime_error>([] { OutputFile file("/dev/null"); });
  EXPECT_TRUE(test::mentions(message, {"/dev/null", "regular file"}));
}

TEST(OutputFile, AMissingDirectoryIsReportedAtConstruction) {
  const test::TemporaryDirectory directory;
  const std::string message =
      test::message_of<std::runtime_error>([&] { OutputFile file(directory / "absent/out"); });
  EXPECT_TRUE(test::mentions(message, {"absent/out", "temporary file", "No such file"}));
}

TEST(OutputFile, AFileInPlaceOfTheDirectoryIsReportedAtConstruction) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "plain", "x");
  const std::string message =
      test::message_of<std::runtime_error>([&] { OutputFile file(directory / "plain/out"); });
  EXPECT_TRUE(test::mentions(message, {"plain/out", "Not a directory"}));
}

TEST(OutputFile, AnUnwritableDirectoryIsReportedAtConstructionAndItsFileStays) {
  if (::geteuid() == 0) GTEST_SKIP() << "the administrator can write everywhere";
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  ASSERT_EQ(::chmod(directory.path().c_str(), 0500), 0);
  const std::string message =
      test::message_of<std::runtime_error>([&] { OutputFile file(directory / "out"); });
  ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
  EXPECT_TRUE(test::mentions(message, {"out", "Permission denied"}));
  EXPECT_EQ(test::read_raw(directory / "out"), "old");
}

TEST(OutputFile, AWriteProtectedFileIsNotReplaced) {
  if (::geteuid() == 0) GTEST_SKIP() << "the administrator can write everywhere";
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  ASSERT_EQ(::chmod((directory / "out").c_str(), 0400), 0);
  const std::string message =
      test::message_of<std::runtime_error>([&] { OutputFile file(directory / "out"); });
  EXPECT_TRUE(test::mentions(message, {"out", "cannot replace", "Permission denied"}));
}

TEST(OutputFile, AFullDiskFailsTheWriteAndTheExistingFileStays) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  {
    OutputFile file(directory / "out");
    const std::string big(100000, 'x');
    const FileSizeLimit limit(8192);
    const std::string message = test::message_of<std::runtime_error>([&] { file.write(big); });
    EXPECT_TRUE(test::mentions(message, {"out", "cannot write", "File too large"}));
    // Going on after the exception does not bring a file with a hole into place.
    EXPECT_TRUE(test::mentions(test::message_of<std::runtime_error>([&] { file.commit(); }),
                               {"out", "earlier write failed"}));
  }
  EXPECT_EQ(test::read_raw(directory / "out"), "old");
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, AFullDiskThatShowsOnlyAtTheEndFailsTheCommit) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  {
    OutputFile file(directory / "out");
    file.write("short enough to wait in the buffer");
    const FileSizeLimit limit(8);
    const std::string message = test::message_of<std::runtime_error>([&] { file.commit(); });
    EXPECT_TRUE(test::mentions(message, {"out", "cannot write", "File too large"}));
  }
  EXPECT_EQ(test::read_raw(directory / "out"), "old");
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, ATargetThatBecameADirectoryFailsTheCommitAndTheTemporaryGoes) {
  const test::TemporaryDirectory directory;
  {
    OutputFile file(directory / "out");
    fs::create_directory(directory / "out");
    const std::string message = test::message_of<std::runtime_error>([&] { file.commit(); });
    EXPECT_TRUE(test::mentions(message, {"out", "cannot replace"}));
  }
  EXPECT_TRUE(fs::is_directory(directory / "out"));
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, NothingCanBeWrittenAfterTheCommit) {
  const test::TemporaryDirectory directory;
  OutputFile file(directory / "out");
  file.commit();
  EXPECT_TRUE(
      test::mentions(test::message_of<std::logic_error>([&] { file.write("x"); }), {"OutputFile::write"}));
  EXPECT_TRUE(
      test::mentions(test::message_of<std::logic_error>([&] { file.commit(); }), {"OutputFile::commit"}));
  EXPECT_EQ(test::read_raw(directory / "out"), "");
}

TEST(OutputFile, ALinkIsFollowedAndThePermissionsOfTheFileAreKept) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "real", "old");
  ASSERT_EQ(::chmod((directory / "real").c_str(), 0640), 0);
  fs::create_symlink("real", directory / "link");
  OutputFile file(directory / "link");
  file.write("new");
  file.commit();
  EXPECT_TRUE(fs::is_symlink(directory / "link"));
  EXPECT_EQ(test::read_raw(directory / "real"), "new");
  EXPECT_EQ(static_cast<unsigned>(fs::status(directory / "real").permissions()), 0640u);
}

TEST(OutputFile, AChangeOfTheWorkingDirectoryDoesNotMoveTheTarget) {
  const test::TemporaryDirectory directory;
  fs::create_directory(directory / "elsewhere");
  const fs::path before = fs::current_path();
  fs::current_path(directory.path());
  {
    OutputFile file("out");
    fs::current_path(directory / "elsewhere");
    file.write("here");
    file.commit();
  }
  fs::current_path(before);
  EXPECT_EQ(test::read_raw(directory / "out"), "here");
  EXPECT_TRUE(fs::is_empty(directory / "elsewhere"));
}

}  // namespace
}  // namespace hsm
