// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <hsm/core/threaded_executor.hpp>
#include <hsm/core/workspace.hpp>
#include <limits>
#include <new>
#include <vector>

namespace hsm::workspace_test {
namespace {

bool is_aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 64 == 0; }

TEST(Workspace, LendsMemoryThatIsAlignedAndApart) {
  Workspace workspace;
  Workspace::Frame frame(workspace);
  std::vector<float*> pieces;
  for (const Index size : {1, 15, 16, 17, 1000, 0, 100000, 3}) {
    float* piece = frame.take<float>(size);
    EXPECT_TRUE(is_aligned(piece)) << size;
    for (Index i = 0; i < size; ++i) piece[i] = static_cast<float>(pieces.size());
    pieces.push_back(piece);
  }
  std::size_t number = 0;
  for (const Index size : {1, 15, 16, 17, 1000, 0, 100000, 3}) {
    for (Index i = 0; i < size; ++i) ASSERT_EQ(pieces[number][i], static_cast<float>(number));
    ++number;
  }
}

TEST(Workspace, PiecesOfAnyNumberOfBytesAreApart) {
  Workspace workspace;
  Workspace::Frame frame(workspace);
  std::vector<char*> pieces;
  for (Index size = 1; size <= 130; ++size) {
    pieces.push_back(frame.take<char>(size));
    std::fill_n(pieces.back(), size, static_cast<char>(size));
  }
  for (Index size = 1; size <= 130; ++size) {
    const char* piece = pieces[static_cast<std::size_t>(size - 1)];
    EXPECT_EQ(std::count(piece, piece + size, static_cast<char>(size)), size);
  }
}

TEST(Workspace, HoldsAllThatItHasLent) {
  Workspace workspace;
  Workspace::Frame frame(workspace);
  std::size_t lent = 0;
  for (const Index size : {40000, 40000, 64, 65536, 1, 100000}) {
    frame.take<char>(size);
    lent += static_cast<std::size_t>(size);
    EXPECT_GE(workspace.bytes(), lent) << size;
  }
}

TEST(Workspace, ColumnsHaveNoGaps) {
  Workspace workspace;
  Workspace::Frame frame(workspace);
  const auto columns = frame.columns<double>(5, 7);
  EXPECT_EQ(columns.rows(), 5);
  EXPECT_EQ(columns.cols(), 7);
  EXPECT_EQ(columns.outerStride(), 5);
}

TEST(Workspace, AnInnerFrameGivesItsMemoryBack) {
  Workspace workspace;
  Workspace::Frame outer(workspace);
  int* kept = outer.take<int>(10);
  kept[9] = 42;
  void *first = nullptr, *second = nullptr;
  {
    Workspace::Frame inner(workspace);
    first = inner.take<int>(100);
    {
      Workspace::Frame innermost(workspace);
      EXPECT_NE(innermost.take<int>(1), first);
    }
  }
  {
    Workspace::Frame inner(workspace);
    second = inner.take<int>(50);
  }
  EXPECT_EQ(first, second);
  EXPECT_EQ(kept[9], 42);
}

TEST(Workspace, KeepsItsMemoryAndGrowsNoMore) {
  Workspace workspace;
  EXPECT_EQ(workspace.bytes(), 0u);
  const auto use = [&](Index scale) {
    Workspace::Frame frame(workspace);
    std::vector<void*> addresses;
    for (const Index size : {70000, 10, 200000, 5}) addresses.push_back(frame.take<char>(size * scale));
    Workspace::Frame inner(workspace);
    addresses.push_back(inner.take<char>(300000 * scale));
    return addresses;
  };
  use(1);
  const std::size_t bytes = workspace.bytes();
  EXPECT_GE(bytes, 570015u);
  const auto addresses = use(1);
  for (int call = 0; call < 10; ++call) EXPECT_EQ(use(1), addresses);
  EXPECT_EQ(workspace.bytes(), bytes);
  use(3);
  const std::size_t more = workspace.bytes();
  EXPECT_LE(more, bytes + 3 * bytes);
  for (int call = 0; call < 10; ++call) use(call % 4);
  EXPECT_EQ(workspace.bytes(), more);
}

TEST(Workspace, LendsOnePieceAfterAnotherOnceItKnowsWhatIsNeeded) {
  for (const std::size_t pieces : {2u, 3u}) {
    Workspace workspace;
    std::vector<char*> addresses;
    for (int call = 0; call < 2; ++call) {
      Workspace::Frame frame(workspace);
      addresses.clear();
      for (std::size_t i = 0; i < pieces; ++i) addresses.push_back(frame.take<char>(1 << 18));
    }
    for (std::size_t i = 1; i < pieces; ++i) EXPECT_EQ(addresses[i], addresses[i - 1] + (1 << 18)) << pieces;
  }
}

TEST(Workspace, MemoryInUseStaysWhereItIsWhenMoreIsTaken) {
  Workspace workspace;
  Workspace::Frame outer(workspace);
  int* kept = outer.take<int>(100);
  kept[50] = 7;
  for (Index size = 1000; size < 10000000; size *= 10) {
    Workspace::Frame inner(workspace);
    inner.take<int>(size)[size - 1] = 1;
  }
  EXPECT_EQ(kept[50], 7);
}

TEST(Workspace, RefusesWhatNoMemoryCanHold) {
#if defined(HSM_TEST_SANITIZED)
  GTEST_SKIP() << "a sanitizer ends the program where new would throw";
#endif
  constexpr Index kMost = std::numeric_limits<Index>::max();
  Workspace workspace;
  Workspace::Frame frame(workspace);
  for (const Index n : {kMost, kMost / 2 + 2, kMost / 4 + 2, Index{-1}})
    EXPECT_THROW(frame.take<double>(n), std::bad_alloc) << n;
  EXPECT_THROW(frame.take<double>(kMost / 4 + 1, 5), std::bad_alloc)
      << "whose product is small, but for what it lost";
  EXPECT_THROW(frame.take<double>(kMost / 13 * 2, 13), std::bad_alloc);
  EXPECT_THROW(frame.columns<double>(kMost / 2 + 2, 2), std::bad_alloc);
  EXPECT_THROW(frame.columns<double>(2, kMost / 2 + 2), std::bad_alloc);
  frame.take<double>(8)[7] = 1;
  EXPECT_LT(workspace.bytes(), std::size_t{1} << 20);
}

TEST(Workspace, PoisonedMemoryIsNaN) {
  Workspace workspace;
  workspace.poison = true;
  for (int call = 0; call < 2; ++call) {
    Workspace::Frame frame(workspace);
    float* floats = frame.take<float>(33);
    double* doubles = frame.take<double>(33);
    for (Index i = 0; i < 33; ++i) {
      EXPECT_TRUE(std::isnan(floats[i]) && std::isnan(doubles[i]));
      floats[i] = 0, doubles[i] = 0;
    }
  }
}

TEST(Workspace, RunsSeriallyOrOnTheExecutorThatItWasGiven) {
  Workspace serial;
  EXPECT_EQ(serial.executor().workers(), 1);
  ThreadedExecutor executor(2);
  Workspace threaded(executor);
  EXPECT_EQ(&threaded.executor(), &executor);
}

}  // namespace
}  // namespace hsm::workspace_test
