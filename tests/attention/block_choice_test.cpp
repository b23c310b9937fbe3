// SPDX-License-Identifier: MIT
//
// Which blocks are chosen: those of plain loops, the same however many queries choose at once.
#include <hsm/attention/block_choice.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "attention/attention_cases.hpp"

namespace hsm::test::block_choice_test {
namespace {

template <class Scalar>
class BlockChoice : public testing::Test {};
TYPED_TEST_SUITE(BlockChoice, Scalars);

// One query after another, some at once, and all: the same choice, which is that of plain loops.
TYPED_TEST(BlockChoice, AreChosenTheSameHoweverManyQueriesChoose) {
  const Index width = 10, T = 300;
  Random random(97);
  const auto queries = random_matrix<TypeParam>(width, T, random),
             keys = random_matrix<TypeParam>(width, T, random);
  for (const Index block : {1, 3, 8, 20}) {
    const Index count = T / block;
    std::vector<TypeParam> sums(
        static_cast<std::size_t>(hsm::detail::block_sums_size<TypeParam>(width, count)));
    hsm::detail::sum_blocks(width, block, 0, count / 2, keys.data(), sums.data());
    hsm::detail::sum_blocks(width, block, count / 2, count, keys.data(), sums.data());
    for (const Index top : {1, 2, 5}) {
      const hsm::detail::HeadBlocks<TypeParam> blocks{block, top, sums.data()};
      std::vector<TypeParam> products(
          static_cast<std::size_t>(hsm::detail::kChoosingQueries * hsm::detail::kLanes<TypeParam>));
      std::vector<hsm::detail::Candidate<TypeParam>> candidates(
          static_cast<std::size_t>(hsm::detail::kChoosingQueries * top));
      const hsm::detail::ChoiceScratch<TypeParam> scratch{products.data(), candidates.data()};
      const auto choose = [&](Index chunk) {
        std::vector<Index> chosen(static_cast<std::size_t>(T * top), -1);
        for (Index t = 0; t < T; t += chunk) {
          hsm::detail::choose_blocks(width, std::min(chunk, T - t), t, queries.data() + t * width, blocks,
                                     scratch, chosen.data() + t * top);
        }
        return chosen;
      };
      const auto all = choose(T);
      EXPECT_EQ(choose(1), all) << block << " " << top;
      EXPECT_EQ(choose(7), all) << block << " " << top;
      for (Index t = 0; t < T; ++t) {
        std::vector<std::pair<double, Index>> products_of;
        for (Index b = 0; b < t / block; ++b) {
          const auto sum = keys.middleCols(b * block, block).template cast<double>().rowwise().sum();
          products_of.emplace_back(-queries.col(t).template cast<double>().dot(sum), b);
        }
        std::sort(products_of.begin(), products_of.end());
        std::vector<Index> expected;
        for (std::size_t k = 0; k < std::min<std::size_t>(static_cast<std::size_t>(top), products_of.size());
             ++k)
          expected.push_back(products_of[k].second);
        std::sort(expected.begin(), expected.end());
        expected.resize(static_cast<std::size_t>(top), -1);
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), all.begin() + t * top))
            << "block " << block << " top " << top << " token " << t;
      }
    }
  }
}

}  // namespace
}  // namespace hsm::test::block_choice_test
