// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <stdexcept>
#include <string>

#include <hsm/model/language_model.hpp>

#include "model/language_model_cases.hpp"
#include "reference/language_model_reference.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {
namespace {

template <class Scalar>
class LanguageModelOf : public ::testing::Test {};

using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LanguageModelOf, Scalars);

TYPED_TEST(LanguageModelOf, HiddenAndLogitsAreThoseOfPlainLoops) {
  Random random(1);
  const Index B = 2, T = 13;
  for (const std::string& layers : {std::string("ab,attention"), kEveryKind}) {
    for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
      LanguageModelConfig config = small_config(layers);
      config.positions = positions;
      const auto model = random_model<TypeParam>(config, 3);
      auto wide = random_model<double>(config, 3);
      LanguageModel<double>::visit(  // the values after rounding to TypeParam
          [](std::string_view, auto& tensor) {
            for (Index i = 0; i < tensor.size(); ++i)
              tensor.data()[i] = static_cast<double>(static_cast<TypeParam>(tensor.data()[i]));
          },
          wide);
      const LanguageModelReference reference(wide);
      const Ids ids = random_ids(B * T, config.vocabulary, random);
      const Matrix<TypeParam> h = hidden_of(model, ids, B, T), z = logits_of(model, h);
      Values expected_hidden, expected_logits;
      for (Index b = 0; b < B; ++b) {
        const auto sequence = std::span(ids).subspan(static_cast<std::size_t>(b * T), T);
        for (const double value : reference.hidden(sequence)) expected_hidden.push_back(value);
        for (const double value : reference.logits(sequence)) expected_logits.push_back(value);
      }
      // Layer after layer the error of one product (Tolerance::forward) adds up: six layers of two branches.
      const double tolerance = 10 * Tolerance<TypeParam>::forward;
      expect_close_to_scale(Values(h.data(), h.data() + h.size()), expected_hidden, tolerance, layers);
      expect_close_to_scale(Values(z.data(), z.data() + z.size()), expected_logits, tolerance, layers);
    }
  }
}

TYPED_TEST(LanguageModelOf, LaterIdsChangeNoBitOfEarlierColumns) {
  Random random(2);
  const Index B = 2, T = 40;
  const auto model = random_model<TypeParam>(small_config(), 5);
  const Ids ids = random_ids(B * T, model.config().vocabulary, random);
  const Matrix<TypeParam> h = hidden_of(model, ids, B, T);
  for (const Index t : {Index{0}, Index{1}, Index{17}, Index{38}}) {
    Ids changed = ids;
    for (Index b = 0; b < B; ++b) {
      for (Index u = t + 1; u < T; ++u) {
        auto& id = changed[static_cast<std::size_t>(b * T + u)];
        id = static_cast<std::int32_t>((id + 1) % model.config().vocabulary);
      }
    }
    const Matrix<TypeParam> after = hidden_of(model, changed, B, T);
    for (Index b = 0; b < B; ++b) {
      expect_same_bits(after.middleCols(b * T, t + 1).eval(), h.middleCols(b * T, t + 1).eval(),
                       "columns up to " + std::to_string(t));
      EXPECT_FALSE((after.col(b * T + t + 1).array() == h.col(b * T + t + 1).array()).all());
    }
  }
}

TYPED_TEST(LanguageModelOf, SequencesOfABatchDoNotMix) {
  Random random(3);
  const Index T = 21;
  const auto model = random_model<TypeParam>(small_config(), 6);
  const Ids first = random_ids(T, model.config().vocabulary, random);
  const Ids second = random_ids(T, model.config().vocabulary, random);
  Ids both = first;
  both.insert(both.end(), second.begin(), second.end());
  const Matrix<TypeParam> h = hidden_of(model, both, 2, T);
  expect_close_to_scale(h.leftCols(T).eval(), hidden_of(model, first, 1, T), Tolerance<TypeParam>::mode, "0");
  expect_close_to_scale(h.rightCols(T).eval(), hidden_of(model, second, 1, T), Tolerance<TypeParam>::mode,
                        "1");
}

