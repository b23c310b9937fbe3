// SPDX-License-Identifier: MIT
//
// The suites of hsm_bench, one per folder of the library that has something to time.
#pragma once

#include <vector>

namespace hsm::bench {

/// What to register.
struct Selection {
  int threads = 1;       ///< besides 1
  bool quick = false;    ///< a few small cases only
  bool lengthy = false;  ///< also what takes minutes

  /// 1, and `threads` where that is another number.
  std::vector<int> thread_counts() const {
    return threads > 1 ? std::vector<int>{1, threads} : std::vector<int>{1};
  }
};

void add_shift(const Selection& selection);
void add_stacks(const Selection& selection);
void add_attention(const Selection& selection);
void add_recurrent(const Selection& selection);
void add_blocks(const Selection& selection);
void add_model(const Selection& selection);
void add_decode(const Selection& selection);

inline void add_all(const Selection& selection) {
  add_shift(selection);
  add_stacks(selection);
  add_attention(selection);
  add_recurrent(selection);
  add_blocks(selection);
  add_model(selection);
  add_decode(selection);
}

}  // namespace hsm::bench
