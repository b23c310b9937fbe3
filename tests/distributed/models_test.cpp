// SPDX-License-Identifier: MIT
//
// A language model over a sequence that is cut over ranks: losses, gradients and what it remembers are those of one rank.
#include <hsm/distributed/sharded_model.hpp>
#include <hsm/training/gradient_clip.hpp>

#include "attention/attention_cases.hpp"
#include "distributed/ranks.hpp"
#include "model/language_model_cases.hpp"
#include "shift/mixer_cases.hpp"  // whose engines are compiled once
#include "support/matchers.hpp"
#include "support/message_of.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::distributed_models_test {
namespace {

using Model = LanguageModel<float>;
using Bounds = Tolerance<float>;

/// One layer of each kind that can be sharded; shifts 1, 2, 4 and 8, some longer than a part.
LanguageModelConfig every_kind(Positions positions, const std::string& more = "") {
  LanguageModelConfig config = small_config(
      "ab:heads=2,gated,ema:ndim=2,gated-pair,softmax-local:heads=2:taps=3,linear-attention:heads=2,channel,"
      "matrix,"
      "fusion" +
      more);
  config.context = 96;
  config.positions = positions;
  return config;
}

std::span<const std::int32_t> part_of(const Ids& ids, const Cut& cut) {
  return std::span(ids).subspan(static_cast<std::size_t>(first_of(cut)),
                                static_cast<std::size_t>(own_of(cut)));
}

void expect_same_training(const Model& model, const Cut& cut, const std::vector<Index>& offsets) {
  const Index T = offsets.back(), V = kVocabulary;
  Random random(3);
  const Ids ids = random_ids(T, V, random);
  Ids targets = random_ids(T, V, random);
  targets[2] = kIgnoredTarget;
  Workspace workspace;
  Model::Saved saved;
  Model gradients = model, sharded = model;
  for (Model* each : {&gradients, &sharded})
    Model::visit([](std::string_view, auto& tensor) { tensor.setZero(); }, *each);
  model.packed(ids, offsets, saved, workspace);
  OwnedColumns<float> d_hidden(model.config().width, T);
  const auto columns = [&] {
    return Columns<float>(d_hidden.data(), d_hidden.rows(), T, Eigen::OuterStride<>(d_hidden.rows()));
  };
  const CrossEntropy expected =
      hsm::detail::hidden_gradient(model, saved, targets, 1.0 / static_cast<double>(count_targets(targets)),
                                   columns(), gradients, workspace);
  model.backward(ids, saved, hsm::detail::read(columns()), gradients, workspace);

  const TokenShards shards(*all_ranks, own_of(cut), offsets);
  ShardedModelSaved<Model> record;
  const auto own_ids = part_of(ids, cut), own_targets = part_of(targets, cut);
  const CrossEntropy got = sharded_gradients(model, shards, own_ids, own_targets, record, sharded, workspace);
  sum_over_ranks(*all_ranks, sharded);
  EXPECT_EQ(got.count, expected.count);
  expect_close(got.sum, expected.sum, 0, Bounds::mode, "loss");
  Model::visit([](std::string_view name, const auto& tensor,
                  const auto& whole) { expect_close_to_scale(tensor, whole, Bounds::gradient, name); },
               sharded, gradients);
  std::vector<double> losses(own_ids.size());
  const CrossEntropy again = sharded_loss(model, shards, own_ids, own_targets, record, workspace, losses);
  EXPECT_EQ(again.count, expected.count);
  expect_close(again.sum, expected.sum, 0, Bounds::mode, "loss without gradients");
}

TEST(ShardedModel, TrainsAsOnOneRank) {
  for (const Positions positions : {Positions::kNone, Positions::kLearned}) {
    const auto model = random_model<float>(
        every_kind(positions, ",attention:heads=2:rotary=100,attention:heads=2:window=5"), 7);
    const Index T = 8 * all_ranks->size() + 13;
    std::size_t turn = positions == Positions::kNone ? 0 : 1;
    for (const Cut& cut : cuts_of(T)) {
      const auto lists = documents_of(cut, T);
      const auto& offsets = lists[turn++ % lists.size()];
      SCOPED_TRACE("cut " + ::testing::PrintToString(cut) + " documents " +
                   ::testing::PrintToString(offsets));
      expect_same_training(model, cut, offsets);
    }
  }
}

TEST(ShardedModel, PrefillLeavesTheStateOfTheWholeText) {
  const auto model = random_model<float>(every_kind(Positions::kLearned), 7);
  const Index T = 8 * all_ranks->size() + 13;
  Random random(4);
  const Ids ids = random_ids(T, kVocabulary, random), more = random_ids(3, kVocabulary, random);
  Workspace workspace;
  workspace.chunk_bytes = 4096;  // several chunks
  auto state = model.make_state();
  OwnedColumns<float> logits(kVocabulary, 1), next(kVocabulary, 1), sharded_next(kVocabulary, 1);
  const auto view = [](OwnedColumns<float>& m) {
    return Columns<float>(m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows()));
  };
  model.extend(ids, state, view(logits), workspace);
  model.extend(more, state, view(next), workspace);
  for (const Cut& cut : cuts_of(T)) {
    SCOPED_TRACE("cut " + ::testing::PrintToString(cut));
    const TokenShards shards(*all_ranks, own_of(cut));
    auto own = model.make_state();
    std::vector<float> got(kVocabulary);
    sharded_prefill(model, shards, part_of(ids, cut), own, std::span<float>(got), workspace);
    expect_close_to_scale(got, logits.reshaped(), Bounds::mode, "the logits after the last token");
    EXPECT_EQ(own.count(0), first_of(cut) + own_of(cut));
    if (all_ranks->rank() + 1 < all_ranks->size()) continue;
    model.extend(more, own, view(sharded_next), workspace);
    expect_close_to_scale(sharded_next, next, Bounds::mode, "the logits after more tokens");
  }
}

