// SPDX-License-Identifier: MIT
//
// Who runs the work. Every parallel loop of the library is a list of tasks whose number and bounds follow
// from the sizes alone, never from the number of threads; an executor decides only who runs which. So the
// results do not depend on it, bit for bit.
//
//   SerialExecutor     the calling thread, the default of every Workspace
//   ThreadedExecutor   core/threaded_executor.hpp, threads of its own
//
// Every thread that calls the library with Eigen's products needs a stack of kThreadStackBytes
// (core/thread.hpp): 1 MiB, less than the usual default of 8 MiB but more than musl's of 128 KiB.
//
// A task may start a loop of its own on the executor that runs it: that loop runs inside the task, in order.
// The library calls run() from the thread that called it: an executor that serves the workspaces of several
// threads must bear run() from all of them at a time, as both of these do.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// A reference to something callable as void(Index task, int worker); it does not own and does not allocate.
class TaskRef {
 public:
  /// Refers to f, which must outlive it.
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, TaskRef>)
      TaskRef(F&& f)  // implicit: a lambda is passed where a TaskRef is taken
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_(call<std::remove_reference_t<F>>) {}

  /// Runs task number `task` on worker `worker`.
  void operator()(Index task, int worker) const { call_(object_, task, worker); }

 private:
  /// Never inlined, so that what a task does is compiled once, also where a loop of one task calls it directly.
  template <class F>
  static HSM_NOINLINE void call(void* object, Index task, int worker) {
    (*static_cast<F*>(object))(task, worker);
  }

  void* object_;
  void (*call_)(void*, Index, int);
};

/// Runs tasks 0 ... n-1, each once, and returns when all are done.
class Executor {
 public:
  virtual ~Executor() = default;

  /// How many tasks may run at the same time; `worker` is below this.
  virtual int workers() const = 0;

  /// Calls task(i, worker) for i = 0 ... tasks-1 in any order, no two of a worker at the same time. The first
  /// exception of a task is thrown again here once no task is running; tasks that had not begun may then be left
  /// out. A task may call this again: all tasks of that loop then run on its thread, as its worker. That holds through
  /// other executors too: where a task has another executor's loop run tasks that call this one, all of them are the
  /// worker that it is, and may be so at the same time. A loop of one task may run it as if there were no loop: outside
  /// of any as worker 0, beside the loops of other threads, where it may start loops of its own. Two threads may call it
  /// at the same time only where the executor says so, as those of the library do.
  virtual void run(Index tasks, TaskRef task) = 0;
};

/// The calling thread does everything, in order. It holds nothing: any number of threads may share one.
class SerialExecutor final : public Executor {
 public:
  int workers() const override { return 1; }
  void run(Index tasks, TaskRef task) override {
    for (Index i = 0; i < tasks; ++i) task(i, 0);
  }
};

/// Splits [0, count) into parts of `block` (the last one shorter) and calls f(first, size, worker) for each.
template <class F>
void parallel_blocks(Executor& executor, Index count, Index block, F&& f) {
  const Index tasks = (count + block - 1) / block;
  const auto body = [&](Index i, int worker) {
    const Index first = i * block;
    f(first, count - first < block ? count - first : block, worker);
  };
  executor.run(tasks, TaskRef(body));
}

}  // namespace hsm::inline HSM_ABI
