// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include <hsm/core/types.hpp>
#include <hsm/core/workspace.hpp>

#include "support/count_allocations.hpp"

namespace hsm::test {

/// Fails unless steps of a stream, alone or chosen among others, allocate nothing once such steps have been made.
template <class Scalar, class Mixer>
void expect_steps_without_allocations(const Mixer& mixer) {
  const Index C = mixer.channels();
  Workspace workspace;
  auto alone = mixer.make_state({.capacity = 100, .spare = 9});
  auto state = mixer.make_state({.streams = 3, .capacity = 100});
  const Vector<Scalar> x = Vector<Scalar>::Ones(C);
  Vector<Scalar> y(C);
  const std::vector<Index> chosen{2};
  const auto steps = [&] {
    for (int t = 0; t < 20; ++t) {
      mixer.step(x, alone, y, workspace);
      mixer.step(x, chosen, state, y, workspace);
    }
    alone.rewind(0, 9);
    state.copy_stream(2, 0);
  };
  steps();
  steps();  // a copy with a window had no room for as many
  EXPECT_EQ(allocations_of(steps), 0) << "C = " << C;
  EXPECT_EQ(state.count(0), 60);
}

}  // namespace hsm::test
