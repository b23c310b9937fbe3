// SPDX-License-Identifier: MIT
//
// Training whose batches are shared by ranks: the losses of one process, the same weights on every rank, from a state of
// any number of ranks; and what is refused.
#include <hsm/distributed/data_parallel.hpp>

#include "distributed/ranks.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"
#include "training/training_cases.hpp"

namespace hsm::test {
namespace {

/// 24 windows: 1, 2, 3, 4 and 8 ranks share them.
TrainingConfig config_of(Index steps) {
  return {.batch = 24, .steps = steps, .validate_every = 5, .dropout = 0.1, .keep_best = true};
}

struct SharedRun : TrainedRun {
  using TrainedRun::TrainedRun;

  void train_shared(const std::function<bool(const TrainingProgress&)>& go_on = {},
                    const std::function<bool()>& stop = {}) {
    Workspace workspace;
    end = train_over_ranks(
        *all_ranks, model, state, std::span<const std::int32_t>(text),
        std::span<const std::int32_t>(validation), workspace,
        [&](const TrainingProgress& p) {
          told.push_back(p);
          return !go_on || go_on(p);
        },
        [&] { return stop && stop(); });
  }
};

void expect_same_curve(const std::vector<TrainingProgress>& got,
                       const std::vector<TrainingProgress>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_LE(std::abs(got[i].loss - expected[i].loss), 1e-5);
    EXPECT_LE(std::abs(got[i].gradient_norm - expected[i].gradient_norm), 1e-4);
    ASSERT_EQ(got[i].validation_loss.has_value(), expected[i].validation_loss.has_value());
    if (got[i].validation_loss) {
      EXPECT_LE(std::abs(*got[i].validation_loss - *expected[i].validation_loss), 1e-5);
    }
  }
}

/// The same of a run that one process makes, which rank 0 does for all.
void expect_curve_of(TrainedRun& alone, const SharedRun& shared) {
  if (all_ranks->rank() > 0) return;
  alone.train();
  expect_same_curve(shared.told, alone.told);
}

/// The weights of this rank are those of rank 0, bit for bit.
void expect_equal_weights(const Net& model) {
  const std::vector<float> own = weights_of(model);
  std::vector<float> first = own;
  all_ranks->broadcast(std::span<float>(first), 0);
  EXPECT_TRUE(own == first);
}

TEST(DataParallel, LossesAreThoseOfOneProcessAndWeightsStayEqual) {
  SharedRun shared(config_of(20));
  shared.train_shared();
  TrainedRun alone(config_of(20));
  expect_curve_of(alone, shared);
  expect_equal_weights(shared.model);
  expect_equal_weights(*shared.state.best);
  EXPECT_TRUE(shared.end.finished);
  if (all_ranks->size() == 1) {
    EXPECT_TRUE(weights_of(shared.model) == weights_of(alone.model));
  }
}

TEST(DataParallel, AnyNumberOfRanksGoesOnFromAState) {
  SharedRun shared(config_of(12));
  shared.train([](const TrainingProgress& p) { return p.step < 3; });  // by one process
  shared.train_shared([](const TrainingProgress& p) { return p.step < 9; });
  expect_equal_weights(shared.model);
  if (all_ranks->rank() == 0) shared.train();
  TrainedRun alone(config_of(12));
  expect_curve_of(alone, shared);
}

TEST(DataParallel, OneRankEndsAll) {
  const int n = all_ranks->size();
  const bool last = all_ranks->rank() == n - 1;
  SharedRun run({.batch = n, .steps = 20, .validate_every = 5});
  run.train_shared([&](const TrainingProgress& p) { return !(p.step == 3 && last); });
  EXPECT_EQ(run.end.step, 3);
  run.train_shared([&](const TrainingProgress& p) { return p.step < 5; }, [&] { return last; });
  EXPECT_EQ(run.end.step, 5);
  EXPECT_EQ(run.state.validation_due, n < 8) << "of 8 windows each rank takes one at a time";
  run.train_shared([&](const TrainingProgress& p) { return p.step < 6; });
  EXPECT_EQ(run.end.step, 6);
  EXPECT_TRUE(run.end.best_loss.has_value());
}

TEST(DataParallel, RefusesWhatDoesNotBelongTogether) {
  const int n = all_ranks->size();
  SharedRun run({.batch = 3 * n + 1, .steps = 2});
  if (n > 1) {
    expect_refused([&] { run.train_shared(); }, "train_over_ranks: batch must be a multiple of the ranks, " +
                                                    std::to_string(n) + ", got " + std::to_string(3 * n + 1));
  }
  const auto sentence = [](SharedRun& other) {
    try {
      other.train_shared();
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const bool odd = n > 1 && all_ranks->rank() == n - 1;
  SharedRun rate({.batch = n, .steps = 1, .learning_rate = odd ? 0.5 : 0.25}),
      weight({.batch = n, .steps = 1});
  if (odd) weight.model.embedding().weight(0, 0) += 1;
  for (const auto& [got, words] :
       {std::pair(sentence(rate), "the training config of rank 0, 'batch "),
        std::pair(sentence(weight), "the weights and moments of rank 0, 'hash ")}) {
    EXPECT_EQ(got.find(words) != std::string::npos, n > 1) << got;
    EXPECT_EQ(got.ends_with(" on rank " + std::to_string(n - 1)), n > 1) << got;
  }
}

}  // namespace
}  // namespace hsm::test
