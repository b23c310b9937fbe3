// SPDX-License-Identifier: MIT
//
// An executor of the calling thread and n - 1 threads of its own. Each begins with an n-th of the tasks, the same
// n-th in every loop over as many tasks, so that it finds in its cache what it left there in the loop before. A
// thread that has done its part takes tasks from the others, so a slow task delays nobody, and a thread that is
// late is not waited for.
//
// Between loops the threads watch for the next one for some 40 microseconds before they sleep: a layer is a few
// loops, one right after the other, and waking a thread takes longer than many of them. More threads than
// processors sleep at once, since who watches would hold up who works. Executors share nothing and live side by
// side. One loop at a time per executor: two threads that call run() on the same ThreadedExecutor take turns, but for
// loops of one task, which wait for nobody. A task that calls it, directly or through another executor, runs its loop
// alone, on its own worker number: each thread knows the loops that it works in, by a thread_local list. A task of
// another executor that finds it busy runs its loop alone too, as worker 0, so that two that call each other do not wait
// for each other. The threads have stacks of kThreadStackBytes at least (core/thread.hpp), and work in the floating-point
// mode of the caller (core/floating_mode.hpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <hsm/core/check.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/floating_mode.hpp>
#include <hsm/core/processors.hpp>
#include <hsm/core/thread.hpp>

namespace hsm::inline HSM_ABI {

/// Runs tasks on `threads` threads, the calling one included.
class ThreadedExecutor final : public Executor {
 public:
  /// Throws std::invalid_argument for threads < 1, std::runtime_error where the system gives fewer.
  explicit ThreadedExecutor(int threads)
      : threads_(threads), glances_(threads <= available_processors() ? kGlances : 0) {
    detail::check_at_least("ThreadedExecutor", "threads", threads, 1);
    shares_ = std::vector<Share>(static_cast<std::size_t>(threads));
    helpers_.threads.reserve(static_cast<std::size_t>(threads - 1));
    for (int worker = 1; worker < threads; ++worker) {
      detail::Thread thread;
      const int reason = thread.start([this, worker] { help(worker); });
      if (reason != 0) {
        detail::raise<std::runtime_error>("ThreadedExecutor: cannot start thread " +
                                          std::to_string(worker + 1) + " of " + std::to_string(threads) +
                                          ": " + std::generic_category().message(reason));
      }
      helpers_.threads.push_back(std::move(thread));
    }
  }
  ThreadedExecutor(const ThreadedExecutor&) = delete;
  ThreadedExecutor& operator=(const ThreadedExecutor&) = delete;

  int workers() const override { return threads_; }

  void run(Index tasks, TaskRef task) override {
    for (const Place* place = place_; place; place = place->outer) {
      if (place->executor != this) continue;
      for (Index i = 0; i < tasks; ++i) task(i, place->worker);
      return;
    }
    if (tasks == 1) return task(0, 0);
    std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
    if (!place_) {
      turn.lock();
    } else if (!turn.try_lock()) {
      for (Index i = 0; i < tasks; ++i) task(i, 0);
      return;
    }
    Loop loop(task, place_);
    const auto bound = [&](std::int64_t i) { return static_cast<Index>(i * tasks / threads_); };
    for (int i = 0; i < threads_; ++i) {
      Share& share = shares_[static_cast<std::size_t>(i)];
      share.next.store(bound(i));
      share.end = bound(i + 1);
    }
    const bool shared = threads_ > 1 && tasks > 1;
    if (shared) {
      loop_.store(&loop);
      published_.fetch_add(1);
      published_.notify_all();
    }
    work(loop, 0);
    if (shared) {
      // From here on no helper finds the loop; those that have found it are inside until they are done with it.
      loop_.store(nullptr);
      for (int inside = inside_.load(); inside != 0; inside = inside_.load()) inside_.wait(inside);
    }
    if (loop.error) std::rethrow_exception(loop.error);
  }

 private:
  /// Where a thread is at work: as which worker of whom, and inside of what.
  struct Place {
    const ThreadedExecutor* executor;
    int worker;
    const Place* outer;
  };

  struct Loop {
    Loop(TaskRef body, const Place* around) : task(body), outer(around) {}

    TaskRef task;
    const Place* outer;  // where it was started
    const detail::FloatingMode mode = detail::FloatingMode::of_this_thread();
    std::mutex error_mutex;
    std::exception_ptr error;
  };

  /// The tasks that one thread begins with.
  struct alignas(64) Share {
    std::atomic<Index> next{0};
    Index end = 0;
  };

  /// The threads, ended and joined before anything that they use is gone.
  struct Helpers {
    ThreadedExecutor* executor;
    std::vector<detail::Thread> threads;

    ~Helpers() {
      executor->stopped_.store(true);
      executor->published_.fetch_add(1);
      executor->published_.notify_all();
      for (detail::Thread& thread : threads) thread.join();
    }
  };

  void work(Loop& loop, int worker) {
    const Place here{this, worker, loop.outer};
    const Place* before = std::exchange(place_, &here);
    const detail::FloatingMode own = worker > 0 ? detail::FloatingMode::of_this_thread() : loop.mode;
    if (worker > 0) loop.mode.set();
    for (int i = 0; i < threads_; ++i) {
      Share& share = shares_[static_cast<std::size_t>((worker + i) % threads_)];
      for (Index task = share.next.fetch_add(1); task < share.end; task = share.next.fetch_add(1)) {
        detail::guarded([&] { loop.task(task, worker); },
                        [&] {
                          const std::lock_guard<std::mutex> lock(loop.error_mutex);
                          if (!loop.error) loop.error = std::current_exception();
                        });
      }
    }
    if (worker > 0) own.set();
    place_ = before;
  }

  /// What a helper does all its life: wait for a loop that it has not seen, take tasks of it.
  void help(int worker) {
    for (int seen = 0; !stopped_.load();) {
      await_change(seen);
      seen = published_.load();
      inside_.fetch_add(1);
      if (Loop* loop = loop_.load()) work(*loop, worker);
      if (inside_.fetch_sub(1) == 1) inside_.notify_all();
    }
  }

  void await_change(int seen) const {
    for (int i = 0; i < glances_; ++i) {
      if (published_.load(std::memory_order_relaxed) != seen) return;
#if defined(__SSE2__)
      _mm_pause();
#endif
    }
    published_.wait(seen);
  }

  static inline thread_local const Place* place_ = nullptr;

  static constexpr int kGlances = 2000;  // of some 20 ns

  int threads_;
  int glances_;  // at what may have changed before a thread sleeps
  std::mutex turn_;
  std::vector<Share> shares_;
  std::atomic<Loop*> loop_{nullptr};
  std::atomic<int> published_{0};  // how many loops, modulo 2^32
  std::atomic<int> inside_{0};     // helpers that may hold loop_
  std::atomic<bool> stopped_{false};
  Helpers helpers_{this, {}};  // the last member, so the first to go
};

}  // namespace hsm::inline HSM_ABI
