// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <hsm/model/any_mixer.hpp>
#include <hsm/model/language_model.hpp>

#include "support/matchers.hpp"
#include "support/models.hpp"

namespace hsm::any_mixer_test {
namespace {

/// A policy of a user's own: y = x[t] + decay .* x[t-s].
template <class ScalarType>
struct Leaky {
  using Scalar = ScalarType;
  static constexpr std::string_view kName = "leaky";
  static constexpr Stages kStages{.shifts_input = true};

  Vector<Scalar> decay;  // [C]

  static TensorSpecs describe(Index channels, const OptionValues&) {
    return {vector_spec("decay", channels)};
  }
  explicit Leaky(Index channels) { decay.setConstant(channels, Scalar(0.5)); }

  Index channels() const { return decay.size(); }
  Index heads() const { return 1; }

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("decay", self.decay, more.decay...);
  }

  void combine(const Run<Scalar>& run, Columns<Scalar> z) const {
    z = run.tap(0) + decay.asDiagonal() * run.tap(1);
  }
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double> sums) const {
    d.tap(0) = dz;
    for (Index c = 0; c < channels(); ++c) {
      sums[static_cast<std::size_t>(c)] += static_cast<double>(dz.row(c).dot(run.tap(1).row(c)));
    }
  }
  void adjoint_past(const Run<Scalar>&, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    d.tap(1) += decay.asDiagonal() * dz;
  }
  Index sum_count() const { return channels(); }
  void add_sums(std::span<const double> sums, Leaky& gradients) const {
    for (Index c = 0; c < channels(); ++c)
      gradients.decay[c] += static_cast<Scalar>(sums[static_cast<std::size_t>(c)]);
  }
};

