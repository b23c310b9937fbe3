// SPDX-License-Identifier: MIT
#include "hsm/io/system_file.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <span>
#include <string>
#include <thread>

#include "io_test_support.hpp"

namespace hsm::detail::system_file_test {
namespace {

volatile sig_atomic_t alarms = 0;
void count_alarm(int) { alarms = alarms + 1; }

// A signal every millisecond that interrupts system calls, as a timer or a debugger does.
class ManyInterrupts {
 public:
  ManyInterrupts() {
    alarms = 0;
    struct sigaction action = {};
    action.sa_handler = count_alarm;  // without SA_RESTART
    ::sigaction(SIGALRM, &action, &old_);
    set(1000);
  }
  ManyInterrupts(const ManyInterrupts&) = delete;
  ManyInterrupts& operator=(const ManyInterrupts&) = delete;
  ~ManyInterrupts() {
    set(0);
    ::sigaction(SIGALRM, &old_, nullptr);
  }

 private:
  static void set(suseconds_t microseconds) {
    const itimerval timer{{0, microseconds}, {0, microseconds}};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
  }

  struct sigaction old_ = {};
};

TEST(SystemFile, SignalsNeitherFailNorShortenReadsAndWrites) {
  const test::TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "pipe").c_str(), 0600), 0);
  const SystemFile from = SystemFile::open(directory / "pipe");
  // Blocking, unlike a log: a write that waits is what a signal interrupts.
  SystemFile to(::open((directory / "pipe").c_str(), O_WRONLY));
  ASSERT_TRUE(from && to);
  std::string sent(400000, 'x'), got(sent.size(), '.');
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>('a' + i % 23);
  std::thread reader([&] {
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, nullptr);  // they are to meet the writer
    for (std::size_t done = 0; done < got.size();) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      const std::size_t size = std::min<std::size_t>(40000, got.size() - done);
      ASSERT_EQ(from.read(std::as_writable_bytes(std::span(got).subspan(done, size))),
                static_cast<std::ptrdiff_t>(size));
      done += size;
    }
  });
  {
    const ManyInterrupts interrupts;
    EXPECT_TRUE(to.write(std::as_bytes(std::span(sent)))) << errno;
  }
  reader.join();
  EXPECT_TRUE(to.close());
  EXPECT_GT(alarms, 0);
  EXPECT_TRUE(got == sent);
}

TEST(SystemFile, SignalsDoNotKeepRoomFromBeingTaken) {
  // In memory, where there is such a folder: a call that a signal interrupts is undone there.
  const std::filesystem::path memory = "/dev/shm";
  if (::access(memory.c_str(), W_OK) != 0) GTEST_SKIP() << "no /dev/shm to write to here";
  const std::filesystem::path path = memory / ("hsm-test-" + std::to_string(::getpid()));
  std::error_code error;
  constexpr std::uintmax_t kRoom = std::uintmax_t{48} << 20;
  if (std::filesystem::space(memory, error).available < 2 * kRoom) GTEST_SKIP() << "no room in /dev/shm";
  SystemFile file = SystemFile::create(path);
  ASSERT_TRUE(file);
  {
    const ManyInterrupts interrupts;
    EXPECT_TRUE(file.reserve(kRoom, path)) << errno;
  }
  EXPECT_TRUE(file.close());
  std::filesystem::remove(path);
}

TEST(SystemFile, ALogInAPipeIsNeverWaitedFor) {
  const test::TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "pipe").c_str(), 0600), 0);
  EXPECT_FALSE(SystemFile::open_log(directory / "pipe"));
  EXPECT_EQ(errno, ENXIO);
  const SystemFile from = SystemFile::open(directory / "pipe");
  const SystemFile log = SystemFile::open_log(directory / "pipe");
  ASSERT_TRUE(log);
  const std::string line = "1,2,3\n";
  EXPECT_TRUE(log.write(std::as_bytes(std::span(line))));
  const std::string much(10'000'000, 'x');
  EXPECT_FALSE(log.write(std::as_bytes(std::span(much))));
  EXPECT_EQ(errno, EAGAIN);
}

TEST(SystemFile, AFullDiskIsAnError) {
  const SystemFile full = SystemFile::open_log("/dev/full");
  if (!full) GTEST_SKIP() << "no /dev/full here";
  const std::string text = "x";
  EXPECT_FALSE(full.write(std::as_bytes(std::span(text))));
  EXPECT_EQ(errno, ENOSPC);
}

}  // namespace
}  // namespace hsm::detail::system_file_test
