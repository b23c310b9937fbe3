// SPDX-License-Identifier: MIT
//
// An executor on Eigen::ThreadPool: n - 1 pool threads and the caller take tasks from one counter, so a slow
// task delays nobody. The pool is the caller's: several executors may share nothing and live side by side.
// One loop at a time per executor; two threads that call run() on the same ThreadedExecutor take turns.
#pragma once

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <atomic>
#include <exception>
#include <mutex>

#include <hsm/core/check.hpp>
#include <hsm/core/executor.hpp>

namespace hsm {

/// Runs tasks on `threads` threads, the calling one included.
class ThreadedExecutor final : public Executor {
 public:
  /// Throws std::invalid_argument for threads < 1.
  explicit ThreadedExecutor(int threads)
      : threads_(checked(threads)), pool_(threads > 1 ? threads - 1 : 1, false) {}

  int workers() const override { return threads_; }

  void run(Index tasks, TaskRef task) override {
    const std::lock_guard<std::mutex> turn(turn_);
    const int helpers = static_cast<int>(tasks < threads_ ? tasks : threads_) - 1;
    if (helpers <= 0) {
      for (Index i = 0; i < tasks; ++i) task(i, 0);
      return;
    }
    Loop loop{task, tasks, static_cast<unsigned>(helpers)};
    for (int worker = 1; worker <= helpers; ++worker) {
      pool_.Schedule([&loop, worker] {
        loop.work(worker);
        loop.done.Notify();
      });
    }
    loop.work(0);
    loop.done.Wait();
    if (loop.error) std::rethrow_exception(loop.error);
  }

 private:
  struct Loop {
    Loop(TaskRef body, Index count, unsigned helpers) : task(body), tasks(count), done(helpers) {}

    void work(int worker) {
      for (Index i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) {
        try {
          task(i, worker);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(error_mutex);
          if (!error) error = std::current_exception();
        }
      }
    }

    TaskRef task;
    Index tasks;
    std::atomic<Index> next{0};
    Eigen::Barrier done;
    std::mutex error_mutex;
    std::exception_ptr error;
  };

  static int checked(int threads) {
    detail::check_at_least("ThreadedExecutor", "threads", threads, 1);
    return threads;
  }

  int threads_;
  Eigen::ThreadPool pool_;
  std::mutex turn_;
};

}  // namespace hsm
