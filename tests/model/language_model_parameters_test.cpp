// SPDX-License-Identifier: MIT
//
// The parameters of the language model: how many, what they are called, how they start, and that copies are values.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>
#include <type_traits>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::language_model_parameters_test {
namespace {

TEST(LanguageModel, TheNumberOfParametersIsThatOfItsFormula) {
  Random random(9);
  const Index V = 11, C = 8, F = 12, T = 24;
  const auto count = [&](const std::string& layers, Positions positions = Positions::kNone) {
    LanguageModelConfig config = small_config(layers);
    config.positions = positions;
    return count_parameters(LanguageModel<float>(config, random));
  };
  const Index block = 4 * C + 2 * F * C + F + C, rest = V * C + 2 * C;
  EXPECT_EQ(count("ab"), rest + block + 2);
  EXPECT_EQ(count("ab", Positions::kLearned), rest + T * C + block + 2);
  EXPECT_EQ(count("ab:heads=4"), rest + block + 8);
  EXPECT_EQ(count("gated"), rest + block + C * C + C);
  EXPECT_EQ(count("gated-pair"), rest + block + 2 * C * C + C);
  EXPECT_EQ(count("softmax-local"), rest + block + 4 * C * C);
  EXPECT_EQ(count("attention"), rest + block + 4 * C * C + 4 * C);
  EXPECT_EQ(count("5*ab,2*attention"), rest + 7 * block + 10 + 2 * (4 * C * C + 4 * C));
}

TEST(LanguageModel, TheEmbeddingIsInputAndOutputMapAndCountedOnce) {
  Random random(10);
  LanguageModelConfig config = small_config();
  const Index before = count_parameters(LanguageModel<float>(config, random));
  config.vocabulary += 1;
  EXPECT_EQ(count_parameters(LanguageModel<float>(config, random)), before + config.width);

  auto model = random_model<double>(small_config(), 20);
  const Ids ids = {3, 4};
  const Matrix<double> h = hidden_of(model, ids, 1, 2);
  model.embedding().weight.row(7) *= 2;  // not among the ids: h stays, its logit doubles
  const Matrix<double> after = hidden_of(model, ids, 1, 2);
  expect_same_bits(after, h, "h");
  const double logit = model.embedding().weight.row(7).dot(h.col(1));
  expect_close(logits_of(model, h)(7, 1), logit, 1e-12, 1e-12, "logit");
}

TEST(LanguageModel, DescribesEveryTensorInTheOrderOfVisit) {
  for (const char* layers : {"ab,channel,matrix,gated", "gated-pair,fusion,softmax-local:taps=3",
                             "ema:ndim=3,attention", "linear-attention,ab", "hkt,hkt:levels=1"}) {
    for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
      LanguageModelConfig config = small_config(layers);
      config.positions = positions;
      Random random(1);
      const LanguageModel<float> model(config, random);
      const TensorSpecs specs = model.describe();
      hsm::detail::check_described("model", specs, model);
      for (const TensorSpec& spec : specs) {
        // The maps of the library are called so, and what they add to the residual stream comes from these.
        const bool matrix = spec.name.ends_with(".weight") && spec.name.find("layers.") == 0;
        EXPECT_EQ(spec.decays, matrix) << spec.name;
        const bool of_matrix = layers[0] == 'a' && spec.name == "layers.2.mixer.project.weight";
        const bool last = spec.name.ends_with("down.weight") || spec.name.ends_with("output.weight");
        EXPECT_EQ(spec.writes_result, last || of_matrix) << spec.name;
      }
    }
  }
}

TEST(LanguageModel, NamesEachTensorOnce) {
  const auto model = random_model<float>(small_config("ab,attention"), 21);
  std::set<std::string> names;
  LanguageModel<float>::visit(
      [&](std::string_view name, const auto&) {
        EXPECT_TRUE(names.insert(std::string(name)).second) << name;
      },
      model);
  for (const char* name :
       {"embedding.weight", "layers.0.mixer_norm.gain", "layers.0.mixer.a", "layers.0.mixer.b",
        "layers.1.mixer.project.weight", "layers.1.mixer.output.bias", "layers.1.feed_forward.down.weight",
        "layers.1.feed_forward_norm.bias", "norm.gain"}) {
    EXPECT_EQ(names.count(name), 1u) << name;
  }
  EXPECT_EQ(names.size(), 1u + 2u * 8u + 2u + 4u + 2u);
}

