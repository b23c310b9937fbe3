// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <hsm/model/language_model.hpp>
#include <hsm/model/parameter_budget.hpp>
#include <limits>
#include <stdexcept>
#include <string>

namespace hsm::parameter_budget_test {
namespace {

LanguageModelConfig config_of(const std::string& layers, Positions positions = Positions::kNone) {
  return {.vocabulary = 20,
          .width = 12,
          .feed_forward = 7,
          .context = 9,
          .positions = positions,
          .layers = layers};
}

// By the formulas of the layers, spelled out: V C, context C, per layer two norms and 2 F C + F + C, a last
// norm.
Index expected(const LanguageModelConfig& c, Index layers, Index mixers) {
  const Index C = c.width, F = c.feed_forward;
  return c.vocabulary * C + (c.positions == Positions::kLearned ? c.context * C : 0) +
         layers * (4 * C + 2 * F * C + F + C) + mixers + 2 * C;
}

TEST(ParameterBudget, CountsWhatTheLayersAddUpTo) {
  const Index C = 12;
  EXPECT_EQ(parameters_of(config_of("3*ab")), expected(config_of("3*ab"), 3, 3 * 2));
  const auto mixed = config_of("ab:heads=4,attention:heads=3", Positions::kLearned);
  EXPECT_EQ(parameters_of(mixed), expected(mixed, 2, 8 + 4 * C * C + 4 * C));
}

TEST(ParameterBudget, CountsAsManyAsTheModelHas) {
  for (const char* layers : {"2*ab", "gated,gated-pair,softmax-local:heads=3,attention:heads=2"}) {
    for (const Index F : {1, 2, 31}) {
      LanguageModelConfig config = config_of(layers, Positions::kLearned);
      config.feed_forward = F;
      Random random(1);
      EXPECT_EQ(parameters_of(config), count_parameters(LanguageModel<double>(config, random)))
          << layers << F;
    }
  }
}

TEST(ParameterBudget, CountsEveryLayerWithoutBuildingIt) {
  for (const std::string name : {"ab", "channel", "matrix", "gated", "gated-pair", "fusion", "softmax-local",
                                 "linear-attention", "hkt", "attention"}) {
    for (const Index C : {1, 2, 5, 12, 48, 64, 96}) {
      for (const Index H : {0, 1, 2, 4}) {
        for (const Index K : {0, 2, 5}) {
          Recipe recipe = Recipe::parse(name);
          const auto options = options_of(StandardLayers{}, name);
          const auto takes = [&](std::string_view option) {
            return std::any_of(options.begin(), options.end(),
                               [&](const auto& o) { return o.name == option; });
          };
          if ((H > 0 && !takes("heads")) || (K > 0 && !takes("taps")) || C % std::max<Index>(1, H) != 0)
            continue;
          if (H > 0) recipe.layers[0].options.set("heads", H);
          if (K > 0) recipe.layers[0].options.set("taps", K);
          const LayerSize size = layer_size(recipe.layers[0], C);
          const LayerSize built = detail::measured_layer<StandardLayers>(recipe.layers[0], C);
          EXPECT_EQ(size.parameters, built.parameters) << recipe.text() << " of " << C;
          EXPECT_EQ(size.heads, built.heads) << recipe.text() << " of " << C;
          EXPECT_EQ(size.taps, built.taps) << recipe.text() << " of " << C;
          EXPECT_TRUE(size.footprint == built.footprint) << recipe.text() << " of " << C;
        }
      }
    }
  }
}

TEST(ParameterBudget, RotaryPositionsAndWindowsHaveNoParametersAndOddWidthsAreRefused) {
  const auto size_of = [](const char* text, Index C) {
    return layer_size(Recipe::parse(text).layers.at(0), C);
  };
  for (const Index C : {4, 12, 96}) {
    const LayerSize plain = size_of("attention:heads=2", C);
    const LayerSize turned = size_of("attention:heads=2:rotary=10000", C);
    EXPECT_EQ(turned.parameters, plain.parameters);
    EXPECT_EQ(turned.heads, 2);
    EXPECT_EQ(turned.footprint.kept, 2);
    const LayerSize windowed = size_of("attention:heads=2:window=7", C);
    EXPECT_EQ(windowed.parameters, plain.parameters);
    EXPECT_EQ(windowed.footprint.window, 7);
    EXPECT_FALSE(windowed.footprint.unbounded);
    const LayerSize blocks = size_of("attention:heads=2:block=7:top=3", C);
    EXPECT_EQ(blocks.parameters, plain.parameters);
    EXPECT_EQ(blocks.footprint.block, 7);
    EXPECT_EQ(blocks.footprint.top, 3);
    EXPECT_TRUE(blocks.footprint.unbounded);
  }
  const auto complaint = [&](const char* text) -> std::string {
    try {
      size_of(text, 12);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(complaint("attention:heads=4:rotary=2"),
            "recipe: layer 'attention': the width of a head with rotary positions must be even, got 3 (12 "
            "channels, 4 heads)");
  EXPECT_EQ(complaint("attention:heads=2:rotary=1"),
            "recipe: layer 'attention': rotary must be 0 for none or a base of at least 2, got 1");
  EXPECT_EQ(complaint("attention:heads=2:block=8"),
            "recipe: layer 'attention': block and top must be both 0, for no blocks, or both at least 1, got "
            "block 8 "
            "and top 0");
  EXPECT_EQ(complaint("attention:heads=2:top=8"),
            "recipe: layer 'attention': block and top must be both 0, for no blocks, or both at least 1, got "
            "block 0 "
            "and top 8");
  EXPECT_EQ(complaint("attention:heads=2:block=8:top=2:window=9"),
            "recipe: layer 'attention': one of block and window must be 0, got block 8 and window 9");
}

TEST(ParameterBudget, CountsWhatNoMachineHolds) {
  if constexpr (sizeof(Index) < 8) GTEST_SKIP() << "they do not fit an Index";
  LanguageModelConfig config =
      config_of("150*attention:heads=1048576,50*attention:heads=8:rotary=10000,56*ab:heads=1048576");
  config.schedule = "cyclic=4";
  config.width = Index{1} << 20;
  config.feed_forward = Index{1} << 20;
  const Index C = config.width;
  EXPECT_EQ(parameters_of(config), expected(config, 256, 200 * (4 * C * C + 4 * C) + 56 * 2 * C));
  config.width = std::numeric_limits<Index>::max() / 2;
  EXPECT_THROW(parameters_of(config), std::invalid_argument);
  config.width = 3;  // no multiple of the heads
  EXPECT_THROW(parameters_of(config), std::invalid_argument);
}

TEST(ParameterBudget, ChoosesTheNearestWidth) {
  for (const char* layers : {"ab", "3*ab", "2*gated,attention:heads=2"}) {
    LanguageModelConfig config = config_of(layers);
    const auto distance = [&](Index F, Index target) {
      config.feed_forward = F;
      return std::abs(parameters_of(config) - target);
    };
    config.feed_forward = 1;
    const Index least = parameters_of(config);
    for (Index target = least; target < least + 400; target += 7) {
      const Index F = feed_forward_for(config, target);
      ASSERT_GE(F, 1);
      EXPECT_LE(distance(F, target), distance(F + 1, target)) << layers << " " << target;
      if (F > 1) {
        EXPECT_LT(distance(F, target), distance(F - 1, target)) << layers << " " << target;
      }
    }
  }
}

TEST(ParameterBudget, FindsTheWidthOfAModelAgainWhateverTheConfigSays) {
  LanguageModelConfig config = config_of("2*ab");
  config.feed_forward = 33;
  const Index target = parameters_of(config);
  config.feed_forward = 5;
  EXPECT_EQ(feed_forward_for(config, target), 33);
}

TEST(ParameterBudget, RefusesFewerThanTheRestOfTheModelHas) {
  LanguageModelConfig config = config_of("2*ab");
  config.feed_forward = 1;
  const Index least = parameters_of(config);
  EXPECT_EQ(feed_forward_for(config, least), 1);
  EXPECT_THROW(feed_forward_for(config, least - 1), std::invalid_argument);
  EXPECT_THROW(feed_forward_for(config, -1), std::invalid_argument);
  EXPECT_THROW(feed_forward_for(config_of("nothing"), 100000), std::invalid_argument);
  config.feed_forward = 0;
  EXPECT_THROW(parameters_of(config), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::parameter_budget_test
