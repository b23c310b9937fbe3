// SPDX-License-Identifier: MIT
#pragma once

#include <new>

#include <hsm/core/executor.hpp>

namespace hsm::test {

/// Throws std::bad_alloc in loop `fails_at` of more than one task, after the first; counts such loops. One task runs as if
/// there were no loop.
class FailingExecutor final : public Executor {
 public:
  Index fails_at = -1, loops = 0;

  int workers() const override { return 1; }
  void run(Index tasks, TaskRef task) override {
    const bool fails = tasks > 1 && loops++ == fails_at;
    for (Index i = 0; i < tasks; ++i) {
      task(i, 0);
      if (fails) throw std::bad_alloc();
    }
  }
};

}  // namespace hsm::test
