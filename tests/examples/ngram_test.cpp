// SPDX-License-Identifier: MIT
//
// The byte n-gram against a slow oracle that counts with maps and loops, straight from the definitions.
#include "examples/support/ngram.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <hsm/core/random.hpp>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace hsm::examples::ngram_test {
namespace {

using hsm::examples::ByteNgram;

constexpr double kTolerance = 1e-12;

/// Interpolated modified Kneser-Ney from the definitions.
class Oracle {
 public:
  Oracle(const std::string& text, std::size_t order)
      : order_(order), counts_(order + 1), discounts_(order + 1) {
    for (std::size_t k = 1; k <= order; ++k) {
      std::map<std::string, std::set<int>> predecessors;
      for (std::size_t i = 0; i + k <= text.size(); ++i) {
        const std::string gram = text.substr(i, k);
        if (k == order) {
          ++counts_[k][gram];
        } else {
          predecessors[gram].insert(i == 0 ? -1 : static_cast<unsigned char>(text[i - 1]));
        }
      }
      for (const auto& [gram, before] : predecessors) counts_[k][gram] = static_cast<int>(before.size());
      double n[5] = {};
      for (const auto& [gram, count] : counts_[k]) {
        if (count <= 4) n[count] += 1;
      }
      std::array<double, 3>& d = discounts_[k];
      const bool counted = n[1] > 0 && n[2] > 0 && n[3] > 0;
      const double y = n[1] + n[2] > 0 ? n[1] / (n[1] + 2 * n[2]) : 0;
      if (counted) d = {1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]};
      modified.push_back(counted && d[0] > 0 && d[0] < 1 && d[1] > 0 && d[1] < 2 && d[2] > 0 && d[2] < 3);
      if (!modified.back()) d.fill(y > 0 && y < 1 ? y : 0.5);
    }
  }

  double probability(std::string context, unsigned char next) const {
    if (context.size() > order_ - 1) context = context.substr(context.size() - (order_ - 1));
    return recurse(context, next);
  }

  std::vector<bool> modified;  // [order], whether the three discounts exist

 private:
  double recurse(const std::string& context, unsigned char next) const {
    const double lower = context.empty() ? 1.0 / 256 : recurse(context.substr(1), next);
    const std::size_t k = context.size() + 1;
    double total = 0, own = 0, rest = 0;
    for (auto found = counts_[k].lower_bound(context);
         found != counts_[k].end() && found->first.starts_with(context); ++found) {
      const double discount =
          discounts_[k][static_cast<std::size_t>(found->second > 3 ? 2 : found->second - 1)];
      total += found->second;
      rest += discount;
      if (static_cast<unsigned char>(found->first.back()) == next) own = found->second - discount;
    }
    return total > 0 ? own / total + rest / total * lower : lower;
  }

  std::size_t order_;
  std::vector<std::map<std::string, int>> counts_;
  std::vector<std::array<double, 3>> discounts_;
};

/// Letters with memory and skew, all byte values now and then: rich counts of counts in a short text.
std::string sample_text(std::size_t size, std::uint64_t seed) {
  hsm::Random random(seed);
  std::string text;
  int state = 0;
  for (std::size_t i = 0; i < size; ++i) {
    if (random.below(12) == 0) {
      text += static_cast<char>(random.below(256));
      continue;
    }
    const double u = random.uniform();
    state = (3 * state + static_cast<int>(9 * u * u * u)) % 17;
    text += static_cast<char>('a' + state);
  }
  return text;
}

bool near(double value, double expected) {
  return std::abs(value - expected) <= kTolerance;
}  // false for NaN

std::vector<std::string> contexts_for(const std::string& text) {
  std::vector<std::string> contexts = {
      "", "a", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "zzzzzzzzzzz", text.substr(0, 3), text};
  contexts.push_back(std::string(9, '\0'));
  for (std::size_t i = 0; i < 5 && i + 10 < text.size(); ++i)
    contexts.push_back(text.substr(i * 7 % (text.size() - 9), 9));
  contexts.push_back("\x01" + text.substr(5, 3));  // seen only without its first byte
  return contexts;
}

TEST(ByteNgram, TheProbabilitiesOfAllBytesArePositiveAndSumToOne) {
  const std::string text = sample_text(3000, 1);
  for (const int order : {1, 2, 5, 8}) {
    const ByteNgram model(text, order);
    for (const std::string& context : contexts_for(text)) {
      double sum = 0;
      for (int byte = 0; byte < 256; ++byte) {
        const double p = model.probability(context, static_cast<unsigned char>(byte));
        EXPECT_GT(p, 0.0);
        sum += p;
      }
      EXPECT_TRUE(near(sum, 1.0)) << "order " << order << ", sum " << sum;
    }
  }
}

TEST(ByteNgram, AgreesWithTheDefinitions) {
  bool some_modified = false, some_fallback = false;
  for (const std::size_t size : {std::size_t{1}, std::size_t{3}, std::size_t{60}, std::size_t{2000}}) {
    const std::string text = sample_text(size, 2);
    for (const int order : {1, 2, 3, 5, 8}) {
      const ByteNgram model(text, order);
      const Oracle oracle(text, static_cast<std::size_t>(order));
      for (const bool modified : oracle.modified) (modified ? some_modified : some_fallback) = true;
      for (const std::string& context :
           size > 9 ? contexts_for(text) : std::vector<std::string>{"", text, "q" + text}) {
        const std::array<double, 256> all = model.distribution(context);
        for (int byte = 0; byte < 256; ++byte) {
          const auto next = static_cast<unsigned char>(byte);
          const double expected = oracle.probability(context, next);
          ASSERT_TRUE(near(model.probability(context, next), expected))
              << "order " << order << ", size " << size << ", byte " << byte << ": "
              << model.probability(context, next) << " instead of " << expected;
          ASSERT_TRUE(near(all[next], expected))
              << "order " << order << ", size " << size << ", byte " << byte;
        }
      }
    }
  }
  EXPECT_TRUE(some_modified);
  EXPECT_TRUE(some_fallback);
}

