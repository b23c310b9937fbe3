// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/model/cost.hpp>
#include <hsm/model/language_model.hpp>

namespace hsm::cost_test {
namespace {

constexpr Index C = 12, F = 7, V = 20;

LanguageModelConfig config_of(const std::string& layers, const std::string& schedule = "dyadic") {
  return {
      .vocabulary = V, .width = C, .feed_forward = F, .context = 9, .layers = layers, .schedule = schedule};
}

/// Counts multiply-adds one by one, as the formulas are written in the headers of the mixers.
struct Counter {
  double products = 0, mixing = 0;

  /// W x of a matrix [rows, C].
  void product(Index rows) {
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < C; ++j) ++products;
  }
  /// One multiply-add, or one sum, for each of n values.
  void each(Index n) {
    for (Index i = 0; i < n; ++i) ++mixing;
  }
};

/// What one token costs a mixer of two taps, or softmax-local of K.
Counter counted(const std::string& name, Index K = 2) {
  Counter count;
  if (name == "ab" || name == "channel") {
    count.each(C);  // a x[t]
    count.each(C);  // + b x[t-s]
  } else if (name == "matrix") {
    count.product(2 * C);  // A x, B x
    count.each(C);         // A x[t] + B x[t-s]
  } else if (name == "gated") {
    count.product(C);  // W x
    count.each(C);     // x[t] - x[t-s]
    count.each(C);     // x[t-s] + g (x[t] - x[t-s])
  } else if (name == "gated-pair") {
    count.product(2 * C);  // W x, U x
    count.each(C);         // W x[t] + U x[t-s]
    count.each(2 * C);     // as gated
  } else if (name == "fusion") {
    count.product(2 * C);  // U x, V x
    count.each(C);         // U x[t] + V x[t-s]
    count.product(C);      // W z
  } else if (name == "softmax-local") {
    count.product(3 * C);  // q, k, v
    for (Index k = 0; k < K; ++k) {
      count.each(C);  // q.k
      count.each(C);  // + w v
    }
    count.product(C);  // W_o z
  }
  return count;
}

TEST(Cost, CountsEveryMixerAsItsFormulaDoes) {
  for (const std::string name :
       {"ab", "channel", "matrix", "gated", "gated-pair", "fusion", "softmax-local"}) {
    for (const Index K : {2, 5}) {
      if (K > 2 && name != "softmax-local") continue;
      const std::string text = name + (K > 2 ? ":taps=5" : "");
      const ModelCost cost = cost_of(config_of(text));
      const Counter count = counted(name, K);
      ASSERT_EQ(cost.layers.size(), 1u);
      const LayerCost& layer = cost.layers[0];
      EXPECT_EQ(layer.products, count.products) << text;
      EXPECT_GE(layer.mixing, count.mixing) << text;
      EXPECT_LE(layer.mixing, count.mixing + static_cast<double>(2 * C)) << text;
      if (name == "ab" || name == "channel") {
        EXPECT_EQ(layer.mixing, count.mixing) << text;
      }
      EXPECT_EQ(layer.feed_forward, static_cast<double>(2 * C * F)) << text;
      EXPECT_EQ(layer.seen, 0) << text;
      const double forward = layer.products + layer.mixing + static_cast<double>(2 * C * F + V * C);
      for (const double T : {1.0, 9.0, 1e6}) {
        EXPECT_EQ(cost.at(CostKind::kGeneration, T), forward) << text;
        EXPECT_EQ(cost.at(CostKind::kTraining, T), 3 * forward) << text;
      }
    }
  }
}

TEST(Cost, CountsThePairsOfAttention) {
  const ModelCost cost = cost_of(config_of("2*attention:heads=3"));
  const double fixed = static_cast<double>(2 * (4 * C * C + 2 * C * F) + V * C);
  for (const Index T : {1, 2, 9, 100}) {
    double last = 0, window = 0;  // multiply-adds of one layer for the pairs of the last token, and of all
    for (Index t = 0; t < T; ++t) {
      last = 0;
      for (Index seen = 0; seen <= t; ++seen) {
        for (Index c = 0; c < C; ++c) last += 2;  // q.k and w v
      }
      window += last;
    }
    const double tokens = static_cast<double>(T);
    EXPECT_DOUBLE_EQ(cost.at(CostKind::kGeneration, tokens), fixed + 2 * last) << T;
    EXPECT_DOUBLE_EQ(cost.at(CostKind::kTraining, tokens) * tokens, 3 * (fixed * tokens + 2 * window)) << T;
  }
}

TEST(Cost, CountsThePairsInsideAWindow) {
  for (const Index W : {1, 2, 5, 64}) {
    const ModelCost cost = cost_of(config_of("2*attention:heads=3:window=" + std::to_string(W)));
    const double fixed = static_cast<double>(2 * (4 * C * C + 2 * C * F) + V * C);
    for (const Index T : {1, 2, 4, 5, 6, 9, 100}) {
      double last = 0, all = 0;
      for (Index t = 0; t < T; ++t) {
        last = 0;
        for (Index seen = std::max<Index>(0, t - W + 1); seen <= t; ++seen) last += 2 * C;
        all += last;
      }
      const double tokens = static_cast<double>(T);
      EXPECT_DOUBLE_EQ(cost.at(CostKind::kGeneration, tokens), fixed + 2 * last) << W << " " << T;
      EXPECT_DOUBLE_EQ(cost.at(CostKind::kTraining, tokens) * tokens, 3 * (fixed * tokens + 2 * all))
          << W << " " << T;
      EXPECT_EQ(cost.at(CostKind::kState, tokens),
                2 * static_cast<double>(2 * C * std::min(T, W - 1)) * sizeof(float))
          << W << " " << T;
    }
    EXPECT_FALSE(cost.layers[0].unbounded());
    EXPECT_TRUE(cost.layers[0].windowed());
  }
  EXPECT_FALSE(cost_of(config_of("attention")).layers[0].windowed());
  EXPECT_FALSE(cost_of(config_of("ab")).layers[0].windowed());
}

// Means over the places in a block: of a sequence that ends with one, and of the tokens of its last block.
TEST(Cost, CountsThePairsOfChosenBlocks) {
  constexpr Index B = 16;
  for (const Index top : {1, 2, 5}) {
    const ModelCost cost =
        cost_of(config_of("attention:heads=3:block=" + std::to_string(B) + ":top=" + std::to_string(top)));
    for (const Index T : {(top + 1) * B, 3 * (top + 1) * B, 40 * (top + 1) * B}) {
      double last = 0,
             all = 0;  // multiply-adds of pairs and of choosing, of the last block's tokens and of all
      for (Index t = 0; t < T; ++t) {
        const Index earlier = t / B, seen = std::min(earlier, top) * B + t % B + 1;
        const auto own = static_cast<double>(2 * C * seen + (earlier > top ? C * earlier : 0));
        all += own;
        if (t >= T - B) last += own / B;
      }
      const double tokens = static_cast<double>(T),
                   fixed = static_cast<double>(4 * C * C + 2 * C * F + V * C);
      EXPECT_NEAR(cost.at(CostKind::kGeneration, tokens), fixed + last, 0.03 * (fixed + last))
          << top << " " << T;
      const double training = 3 * (fixed + all / tokens);
      EXPECT_NEAR(cost.at(CostKind::kTraining, tokens), training, 0.03 * training) << top << " " << T;
      EXPECT_DOUBLE_EQ(cost.at(CostKind::kState, tokens),
                       static_cast<double>(2 * C * T + C * T / B) * sizeof(float))
          << T;
    }
    EXPECT_TRUE(cost.layers[0].unbounded());
    EXPECT_FALSE(cost.layers[0].windowed());
    EXPECT_TRUE(cost.layers[0].bounded());
  }
}

TEST(Cost, AddsUpItsLayers) {
  const ModelCost cost = cost_of(config_of("ab,attention,fusion"));
  for (const CostKind kind : {CostKind::kTraining, CostKind::kGeneration, CostKind::kState}) {
    double sum = kind == CostKind::kState ? 0 : cost.logits * (kind == CostKind::kTraining ? 3 : 1);
    for (const char* layer : {"ab", "attention", "fusion"}) {
      LanguageModelConfig alone = config_of(layer);
      if (std::string_view(layer) == "fusion") alone.schedule = "list=4";
      const ModelCost one = cost_of(alone);
      sum += one.layers[0].at(kind, 50);
    }
    EXPECT_DOUBLE_EQ(cost.at(kind, 50), sum);
  }
}

/// z = M x[t] + x[t-s], M a matrix that is no `project`: combine multiplies by it.
template <class ScalarType>
struct OwnMatrix {
  using Scalar = ScalarType;
  static constexpr std::string_view kName = "own-matrix";
  static constexpr Stages kStages{.shifts_input = true};

