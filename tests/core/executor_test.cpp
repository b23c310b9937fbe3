// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <hsm/core/executor.hpp>
#include <hsm/core/threaded_executor.hpp>
#include <iostream>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace hsm::executor_test {
namespace {

/// 0: SerialExecutor, else ThreadedExecutor of so many threads.
class Executors : public ::testing::TestWithParam<int> {
 protected:
  static std::unique_ptr<Executor> make() {
    if (GetParam() == 0) return std::make_unique<SerialExecutor>();
    return std::make_unique<ThreadedExecutor>(GetParam());
  }
};
INSTANTIATE_TEST_SUITE_P(SerialAndThreaded, Executors, ::testing::Values(0, 1, 2, 3, 8));

TEST_P(Executors, RunEachTaskOnceOnAWorkerThatExists) {
  const auto executor = make();
  EXPECT_EQ(executor->workers(), std::max(GetParam(), 1));
  for (const Index tasks : {0, 1, 2, 3, 7, 1000}) {
    std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
    std::atomic<bool> known_workers{true};
    executor->run(tasks, [&](Index task, int worker) {
      ++runs[static_cast<std::size_t>(task)];
      if (worker < 0 || worker >= executor->workers()) known_workers = false;
    });
    for (const auto& count : runs) EXPECT_EQ(count, 1);
    EXPECT_TRUE(known_workers);
  }
}

TEST_P(Executors, NoTwoTasksOfOneWorkerRunAtTheSameTime) {
  const auto executor = make();
  std::vector<std::atomic<int>> busy(static_cast<std::size_t>(executor->workers()));
  std::atomic<int> clashes{0};
  executor->run(500, [&](Index, int worker) {
    auto& count = busy[static_cast<std::size_t>(worker)];
    if (++count != 1) ++clashes;
    std::this_thread::yield();
    --count;
  });
  EXPECT_EQ(clashes, 0);
}

TEST_P(Executors, ThrowAnExceptionOfATaskAgainAndGoOnWorking) {
  const auto executor = make();
  for (const Index bad : {0, 3, 49}) {
    std::atomic<int> running{0};
    try {
      executor->run(50, [&](Index task, int) {
        ++running;
        if (task == bad) {
          --running;
          throw std::runtime_error("task " + std::to_string(task));
        }
        --running;
      });
      ADD_FAILURE() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), "task " + std::to_string(bad));
    }
    EXPECT_EQ(running, 0);
  }
  EXPECT_THROW(executor->run(50, [](Index, int) { throw 1; }), int);
  std::atomic<int> done{0};
  executor->run(50, [&](Index, int) { ++done; });
  EXPECT_EQ(done, 50);
}

TEST_P(Executors, BlocksCoverTheRangeAndTheLastIsShorter) {
  const auto executor = make();
  for (const Index count : {0, 1, 9, 10, 11, 95}) {
    std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
    std::atomic<bool> fitting{true};
    parallel_blocks(*executor, count, 10, [&](Index first, Index size, int) {
      if (first % 10 != 0 || size != std::min<Index>(10, count - first)) fitting = false;
      for (Index i = first; i < first + size; ++i) ++seen[static_cast<std::size_t>(i)];
    });
    EXPECT_TRUE(fitting);
    for (const auto& times : seen) EXPECT_EQ(times, 1);
  }
}

#if defined(__SSE2__)
TEST(ThreadedExecutor, ItsThreadsCalculateInTheModeOfTheCaller) {
  ThreadedExecutor executor(4);  // before the mode is set
  const unsigned before = _mm_getcsr();
  const auto flushed = [&] {
    std::atomic<int> zeros{0}, helped{0};
    for (int round = 0; round < 1000 && helped == 0; ++round) {
      zeros = 0;
      executor.run(64, [&](Index, int worker) {
        volatile float tiny = 1e-40f;
        zeros += tiny * 1.0f == 0.0f;
        helped += worker > 0;
        std::this_thread::yield();
      });
    }
    EXPECT_GT(helped, 0);
    return zeros.load();
  };
  EXPECT_EQ(flushed(), 0);
  _mm_setcsr(before | 0x8040u);  // denormal results and arguments are 0
  const int all = flushed();
  _mm_setcsr(before);
  EXPECT_EQ(all, 64);
  EXPECT_EQ(flushed(), 0);  // and no helper keeps it
}
#endif

TEST(SerialExecutor, GoesInOrder) {
  SerialExecutor executor;
  std::vector<Index> order;
  executor.run(5, [&](Index task, int worker) {
    EXPECT_EQ(worker, 0);
    order.push_back(task);
  });
  EXPECT_EQ(order, (std::vector<Index>{0, 1, 2, 3, 4}));
}

