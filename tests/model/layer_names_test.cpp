// SPDX-License-Identifier: MIT
//
// Every name of a recipe under schedules of every kind: the model is that of plain loops, extend goes on
// where the whole would be, and a file gives the same model back.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <hsm/io/model_file.hpp>

#include "io/io_test_support.hpp"
#include "model/language_model_cases.hpp"
#include "reference/language_model_reference.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::layer_names_test {
namespace {

using Net = LanguageModel<double>;

/// Three layers of one kind, so that `rotated` has other shifts to take.
LanguageModelConfig config_of(const std::string& layer, const std::string& schedule) {
  LanguageModelConfig config = small_config("3*" + layer);
  config.schedule = schedule;
  return config;
}

const std::vector<std::string> kLayers = {"ab:heads=4",
                                          "channel:heads=8",
                                          "matrix:heads=2",
                                          "gated:heads=4",
                                          "gated-pair:heads=2",
                                          "fusion:heads=4",
                                          "attention:heads=2",
                                          "softmax-local:heads=4:taps=3",
                                          "attention:heads=2:rotary=10000",
                                          "attention:heads=2:rotary=100:window=5",
                                          "attention:heads=2:rotary=100:block=5:top=2",
                                          "ema:ndim=3",
                                          "linear-attention:decay=1:heads=2",
                                          "hkt:heads=2:levels=3"};
const std::vector<std::string> kSchedules = {"dyadic", "geometric=3", "rotated:dyadic",
                                             "reversed:rotated:list=5,1,2"};

class LayerNames : public ::testing::TestWithParam<std::string> {
 protected:
  static constexpr Index T = 23;
};

TEST_P(LayerNames, HiddenIsThatOfPlainLoops) {
  for (const std::string& schedule : kSchedules) {
    Random random(1);
    const auto model = random_model<double>(config_of(GetParam(), schedule), 3);
    const Ids ids = random_ids(T, model.config().vocabulary, random);
    const Matrix<double> h = hidden_of(model, ids, 1, T);
    // The error of a product adds up over three layers of two branches.
    expect_close_to_scale(Values(h.data(), h.data() + h.size()), LanguageModelReference(model).hidden(ids),
                          6 * Tolerance<double>::forward, schedule);
  }
}

TEST_P(LayerNames, ExtendInAnyCutsIsHidden) {
  for (const std::string& schedule : kSchedules) {
    Random random(2);
    const auto model = random_model<double>(config_of(GetParam(), schedule), 4);
    const Index V = model.config().vocabulary;
    const Ids ids = random_ids(T, V, random);
    const Matrix<double> expected = logits_of(model, hidden_of(model, ids, 1, T));
    Workspace workspace;
    workspace.poison = true;
    auto state = model.make_state();
    Matrix<double> last(V, 1);
    for (Index first = 0, n = 1; first < T; first += n, n = std::min(n % 7 + 2, T - first)) {
      model.extend(std::span(ids).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n)),
                   state, block_of(last), workspace);
      expect_close_to_scale(last, expected.col(first + n - 1).eval(), 10 * Tolerance<double>::mode,
                            schedule + ", token " + std::to_string(first + n));
    }
    EXPECT_EQ(state.count(0), T);
  }
}

TEST_P(LayerNames, AFileGivesTheSameModelBack) {
  const TemporaryDirectory directory;
  for (const std::string& schedule : kSchedules) {
    Random random(3);
    const auto model = random_model<double>(config_of(GetParam(), schedule), 5);
    save_model(directory / "model", model);
    const auto loaded = load_model<Net>(directory / "model");
    EXPECT_EQ(config_to_json(loaded.config()), config_to_json(model.config()));
    EXPECT_EQ(loaded.config().schedule, schedule);
    const Ids ids = random_ids(T, model.config().vocabulary, random);
    expect_same_bits(hidden_of(loaded, ids, 1, T), hidden_of(model, ids, 1, T), schedule);
  }
}

INSTANTIATE_TEST_SUITE_P(Each, LayerNames, ::testing::ValuesIn(kLayers), [](const auto& each) {
  std::string name = each.param;
  const auto is_separator = [](char c) { return c == '-' || c == ':' || c == '='; };
  std::replace_if(name.begin(), name.end(), is_separator, '_');
  return name;
});

TEST(LayerNamesOfTheLibrary, AreAllTriedHere) {
  Random random(1);
  std::set<std::size_t> kinds;
  for (const std::string& layer : kLayers)
    kinds.insert(Net(config_of(layer, "dyadic"), random).block(0).mixer.index());
  EXPECT_EQ(kinds.size(), std::variant_size_v<AnyMixer<double>>);
}

TEST(LayerNamesOfTheLibrary, RotationGivesEveryHeadAnotherShift) {
  Random random(1);
  const Net model(config_of("gated:heads=4", "rotated:dyadic"), random);
  const auto& mixer = std::get<Mixer<Gated<double>>>(model.block(1).mixer);
  for (const auto& [head, shift] : {std::pair<Index, Index>{0, 2}, {1, 4}, {2, 1}, {3, 2}})
    EXPECT_EQ(mixer.shift(head), shift);
}

}  // namespace
}  // namespace hsm::test::layer_names_test