  Weights<Scalar> m;  // [C,C]

  static TensorSpecs describe(Index channels, const OptionValues&) {
    return {matrix_spec("m", channels, channels)};
  }
  explicit OwnMatrix(Index channels) { m.setIdentity(channels, channels); }
  Index channels() const { return m.rows(); }
  Index heads() const { return 1; }
  template <class Fn, class Self, class... More>
  static void visit(Fn&& f, Self& self, More&... more) {
    f("m", self.m, more.m...);
  }
  void combine(const Run<Scalar>& run, Columns<Scalar> z) const { z = m * run.tap(0) + run.tap(1); }
  void adjoint_now(const Run<Scalar>& run, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d,
                   std::span<double> sums) const {
    d.tap(0) = m.transpose() * dz;
    const Weights<Scalar> dm = dz * run.tap(0).transpose();
    for (Index i = 0; i < dm.size(); ++i)
      sums[static_cast<std::size_t>(i)] += static_cast<double>(dm.data()[i]);
  }
  void adjoint_past(const Run<Scalar>&, ConstColumns<Scalar> dz, const RunGradient<Scalar>& d) const {
    d.tap(1) += dz;
  }
  Index sum_count() const { return m.size(); }
  void add_sums(std::span<const double> sums, OwnMatrix& gradients) const {
    for (Index i = 0; i < m.size(); ++i)
      gradients.m.data()[i] += static_cast<Scalar>(sums[static_cast<std::size_t>(i)]);
  }
};

TEST(Cost, CountsAPolicyOfOnesOwn) {
  using List = PolicyList<ScalarPair, OwnMatrix>;
  const ModelCost cost = cost_of<List>(config_of("ab,own-matrix,attention"));
  ASSERT_EQ(cost.layers.size(), 3u);
  EXPECT_EQ(cost.layers[1].products, 0);
  EXPECT_EQ(cost.layers[1].mixing, static_cast<double>(C * C));  // more than the 2 C values that it reads
  EXPECT_EQ(cost.layers[1].state_bytes(100), static_cast<double>(2 * C) * sizeof(float));
  EXPECT_EQ(cost.layers[0].mixing, static_cast<double>(2 * C));
  EXPECT_THROW(cost_of(config_of("own-matrix")), std::invalid_argument);
}

TEST(Cost, OfARecurrenceGrowsWithTheWidthOfItsHeadsAlone) {
  const ModelCost cost = cost_of(config_of("ema:ndim=3,linear-attention:heads=2"));
  EXPECT_EQ(cost.layers[0].mixing, 9.0 * C);
  EXPECT_EQ(cost.layers[0].state_bytes(1e6), 3.0 * C * sizeof(float));
  const double planes = C / 2 + 1;  // S is C/H wide, z one more
  EXPECT_EQ(cost.layers[1].products, 4.0 * C * C);
  EXPECT_EQ(cost.layers[1].mixing, 2 * planes * C) << "S and z move on, and a query reads them";
  EXPECT_EQ(cost.layers[1].state_bytes(1e6), planes * C * sizeof(float));
  EXPECT_EQ(cost.layers[1].state_bytes(0), 0);
  const ModelCost wide = cost_of([] {
    LanguageModelConfig config = config_of("linear-attention:heads=8");
    config.width = 512;  // heads of 64: more than the layer of its kind that is measured
    return config;
  }());
  EXPECT_EQ(wide.layers[0].mixing, 2.0 * 65 * 512);
}

TEST(Cost, OfAHierarchyCountsPairsOfBlocksOnceInTraining) {
  const ModelCost cost = cost_of(config_of("hkt:heads=2:levels=3,hkt:heads=2:levels=1,attention:heads=2"));
  const LayerCost &three = cost.layers[0], &one = cost.layers[1], &attention = cost.layers[2];
  EXPECT_EQ(three.products, (4 + 2 * (0.5 + 0.25)) * C * C);
  EXPECT_EQ(three.seen, (2 + 0.5 + 0.25) * C) << "a step multiplies the keys of all blocks";
  EXPECT_EQ(three.trained(), (2 + 0.25 + 0.0625) * C);
  EXPECT_EQ(three.state_bytes(100), 100 * 2.75 * C * sizeof(float));
  EXPECT_TRUE(three.unbounded());
  for (const CostKind kind : {CostKind::kTraining, CostKind::kGeneration, CostKind::kState})
    EXPECT_EQ(one.at(kind, 77), attention.at(kind, 77));
  EXPECT_EQ(three.at(CostKind::kTraining, 99),
            3 * (three.products + three.mixing + three.feed_forward + three.trained() * 50));
}

/// What a state of a model of floats holds after `tokens` tokens.
double held(const LanguageModelConfig& config, Index tokens) {
  Random random(1);
  const LanguageModel<float> model(config, random);
  auto state = model.make_state();
  Workspace workspace;
  std::vector<float> logits(static_cast<std::size_t>(V));
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens), 3);
  if (tokens > 0)
    model.extend(ids, state, Columns<float>(logits.data(), V, 1, Eigen::OuterStride<>(V)), workspace);
  return static_cast<double>(state.bytes());
}