/// extend in cuts drawn by `random` against hidden of the whole.
template <class Scalar>
void expect_extend_is_hidden(const LanguageModel<Scalar>& model, Index B, Index T, Index longest_cut,
                             Random& random) {
  const Index V = model.config().vocabulary;
  const Ids ids = random_ids(B * T, V, random);
  const Matrix<Scalar> expected = logits_of(model, hidden_of(model, ids, B, T));
  Workspace workspace;
  workspace.poison = true;
  auto state = model.make_state({.streams = B});
  Matrix<Scalar> last(V, B);
  for (Index first = 0; first < T;) {
    const Index n =
        std::min(T - first, 1 + static_cast<Index>(random.below(static_cast<std::uint64_t>(longest_cut))));
    Ids part;
    for (Index b = 0; b < B; ++b) {
      const auto start = ids.begin() + b * T + first;
      part.insert(part.end(), start, start + n);
    }
    model.extend(part, state, block_of(last), workspace);
    first += n;
    for (Index b = 0; b < B; ++b) EXPECT_EQ(state.count(b), first);
    for (Index b = 0; b < B; ++b) {
      // The error of a cut (Tolerance::mode) adds up over layers, and deep models amplify it.
      expect_close_to_scale(last.col(b).eval(), expected.col(b * T + first - 1).eval(),
                            20 * Tolerance<Scalar>::mode, "logits after token " + std::to_string(first));
    }
  }
}

TYPED_TEST(LanguageModelOf, ExtendInAnyCutsIsHidden) {
  Random random(4);
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    LanguageModelConfig config = small_config();
    config.positions = positions;
    config.context = 90;
    const auto model = random_model<TypeParam>(config, 7);
    expect_extend_is_hidden(model, 3, 90, 1, random);
    expect_extend_is_hidden(model, 3, 90, 25, random);
    expect_extend_is_hidden(model, 1, 90, 90, random);
  }
}

TYPED_TEST(LanguageModelOf, ExtendPastItsInternalChunksIsHidden) {
  Random random(5);
  expect_extend_is_hidden(random_model<TypeParam>(small_config(), 8), 1, 2300, 1500, random);
  // So wide a network that the chunk is at its smallest, 16 tokens.
  LanguageModelConfig wide = small_config("ab,softmax-local,attention");
  wide.feed_forward = 20'000;
  auto model = random_model<TypeParam>(wide, 9);
  LanguageModel<TypeParam>::visit(
      [](std::string_view name, auto& tensor) {
        if (name.ends_with("down.weight")) tensor *= TypeParam(0.02);
      },
      model);
  expect_extend_is_hidden(model, 2, 53, 53, random);
}

TEST(LanguageModel, LearnedPositionsEndAndLeaveTheStateAsItWas) {
  LanguageModelConfig config = small_config("ab,attention");
  config.positions = Positions::kLearned;
  config.context = 10;
  const auto model = random_model<double>(config, 10);
  Random random(6);
  const Ids ids = random_ids(10, config.vocabulary, random), more = random_ids(4, config.vocabulary, random);
  Workspace workspace;
  auto state = model.make_state();
  Matrix<double> last(config.vocabulary, 1);
  EXPECT_EQ(model.room(state), 10);
  model.extend(std::span(ids).first(7), state, block_of(last), workspace);
  EXPECT_EQ(model.room(state), 3);
  const Matrix<double> before = last;
  try {
    model.extend(more, state, block_of(last), workspace);
    FAIL() << "more tokens than positions were taken";
  } catch (const std::out_of_range& error) {
    EXPECT_EQ(std::string(error.what()),
              "LanguageModel::extend: the model has learned 10 positions, got 7 tokens before and 4 more");
  }
  expect_same_bits(last, before, "logits");
  EXPECT_EQ(state.count(0), 7);
  model.extend(std::span(ids).last(3), state, block_of(last), workspace);
  EXPECT_EQ(model.room(state), 0);
  expect_close_to_scale(last, logits_of(model, hidden_of(model, ids, 1, 10)).rightCols(1).eval(),
                        20 * Tolerance<double>::mode, "logits");
  LanguageModelSaved<double> saved;
  EXPECT_THROW(model.hidden(random_ids(11, config.vocabulary, random), 1, 11, saved, workspace),
               std::out_of_range);
}

