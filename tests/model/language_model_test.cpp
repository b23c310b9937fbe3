// SPDX-License-Identifier: MIT
//
// What the language model computes: plain loops in double, causality, batches, cuts and records.
#include <gtest/gtest.h>

#include <string>

#include "model/language_model_cases.hpp"
#include "reference/language_model_reference.hpp"
#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::language_model_test {
namespace {

template <class Scalar>
class LanguageModelOf : public ::testing::Test {};

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
      // Layer after layer the error of one product (Tolerance::forward) adds up: nine layers of two branches.
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

}  // namespace
}  // namespace hsm::test::language_model_test
