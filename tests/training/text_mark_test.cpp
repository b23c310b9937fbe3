// SPDX-License-Identifier: MIT
#include <hsm/training/text_mark.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace hsm::text_mark_test {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(TextMark, TellsTextsApartByEveryToken) {
  Ids ids{3, 1, 4, 1, 5, 9, 2, 6};
  const TextMark mark{ids};
  EXPECT_EQ(TextMark{ids}, mark);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Ids other = ids;
    other[i] ^= 1;
    EXPECT_NE(TextMark{other}, mark) << i;
    if (i + 1 < ids.size() && ids[i] != ids[i + 1]) {
      other = ids;
      std::swap(other[i], other[i + 1]);
      EXPECT_NE(TextMark{other}, mark) << i;
    }
  }
  ids.push_back(0);
  EXPECT_NE(TextMark{ids}, mark);
  EXPECT_EQ(TextMark(Ids()), TextMark());
}

TEST(TextMark, IsTheSameOnEveryPlatform) {
  EXPECT_EQ(TextMark(Ids{1, 2}).hash, Random(Random(2 ^ 1).bits() ^ 2).bits());
  EXPECT_EQ(TextMark().text(), "0 tokens with the hash 0000000000000000");
  EXPECT_EQ(TextMark(Ids{1, 2}).text().size(), TextMark().text().size());
}

}  // namespace
}  // namespace hsm::text_mark_test
