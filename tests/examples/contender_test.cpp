// SPDX-License-Identifier: MIT
//
// Recipes with positions and schedules of their own, made equally large.
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "examples/hsm_lm/contender.hpp"
#include "io/io_test_support.hpp"
#include "support/message_of.hpp"

namespace hsm::examples::contender_test {
namespace {

Contender one(const std::string& text, const ContenderDefaults& defaults = {"dyadic", "none", 16}) {
  return contenders_of({text}, defaults).front();
}

TEST(Contender, ReadsPositionsAndSchedulesBehindTheRecipe) {
  EXPECT_EQ(one("ab,ab,ab").name, "3*ab");
  EXPECT_EQ(one("3*ab").config.schedule, "dyadic");
  const Contender learned = one("2*attention@learned");
  EXPECT_EQ(learned.name, "2*attention@learned");
  EXPECT_EQ(learned.config.layers, "2*attention");
  EXPECT_EQ(learned.config.positions, Positions::kLearned);
  const Contender rotated = one("3*ab:heads=4@rotated:dyadic");
  EXPECT_EQ(rotated.name, "3*ab:heads=4@rotated:dyadic");
  EXPECT_EQ(rotated.config.schedule, "rotated:dyadic");
  EXPECT_EQ(rotated.config.positions, Positions::kNone);
  const Contender both = one("2*ab@reversed:list=1,5@learned");
  EXPECT_EQ(both.name, "2*ab@learned@reversed:list=1,5");
  EXPECT_EQ(both.config.positions, Positions::kLearned);
  EXPECT_EQ(both.config.schedule, "reversed:list=1,5");
}

TEST(Contender, SaysWhatIsNotThatOfAll) {
  const ContenderDefaults defaults{"cyclic=2", "learned", 16};
  EXPECT_EQ(one("2*ab", defaults).name, "2*ab@learned");
  EXPECT_EQ(one("2*ab", defaults).config.schedule, "cyclic=2");
  EXPECT_EQ(one("2*ab@none", defaults).name, "2*ab");
  EXPECT_EQ(one("2*ab@dyadic", defaults).name, "2*ab@learned@dyadic");
  EXPECT_EQ(one("2*ab@cyclic=2", defaults).name, "2*ab@learned");
}

TEST(Contender, KnowsHowFarItsShiftsReach) {
  EXPECT_EQ(one("4*ab").reach, 15);
  EXPECT_EQ(one("2*softmax-local:taps=3").reach, 2 * (1 + 2));
  EXPECT_EQ(one("ab,attention").reach, Contender::kEverything);
  EXPECT_EQ(one("4*ab:heads=4@rotated:dyadic").reach, 4 * 8);
}

TEST(Contender, IsMadeAsLargeAsTheOthers) {
  auto contenders =
      contenders_of({"4*ab", "2*attention@learned", "4*fusion@reversed:dyadic"}, {"dyadic", "none", 16});
  const Index wanted = make_equal(contenders, 50, 24, 0);
  // Attention of four layers: 50 and 24 vectors, per layer 4 C^2 + 4 C, two norms and 2 * 4 C * C + 5 C, a last norm.
  EXPECT_EQ(wanted, 16 * 74 + 4 * (4 * 256 + 64 + 64 + 8 * 256 + 5 * 16) + 32);
  for (const Contender& contender : contenders) {
    EXPECT_EQ(contender.config.vocabulary, 50);
    EXPECT_EQ(contender.config.context, 24);
    EXPECT_EQ(parameters_of(contender.config), contender.parameters) << contender.name;
    EXPECT_LE(std::abs(contender.parameters - wanted), 4 * 33 / 2) << contender.name;
  }
  EXPECT_EQ(make_equal(contenders, 50, 24, 9000), 9000);
  EXPECT_LE(std::abs(contenders[0].parameters - 9000), 4 * 33 / 2);
  EXPECT_THROW(make_equal(contenders, 50, 24, 100), std::invalid_argument);
}

TEST(Contender, RefusesWhatIsNone) {
  for (const char* text :
       {"2*zz", "2*ab@", "2*ab@somewhere", "2*ab@list=1", "2*ab@learned@cyclic=0", "@learned"})
    EXPECT_THROW(one(text), std::invalid_argument) << text;
  for (const std::string text : {"2*ab@none@learned", "2*ab@learned@learned", "2*ab@cyclic=2@learned@dyadic"})
    EXPECT_TRUE(test::mentions(test::message_of([&] { one(text); }), {text, "once"})) << text;
  EXPECT_EQ(test::message_of([&] { one("64*ab"); }),
            "'64*ab': the shift must be an index below 2^63, got 2^63");
  auto small = contenders_of({"2*ab"}, {"dyadic", "none", 16});
  EXPECT_TRUE(test::message_of([&] {
                make_equal(small, 50, 24, 1);
              }).starts_with("'2*ab': the number of parameters must"));
  EXPECT_THROW(contenders_of({"2*ab", "ab,ab"}, {"dyadic", "none", 16}), std::invalid_argument);
  EXPECT_THROW(contenders_of({"2*ab", "2*ab@dyadic"}, {"dyadic", "none", 16}), std::invalid_argument);
  EXPECT_EQ(test::message_of([] {
              contenders_of({"2*ab", "2*ab:heads=8"}, {"dyadic", "none", 128});
            }),
            "--layers must name each model once, got '2*ab' and '2*ab:heads=8', which are the same");
  EXPECT_THROW(contenders_of({"2*attention", "2*attention:rotary=0"}, {"dyadic", "none", 16}),
               std::invalid_argument);
  EXPECT_EQ(contenders_of({"2*ab", "2*ab:heads=8@rotated:dyadic", "2*ab:heads=4"},
                          {"rotated:dyadic", "none", 128}, true)
                .size(),
            2u);
}

TEST(AttentionOfEqualSize, HasAsManyLayersAndParameters) {
  LanguageModelConfig config = one("3*ab").config;
  config.feed_forward = 100;
  const auto attention = attention_of_equal_size(config);
  ASSERT_TRUE(attention);
  EXPECT_EQ(attention->layers, "3*attention");
  EXPECT_LE(std::abs(parameters_of(*attention) - parameters_of(config)), 3 * 33 / 2 + 1);
  config.feed_forward = 1;
  EXPECT_FALSE(attention_of_equal_size(config));
}

}  // namespace
}  // namespace hsm::examples::contender_test
