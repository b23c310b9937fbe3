// SPDX-License-Identifier: MIT
#include "hsm/io/output_file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "io_test_support.hpp"

namespace hsm::output_file_test {
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
      test::message_of_exactly<std::runtime_error>([&] { OutputFile file(directory.path()); });
  EXPECT_TRUE(test::mentions(message, {directory.path().string(), "directory"}));
  EXPECT_EQ(directory.entries(), 0);
}

TEST(OutputFile, APathWithoutAFileNameIsRefused) {
  const test::TemporaryDirectory directory;
  EXPECT_TRUE(test::mentions(test::message_of_exactly<std::runtime_error>([] { OutputFile file(""); }),
                             {"file name"}));
  EXPECT_TRUE(test::mentions(
      test::message_of_exactly<std::runtime_error>([&] { OutputFile file(directory / "absent/"); }),
      {"file name"}));
}

TEST(OutputFile, ADeviceIsRefused) {
  const std::string message =
      test::message_of_exactly<std::runtime_error>([] { OutputFile file("/dev/null"); });
  EXPECT_TRUE(test::mentions(message, {"/dev/null", "regular file"}));
}

TEST(OutputFile, AMissingDirectoryIsReportedAtConstruction) {
  const test::TemporaryDirectory directory;
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { OutputFile file(directory / "absent/out"); });
  EXPECT_TRUE(test::mentions(message, {"absent/out", "temporary file", "No such file"}));
}

TEST(OutputFile, AFileInPlaceOfTheDirectoryIsReportedAtConstruction) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "plain", "x");
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { OutputFile file(directory / "plain/out"); });
  EXPECT_TRUE(test::mentions(message, {"plain/out", "Not a directory"}));
}

TEST(OutputFile, AnUnwritableDirectoryIsReportedAtConstructionAndItsFileStays) {
  if (::geteuid() == 0) GTEST_SKIP() << "the administrator can write everywhere";
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  ASSERT_EQ(::chmod(directory.path().c_str(), 0500), 0);
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { OutputFile file(directory / "out"); });
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
      test::message_of_exactly<std::runtime_error>([&] { OutputFile file(directory / "out"); });
  EXPECT_TRUE(test::mentions(message, {"out", "cannot replace", "Permission denied"}));
}

TEST(OutputFile, AFullDiskFailsTheWriteAndTheExistingFileStays) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  {
    OutputFile file(directory / "out");
    const std::string big(100000, 'x');
    const FileSizeLimit limit(8192);
    const std::string message = test::message_of_exactly<std::runtime_error>([&] { file.write(big); });
    EXPECT_TRUE(test::mentions(message, {"out", "cannot write", "File too large"}));
    // Going on after the exception does not bring a file with a hole into place.
    EXPECT_TRUE(test::mentions(test::message_of_exactly<std::runtime_error>([&] { file.commit(); }),
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
    const std::string message = test::message_of_exactly<std::runtime_error>([&] { file.commit(); });
    EXPECT_TRUE(test::mentions(message, {"out", "cannot write", "File too large"}));
  }
  EXPECT_EQ(test::read_raw(directory / "out"), "old");
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, ATargetThatBecameADirectoryFailsTheCommitAndTheCompleteFileIsKeptAndNamed) {
  const test::TemporaryDirectory directory;
  fs::path complete;
  {
    OutputFile file(directory / "out");
    file.write("hours of work");
    fs::create_directory(directory / "out");
    try {
      file.commit();
      ADD_FAILURE() << "a directory was replaced";
    } catch (const CommitError& error) {
      complete = error.complete();
      EXPECT_TRUE(test::mentions(error.what(),
                                 {"out", "cannot replace", "the complete new file is " + complete.string()}));
    }
  }
  EXPECT_TRUE(fs::is_directory(directory / "out"));
  EXPECT_EQ(directory.entries(), 2);
  remove_temporary_files();  // it is none any more
  EXPECT_EQ(test::read_raw(complete), "hours of work");
}

TEST(OutputFile, NothingCanBeWrittenAfterTheCommit) {
  const test::TemporaryDirectory directory;
  OutputFile file(directory / "out");
  file.commit();
  EXPECT_TRUE(test::mentions(test::message_of_exactly<std::logic_error>([&] { file.write("x"); }),
                             {"OutputFile::write"}));
  EXPECT_TRUE(test::mentions(test::message_of_exactly<std::logic_error>([&] { file.commit(); }),
                             {"OutputFile::commit"}));
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

TEST(OutputFile, ALinkToAFileThatDoesNotExistYetIsFollowed) {
  const test::TemporaryDirectory directory;
  fs::create_directory(directory / "folder");
  fs::create_symlink("folder/real", directory / "link");
  fs::create_symlink("link", directory / "link_of_link");
  OutputFile file(directory / "link_of_link");
  file.write("new");
  file.commit();
  EXPECT_TRUE(fs::is_symlink(directory / "link"));
  EXPECT_TRUE(fs::is_symlink(directory / "link_of_link"));
  EXPECT_EQ(test::read_raw(directory / "folder/real"), "new");
  EXPECT_EQ(directory.entries(), 3);
}

TEST(OutputFile, ANameAsLongAsTheFileSystemTakesCanBeWritten) {
  const test::TemporaryDirectory directory;
  for (const std::size_t length : {242u, 255u}) {
    const std::string ascii(length, 'n');
    std::string wide = "n";
    while (wide.size() + 2 <= length) wide += "\xC3\xA9";
    for (const std::string& name : {ascii, wide}) {
      OutputFile file(directory / name);
      file.write("x");
      EXPECT_EQ(directory.entries(), 1);
      file.commit();
      EXPECT_EQ(test::read_raw(directory / name), "x");
      fs::remove(directory / name);
    }
  }
}

TEST(OutputFile, ANameThatIsTooLongIsRefusedAtOnce) {
  const test::TemporaryDirectory directory;
  fs::create_symlink(std::string(256, 'm'), directory / "link");
  for (const std::string& name : {std::string(256, 'n'), std::string("link")}) {
    const std::string message =
        test::message_of<std::runtime_error>([&] { OutputFile file(directory / name); });
    EXPECT_TRUE(test::mentions(message, {name, "name", "too long"}));
  }
  EXPECT_EQ(directory.entries(), 1);
}

TEST(ShortName, IsCutBetweenCharacters) {
  EXPECT_EQ(detail::short_name("model"), "model");
  EXPECT_EQ(detail::short_name(std::string(200, 'a')), std::string(96, 'a'));
  EXPECT_EQ(detail::short_name(std::string(95, 'a') + "\xC3\xA9z"), std::string(95, 'a'));
  EXPECT_EQ(detail::short_name(std::string(94, 'a') + "\xC3\xA9z"), std::string(94, 'a') + "\xC3\xA9");
}

TEST(OutputFile, APipeIsRefusedAtOnce) {
  const test::TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "pipe").c_str(), 0600), 0);
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { OutputFile file(directory / "pipe"); });
  EXPECT_TRUE(test::mentions(message, {"pipe", "regular file"}));
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, RoomThatALimitForbidsIsRefusedBeforeAnythingIsWritten) {
  const test::TemporaryDirectory directory;
  OutputFile file(directory / "out");
  const FileSizeLimit limit(8192);
  file.reserve(8192);
  const std::string message = test::message_of_exactly<std::runtime_error>([&] { file.reserve(8193); });
  EXPECT_TRUE(test::mentions(message, {"out", "8193 bytes", "File too large"}));
}