TEST(Cost, CountsTheBytesThatAStateHolds) {
  for (const auto& [layers, schedule] : std::vector<std::pair<std::string, std::string>>{
           {"5*ab", "dyadic"},
           {"ab:heads=3,gated:heads=2,softmax-local:heads=4:taps=3,matrix", "rotated:dyadic"},
           {"2*channel:heads=4,gated-pair,fusion", "geometric=3"},
           {"3*attention", "dyadic"},
           {"ema:ndim=3,linear-attention:heads=2,linear-attention:decay=1:heads=4", "dyadic"},
           {"ab,attention,gated-pair", "reversed:dyadic"}}) {
    const LanguageModelConfig config = config_of(layers, schedule);
    const ModelCost cost = cost_of(config);
    double longest = 0;
    for (const LayerCost& layer : cost.layers) {
      for (const KeptSpan& span : layer.spans) longest = std::max(longest, span.tokens);
    }
    for (const Index T :
         {64, 256}) {  // past the longest span, and as many as a cache that doubles has room for
      ASSERT_LE(longest, static_cast<double>(T)) << layers;
      EXPECT_EQ(cost.at(CostKind::kState, static_cast<double>(T)), held(config, T)) << layers << " " << T;
    }
    // Before that, no more than the state holds, and what each layer has seen.
    for (const Index T : {0, 1, 2, 3, 5, 11}) {
      const double need = cost.at(CostKind::kState, static_cast<double>(T));
      EXPECT_LE(need, held(config, T)) << layers << " " << T;
      double naive = 0;
      for (const LayerCost& layer : cost.layers) {
        for (Index t = 1; t <= T;
             ++t) {  // the token t before the end is kept by the heads whose span reaches it
          const double back = static_cast<double>(t);
          double heads = layer.unbounded() ? 1 : 0;
          for (const KeptSpan& span : layer.spans) heads += span.tokens >= back ? span.heads : 0;
          naive += layer.token_bytes * heads;
        }
      }
      EXPECT_DOUBLE_EQ(need, naive) << layers << " " << T;
    }
  }
}

