// SPDX-License-Identifier: MIT
//
// A whole hybrid model on chosen streams and packed documents: every text as if it were alone, positions from
// its own start, and nobody else touched; gradients through chunks.
#include <gtest/gtest.h>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"
#include "support/scalars.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::language_model_streams_test {
namespace {

Ids part(const Ids& ids, Index first, Index count) {
  return Ids(ids.begin() + first, ids.begin() + first + count);
}

/// The logits after token n - 1 of a text, by the whole text at once.
template <class Scalar>
Matrix<Scalar> logits_after(const LanguageModel<Scalar>& model, const Ids& text, Index n) {
  return logits_of(model, hidden_of(model, part(text, 0, n), 1, n)).rightCols(1);
}

template <class Scalar>
class LanguageModelStreams : public ::testing::Test {};
TYPED_TEST_SUITE(LanguageModelStreams, Scalars);

TYPED_TEST(LanguageModelStreams, OfDifferentLengthGoOnAlone) {
  constexpr Index kStreams = 4, T = 24;
  Random random(1);
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const auto model = small_model<TypeParam>(positions);
    std::vector<Ids> texts;
    for (Index b = 0; b < kStreams; ++b) texts.push_back(random_ids(T, kVocabulary, random));
    Workspace workspace;
    workspace.poison = true;
    auto state = model.make_state({.streams = kStreams});
    for (int call = 0; call < 30; ++call) {
      Ids ids;
      std::vector<Index> offsets{0}, streams;
      for (Index i = 0; i < kStreams; ++i) {
        const Index b = (i + call) % kStreams, before = state.count(b);
        const auto n = std::min<Index>(T - before, 1 + static_cast<Index>(random.below(5)));
        if (n == 0 || random.below(2) == 0) continue;
        ids.insert(ids.end(), texts[static_cast<std::size_t>(b)].begin() + before,
                   texts[static_cast<std::size_t>(b)].begin() + before + n);
        offsets.push_back(offsets.back() + n);
        streams.push_back(b);
      }
      const auto before = state.counts;
      Matrix<TypeParam> last(kVocabulary, static_cast<Index>(streams.size()));
      model.extend(ids, offsets, streams, state, block_of(last), workspace);
      auto expected = before;
      for (std::size_t i = 0; i < streams.size(); ++i) {
        expected[static_cast<std::size_t>(streams[i])] += offsets[i + 1] - offsets[i];
        const Index b = streams[i];
        expect_close_to_scale(last.col(static_cast<Index>(i)).eval(),
                              logits_after(model, texts[static_cast<std::size_t>(b)], state.count(b)),
                              20 * Tolerance<TypeParam>::mode, "stream " + std::to_string(b));
      }
      EXPECT_EQ(state.counts, expected);
    }
  }
}

TYPED_TEST(LanguageModelStreams, GiveTheLogitsAfterTheirLastTokens) {
  Random random(8);
  const auto model = small_model<TypeParam>(Positions::kNone);
  const std::vector<Index> offsets{0, 1, 48, 51, 84}, streams{3, 0, 1, 2};
  const Ids ids = random_ids(offsets.back(), kVocabulary, random);
  for (const Index tail : {1, 2, 5, 20, 50}) {
    for (const Index chunk_bytes : {1, 1 << 20}) {  // chunks that end within a tail, and one of all
      Workspace workspace;
      workspace.poison = true;
      workspace.chunk_bytes = chunk_bytes;
      auto state = model.make_state({.streams = 4});
      Index asked = 0, at = 0;
      for (std::size_t i = 0; i < streams.size(); ++i) asked += std::min(tail, offsets[i + 1] - offsets[i]);
      Matrix<TypeParam> last(kVocabulary, asked);
      model.extend(ids, offsets, streams, state, block_of(last), workspace, tail);
      for (std::size_t i = 0; i < streams.size(); ++i) {
        const Index n = offsets[i + 1] - offsets[i], kept = std::min(tail, n);
        const Ids text = part(ids, offsets[i], n);
        expect_close_to_scale(last.middleCols(at, kept).eval(),
                              logits_of(model, hidden_of(model, text, 1, n)).rightCols(kept).eval(),
                              20 * Tolerance<TypeParam>::mode,
                              "tail " + std::to_string(tail) + " of stream " + std::to_string(streams[i]));
        at += kept;
      }
      Matrix<TypeParam> more(kVocabulary, asked + 1);
      EXPECT_THROW(model.extend(ids, offsets, streams, state, block_of(more), workspace, tail),
                   std::invalid_argument);
      EXPECT_THROW(model.extend(ids, offsets, streams, state, block_of(last), workspace, 0),
                   std::invalid_argument);
      EXPECT_EQ(state.count(0), 47);
    }
  }
}

