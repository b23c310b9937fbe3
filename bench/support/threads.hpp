// SPDX-License-Identifier: MIT
//
// One executor and one team of yardstick threads per thread count, shared by all cases so that no case pays
// for starting threads; and the yardsticks themselves, made when first asked for.
#pragma once

#include <map>
#include <memory>

#include <hsm/core/threaded_executor.hpp>

#include "bench/support/yardsticks.hpp"

namespace hsm::bench {

inline Executor& executor(int threads) {
  static std::map<int, std::unique_ptr<Executor>> all;
  std::unique_ptr<Executor>& entry = all[threads];
  if (!entry && threads == 1) entry = std::make_unique<SerialExecutor>();
  if (!entry) entry = std::make_unique<ThreadedExecutor>(threads);
  return *entry;
}

inline Team& team(int threads) {
  static std::map<int, std::unique_ptr<Team>> all;
  std::unique_ptr<Team>& entry = all[threads];
  if (!entry) entry = std::make_unique<Team>(threads);
  return *entry;
}

/// The copy of `bytes`; one at a time is kept, since cases of one size follow each other.
inline std::shared_ptr<Copy> copy_of(std::size_t bytes, int threads) {
  static std::size_t last_bytes = 0;
  static int last_threads = 0;
  static std::shared_ptr<Copy> last;
  if (!last || bytes != last_bytes || threads != last_threads) {
    last.reset();
    last = std::make_shared<Copy>(team(threads), bytes);
    last_bytes = bytes;
    last_threads = threads;
  }
  return last;
}

inline Sgemm& sgemm(int threads) {
  static std::map<int, std::unique_ptr<Sgemm>> all;
  std::unique_ptr<Sgemm>& entry = all[threads];
  if (!entry) entry = std::make_unique<Sgemm>(team(threads));
  return *entry;
}

}  // namespace hsm::bench