TEST(LanguageModel, TheCapacityOfAttentionIsCheckedBeforeAnyLayerMovesOn) {
  const auto model = random_model<double>(small_config("2*ab,attention"), 11);
  Random random(7);
  const Ids ids = random_ids(8, 11, random);
  Workspace workspace;
  auto state = model.make_state({.capacity = 8});
  Matrix<double> last(11, 1);
  EXPECT_EQ(model.room(state), 8);
  model.extend(std::span(ids).first(5), state, block_of(last), workspace);
  EXPECT_EQ(model.room(state), 3);
  EXPECT_THROW(model.extend(std::span(ids).first(4), state, block_of(last), workspace), std::out_of_range);
  model.extend(std::span(ids).last(3), state, block_of(last), workspace);
  expect_close_to_scale(last, logits_of(model, hidden_of(model, ids, 1, 8)).rightCols(1).eval(),
                        20 * Tolerance<double>::mode, "logits");
}

TEST(LanguageModel, BadTokenIdsAreNamedAndChangeNothing) {
  const auto model = random_model<float>(small_config(), 12);
  Workspace workspace;
  LanguageModelSaved<float> saved;
  auto state = model.make_state();
  Matrix<float> last(11, 1), again(11, 1);
  const Ids good = {1, 2, 3};
  for (const std::int32_t bad : {-1, 11, 1 << 30}) {
    const Ids ids = {1, bad, 3};
    const std::string what = "token id 1 must be 0 to 10, got " + std::to_string(bad);
    try {
      model.hidden(ids, 1, 3, saved, workspace);
      FAIL() << "hidden took " << bad;
    } catch (const std::out_of_range& error) {
      EXPECT_EQ(error.what(), "LanguageModel::hidden: " + what);
    }
    try {
      model.extend(ids, state, block_of(last), workspace);
      FAIL() << "extend took " << bad;
    } catch (const std::out_of_range& error) {
      EXPECT_EQ(error.what(), "LanguageModel::extend: " + what);
    }
  }
  EXPECT_EQ(state.count(0), 0);
  model.extend(good, state, block_of(last), workspace);
  auto fresh = model.make_state();
  model.extend(good, fresh, block_of(again), workspace);
  expect_same_bits(last, again, "logits after refused tokens");
}

TEST(LanguageModel, RefusesSizesThatDoNotFit) {
  const auto model = random_model<float>(small_config(), 13);
  Workspace workspace;
  LanguageModelSaved<float> saved;
  const Ids ids = {1, 2, 3, 4};
  EXPECT_THROW(model.hidden(ids, 1, 3, saved, workspace), std::invalid_argument);
  EXPECT_THROW(model.hidden(ids, -2, -2, saved, workspace), std::invalid_argument);
  auto state = model.make_state({.streams = 3});
  Matrix<float> last(11, 3), narrow(11, 2);
  EXPECT_THROW(model.extend(ids, state, block_of(last), workspace), std::invalid_argument);
  EXPECT_THROW(model.extend(std::span(ids).first(3), state, block_of(narrow), workspace),
               std::invalid_argument);
  EXPECT_THROW(model.extend({}, state, block_of(last), workspace), std::invalid_argument);
  EXPECT_THROW(model.make_state({.streams = 0}), std::invalid_argument);
}

TEST(LanguageModel, RefusesTheStateOfAnotherModel) {
  const auto model = random_model<float>(small_config("ab,attention"), 14);
  Workspace workspace;
  Matrix<float> last(11, 1);
  const Ids ids = {1, 2};
  for (const char* layers : {"ab", "attention,ab", "ab,ab", "ab,gated,attention"}) {
    auto state = random_model<float>(small_config(layers), 15).make_state();
    EXPECT_THROW(model.extend(ids, state, block_of(last), workspace), std::invalid_argument) << layers;
  }
  LanguageModelState<float> empty;
  EXPECT_THROW(model.extend(ids, empty, block_of(last), workspace), std::invalid_argument);
}