TYPED_TEST(LanguageModelStreams, LongOnesTakeTheRoomThatShortOnesLeave) {
  Random random(6);
  const auto model = small_model<TypeParam>(Positions::kNone);
  const std::vector<Index> offsets{0, 1, 131, 132, 149, 151}, streams{3, 0, 4, 1, 2};
  const Ids ids = random_ids(offsets.back(), kVocabulary, random);
  for (const Index chunk_bytes : {1, 20'000, 40'000, 1 << 20}) {  // from 16 tokens of each stream on
    Workspace workspace;
    workspace.poison = true;
    workspace.chunk_bytes = chunk_bytes;
    auto state = model.make_state({.streams = 5});
    Matrix<TypeParam> last(kVocabulary, 5);
    model.extend(ids, offsets, streams, state, block_of(last), workspace);
    for (std::size_t i = 0; i < streams.size(); ++i) {
      const Index n = offsets[i + 1] - offsets[i];
      EXPECT_EQ(state.count(streams[i]), n);
      expect_close_to_scale(last.col(static_cast<Index>(i)).eval(),
                            logits_after(model, part(ids, offsets[i], n), n), 20 * Tolerance<TypeParam>::mode,
                            "stream " + std::to_string(streams[i]));
    }
  }
}

// One stream's calls have the same bits whether other streams are busy between them or not.
TYPED_TEST(LanguageModelStreams, AreNotTouchedByTheCallsOfOthers) {
  Random random(2);
  const auto model = small_model<TypeParam>(Positions::kLearned);
  Workspace workspace;
  auto busy = model.make_state({.streams = 3}), quiet = busy;
  Matrix<TypeParam> a(kVocabulary, 1), b = a, other(kVocabulary, 2);
  const std::vector<Index> mine{1}, others{2, 0}, two_and_one{0, 2, 3};
  for (int call = 0; call < 6; ++call) {
    const Ids ids = random_ids(3, kVocabulary, random);
    const std::vector<Index> three{0, 3};
    model.extend(ids, three, mine, busy, block_of(a), workspace);
    model.extend(ids, three, mine, quiet, block_of(b), workspace);
    expect_same_bits(a, b, "call " + std::to_string(call));
    model.extend(random_ids(3, kVocabulary, random), two_and_one, others, busy, block_of(other), workspace);
  }
}

TYPED_TEST(LanguageModelStreams, PackedDocumentsAreEachAlone) {
  Random random(3);
  const std::vector<Index> offsets{0, 0, 1, 3, 27, 27, 40};
  const Index N = offsets.back();  // more than the 24 positions, but no document is
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const auto model = small_model<TypeParam>(positions);
    const Ids ids = random_ids(N, kVocabulary, random);
    const Matrix<TypeParam> dh = Matrix<TypeParam>::Random(8, N);
    Workspace workspace;
    workspace.poison = true;
    LanguageModelSaved<TypeParam> saved, alone;
    auto gradients = zeros_like(model), reference = gradients;
    model.packed(ids, offsets, saved, workspace);
    model.backward(ids, saved, read(dh), gradients, workspace);
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      const Index first = offsets[i], n = offsets[i + 1] - first;
      const Ids document = part(ids, first, n);
      model.hidden(document, 1, n, alone, workspace);
      expect_close_to_scale(saved.hidden.middleCols(first, n).eval(), alone.hidden,
                            20 * Tolerance<TypeParam>::mode, "document " + std::to_string(i));
      const Matrix<TypeParam> d_document = dh.middleCols(first, n);
      model.backward(document, alone, read(d_document), reference, workspace);
    }
    LanguageModel<TypeParam>::visit(
        [](std::string_view name, const auto& got, const auto& expected) {
          expect_close_to_scale(got, expected, 10 * Tolerance<TypeParam>::gradient, name);
        },
        gradients, reference);
  }
}