/// Runs f on a thread of its own. Where it has not ended after `limit`, the test fails, and the program ends: a
/// thread that hangs cannot be had back.
template <class F>
void expect_ends(F&& f, std::chrono::seconds limit = std::chrono::seconds(60)) {
  std::packaged_task<void()> task(std::forward<F>(f));
  std::future<void> ended = task.get_future();
  std::thread thread(std::move(task));
  if (ended.wait_for(limit) != std::future_status::ready) {
    std::cerr << "a loop that should have ended hangs\n";
    std::_Exit(1);
  }
  thread.join();
  ended.get();
}

TEST(ThreadedExecutor, RunsTasksAtTheSameTime) {
  ThreadedExecutor executor(3);
  std::atomic<int> arrived{0}, alone{0};
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  executor.run(3, [&](Index, int) {  // each waits for the two others, but not for ever
    ++arrived;
    while (arrived < 3 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    if (arrived < 3) ++alone;
  });
  EXPECT_EQ(arrived, 3);
  EXPECT_EQ(alone, 0) << "tasks that waited in vain for the others to run";
}

TEST_P(Executors, RunALoopOfATaskOnItsThread) {
  const auto executor = make();
  expect_ends([&] {
    for (int round = 0; round < 20; ++round) {
      std::atomic<int> inner{0}, innermost{0}, strays{0};
      executor->run(7, [&](Index, int worker) {
        const auto thread = std::this_thread::get_id();
        executor->run(5, [&](Index, int inner_worker) {
          ++inner;
          if (inner_worker != worker || std::this_thread::get_id() != thread) ++strays;
          executor->run(3, [&](Index, int) { ++innermost; });
        });
      });
      EXPECT_EQ(inner, 7 * 5);
      EXPECT_EQ(innermost, 7 * 5 * 3);
      EXPECT_EQ(strays, 0);
    }
  });
}

TEST(ThreadedExecutor, ComesBackToItselfThroughAnother) {
  ThreadedExecutor first(3), second(2);
  expect_ends([&] {
    std::atomic<int> done{0};
    first.run(6, [&](Index, int) {
      second.run(4, [&](Index, int) { first.run(5, [&](Index, int) { ++done; }); });
    });
    EXPECT_EQ(done, 6 * 4 * 5);
    done = 0;
    second.run(4, [&](Index, int) { ++done; });  // and nothing of it is left
    first.run(4, [&](Index, int) { ++done; });
    EXPECT_EQ(done, 8);
  });
}

TEST(ThreadedExecutor, ThrowsFromANestedLoopAndIsOutsideAgainAfterIt) {
  ThreadedExecutor executor(2);
  expect_ends([&] {
    EXPECT_THROW(executor.run(4, [&](Index, int) { executor.run(2, [](Index, int) { throw 1; }); }), int);
    std::atomic<int> workers{0};
    std::atomic<int> arrived{0};
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    executor.run(2, [&](Index, int worker) {
      ++arrived;
      while (arrived < 2 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
      workers += worker + 1;
    });
    EXPECT_EQ(workers, 3);  // both threads again
  });
}

// Helpers are watching, asleep, or late from the loop before.
TEST(ThreadedExecutor, EveryLoopIsWholeHoweverSoonTheNextFollows) {
  ThreadedExecutor executor(4);
  Index done = 0, expected = 0;
  std::mutex mutex;
  for (int loop = 0; loop < 3000; ++loop) {
    if (loop % 300 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const Index tasks = loop % 7;
    executor.run(tasks, [&](Index task, int) {
      const std::lock_guard<std::mutex> lock(mutex);
      done += task;
    });
    expected += tasks * (tasks - 1) / 2;
    ASSERT_EQ(done, expected) << "loop " << loop;  // all of it, and nothing of it later
  }
}

TEST(ThreadedExecutor, TakesTurnsWhereSeveralThreadsCall) {
  ThreadedExecutor executor(2);
  std::array<std::atomic<int>, 4> done{};
  std::vector<std::thread> callers;
  for (std::size_t i = 0; i < done.size(); ++i) {
    callers.emplace_back([&, i] {
      for (int loop = 0; loop < 50; ++loop) executor.run(5, [&](Index, int) { ++done[i]; });
    });
  }
  expect_ends([&] {
    for (std::thread& caller : callers) caller.join();
  });
  for (const auto& count : done) EXPECT_EQ(count, 250);
}

TEST(ThreadedExecutor, TwoWhoseTasksCallEachOtherDoNotWaitForEachOther) {
  ThreadedExecutor first(2), second(2);
  std::atomic<int> done{0};
  const auto call = [&](Executor& outer, Executor& inner) {
    for (int loop = 0; loop < 200; ++loop)
      outer.run(3, [&](Index, int) { inner.run(4, [&](Index, int) { ++done; }); });
  };
  std::thread one([&] { call(first, second); }), other([&] { call(second, first); });
  expect_ends([&] {
    one.join();
    other.join();
  });
  EXPECT_EQ(done, 2 * 200 * 3 * 4);
}

TEST_P(Executors, ALoopInsideOfATaskRunsThereOnTheSameWorker) {
  const auto executor = make();
  std::atomic<int> done{0}, elsewhere{0};
  executor->run(6, [&](Index, int worker) {
    const std::thread::id here = std::this_thread::get_id();
    executor->run(5, [&](Index, int inner) {
      ++done;
      if (inner != worker || std::this_thread::get_id() != here) ++elsewhere;
    });
  });
  EXPECT_EQ(done, 30);
  EXPECT_EQ(elsewhere, 0);
  EXPECT_THROW(executor->run(2, [&](Index, int) { executor->run(2, [](Index, int) { throw 1; }); }), int);
}

TEST(ThreadedExecutor, ALoopOfOneTaskInsideOfATaskIsOfItsWorker) {
  ThreadedExecutor executor(2);
  std::atomic<int> arrived{0};
  std::array<int, 2> inner{-1, -1};
  executor.run(2, [&](Index, int worker) {
    for (++arrived; arrived < 2;) std::this_thread::yield();  // so each thread has one of the two
    parallel_blocks(executor, 10, 16,
                    [&](Index, Index, int own) { inner[static_cast<std::size_t>(worker)] = own; });
  });
  EXPECT_EQ(inner, (std::array<int, 2>{0, 1}));
}

TEST(ThreadedExecutor, ALoopOfAnotherExecutorInsideOfATaskIsThreaded) {
  ThreadedExecutor outer(2), inner(2);
  std::atomic<int> done{0};
  outer.run(2, [&](Index, int) { inner.run(3, [&](Index, int) { ++done; }); });
  EXPECT_EQ(done, 6);
}

#if defined(__GLIBC__)
// What musl gives a thread: a product that Eigen keeps its buffers for on the stack crashed there.
TEST(ThreadedExecutor, ItsThreadsHaveTheStackThatProductsNeed) {
  pthread_attr_t usual, small;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  ASSERT_EQ(pthread_attr_init(&small), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&small, std::size_t{128} << 10), 0);
  ASSERT_EQ(pthread_setattr_default_np(&small), 0);
  ThreadedExecutor executor(2);
  EXPECT_EQ(pthread_setattr_default_np(&usual), 0);
  std::atomic<int> arrived{0};
  std::array<std::size_t, 2> bytes{};
  executor.run(2, [&](Index, int worker) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
    pthread_attr_t own;
    pthread_getattr_np(pthread_self(), &own);
    pthread_attr_getstacksize(&own, &bytes[static_cast<std::size_t>(worker)]);
    pthread_attr_destroy(&own);
    if (worker == 0) return;
    const Eigen::MatrixXf a = Eigen::MatrixXf::Ones(96, 96);
    const Eigen::MatrixXf b = Eigen::MatrixXf::Ones(96, 256), c = a * b;
    if (!(c(95, 255) == 96.0f)) bytes[1] = 0;
  });
  EXPECT_GE(bytes[1], kThreadStackBytes);
  pthread_attr_destroy(&usual);
  pthread_attr_destroy(&small);
}
#endif

#if defined(__linux__) && !defined(HSM_TEST_SANITIZED)
TEST(ThreadedExecutor, SaysWhichThreadCouldNotBeStarted) {
  // In a process of its own: in this one stacks of threads that ended may wait for the next.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto start = [] {
    const rlimit none{1, 1};  // no address space is left for the stack of a thread
    if (setrlimit(RLIMIT_AS, &none) != 0) _exit(1);
    try {
      ThreadedExecutor executor(4);
    } catch (const std::runtime_error& error) {
      std::fputs(error.what(), stderr);
      _exit(3);
    }
    _exit(2);
  };
  EXPECT_EXIT(start(), ::testing::ExitedWithCode(3), "^ThreadedExecutor: cannot start thread 2 of 4: ");
}
#endif

#if defined(__GLIBC__) && defined(CPU_COUNT)
TEST(Processors, AreThoseThatThisProcessMayUse) {
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  EXPECT_EQ(available_processors(), CPU_COUNT(&all));
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  const int got = available_processors();
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
  EXPECT_EQ(got, 1);
}
#endif

TEST(ThreadedExecutor, RefusesLessThanOneThread) {
  EXPECT_THROW(ThreadedExecutor(0), std::invalid_argument);
  EXPECT_THROW(ThreadedExecutor(-4), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::executor_test