/// What make_mixer says about a layer; empty if it makes it.
template <class List = StandardLayers>
std::string complaint(std::string_view text, Index channels = 8) {
  Random random(1);
  const Recipe recipe = Recipe::parse(text);
  try {
    make_mixer<float>(List{}, recipe.layers.back(), channels, 1, random);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

/// The layer that `text` describes.
template <class List = StandardLayers>
AnyMixer<float, List> make(std::string_view text, Index channels, Index shift = 1) {
  Random random(1);
  return make_mixer<float>(List{}, Recipe::parse(text).layers.at(0), channels, shift, random);
}

TEST(AnyMixer, MakesTheLayerThatIsNamedAtTheShiftOfTheSchedule) {
  const auto ab = make("ab", 8, 5), gated = make("gated", 8, 6), pair = make("gated-pair", 8, 7);
  const auto local = make("softmax-local", 8, 9), attention = make("attention", 8, 3);
  ASSERT_TRUE(std::holds_alternative<Mixer<ScalarPair<float>>>(ab));
  ASSERT_TRUE(std::holds_alternative<Mixer<Gated<float>>>(gated));
  ASSERT_TRUE(std::holds_alternative<Mixer<GatedPair<float>>>(pair));
  ASSERT_TRUE(std::holds_alternative<Mixer<SoftmaxLocal<float>>>(local));
  ASSERT_TRUE(std::holds_alternative<CausalAttention<float>>(attention));
  EXPECT_EQ(std::get<Mixer<ScalarPair<float>>>(ab).shift(), 5);
  EXPECT_EQ(std::get<Mixer<Gated<float>>>(gated).shift(), 6);
  EXPECT_EQ(std::get<Mixer<GatedPair<float>>>(pair).shift(), 7);
  EXPECT_EQ(std::get<Mixer<SoftmaxLocal<float>>>(local).shift(), 9);
  for (const auto* each : {&ab, &gated, &pair, &local, &attention}) {
    EXPECT_EQ(std::visit([](const auto& mixer) { return mixer.channels(); }, *each), 8);
  }
}

TEST(AnyMixer, HeadsTakeTheShiftsInTurn) {
  Random random(1);
  const std::vector<Index> shifts = {3, 1, 4};
  const auto of = [&](const char* text) {
    return make_mixer<float>(StandardLayers{}, Recipe::parse(text).layers.at(0), 8, shifts, random);
  };
  const auto eight = std::get<Mixer<ChannelPair<float>>>(of("channel:heads=8"));
  for (Index h = 0; h < 8; ++h) EXPECT_EQ(eight.shift(h), shifts[static_cast<std::size_t>(h % 3)]) << h;
  const auto two = std::get<Mixer<Fusion<float>>>(of("fusion:heads=2"));
  EXPECT_EQ(two.shift(0), 3);
  EXPECT_EQ(two.shift(1), 1);
  EXPECT_EQ(std::get<Mixer<MatrixPair<float>>>(of("matrix")).shift(), 3);
  EXPECT_TRUE(std::holds_alternative<CausalAttention<float>>(of("attention")));
  EXPECT_THROW(
      make_mixer<float>(StandardLayers{}, Recipe::parse("ab").layers[0], 8, std::span<const Index>(), random),
      std::invalid_argument);
}

TEST(AnyMixer, PassesTheOptionsOn) {
  EXPECT_EQ(std::get<Mixer<ChannelPair<float>>>(make("channel:heads=4", 8)).heads(), 4);
  EXPECT_EQ(std::get<Mixer<MatrixPair<float>>>(make("matrix:heads=2", 8)).heads(), 2);
  EXPECT_EQ(std::get<Mixer<Fusion<float>>>(make("fusion:heads=2", 8)).heads(), 2);
  EXPECT_EQ(std::get<Mixer<ScalarPair<float>>>(make("ab:heads=4", 8)).heads(), 4);
  EXPECT_EQ(std::get<Mixer<Gated<float>>>(make("gated:heads=2", 8)).heads(), 2);
  EXPECT_EQ(std::get<Mixer<GatedPair<float>>>(make("gated-pair:heads=2", 8)).heads(), 2);
  const auto local = make("softmax-local:heads=2:taps=5", 8);
  EXPECT_EQ(std::get<Mixer<SoftmaxLocal<float>>>(local).heads(), 2);
  EXPECT_EQ(std::get<Mixer<SoftmaxLocal<float>>>(local).taps(), 5);
  EXPECT_EQ(std::get<CausalAttention<float>>(make("attention:heads=8", 8)).heads(), 8);
  EXPECT_EQ(std::get<CausalAttention<float>>(make("attention:heads=4", 8)).rotary(), 0);
  EXPECT_EQ(std::get<CausalAttention<float>>(make("attention:heads=4:rotary=10000", 8)).rotary(), 10000);
  EXPECT_EQ(std::get<CausalAttention<float>>(make("attention:heads=4", 8)).window(), 0);
  EXPECT_EQ(std::get<CausalAttention<float>>(make("attention:heads=4:window=64", 8)).window(), 64);
  EXPECT_EQ(std::get<CausalAttention<float>>(make("attention:heads=4", 8)).block(), 0);
  EXPECT_EQ(std::get<CausalAttention<float>>(make("attention:heads=4:block=64:top=3", 8)).block(), 64);
  EXPECT_EQ(std::get<CausalAttention<float>>(make("attention:heads=4:block=64:top=3", 8)).top(), 3);
}

TEST(AnyMixer, HeadsWithoutAnOptionAreThoseWhoseWidthIsNearestToTheWantedOne) {
  for (const auto& [channels, heads] : std::vector<std::pair<Index, Index>>{{8, 1},
                                                                            {32, 1},
                                                                            {40, 1},
                                                                            {48, 2},
                                                                            {80, 2},
                                                                            {100, 4},
                                                                            {112, 4},
                                                                            {128, 4},
                                                                            {144, 4},
                                                                            {480, 15},
                                                                            {512, 8},
                                                                            {544, 8},
                                                                            {1018, 2},
                                                                            {1009, 1}}) {
    EXPECT_EQ(default_heads(channels), heads) << channels;
  }
  for (const auto& [channels, heads] : std::vector<std::pair<Index, Index>>{
           {8, 1}, {16, 1}, {24, 2}, {31, 1}, {40, 2}, {48, 3}, {64, 4}, {100, 5}})
    EXPECT_EQ(default_pair_heads(channels), heads) << channels;
  // No width that divides is nearer, and widths that divide as wanted are taken.
  for (Index C = 1; C <= 600; ++C) {
    const double wanted = C < 512 ? 32 : 64;
    const auto far = [&](Index w) { return std::abs(std::log(static_cast<double>(w) / wanted)); };
    const Index H = default_heads(C);
    ASSERT_EQ(C % H, 0) << C;
    for (Index w = 1; w <= C; ++w) {
      if (C % w == 0) {
        ASSERT_LE(far(C / H), far(w) + 1e-12) << C << " channels, width " << w;
      }
    }
  }
}

TEST(AnyMixer, WithAllOptionsStatesWhatALayerIsMadeWith) {
  const auto stated = [](std::string_view text, Index channels) {
    return with_all_options(StandardLayers{}, Recipe::parse(text), channels).text();
  };
  EXPECT_EQ(
      stated("2*ab,ab:heads=3,gated,softmax-local:taps=3,attention,channel,matrix,gated-pair,fusion,ema,"
             "linear-attention,hkt",
             48),
      "3*ab:heads=3,gated:heads=1,softmax-local:heads=2:taps=3,attention:block=0:heads=2:rotary=0:top=0:"
      "window=0,channel:"
      "heads=3,matrix:heads=1,gated-pair:heads=1,fusion:heads=1,ema:ndim=4,linear-attention:decay=0:heads=2,"
      "hkt:heads=2:levels=3");
  for (const std::string name : {"ab", "channel", "matrix", "gated", "gated-pair", "fusion", "softmax-local",
                                 "ema", "linear-attention", "hkt", "attention"}) {
    for (const Index channels : {8, 48, 80, 100, 128}) {
      const std::string text = stated(name, channels);
      EXPECT_EQ(stated(text, channels), text) << "stated once more";
      const auto bare = make(name, channels), full = make(text, channels);
      const auto heads = [](const auto& mixer) -> std::optional<Index> {
        if constexpr (requires { mixer.heads(); }) return mixer.heads();
        return std::nullopt;
      };
      EXPECT_EQ(std::visit(heads, full), std::visit(heads, bare)) << text;
      EXPECT_EQ(Recipe::parse(text).layers.front().options.find("heads"), std::visit(heads, bare)) << text;
    }
  }
  EXPECT_EQ(with_all_options(PolicyList<ScalarPair, Leaky>{}, Recipe::parse("leaky"), 8).text(), "leaky");
}

TEST(AnyMixer, RefusesLayersOfNoChannels) {
  EXPECT_EQ(default_heads(0), 1);
  EXPECT_THROW(with_all_options(StandardLayers{}, Recipe::parse("ab"), 0), std::invalid_argument);
}

TEST(AnyMixer, RefusesOptionsThatALayerDoesNotTakeByNameAndPlace) {
  EXPECT_EQ(complaint("ab:taps=3"),
            "recipe: 'ab' takes heads and no other option, got 'taps' in the layer at character 0");
  EXPECT_EQ(complaint("channel:taps=3"),
            "recipe: 'channel' takes heads and no other option, got 'taps' in the layer at character 0");
  EXPECT_EQ(complaint("fusion:taps=3"),
            "recipe: 'fusion' takes heads and no other option, got 'taps' in the layer at character 0");
  EXPECT_EQ(complaint("ab,gated:taps=2"),
            "recipe: 'gated' takes heads and no other option, got 'taps' in the layer at character 3");
  EXPECT_EQ(complaint("2*ab,gated-pair:heads=2:taps=2"),
            "recipe: 'gated-pair' takes heads and no other option, got 'taps' in the layer at character 5");
  EXPECT_EQ(complaint("attention:taps=2"),
            "recipe: 'attention' takes heads, rotary, window, block, top and no other option, got 'taps' in "
            "the layer at character 0");
}

TEST(AnyMixer, RefusesValuesOutsideTheStatedBoundsByNameAndPlace) {
  EXPECT_EQ(complaint("ab,ab:heads=0"),
            "recipe: heads of 'ab' must be 1 to 1048576, got 0 in the layer at character 3");
  EXPECT_EQ(complaint("softmax-local:taps=1"),
            "recipe: taps of 'softmax-local' must be 2 to 16, got 1 in the layer at character 0");
  EXPECT_EQ(complaint("softmax-local:taps=17"),
            "recipe: taps of 'softmax-local' must be 2 to 16, got 17 in the layer at character 0");
  EXPECT_EQ(complaint("softmax-local:window=4"),
            "recipe: 'softmax-local' takes heads, taps and no other option, got 'window' in the layer at "
            "character 0");
}

TEST(AnyMixer, RotaryPositionsChangeTheLayerAndNoParameter) {
  const auto plain = std::get<CausalAttention<float>>(make("attention:heads=2", 8));
  const auto turned = std::get<CausalAttention<float>>(make("attention:heads=2:rotary=100", 8));
  EXPECT_EQ(count_parameters(turned), count_parameters(plain));
  EXPECT_TRUE(turned.fits(turned.make_state()));
  EXPECT_FALSE(turned.fits(plain.make_state()));
  EXPECT_FALSE(plain.fits(turned.make_state()));
}

TEST(AnyMixer, AWindowChangesTheLayerAndNoParameter) {
  const auto dense = std::get<CausalAttention<float>>(make("attention:heads=2", 8));
  const auto windowed = std::get<CausalAttention<float>>(make("attention:heads=2:window=5", 8));
  EXPECT_EQ(count_parameters(windowed), count_parameters(dense));
  EXPECT_TRUE(windowed.fits(windowed.make_state()));
  EXPECT_FALSE(windowed.fits(dense.make_state()));
  EXPECT_FALSE(dense.fits(windowed.make_state()));
  EXPECT_EQ(dense.layer().description(), "attention heads 2") << "what fingerprints of old files cover";
  EXPECT_EQ(windowed.layer().description(), "attention heads 2 window 5");
  EXPECT_EQ(dense.layer().footprint(),
            (LayerFootprint{.products = 4, .local = 1, .kept = 2, .reads = 1, .unbounded = true}));
  EXPECT_EQ(windowed.layer().footprint(),
            (LayerFootprint{.products = 4, .local = 1, .kept = 2, .reads = 1, .window = 5}));
}

TEST(AnyMixer, BlocksChangeTheLayerAndNoParameter) {
  const auto dense = std::get<CausalAttention<float>>(make("attention:heads=2", 8));
  const auto blocks = std::get<CausalAttention<float>>(make("attention:heads=2:block=5:top=2", 8));
  EXPECT_EQ(count_parameters(blocks), count_parameters(dense));
  EXPECT_TRUE(blocks.fits(blocks.make_state()));
  EXPECT_FALSE(blocks.fits(dense.make_state()));
  EXPECT_FALSE(dense.fits(blocks.make_state()));
  EXPECT_EQ(blocks.layer().description(), "attention heads 2 block 5 top 2");
  EXPECT_EQ(blocks.layer().footprint(),
            (LayerFootprint{
                .products = 4, .local = 1, .kept = 2, .reads = 1, .unbounded = true, .block = 5, .top = 2}));
}

TEST(AnyMixer, RefusesValuesThatALayerRefuses) {
  EXPECT_NE(complaint("ab:heads=3"), "");
  EXPECT_NE(complaint("gated:heads=16"), "");
  EXPECT_NE(complaint("gated-pair:heads=3"), "");
  EXPECT_NE(complaint("attention:heads=3"), "");
  EXPECT_EQ(complaint("attention:heads=8:rotary=10000"),
            "Attention: the width of a head with rotary positions must be even, got 1 (8 channels, 8 heads)");
  EXPECT_EQ(complaint("attention:heads=2:rotary=1"),
            "Attention: rotary must be 0 for none or a base of at least 2, got 1");
  EXPECT_EQ(complaint("attention:heads=2:rotary=1048576"), "");
  EXPECT_EQ(
      complaint("attention:heads=2:block=8"),
      "Attention: block and top must be both 0, for no blocks, or both at least 1, got block 8 and top 0");
  EXPECT_EQ(complaint("attention:heads=2:block=1048576:top=1048576"), "");
  EXPECT_EQ(complaint("attention:window=1048576"), "");
  EXPECT_NE(complaint("softmax-local:taps=1"), "");
  EXPECT_EQ(complaint("hkt:heads=2:levels=6"), "");
  EXPECT_EQ(complaint("hkt:levels=7"),
            "recipe: levels of 'hkt' must be 1 to 6, got 7 in the layer at character 0");
  EXPECT_NE(complaint("softmax-local:taps=17"), "");
  EXPECT_EQ(complaint("softmax-local:heads=8:taps=16"), "");
  Random random(1);
  EXPECT_THROW(make_mixer<float>(StandardLayers{}, Recipe::parse("ab").layers[0], 8, 0, random),
               std::invalid_argument);
}

TEST(AnyMixer, AnUnknownNameListsTheKnownOnes) {
  EXPECT_EQ(complaint("ab,mamba"),
            "recipe: expected one of ab, channel, matrix, gated, gated-pair, fusion, softmax-local, ema, "
            "linear-attention, hkt, attention, "
            "got 'mamba' in the layer at character 3");
  EXPECT_EQ((complaint<PolicyList<ScalarPair, Leaky>>("gated")),
            "recipe: expected one of ab, leaky, attention, got 'gated' in the layer at character 0");
}

TEST(AnyMixer, APolicyOfOnesOwnJoinsByTheList) {
  using List = PolicyList<ScalarPair, Leaky>;
  const auto layer = make<List>("leaky", 8, 4);
  ASSERT_TRUE(std::holds_alternative<Mixer<Leaky<float>>>(layer));
  EXPECT_EQ(std::get<Mixer<Leaky<float>>>(layer).shift(), 4);
  EXPECT_EQ(complaint<List>("leaky:heads=2"),
            "recipe: 'leaky' takes no option, got 'heads' in the layer at character 0");
  EXPECT_EQ(complaint<List>("leaky:taps=2"),
            "recipe: 'leaky' takes no option, got 'taps' in the layer at character 0");
}

/// A policy whose constructor takes a number that no recipe gives, and says so.
template <class ScalarType>
struct Fading : Leaky<ScalarType> {
  static constexpr std::string_view kName = "fading";
  static constexpr std::array<PolicyOption, 0> kOptions{};
  explicit Fading(Index channels, ScalarType init = ScalarType(0.25)) : Leaky<ScalarType>(channels) {
    this->decay.setConstant(init);
  }
};

/// A policy with options of its own, under any names.
template <class ScalarType>
struct Tuned : Leaky<ScalarType> {
  static constexpr std::string_view kName = "tuned";
  static constexpr std::array kOptions{
      PolicyOption{
          .name = "percent", .least = 0, .most = 100, .usual = [](Index C) -> Index { return C / 2; }},
      heads_option()};
  Index heads_;

  Tuned(Index channels, Index heads, ScalarType init) : Leaky<ScalarType>(channels), heads_(heads) {
    this->decay.setConstant(init);
  }
  Index heads() const { return heads_; }
  static Tuned make(Index channels, const OptionValues& options, Random&) {
    return Tuned(channels, options["heads"], static_cast<ScalarType>(options["percent"]) / 100);
  }
};

TEST(AnyMixer, NothingIsGuessedFromAConstructor) {
  using List = PolicyList<ScalarPair, Fading>;
  const auto layer = make<List>("fading", 8);
  const auto& policy = std::get<Mixer<Fading<float>>>(layer).parameters();
  test::expect_same_bits(policy.decay, Vector<float>::Constant(8, 0.25f).eval(), "decay");
  EXPECT_EQ(complaint<List>("fading:init=3"),
            "recipe: 'fading' takes no option, got 'init' in the layer at character 0");
}

TEST(AnyMixer, APolicyMayStateOptionsOfItsOwn) {
  using List = PolicyList<ScalarPair, Tuned>;
  const auto decay = [](std::string_view text, Index channels) {
    const auto layer = make<List>(text, channels);
    return std::get<Mixer<Tuned<float>>>(layer).parameters().decay[0];
  };
  EXPECT_EQ(decay("tuned:percent=75", 8), 0.75f);
  EXPECT_EQ(decay("tuned:percent=0", 8), 0.0f);
  EXPECT_EQ(decay("tuned", 50), 0.25f);
  EXPECT_EQ(
      complaint<List>("tuned", 202),
      "recipe: the usual percent of 'tuned' for 202 channels must be 0 to 100, as its kOptions say, got "
      "101 in the layer at character 0");
  EXPECT_EQ(std::get<Mixer<Tuned<float>>>(make<List>("tuned:heads=4", 8)).heads(), 4);
  EXPECT_EQ(complaint<List>("tuned:percent=101"),
            "recipe: percent of 'tuned' must be 0 to 100, got 101 in the layer at character 0");
  EXPECT_EQ(with_all_options(List{}, Recipe::parse("2*tuned"), 60).text(), "2*tuned:heads=1:percent=30");
  Random random(1);
  EXPECT_EQ((LanguageModel<float, List>(
                 {.vocabulary = 3, .width = 60, .feed_forward = 2, .layers = "2*tuned"}, random)
                 .config()
                 .layers),
            "2*tuned:heads=1:percent=30");
}

TEST(AnyMixer, AModelHoldsAPolicyOfOnesOwnBesideTheOthers) {
  using Model = LanguageModel<double, PolicyList<ScalarPair, Leaky>>;
  Random random(2);
  const Model model({.vocabulary = 7, .width = 8, .feed_forward = 8, .layers = "leaky,ab,attention,leaky"},
                    random);
  const std::vector<std::int32_t> ids = {1, 2, 3, 4, 5, 6, 0, 1, 2};
  Workspace workspace;
  Model::Saved saved;
  model.hidden(ids, 1, 9, saved, workspace);
  Eigen::MatrixXd expected(7, 9), last(7, 1);
  model.logits({saved.hidden.data(), 8, 9, Eigen::OuterStride<>(8)},
               {expected.data(), 7, 9, Eigen::OuterStride<>(7)}, workspace);
  auto state = model.make_state();
  for (std::size_t t = 0; t < ids.size(); ++t) {
    model.extend(std::span(&ids[t], 1), state, {last.data(), 7, 1, Eigen::OuterStride<>(7)}, workspace);
    test::expect_close_to_scale(last, expected.col(static_cast<Index>(t)).eval(), 1e-12, "logits");
  }
  EXPECT_GT(state.bytes(), 0u);
}

TEST(AnyMixer, TheSeedDecidesTheWeights) {
  const auto first = make("gated", 8), again = make("gated", 8);
  test::expect_same_bits(std::get<Mixer<Gated<float>>>(again).parameters().project.weight,
                         std::get<Mixer<Gated<float>>>(first).parameters().project.weight, "weights");
}

}  // namespace
}  // namespace hsm::any_mixer_test