TEST(LanguageModel, MapsIntoTheResidualStreamStartSmaller) {
  Random random(11);
  LanguageModelConfig config = small_config("8*ab");
  config.width = 64;
  config.feed_forward = 64;
  const LanguageModel<double> model(config, random);
  const auto deviation = [](const auto& weight) {
    return std::sqrt(weight.squaredNorm() / static_cast<double>(weight.size()));
  };
  for (Index l = 0; l < 8; ++l) {
    EXPECT_NEAR(deviation(model.block(l).feed_forward.up.weight), 1.0 / 8, 0.01);
    EXPECT_NEAR(deviation(model.block(l).feed_forward.down.weight), 1.0 / 8 / 4, 0.0025);
  }
}

// Every kind of layer: the one map that writes its result, and no other.
TEST(LanguageModel, EveryLayerSaysWhichOfItsMapsWritesToTheResidualStream) {
  LanguageModelConfig config =
      small_config("matrix,fusion,softmax-local,attention:heads=2,gated,gated-pair,ab,channel");
  config.width = config.feed_forward = 64;
  Random random(11);
  const LanguageModel<double> model(config, random);
  const auto deviation = [](const auto& weight) {
    return std::sqrt(weight.squaredNorm() / static_cast<double>(weight.size()));
  };
  const double full = 1.0 / 8, pair = full / std::sqrt(2.0), small = 1.0 / 4, some = 0.1;  // 2 L = 16
  const auto policy = [&]<class P>(Index l, std::type_identity<P>) -> const P& {
    return std::get<Mixer<P>>(model.block(l).mixer).parameters();
  };
  const auto& matrix = policy(0, std::type_identity<MatrixPair<double>>{});
  const auto& fusion = policy(1, std::type_identity<Fusion<double>>{});
  const auto& local = policy(2, std::type_identity<SoftmaxLocal<double>>{});
  const auto& attention = std::get<CausalAttention<double>>(model.block(3).mixer).parameters();
  const auto expect = [&](const auto& weight, double expected) {
    EXPECT_NEAR(deviation(weight) / expected, 1.0, some);
  };
  expect(matrix.project.weight, pair * small);
  expect(fusion.project.weight, pair);
  expect(fusion.output.weight, full * small);
  expect(local.project.weight, full);
  expect(local.output.weight, full * small);
  expect(attention.project.weight, full / std::sqrt(3.0));
  expect(attention.output.weight, full / std::sqrt(3.0) * small);
  expect(policy(4, std::type_identity<Gated<double>>{}).project.weight,
         deviation(Gated<double>(64, random).project.weight));
  expect(policy(5, std::type_identity<GatedPair<double>>{}).project.weight,
         deviation(GatedPair<double>(64, random).project.weight));
  EXPECT_EQ(policy(6, std::type_identity<ScalarPair<double>>{}).a[0], 1.0);
  EXPECT_EQ(policy(7, std::type_identity<ChannelPair<double>>{}).a[0], 1.0);
}

TEST(LanguageModel, KeepsTheCanonicalRecipeAndTheShiftsOfTheSchedule) {
  Random random(12);
  LanguageModelConfig config = small_config("ab,ab,attention,ab");
  EXPECT_EQ(LanguageModel<float>(config, random).config().layers,
            "2*ab:heads=1,attention:block=0:heads=1:rotary=0:top=0:window=0,ab:heads=1");
  config.schedule = "reversed:reversed:cyclic=02";
  EXPECT_EQ(LanguageModel<float>(config, random).config().schedule, "cyclic=2");
  config.schedule = "list=5,3,1,7";
  const LanguageModel<float> model(config, random);
  EXPECT_EQ(std::get<Mixer<ScalarPair<float>>>(model.block(3).mixer).shift(), 7);
}

TEST(LanguageModel, CopiesAreValuesOfTheirOwn) {
  const auto model = random_model<float>(small_config(), 22);
  auto copy = model;
  const Ids ids = {1, 2, 3};
  const Matrix<float> before = hidden_of(model, ids, 1, 3);
  LanguageModel<float>::visit([](std::string_view, auto& tensor) { tensor.setConstant(0.5f); }, copy);
  expect_same_bits(hidden_of(model, ids, 1, 3), before, "h");
}

}  // namespace
}  // namespace hsm::test::language_model_parameters_test