TEST(ShardedModel, PrefillRefusesAStateWithSpareTokens) {
  const auto model = random_model<float>(small_config("ab:heads=2,gated"), 7);
  const TokenShards shards(*all_ranks, 1);
  auto state = model.make_state({.spare = 3});
  std::vector<float> logits(kVocabulary);
  Workspace workspace;
  expect_refused([&] { sharded_prefill(model, shards, Ids{1}, state, std::span<float>(logits), workspace); },
                 "sharded_prefill: the spare tokens of the state must be 0, got 3");
  EXPECT_EQ(state.count(0), 0);
}

TEST(ShardedModel, APrefillThatIsRefusedLeavesAFreshStream) {
  const auto model = small_model<float>(Positions::kLearned, "ab:heads=2,gated");
  Workspace workspace;
  std::vector<float> logits(kVocabulary);
  auto state = model.make_state();
  const auto prefill = [&](const TokenShards& shards, const Ids& ids) {
    sharded_prefill(model, shards, ids, state, std::span<float>(logits), workspace);
  };
  const TokenShards one(*all_ranks, 1), many(*all_ranks, 30);  // of 24 positions
  EXPECT_EQ(message_of<std::out_of_range>([&] { prefill(one, {-1}); }),
            "LanguageModel::extend: token id 0 must be 0 to 10, got -1");
  EXPECT_NE(message_of<std::out_of_range>([&] { prefill(many, Ids(30, 1)); }), "nothing");
  EXPECT_EQ(state.count(0), 0);
  ASSERT_TRUE(state.is_whole(0));
  prefill(one, {1});
  EXPECT_EQ(state.count(0), all_ranks->rank() + 1);
}

TEST(ShardedModel, RefusesGradientsOfOtherSizes) {
  const auto model = random_model<float>(small_config("ab:heads=2"), 7);
  LanguageModelConfig config = small_config("ab:heads=2");
  config.vocabulary = 5;
  auto gradients = zeros_like(random_model<float>(config, 7));
  const TokenShards shards(*all_ranks, 1);
  ShardedModelSaved<Model> record;
  Workspace workspace;
  const Ids ids{1};
  expect_refused([&] { sharded_gradients(model, shards, ids, ids, record, gradients, workspace); },
                 "sharded_gradients: gradients must be a model of the same config, got another");
  EXPECT_EQ(global_norm(gradients), 0);
}