TEST(LanguageModel, BackwardRefusesRecordsGradientsAndIdsThatAreNotItsOwn) {
  const auto model = random_model<float>(small_config("ab,attention"), 16);
  Workspace workspace;
  const Ids ids = {1, 2, 3, 4};
  LanguageModelSaved<float> saved;
  model.hidden(ids, 2, 2, saved, workspace);
  const Matrix<float> dh = Matrix<float>::Ones(8, 4);
  auto gradients = zeros_like(model);
  EXPECT_NO_THROW(model.backward(ids, saved, read(dh), gradients, workspace));
  EXPECT_THROW(model.backward(Ids{1, 2, 3}, saved, read(dh), gradients, workspace), std::invalid_argument);
  EXPECT_THROW(model.backward(Ids{1, 2, 3, 11}, saved, read(dh), gradients, workspace), std::out_of_range);
  const Matrix<float> short_dh = Matrix<float>::Ones(8, 3);
  EXPECT_THROW(model.backward(ids, saved, read(short_dh), gradients, workspace), std::invalid_argument);
  EXPECT_THROW(model.backward(ids, LanguageModelSaved<float>{}, read(dh), gradients, workspace),
               std::invalid_argument);
  for (const char* layers : {"ab", "attention,ab", "ab,attention,ab"}) {
    const auto other = random_model<float>(small_config(layers), 17);
    LanguageModelSaved<float> other_saved;
    other.hidden(ids, 2, 2, other_saved, workspace);
    auto other_gradients = zeros_like(other);
    EXPECT_THROW(model.backward(ids, other_saved, read(dh), gradients, workspace), std::invalid_argument)
        << layers;
    EXPECT_THROW(model.backward(ids, saved, read(dh), other_gradients, workspace), std::invalid_argument)
        << layers;
  }
}

TEST(LanguageModel, NoTokensAreLegal) {
  const auto model = random_model<float>(small_config(), 18);
  EXPECT_EQ(hidden_of(model, {}, 0, 5).cols(), 0);
  EXPECT_EQ(hidden_of(model, {}, 3, 0).cols(), 0);
}

TEST(LanguageModel, OneRecordServesCallsOfAnySize) {
  const auto model = random_model<double>(small_config(), 19);
  Random random(8);
  Workspace workspace;
  LanguageModelSaved<double> saved;
  for (const Index T : {Index{9}, Index{3}, Index{20}}) {
    const Ids ids = random_ids(2 * T, 11, random);
    model.hidden(ids, 2, T, saved, workspace);
    expect_same_bits(saved.hidden, hidden_of(model, ids, 2, T), "h");
  }
}

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

TEST(LanguageModel, KeepsTheCanonicalRecipeAndTheShiftsOfTheSchedule) {
  Random random(12);
  LanguageModelConfig config = small_config("ab,ab,attention,ab");
  EXPECT_EQ(LanguageModel<float>(config, random).config().layers, "2*ab,attention,ab");
  config.schedule = "reversed:reversed:cyclic=02";
  EXPECT_EQ(LanguageModel<float>(config, random).config().schedule, "cyclic=2");
  config.schedule = "list=5,3,1,7";
  const LanguageModel<float> model(config, random);
  EXPECT_EQ(std::get<Mixer<ScalarPair<float>>>(model.block(3).mixer).shift(), 7);
}

TEST(LanguageModel, RefusesConfigsThatAreNotModels) {
  Random random(13);
  const auto refused = [&](const auto& spoil) {
    LanguageModelConfig config = small_config();
    spoil(config);
    EXPECT_THROW(LanguageModel<float>(config, random), std::invalid_argument);
  };
  refused([](LanguageModelConfig& config) { config.vocabulary = 0; });
  refused([](LanguageModelConfig& config) { config.width = 0; });
  refused([](LanguageModelConfig& config) { config.feed_forward = -1; });
  refused([](LanguageModelConfig& config) { config.context = 0; });
  refused([](LanguageModelConfig& config) { config.layers = ""; });
  refused([](LanguageModelConfig& config) { config.layers = "ab,nothing"; });
  refused([](LanguageModelConfig& config) { config.layers = "ab:heads=3"; });
  refused([](LanguageModelConfig& config) { config.schedule = "fast"; });
  refused([](LanguageModelConfig& config) { config.schedule = "list=1,2"; });
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
}  // namespace hsm::test
