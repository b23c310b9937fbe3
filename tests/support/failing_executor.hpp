// SPDX-License-Identifier: MIT
#pragma once

#include <new>

#include <hsm/core/executor.hpp>

namespace hsm::test {

/// Throws std::bad_alloc in loop `fails_at`, after its first task; counts loops. Of one task it counts none, which runs as
/// if there were no loop, unless `short_loops` says so.
class FailingExecutor final : public Executor {
 public:
  Index fails_at = -1, loops = 0;
  bool short_loops = false;

  int workers() const override { return 1; }
  void run(Index tasks, TaskRef task) override {
    const bool fails = (tasks > 1 || short_loops) && loops++ == fails_at;
    for (Index i = 0; i < tasks; ++i) {
      task(i, 0);
      if (fails) throw std::bad_alloc();
    }
  }
};

}  // namespace hsm::test