TEST(ByteNgram, LowerOrdersCountPredecessorsAndNotOccurrences) {
  // "xy" thirty times, but y always after x; z after many different bytes.
  std::string text;
  for (int i = 0; i < 30; ++i) text += "xy";
  for (const char c : std::string("abcdefgh")) (text += c) += 'z';
  const ByteNgram model(text, 2);
  EXPECT_GT(model.probability("Q", 'z'), 2 * model.probability("Q", 'y'));
  EXPECT_GT(model.probability("x", 'y'), 0.9);
}

TEST(ByteNgram, BitsPerByteIsTheMeanOfMinusLog2OfTheProbabilities) {
  const std::string text = sample_text(2000, 3);
  const std::string other = sample_text(60, 4);
  const ByteNgram model(text, 4);
  const Oracle oracle(text, 4);
  double bits = 0;
  for (std::size_t i = 0; i < other.size(); ++i) {
    bits -= std::log2(oracle.probability(other.substr(0, i), static_cast<unsigned char>(other[i])));
  }
  EXPECT_TRUE(near(model.bits_per_byte(other), bits / static_cast<double>(other.size())));
}

TEST(ByteNgram, APeriodicTextNeedsAlmostNoBitsAndAnUnknownByteMany) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "ab";
  const ByteNgram model(text);
  EXPECT_EQ(model.order(), 5);
  EXPECT_LT(model.bits_per_byte(text), 0.01);
  EXPECT_EQ(model.most_probable("ba"), 'b');
  EXPECT_EQ(model.most_probable("ababab"), 'a');
  EXPECT_GT(model.bits_per_byte("\xFE"), 8.0);
}

TEST(ByteNgram, TheMostProbableByteIsTheFirstOfTheLargestProbabilities) {
  const std::string text = sample_text(3000, 5);
  const ByteNgram model(text, 4);
  for (const std::string& context : contexts_for(text)) {
    int best = 0;
    for (int byte = 1; byte < 256; ++byte) {
      if (model.probability(context, static_cast<unsigned char>(byte)) >
          model.probability(context, static_cast<unsigned char>(best))) {
        best = byte;
      }
    }
    EXPECT_EQ(model.most_probable(context), best);
  }
  EXPECT_EQ(ByteNgram("ba", 1).most_probable(""), 'a');
  EXPECT_EQ(ByteNgram("\xFE", 1).most_probable(""), 0xFE);
}

TEST(ByteNgram, DiscountsFollowTheCountsOfCountsAndFallBackWhereTheseAreDegenerate) {
  const ByteNgram::Discounts usual = ByteNgram::estimate_discounts({100, 40, 20, 12});
  const double y = 100.0 / 180.0;
  EXPECT_TRUE(near(usual[0], 1 - 2 * y * 40 / 100));
  EXPECT_TRUE(near(usual[1], 2 - 3 * y * 20 / 40));
  EXPECT_TRUE(near(usual[2], 3 - 4 * y * 12 / 20));
  const auto all = [](double value) { return ByteNgram::Discounts{value, value, value}; };
  EXPECT_EQ(ByteNgram::estimate_discounts({10, 5, 0, 0}), all(0.5));   // no n3: the single discount, 10 / 20
  EXPECT_EQ(ByteNgram::estimate_discounts({30, 5, 1, 0}), all(0.75));  // no n4: D3 would be 3
  EXPECT_EQ(ByteNgram::estimate_discounts({9, 0, 0, 0}), all(0.5));    // the single discount would be 1
  EXPECT_EQ(ByteNgram::estimate_discounts({0, 7, 3, 1}), all(0.5));    // and here 0
  EXPECT_EQ(ByteNgram::estimate_discounts({0, 0, 0, 0}), all(0.5));    // and here 0 / 0
  EXPECT_EQ(ByteNgram::estimate_discounts({10, 5, 50, 5}), all(0.5));  // D2 would be negative
  const std::string text = sample_text(3000, 1);
  EXPECT_NE(ByteNgram(text, 3).discounts(3)[2], ByteNgram(text, 3).discounts(3)[0]);
  EXPECT_THROW(ByteNgram(text, 3).discounts(0), std::out_of_range);
  EXPECT_THROW(ByteNgram(text, 3).discounts(4), std::out_of_range);
}

TEST(ByteNgram, EmptyTextsAndOrdersOutsideOneToEightAreRefused) {
  const auto message_of = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing thrown";
  };
  EXPECT_EQ(message_of([] { ByteNgram model("", 5); }), "ByteNgram: the training text must not be empty");
  EXPECT_EQ(message_of([] { ByteNgram model("abc", 0); }), "ByteNgram: order must be 1..8, got 0");
  EXPECT_EQ(message_of([] { ByteNgram model("abc", 9); }), "ByteNgram: order must be 1..8, got 9");
  EXPECT_EQ(message_of([] { ByteNgram model("abc", -1); }), "ByteNgram: order must be 1..8, got -1");
  EXPECT_EQ(message_of([] { static_cast<void>(ByteNgram("abc", 2).bits_per_byte("")); }),
            "ByteNgram::bits_per_byte: the text must not be empty");
}

}  // namespace
}  // namespace hsm::examples::ngram_test
