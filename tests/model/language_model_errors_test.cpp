// SPDX-License-Identifier: MIT
//
// What the language model refuses, with nothing changed: token ids, positions, records, states and configs.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <utility>

#include <hsm/training/gradient_clip.hpp>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::language_model_errors_test {
namespace {

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

TEST(LanguageModel, RefusesALayerWhoseTensorsBecameThoseOfAnotherWidth) {
  auto model = random_model<float>(small_config("attention:heads=2"), 13);
  LanguageModel<float>::visit(
      [](std::string_view name, auto& tensor) {  // attention of 4 channels, which is one by itself
        if (name == "layers.0.mixer.project.weight") tensor.setZero(12, 4);
        if (name == "layers.0.mixer.project.bias") tensor.setZero(12, 1);
        if (name == "layers.0.mixer.output.weight") tensor.setZero(4, 4);
        if (name == "layers.0.mixer.output.bias") tensor.setZero(4, 1);
      },
      model);
  Workspace workspace;
  LanguageModelSaved<float> saved;
  const Ids ids = {1, 2};
  expect_refused([&] { model.hidden(ids, 1, 2, saved, workspace); },
                 "LanguageModel::hidden: the channels of a mixer must be 8, got 4");
}

TEST(LanguageModel, RefusesEveryTensorThatBecameOneOfAnotherSize) {
  LanguageModelConfig config = small_config(kEveryKind + ",ema,linear-attention,hkt");
  config.positions = Positions::kLearned;
  const auto model = random_model<float>(config, 13);
  const Ids ids = {1, 2};
  const Matrix<float> dh = Matrix<float>::Ones(8, 2);
  Workspace workspace;
  LanguageModelSaved<float> saved;
  model.hidden(ids, 1, 2, saved, workspace);
  Index tensors = 0;
  LanguageModel<float>::visit([&](std::string_view, const auto&) { ++tensors; }, model);
  for (Index changed = 0; changed < tensors; ++changed) {
    for (const Index more : {-1, 1}) {
      auto other = model;
      Index number = 0;
      std::string what;
      LanguageModel<float>::visit(
          [&](std::string_view name, auto& tensor) {
            if (number++ != changed) return;
            what = std::string(name) + (more < 0 ? " shorter" : " longer");
            tensor.setZero(tensor.rows() + more, tensor.cols());
          },
          other);
      SCOPED_TRACE(what);
      LanguageModelSaved<float> own;
      auto state = model.make_state();
      Matrix<float> last = Matrix<float>::Constant(config.vocabulary, 1, 7.0F);
      auto gradients = zeros_like(model);
      EXPECT_THROW(other.make_state(), std::invalid_argument);
      EXPECT_THROW(other.hidden(ids, 1, 2, own, workspace), std::invalid_argument);
      EXPECT_THROW(other.packed(ids, std::vector<Index>{0, 2}, own, workspace), std::invalid_argument);
      EXPECT_THROW(other.extend(ids, state, block_of(last), workspace), std::invalid_argument);
      EXPECT_THROW(other.backward(ids, saved, read(dh), gradients, workspace), std::invalid_argument);
      EXPECT_THROW(model.backward(ids, saved, read(dh), other, workspace), std::invalid_argument);
      EXPECT_TRUE(own.blocks.empty());  // and nothing was written
      EXPECT_EQ(state.count(0), 0);
      EXPECT_TRUE(state.is_whole(0));
      EXPECT_EQ(last, Matrix<float>::Constant(config.vocabulary, 1, 7.0F));
      EXPECT_EQ(global_norm(gradients), 0);
    }
  }
  EXPECT_GT(tensors, 100);
}

TEST(LanguageModel, RefusesTheStateOfAnotherModel) {
  const auto model = random_model<float>(small_config("ab,attention"), 14);
  Workspace workspace;
  Matrix<float> last(11, 1);
  const Ids ids = {1, 2};
  for (const char* layers : {"ab", "attention,ab", "ab,ab", "ab,gated,attention", "ab,attention:rotary=100",
                             "channel,attention", "matrix,attention"}) {
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
  for (const char* layers : {"ab", "attention,ab", "ab,attention,ab", "ab,attention:rotary=100"}) {
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

/// backward of `model` refuses the record of `other`, with nothing added.
void expect_record_refused(const LanguageModel<float>& model, const LanguageModel<float>& other,
                           const std::string& message) {
  SCOPED_TRACE(other.config().layers);
  Workspace workspace;
  const Ids ids = {1, 2, 3, 4, 5, 6, 7, 8};
  const Matrix<float> dh = Matrix<float>::Ones(8, 8);
  LanguageModelSaved<float> saved;
  other.hidden(ids, 1, 8, saved, workspace);
  auto gradients = zeros_like(model);
  expect_refused([&] { model.backward(ids, saved, read(dh), gradients, workspace); },
                 "LanguageModel::backward: saved must be the record of " + message + ", got another's");
  EXPECT_EQ(global_norm(gradients), 0);
}

TEST(LanguageModel, BackwardRefusesRecordsOfOtherPositions) {
  const auto of = [](Positions positions, Index context) {
    LanguageModelConfig config = small_config("ab");
    config.positions = positions;
    config.context = context;
    return random_model<float>(config, 18);
  };
  const auto none = of(Positions::kNone, 8), few = of(Positions::kLearned, 4);
  const auto learned = of(Positions::kLearned, 8);
  expect_record_refused(learned, none, "this model");
  expect_record_refused(none, learned, "this model");
  expect_record_refused(few, learned, "this model");
}

TEST(LanguageModel, BackwardRefusesRecordsOfOtherLayersBeforeAnythingIsAdded) {
  const auto model = random_model<float>(small_config("attention:heads=2,ab:heads=2"), 19);
  for (const char* layers : {"attention:heads=4,ab:heads=2", "attention:heads=2:rotary=100,ab:heads=2",
                             "attention:heads=2:window=3,ab:heads=2"})
    expect_record_refused(model, random_model<float>(small_config(layers), 19), "this layer");
}

TEST(LanguageModel, BackwardRefusesStateGradientsBeforeAnythingIsAdded) {
  const auto model = random_model<float>(small_config("ab:heads=2,attention:heads=2"), 20);
  Workspace workspace;
  const Ids ids = {1, 2, 3, 4};
  const Matrix<float> dh = Matrix<float>::Ones(8, 4);
  auto state = model.make_state();
  LanguageModelSaved<float> saved;
  model.extend(ids, state, saved, workspace);
  auto gradients = zeros_like(model);
  auto small = model.make_state({.capacity = 3}), broken = model.make_state();
  std::get<RingState<float>>(broken.layers[0]).spoil(0);
  expect_refused(
      [&] { model.backward(ids, saved, read(dh), gradients, workspace, &small); },
      "LanguageModel::backward: the capacity of state_gradient must be at least 4, the tokens of stream "
      "0, got 3");
  EXPECT_THROW(model.backward(ids, saved, read(dh), gradients, workspace, &broken), std::invalid_argument);
  EXPECT_EQ(global_norm(gradients), 0);
}

TEST(LanguageModel, AnEmbeddingOfOtherSizesIsNoticedByLogits) {
  auto model = random_model<float>(small_config("ab"), 21);
  Workspace workspace;
  const Matrix<float> h = Matrix<float>::Ones(8, 2);
  Matrix<float> logits(11, 2);
  for (const auto& [rows, channels] : {std::pair<Index, Index>{10, 8}, {11, 7}, {12, 8}}) {
    model.embedding().weight.setZero(rows, channels);
    expect_refused([&] { model.logits(read(h), block_of(logits), workspace); },
                   "LanguageModel::logits: the shape of the embedding must be [11,8], got [" +
                       std::to_string(rows) + "," + std::to_string(channels) + "]");
  }
}

TEST(LanguageModel, RefusesAContextThatNoFileCanState) {
  LanguageModelConfig config = small_config("ab");
  config.context = (std::numeric_limits<std::int32_t>::max)();
  Random random(23);
  EXPECT_EQ(LanguageModel<float>(config, random).config().context, config.context);
  if constexpr (kIndexBits > 31) {
    ++config.context;
    expect_refused([&] { LanguageModel<float>(config, random); },
                   "LanguageModel: context must be at most 2147483647, got 2147483648");
  }
}

TEST(LanguageModel, RefusesAProductOfSizesThatOverflows) {
  const auto model = random_model<float>(small_config("ab"), 22);
  Workspace workspace;
  LanguageModelSaved<float> saved;
  constexpr Index kQuarter = Index{1} << (kIndexBits - 1);  // times 4 it is 0
  expect_refused([&] { model.hidden({}, 4, kQuarter, saved, workspace); },
                 "LanguageModel::hidden: [batch,time] must be small enough to count, got [4," +
                     std::to_string(kQuarter) + "]");
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
  refused([](LanguageModelConfig& config) { config.layers = "ab,attention:heads=8:rotary=100"; });
  refused([](LanguageModelConfig& config) { config.schedule = "fast"; });
  refused([](LanguageModelConfig& config) { config.schedule = "list=1,2"; });
}

}  // namespace
}  // namespace hsm::test::language_model_errors_test