/// Gradients of T tokens of every stream in chunks that end at `cuts`; truncated where no gradient goes
/// through the state.
template <class Scalar>
LanguageModel<Scalar> gradients_of_chunks(const LanguageModel<Scalar>& model, const Ids& ids, Index B,
                                          Index T, const Matrix<Scalar>& dh, const std::vector<Index>& cuts,
                                          bool truncated) {
  Workspace workspace;
  auto state = model.make_state({.streams = B}), state_gradient = state;
  auto gradients = zeros_like(model);
  std::vector<LanguageModelSaved<Scalar>> saved(cuts.size());
  const auto each = [&](std::size_t i, auto&& f) {
    const Index first = i == 0 ? 0 : cuts[i - 1], n = cuts[i] - first;
    Ids chunk;
    Matrix<Scalar> d_chunk(dh.rows(), B * n);
    for (Index b = 0; b < B; ++b) {
      chunk.insert(chunk.end(), ids.begin() + b * T + first, ids.begin() + b * T + first + n);
      d_chunk.middleCols(b * n, n) = dh.middleCols(b * T + first, n);
    }
    f(chunk, d_chunk);
  };
  for (std::size_t i = 0; i < cuts.size(); ++i)
    each(i, [&](const Ids& chunk, const auto&) { model.extend(chunk, state, saved[i], workspace); });
  for (std::size_t i = cuts.size(); i-- > 0;) {
    each(i, [&](const Ids& chunk, const Matrix<Scalar>& d_chunk) {
      model.backward(chunk, saved[i], read(d_chunk), gradients, workspace,
                     truncated ? nullptr : &state_gradient);
    });
  }
  return gradients;
}

TYPED_TEST(LanguageModelStreams, GradientsThroughChunksAreThoseOfTheWhole) {
  constexpr Index B = 3, T = 24;
  Random random(4);
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const auto model = small_model<TypeParam>(positions);
    const Ids ids = random_ids(B * T, kVocabulary, random);
    const Matrix<TypeParam> dh = Matrix<TypeParam>::Random(8, B * T);
    Workspace workspace;
    LanguageModelSaved<TypeParam> saved;
    auto whole = zeros_like(model);
    model.hidden(ids, B, T, saved, workspace);
    model.backward(ids, saved, read(dh), whole, workspace);
    for (const std::vector<Index>& cuts : {std::vector<Index>{T}, {1, 2, 3, 24}, {5, 5, 16, 23, 24}}) {
      SCOPED_TRACE(::testing::PrintToString(cuts));
      const auto full = gradients_of_chunks(model, ids, B, T, dh, cuts, false);
      LanguageModel<TypeParam>::visit(
          [](std::string_view name, const auto& got, const auto& expected) {
            expect_close_to_scale(got, expected, 10 * Tolerance<TypeParam>::gradient, name);
          },
          full, whole);
    }
    // Truncated: a chunk of its own is the whole, two chunks without the state between them are not.
    const auto single = gradients_of_chunks(model, ids, B, T, dh, {T}, true);
    const auto truncated = gradients_of_chunks(model, ids, B, T, dh, {12, T}, true);
    const auto& exact = whole.embedding().weight;
    expect_close_to_scale(single.embedding().weight, exact, 10 * Tolerance<TypeParam>::gradient, "one chunk");
    EXPECT_GT((truncated.embedding().weight - exact).cwiseAbs().maxCoeff(),
              exact.cwiseAbs().maxCoeff() / 100);
  }
}

}  // namespace
}  // namespace hsm::test::language_model_streams_test