TEST(Cost, OfAWindowIsAtLeastHalfOfWhatAStateHolds) {
  const LanguageModelConfig config = config_of("ab,2*attention:window=40");
  const ModelCost cost = cost_of(config);
  for (const Index T : {39, 100, 1000}) {
    const double need = cost.at(CostKind::kState, static_cast<double>(T));
    EXPECT_LE(need, held(config, T)) << T;
    EXPECT_GE(need, held(config, T) / 2) << T;
  }
}

TEST(Cost, TellsHowManyHeadsKeepATokenForHowLong) {
  const std::vector<Index> shifts{1, 2, 4};
  LayerSize size{.parameters = 0, .heads = 8, .taps = 3, .footprint = {.kept = 1, .reads = 3}};
  const LayerCost cost = layer_cost(size, 16, 1, shifts);
  std::map<double, double> heads, expected;
  for (const KeptSpan& span : cost.spans) heads[span.tokens] += span.heads;
  for (std::size_t h = 0; h < 8; ++h) ++expected[2 * static_cast<double>(shifts[h % 3])];
  EXPECT_EQ(heads, expected);
  size.heads = 2;  // fewer than there are shifts
  ASSERT_EQ(layer_cost(size, 16, 1, shifts).spans.size(), 2u);
  EXPECT_EQ(layer_cost(size, 16, 1, shifts).spans[1].tokens, 4);
  EXPECT_EQ(layer_cost(size, 16, 1, shifts).spans[1].heads, 1);
}

TEST(Cost, CountsALongRingAsItGrows) {
  const LanguageModelConfig config = config_of("ab", "list=4000000");  // 192 MB, which no ring begins with
  EXPECT_EQ(cost_of(config).at(CostKind::kState, 64), 64 * 4.0 * C);
  EXPECT_LE(64 * 4.0 * C, held(config, 64));
  EXPECT_EQ(cost_of(config).at(CostKind::kState, 1e9), 4e6 * 4 * C);
  EXPECT_EQ(cost_of(config, sizeof(double)).at(CostKind::kState, 1e9), 4e6 * 8 * C);
}

