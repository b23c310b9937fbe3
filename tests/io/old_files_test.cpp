// SPDX-License-Identifier: MIT
//
// Files that were written while recipes stated only the options that somebody had asked for. Heads that such a
// file leaves out are those of the rule of that time, whatever the rule is now: at 46 channels one head each for
// ab, channel, softmax-local and attention. The files in tests/fixtures/ are what save_model and save_session
// wrote at that time (seed 12, float), the logits what the model made of `ids` then, in double.
#include <gtest/gtest.h>

#include <span>
#include <string>
#include <vector>

#include <hsm/io/session_file.hpp>
#include <hsm/training/evaluation.hpp>

#include "fixtures/fixture.hpp"
#include "support/models.hpp"

namespace hsm::test::old_files_test {
namespace {

using Net = LanguageModel<double>;
constexpr Index kTokens = 12, kVocabulary = 16;

Net old_model() { return load_model<Net>(fixture_path("model-without-heads")); }

TEST(OldFiles, AModelThatStatesNoHeadsHasThoseOfItsTime) {
  const Net model = old_model();
  const auto heads = [&](Index l) {
    const auto of = [](const auto& mixer) -> Index {
      if constexpr (requires { mixer.heads(); }) return mixer.heads();
      return 0;
    };
    return std::visit(of, model.block(l).mixer);
  };
  for (Index l = 0; l < model.layer_count(); ++l) EXPECT_EQ(heads(l), 1) << "layer " << l;
  for (Index l = 0; l < model.layer_count(); ++l) {
    if (const auto* attention = std::get_if<CausalAttention<double>>(&model.block(l).mixer)) {
      EXPECT_EQ(attention->rotary(), 0) << "layer " << l;
    }
  }
  EXPECT_EQ(std::get<Mixer<SoftmaxLocal<double>>>(model.block(3).mixer).taps(), 2);
  EXPECT_EQ(std::get<Mixer<SoftmaxLocal<double>>>(model.block(5).mixer).taps(), 3);
}

TEST(OldFiles, AModelGivesTheLogitsThatItGaveThen) {
  const Net model = old_model();
  Fixture then("model-without-heads-logits");
  const auto ids = then.integers("ids", {kTokens});
  Workspace workspace;
  Net::Saved saved;
  model.hidden(ids, 1, kTokens, saved, workspace);
  Eigen::MatrixXd logits(kVocabulary, kTokens);
  model.logits(saved, {logits.data(), kVocabulary, kTokens, Eigen::OuterStride<>(kVocabulary)}, workspace);
  then.expect("logits", std::vector<double>(logits.data(), logits.data() + logits.size()),
              {kTokens, kVocabulary});
  then.expect_all_read();
}

TEST(OldFiles, ASessionGoesOnWhereItStood) {
  const Net model = old_model();
  Fixture then("model-without-heads-logits");
  const auto ids = then.integers("ids", {kTokens});
  const auto expected = then.values<double>("logits", {kTokens, kVocabulary});
  Workspace workspace;
  GenerationSession session(model, workspace,
                            load_session(fixture_path("session-without-heads"), model).memory);
  for (std::size_t t = 8; t < kTokens; ++t) {
    if (t > 8) session.next(ids[t]);
    const auto logits = session.logits();
    expect_close_to_scale(
        std::vector<double>(logits.begin(), logits.end()),
        std::vector<double>(expected.begin() + static_cast<std::ptrdiff_t>(t) * kVocabulary,
                            expected.begin() + static_cast<std::ptrdiff_t>(t + 1) * kVocabulary),
        10 * Tolerance<double>::mode, "logits after token " + std::to_string(t));
  }
}

}  // namespace
}  // namespace hsm::test::old_files_test
