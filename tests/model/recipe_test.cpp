// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/model/recipe.hpp>

namespace hsm::recipe_test {
namespace {

/// What parse says about a wrong recipe; empty if it takes it.
std::string complaint(std::string_view text) {
  try {
    Recipe::parse(text);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(Recipe, ReadsNamesCountsAndOptions) {
  const Recipe recipe = Recipe::parse("2*ab,softmax-local:taps=3:heads=4,attention:heads=8");
  ASSERT_EQ(recipe.layers.size(), 4u);
  EXPECT_EQ(recipe.layers[0].name, "ab");
  EXPECT_EQ(recipe.layers[1].name, "ab");
  EXPECT_EQ(recipe.layers[0].options, OptionValues());
  EXPECT_EQ(recipe.layers[2].name, "softmax-local");
  EXPECT_EQ(recipe.layers[2].options.find("heads"), Index{4});
  EXPECT_EQ(recipe.layers[2].options.find("taps"), Index{3});
  EXPECT_EQ(recipe.layers[3].name, "attention");
  EXPECT_EQ(recipe.layers[3].options.find("heads"), Index{8});
  EXPECT_EQ(recipe.layers[3].options.find("taps"), std::nullopt);
  EXPECT_EQ(recipe.layers[0].place, 0);
  EXPECT_EQ(recipe.layers[2].place, 5);
}

TEST(Recipe, CanonicalTextJoinsEqualNeighboursAndOrdersOptions) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"ab", "ab"},
      {"1*ab", "ab"},
      {"ab,ab,ab", "3*ab"},
      {"ab,2*ab,gated", "3*ab,gated"},
      {"ab,gated,ab", "ab,gated,ab"},
      {"007*ab", "7*ab"},
      {"softmax-local:taps=3:heads=4", "softmax-local:heads=4:taps=3"},
      {"ab:heads=2,ab:heads=2,ab:heads=4,ab", "2*ab:heads=2,ab:heads=4,ab"},
      {"x2-y,x2-y", "2*x2-y"},
      {"x:window=8:bias=0:k2-y=3", "x:bias=0:k2-y=3:window=8"},
  };
  for (const auto& [text, canonical] : cases) {
    EXPECT_EQ(Recipe::parse(text).text(), canonical) << text;
    EXPECT_EQ(Recipe::parse(canonical).text(), canonical);
  }
}

TEST(Recipe, ParsingTheCanonicalTextGivesTheSameLayers) {
  const Recipe recipe =
      Recipe::parse("3*ab:heads=2,attention,ab,ab:heads=2:taps=5,ab:taps=5:heads=2,x:z=0:a=7");
  const Recipe again = Recipe::parse(recipe.text());
  ASSERT_EQ(again.layers.size(), recipe.layers.size());
  for (std::size_t l = 0; l < recipe.layers.size(); ++l) {
    EXPECT_TRUE(again.layers[l].same_as(recipe.layers[l])) << "layer " << l;
  }
}

TEST(Recipe, EveryErrorNamesWhatWasExpectedWhereAndWhatCame) {
  const std::string start = "recipe: expected ";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "the name of a mixer at character 0, got the end"},
      {",ab", "the name of a mixer at character 0, got ',ab'"},
      {"ab,", "the name of a mixer at character 3, got the end"},
      {"ab,,ab", "the name of a mixer at character 3, got ',ab'"},
      {"AB", "the name of a mixer at character 0, got 'AB'"},
      {"-ab", "the name of a mixer at character 0, got '-ab'"},
      {"2*", "the name of a mixer at character 2, got the end"},
      {"2*3*ab", "the name of a mixer at character 2, got '3*ab'"},
      {"0*ab", "a count from 1 to 256 at character 0, got '0*ab'"},
      {"ab,257*ab", "a count from 1 to 256 at character 3, got '257*ab'"},
      {"99999999999999999999*ab", "a count from 1 to 256 at character 0, got '999999999999'"},
      {"2ab", "'*' after the count at character 1, got 'ab'"},
      {"ab gated", "',' or ':' or the end at character 2, got ' gated'"},
      {"ab;gated", "',' or ':' or the end at character 2, got ';gated'"},
      {"ab:", "an option at character 3, got the end"},
      {"ab:=3", "an option at character 3, got '=3'"},
      {"ab:heads", "'=' after the option at character 8, got the end"},
      {"ab:heads:2", "'=' after the option at character 8, got ':2'"},
      {"ab:heads=", "a value from 0 to 1048576 at character 9, got the end"},
      {"ab:heads=x", "a value from 0 to 1048576 at character 9, got 'x'"},
      {"ab:heads=-1", "a value from 0 to 1048576 at character 9, got '-1'"},
      {"ab:heads=1048577", "a value from 0 to 1048576 at character 9, got '1048577'"},
      {"ab:heads=2:heads=2", "each option once at character 11, got 'heads=2'"},
      {"ab:heads=2:taps=3:taps=3", "each option once at character 18, got 'taps=3'"},
      {"ab,\033[2J\xff", "the name of a mixer at character 3, got '\\x1b[2J\\xff'"},
      {"200*ab,57*gated", "at most 256 layers in all at character 7, got '57*gated'"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(complaint(text), start + expected) << text;
}

TEST(Recipe, TakesAsManyLayersAsItStates) {
  EXPECT_EQ(Recipe::parse("256*ab").layers.size(), 256u);
  EXPECT_EQ(Recipe::parse("200*ab,56*gated").layers.size(), 256u);
  EXPECT_EQ(complaint("ab:heads=1048576"), "");
}

}  // namespace
}  // namespace hsm::recipe_test
