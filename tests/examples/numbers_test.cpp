// SPDX-License-Identifier: MIT
//
// Numbers as people give them: one rule, and bounds that say what is checked.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "examples/support/numbers.hpp"

namespace hsm::examples::numbers_test {
namespace {

template <class Number>
std::string refusal(const std::string& text, const Bounds<Number>& bounds) {
  try {
    read_number(text, bounds);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "taken";
}

const std::string kLong(300, '9');

TEST(Numbers, WholeOnesAreDecimalDigits) {
  constexpr Bounds<long> kBounds{0, 1000};
  EXPECT_EQ(read_number("0", kBounds), 0);
  EXPECT_EQ(read_number("010", kBounds), 10);
  EXPECT_EQ(read_number("08", kBounds), 8);
  EXPECT_EQ(read_number("0001000", kBounds), 1000);
  for (const std::string& text :
       {std::string(), std::string("1e1"), std::string("0x10"), std::string("+5"), std::string("-1"),
        std::string("-0"), std::string("5."), std::string("5.0"), std::string(" 5"), std::string("5 "),
        std::string("five"), std::string("nan"), std::string("1001"), std::string("99999999999999999999"),
        kLong, std::string("5\0", 2), std::string("\xD9\xA5")}) {
    EXPECT_TRUE(refusal(text, kBounds).starts_with("must be a whole number, 0 to 1000, got '")) << text;
  }
  EXPECT_LT(refusal(kLong, kBounds).size(), 150u) << "a message stays short";
  EXPECT_EQ(refusal("0", Bounds<int>{1, 8}), "must be a whole number, 1 to 8, got '0'");
}

TEST(Numbers, SeedsFillAllBits) {
  EXPECT_EQ(read_number("18446744073709551615", kSeeds), ~std::uint64_t{0});
  EXPECT_EQ(read_number("010", kSeeds), 10u);
  EXPECT_EQ(refusal("18446744073709551616", kSeeds),
            "must be a whole number, 0 to 2^64 - 1, got '18446744073709551616'");
  EXPECT_NE(refusal("-1", kSeeds), "taken");
}

TEST(Numbers, OthersAreDecimalToo) {
  constexpr Bounds<double> kBounds{0, 1e6};
  for (const auto& [text, value] : std::vector<std::pair<std::string, double>>{{"0", 0},
                                                                               {"0.5", 0.5},
                                                                               {".5", 0.5},
                                                                               {"5.", 5},
                                                                               {"1e1", 10},
                                                                               {"2E-3", 2e-3},
                                                                               {"1e+6", 1e6},
                                                                               {"010", 10}})
    EXPECT_EQ(read_number(text, kBounds), value) << text;
  for (const std::string text :
       {"",    ".",   "e5",       "1e",    "1e+", "+0.5", "-0.5", "-0",    "0x1p3", "inf",
        "nan", "NaN", "infinity", "1e400", " 1",  "1 ",   "1,5",  "1.2.3", "1e1.5", "1000000.1"})
    EXPECT_TRUE(refusal(text, kBounds).starts_with("must be a number, 0 to 1e+06, got '")) << text;
}

TEST(Numbers, AnOpenBoundIsNotOneOfThem) {
  constexpr Bounds<double> kShare{0, 1, true};
  EXPECT_EQ(read_number("1", kShare), 1);
  EXPECT_EQ(refusal("0", kShare), "must be a number, above 0, at most 1, got '0'");
  EXPECT_NE(refusal("1e-400", kShare), "taken") << "it is 0 as a double";
}

TEST(Numbers, HelpAndCheckSayTheSame) {
  CLI::App app;
  long tokens = 500;
  double share = 1;
  std::optional<std::uint64_t> seed;
  add_number(app, "--tokens", tokens, Bounds<long>{1, 1L << 40}, "");
  add_number(app, "--share", share, Bounds<double>{0, 1, true}, "");
  add_number(app, "--seed", seed, kSeeds, "");
  const std::string help = app.help();
  for (const char* words : {"1 to 2^40", "500", "above 0, at most 1", "0 to 2^64 - 1"})
    EXPECT_NE(help.find(words), std::string::npos) << words << " is not in " << help;
  app.parse("--tokens 010 --seed 7 --share 0.25");
  EXPECT_EQ(tokens, 10);
  EXPECT_EQ(share, 0.25);
  EXPECT_EQ(seed, 7u);
  try {
    app.parse("--tokens 0");
    ADD_FAILURE() << "0 was taken";
  } catch (const CLI::ParseError& error) {
    EXPECT_EQ(std::string(error.what()), "--tokens: must be a whole number, 1 to 2^40, got '0'");
  }
}

}  // namespace
}  // namespace hsm::examples::numbers_test