/// The first context, by looking at each.
std::optional<double> searched(CostKind kind, const ModelCost& a, const ModelCost& b, Index most) {
  for (Index T = 1; T <= most; ++T) {
    const double context = static_cast<double>(T);
    if (a.at(kind, context) <= b.at(kind, context)) return context;
  }
  return std::nullopt;
}

TEST(Cost, FindsTheContextFromWhichOneIsCheaper) {
  constexpr Index kMost = 3000;
  const std::vector<std::pair<std::string, Index>> models{{"4*ab", 31},
                                                          {"4*attention", 7},
                                                          {"2*gated-pair,attention,ab", 16},
                                                          {"4*fusion", 11},
                                                          {"4*ab", 3000},
                                                          {"2*attention,2*gated", 12},
                                                          {"4*softmax-local:taps=8", 1},
                                                          {"ab", 1},
                                                          {"4*attention:window=9", 13},
                                                          {"attention,3*attention:window=200", 40},
                                                          {"3*attention:window=1,attention:window=70", 90},
                                                          {"4*attention:block=8:top=3", 20}};
  int found = 0, late = 0;
  for (const auto& [first, first_width] : models) {
    for (const auto& [second, second_width] : models) {
      for (const char* schedule : {"dyadic", "geometric=7"}) {
        LanguageModelConfig a = config_of(first, schedule), b = config_of(second, schedule);
        a.feed_forward = first_width;
        b.feed_forward = second_width;
        const ModelCost left = cost_of(a), right = cost_of(b);
        for (const CostKind kind : {CostKind::kTraining, CostKind::kGeneration, CostKind::kState}) {
          const auto expected = searched(kind, left, right, kMost);
          const auto got = overtaking_context(kind, left, right);
          if (expected) {
            ASSERT_TRUE(got) << first << " " << second;
            EXPECT_EQ(*got, *expected) << first << " " << second << " " << schedule;
            ++found;
            late += *expected > 1;
          } else {
            EXPECT_TRUE(!got || *got > kMost) << first << " " << second << " " << schedule;
          }
        }
      }
    }
  }
  EXPECT_GT(found, 100);
  EXPECT_GT(late, 20);
}

// Costs per token fall behind the end of a window, beside what they rise by elsewhere: less in between than at both ends.
TEST(Cost, FindsAContextBetweenTwoThatCostMore) {
  LayerCost rising, falling;
  rising.seen = 1;
  falling.seen = 300;
  falling.most_seen = 50;
  falling.spans = {{49, 1}};
  int found = 0;
  for (const double more : {14'500.0, 14'142.0, 14'141.0, 14'100.0, 14'000.0, 13'000.0, 10'000.0}) {
    rising.products = more;
    const ModelCost a{{rising}, 0}, b{{falling}, 0};
    for (const auto& [left, right] : {std::pair(a, b), std::pair(b, a)}) {
      const auto expected = searched(CostKind::kTraining, left, right, 20'000);
      const auto got = overtaking_context(CostKind::kTraining, left, right);
      ASSERT_EQ(got.has_value() && *got <= 20'000, expected.has_value()) << more;
      EXPECT_EQ(expected.value_or(0), expected ? *got : 0) << more;
      found += expected && *expected > 1;
    }
  }
  EXPECT_GT(found, 3);
}

TEST(Cost, SaysWhenNoContextDoes) {
  const ModelCost attention = cost_of(config_of("attention")), ab = cost_of(config_of("ab"));
  EXPECT_FALSE(overtaking_context(CostKind::kGeneration, attention, ab));
  EXPECT_FALSE(overtaking_context(CostKind::kTraining, attention, ab));
  EXPECT_EQ(overtaking_context(CostKind::kTraining, ab, attention), 1);
}

TEST(Cost, RefusesWhatNoModelIs) {
  EXPECT_THROW(cost_of(config_of("zz")), std::invalid_argument);
  EXPECT_THROW(cost_of(config_of("2*ab", "list=1")), std::invalid_argument);
  LanguageModelConfig config = config_of("ab");
  config.width = 0;
  EXPECT_THROW(cost_of(config), std::invalid_argument);
}

}  // namespace
}  // namespace hsm::cost_test
