// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <hsm/core/nontemporal.hpp>
#include <vector>

#include "support/matchers.hpp"

namespace hsm::nontemporal_test {
namespace {

template <class Scalar>
void copy_at_every_address() {
  constexpr std::size_t kRoom = 160;
  std::vector<Scalar> source(kRoom);
  for (std::size_t i = 0; i < kRoom; ++i) source[i] = static_cast<Scalar>(i) + Scalar(0.5);
  for (std::size_t from = 0; from < 9; ++from) {
    for (std::size_t to = 0; to < 17; ++to) {
      for (std::size_t n = 0; n <= 100; ++n) {
        std::vector<Scalar> got(kRoom, Scalar(-1)), expected = got;
        stream_copy(static_cast<Index>(n), source.data() + from, got.data() + to);
        nontemporal_fence();
        for (std::size_t i = 0; i < n; ++i) expected[to + i] = source[from + i];
        if (!test::expect_same_bits(got, expected, "copy")) return;
      }
    }
  }
}

TEST(Stream, CopiesAnyLengthFromAndToAnyAddress) {
  copy_at_every_address<float>();
  copy_at_every_address<double>();
}

TEST(Stream, IsChosenBySizeUnlessItIsAskedFor) {
  EXPECT_FALSE(should_be_nontemporal(Stores::kCached, std::size_t{1} << 40));
  EXPECT_FALSE(should_be_nontemporal(Stores::kAutomatic, kNontemporalBytes - 1));
#if defined(__AVX__) || defined(__SSE2__)
  EXPECT_TRUE(should_be_nontemporal(Stores::kAutomatic, kNontemporalBytes));
  EXPECT_TRUE(should_be_nontemporal(Stores::kNontemporal, 1));
#endif
}

}  // namespace
}  // namespace hsm::nontemporal_test
