// SPDX-License-Identifier: MIT
//
// The state of a whole hybrid model: tokens taken back, streams forked and begun again, and what is refused.
#include <gtest/gtest.h>

#include <stdexcept>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"
#include "support/scalars.hpp"

namespace hsm::test::language_model_state_test {
namespace {

template <class Scalar>
class LanguageModelStates : public ::testing::Test {};
TYPED_TEST_SUITE(LanguageModelStates, Scalars);

TYPED_TEST(LanguageModelStates, RewoundAndReplayedHaveNeverRun) {
  Random random(5);
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const auto model = small_model<TypeParam>(positions);
    Workspace workspace;
    auto state = model.make_state({.streams = 2, .spare = 3}), twin = state;
    Matrix<TypeParam> last(kVocabulary, 2), reference = last;
    for (int call = 0; call < 5; ++call) {
      const Ids good = random_ids(2 * 3, kVocabulary, random);
      model.extend(good, state, block_of(last), workspace);
      model.extend(good, twin, block_of(reference), workspace);
      expect_same_bits(last, reference, "call " + std::to_string(call));
      model.extend(random_ids(2 * 2, kVocabulary, random), state, block_of(last), workspace);
      model.extend(random_ids(2, kVocabulary, random), state, block_of(last), workspace);
      state.rewind(0, 1);
      state.rewind(0, 2);
      state.rewind(1, 3);
      EXPECT_EQ(state.counts, twin.counts);
    }
  }
}

TEST(LanguageModelState, ForksLeaveTheirParentAndAResetBeginsAgain) {
  Random random(6);
  const auto model = small_model<double>(Positions::kLearned);
  Workspace workspace;
  auto state = model.make_state({.streams = 3});
  Matrix<double> all(kVocabulary, 3), a(kVocabulary, 1), b = a;
  model.extend(random_ids(15, kVocabulary, random), state, block_of(all), workspace);
  auto untouched = state;
  state.copy_stream(0, 2);
  const Ids more = random_ids(4, kVocabulary, random);
  const std::vector<Index> four{0, 4};
  const auto extend = [&](LanguageModelState<double>& of, Index stream, Matrix<double>& to) {
    model.extend(more, four, std::vector<Index>{stream}, of, block_of(to), workspace);
  };
  extend(state, 2, a);
  extend(state, 0, b);
  expect_same_bits(b, a, "parent and fork on the same way");
  extend(untouched, 0, a);
  expect_same_bits(b, a, "the parent as if never forked");
  state.reset(0);
  EXPECT_EQ(state.counts, (std::vector<Index>{0, 5, 9}));
  auto fresh = model.make_state({.streams = 3});
  extend(state, 0, a);
  extend(fresh, 0, b);
  expect_same_bits(a, b, "after a reset");
  extend(state, 1, a);
  extend(untouched, 1, b);
  expect_same_bits(a, b, "the neighbour of a reset");
}

TEST(LanguageModelState, RefuseWhatCannotBeAndChangeNothing) {
  const auto model = small_model<double>(Positions::kLearned);
  Random random(7);
  Workspace workspace;
  auto state = model.make_state({.streams = 3, .spare = 1});
  Matrix<double> two(kVocabulary, 2), all(kVocabulary, 3);
  model.extend(random_ids(30, kVocabulary, random), state, block_of(all), workspace);
  const auto counts = state.counts;
  const auto refused = [&](const Ids& ids, std::vector<Index> offsets, std::vector<Index> streams) {
    EXPECT_THROW(model.extend(ids, offsets, streams, state, block_of(two), workspace), std::invalid_argument);
    EXPECT_EQ(state.counts, counts);
  };
  refused({1, 2, 3}, {0, 1, 3}, {0, 0});
  refused({1, 2, 3}, {0, 1, 3}, {0, 3});
  refused({1, 2, 3}, {0, 1, 3}, {0});
  refused({1, 2, 3}, {0, 1, 2}, {0, 1});
  refused({1, 2, 3}, {0, 0, 3}, {0, 1});
  const Ids long_text = random_ids(16, kVocabulary, random);
  const std::vector<Index> offsets{0, 1, 16}, streams{2, 1};
  EXPECT_THROW(model.extend(long_text, offsets, streams, state, block_of(two), workspace), std::out_of_range);
  EXPECT_EQ(state.counts, counts);
  EXPECT_THROW(state.rewind(0, 2), std::out_of_range);
  EXPECT_THROW(state.rewind(0, 11), std::out_of_range);
  EXPECT_THROW(state.reset(3), std::out_of_range);
  EXPECT_THROW(state.copy_stream(0, -1), std::out_of_range);
  EXPECT_EQ(state.counts, counts);
  LanguageModelSaved<double> saved;
  EXPECT_THROW(model.packed(random_ids(25, kVocabulary, random), std::vector<Index>{0, 25}, saved, workspace),
               std::out_of_range);
  model.hidden(Ids{1, 2}, 1, 2, saved, workspace);
  auto gradients = zeros_like(model);
  const Matrix<double> dh = Matrix<double>::Ones(8, 2);
  EXPECT_THROW(model.backward(Ids{1, 2}, saved, read(dh), gradients, workspace, &state),
               std::invalid_argument);
  // The same kinds of layers at other shifts: refused before the first layer moves on.
  LanguageModelConfig config = small_config();
  config.schedule = "cyclic=2";
  auto other = random_model<double>(config, 1).make_state({.streams = 3});
  EXPECT_THROW(model.extend(Ids{1, 2, 3}, other, block_of(all), workspace), std::invalid_argument);
  EXPECT_EQ(other.counts, (std::vector<Index>{0, 0, 0}));
}

}  // namespace
}  // namespace hsm::test::language_model_state_test