TEST(ShardedModel, RefusesWhatCannotBeCut) {
  const auto model =
      random_model<float>(small_config("ab:heads=2,attention:heads=2:block=2:top=1,attention:heads=2"), 7);
  const TokenShards shards(*all_ranks, 1);
  ShardedModelSaved<Model> record;
  Model gradients = model;
  Workspace workspace;
  const Ids ids{1};
  expect_refused([&] { sharded_gradients(model, shards, ids, ids, record, gradients, workspace); },
                 "sharded_gradients: a layer must be one that can be cut over ranks, got attention heads 2 "
                 "block 2 top 1");
  const auto hierarchy = random_model<float>(small_config("ab:heads=2,hkt:levels=2:heads=2,ab:heads=2"), 7);
  expect_refused(
      [&] { sharded_gradients(hierarchy, shards, ids, ids, record, gradients, workspace); },
      "sharded_gradients: a layer must be one that can be cut over ranks, got hkt heads 2 levels 2");
  const auto dense = random_model<float>(small_config("ab:heads=2,attention:heads=2"), 7);
  auto state = dense.make_state();
  std::vector<float> logits(kVocabulary);
  expect_refused(
      [&] { sharded_prefill(dense, shards, ids, state, std::span<float>(logits), workspace); },
      "sharded_prefill: a layer must be one whose state fits on one rank, such as a shift mixer, ema or "
      "linear-attention, got attention heads 2");
}

TEST(TokenShards, RefusesTokensThatCannotBeCounted) {
  constexpr Index kHalf = Index{1} << (kIndexBits - 1);
  EXPECT_EQ(message_of<std::invalid_argument>([&] { TokenShards(*all_ranks, kHalf); }),
            all_ranks->size() == 1
                ? "nothing"
                : "TokenShards: the tokens of rank 1 must be few enough to count all, got " +
                      std::to_string(kHalf));
}

TEST(Communicator, RefusesRanksThatDiffer) {
  Communicator& ranks = *all_ranks;
  const int odd = ranks.size() - 1;
  const bool differs = ranks.rank() == odd && odd > 0;
  const std::string got = message_of<std::runtime_error>(
      [&] { ranks.check_agreement("the build", differs ? "hsm 0.2" : "hsm 0.1.0"); });
  EXPECT_EQ(
      got,
      odd == 0
          ? "nothing"
          : "Communicator: every rank must have the build of rank 0, 'hsm 0.1.0', got 'hsm 0.2' on rank " +
                std::to_string(odd));
  const std::vector<Index> offsets{0, differs ? 1 : 2, 2 * ranks.size()};
  EXPECT_EQ(message_of<std::runtime_error>([&] { TokenShards(ranks, 2, offsets); }),
            odd == 0 ? "nothing"
                     : "TokenShards: every rank must give the offsets of rank 0, got others on rank " +
                           std::to_string(odd));
  const auto model = random_model<float>(small_config(differs ? "ab" : "gated"), 1);
  const TokenShards shards(ranks, 1);
  ShardedModelSaved<Model> record;
  Model gradients = model;
  Workspace workspace;
  const Ids ids{1};
  const std::string sentence = message_of<std::runtime_error>(
      [&] { sharded_gradients(model, shards, ids, ids, record, gradients, workspace); });
  EXPECT_EQ(
      sentence.starts_with("Communicator: every rank must have the model of rank 0, 'float 11/8/12/24 gated"),
      odd > 0)
      << sentence;
}

TEST(Communicator, GivesUpWhatItWaitsForWhereSomethingThrows) {
  const std::string got = message_of<std::runtime_error>([] {
    std::vector<float> values(4);
    Communicator::Pending pending;
    all_ranks->receive(std::span(values), all_ranks->rank(), pending);  // which nobody will send
    throw std::runtime_error("no memory");
  });
  EXPECT_EQ(got, "no memory");
}

TEST(Communicator, CountsWhatItSends) {
  Communicator& ranks = *all_ranks;
  const Traffic before = ranks.traffic();
  std::vector<double> values(5, ranks.rank()), got(5);
  {
    Communicator::Pending pending;
    ranks.receive(std::span(got), (ranks.rank() + ranks.size() - 1) % ranks.size(), pending);
    ranks.send(std::span<const double>(values), (ranks.rank() + 1) % ranks.size(), pending);
    ranks.send(std::span<const double>(), (ranks.rank() + 1) % ranks.size(), pending);
    pending.wait();
  }
  EXPECT_EQ(got, std::vector<double>(5, (ranks.rank() + ranks.size() - 1) % ranks.size()));
  ranks.sum(std::span(values));
  EXPECT_EQ(values, std::vector<double>(5, ranks.size() * (ranks.size() - 1) / 2));
  const Traffic after = ranks.traffic();
  EXPECT_EQ(after.messages - before.messages, 1);
  EXPECT_EQ(after.bytes - before.bytes, 40);
  EXPECT_EQ(after.collective_calls - before.collective_calls, 1);
  EXPECT_EQ(after.collective_bytes - before.collective_bytes, 40);
}

}  // namespace
}  // namespace hsm::test::distributed_models_test