TEST(OutputFile, RoomThatTheDiskDoesNotHaveIsRefused) {
  const test::TemporaryDirectory directory;
  OutputFile file(directory / "out");
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { file.reserve(std::uint64_t{1} << 50); });
  EXPECT_TRUE(test::mentions(message, {"out", "cannot take the room"}));
  file.reserve(100000);
  file.write("short");
  file.commit();
  EXPECT_EQ(test::read_raw(directory / "out"), "short");
}

TEST(OutputFile, AProcessThatEndsCanTakeItsTemporariesAway) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  {
    OutputFile first(directory / "out");
    OutputFile second(directory / "other");
    EXPECT_EQ(directory.entries(), 3);
    remove_temporary_files();
    EXPECT_EQ(directory.entries(), 1);
  }
  // More at once than there is room for are written all the same.
  std::vector<std::unique_ptr<OutputFile>> many;
  for (int i = 0; i < 20; ++i) many.push_back(std::make_unique<OutputFile>(directory / std::to_string(i)));
  for (const auto& file : many) file->commit();
  EXPECT_EQ(directory.entries(), 21);
  remove_temporary_files();
  EXPECT_EQ(directory.entries(), 21);
}

TEST(OutputFile, AForkedProcessLeavesTheTemporariesOfItsParent) {
  const test::TemporaryDirectory directory;
  OutputFile file(directory / "out");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    remove_temporary_files();
    ::_exit(0);
  }
  int status = 1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  file.write("whole");
  file.commit();
  EXPECT_EQ(test::read_raw(directory / "out"), "whole");
}

TEST(OutputFile, WhoCouldNotReadAFileCannotReadTheNextOne) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  const mode_t before = ::umask(0);
  ASSERT_EQ(::chmod((directory / "out").c_str(), 0640), 0);
  const bool other_group = ::chown((directory / "out").c_str(), static_cast<uid_t>(-1), 7) == 0;
  OutputFile file(directory / "out");
  for (const auto& entry : fs::directory_iterator(directory.path())) {
    EXPECT_EQ(static_cast<unsigned>(entry.status().permissions()), 0640u) << entry.path();
    struct stat status = {};
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    if (other_group) {
      EXPECT_EQ(status.st_gid, 7u) << entry.path();
    }
  }
  file.write("new");
  file.commit();
  ::umask(before);
}

TEST(OutputFile, AFileThatNobodyMayReplaceIsRefusedAtOnce) {
  const test::TemporaryDirectory directory;
  test::write_raw(directory / "out", "old");
  const std::string attribute = "chattr +i '" + (directory / "out").string() + "' 2> /dev/null";
  if (std::system(attribute.c_str()) != 0) GTEST_SKIP() << "no immutable files here";
  const std::string message =
      test::message_of_exactly<std::runtime_error>([&] { OutputFile file(directory / "out"); });
  EXPECT_EQ(std::system(("chattr -i '" + (directory / "out").string() + "'").c_str()), 0);
  EXPECT_TRUE(test::mentions(message, {"out", "cannot replace the file", "not permitted"}));
  EXPECT_EQ(directory.entries(), 1);
}

TEST(OutputFile, AMountPointIsRefusedAtOnce) {
  // Wherever the tests run, some file under /proc/mounts is a mount point in a container; if not, skip.
  std::ifstream mounts("/proc/self/mounts");
  for (std::string device, point, rest; mounts >> device >> point && std::getline(mounts, rest);) {
    if (!fs::is_regular_file(point) || ::access(point.c_str(), W_OK) != 0) continue;
    EXPECT_TRUE(detail::is_mount_point(point)) << point;
    const fs::path directory = fs::path(point).parent_path();
    if (::access(directory.c_str(), W_OK) != 0) continue;
    const std::string message = test::message_of_exactly<std::runtime_error>([&] { OutputFile file(point); });
    EXPECT_TRUE(test::mentions(message, {point, "mount point"}));
    return;
  }
  GTEST_SKIP() << "no file is mounted here";
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
}  // namespace hsm::output_file_test
