// SPDX-License-Identifier: MIT
//
// Training whose batches are shared by ranks: the losses of one process, the same weights on every rank, from a state of
// any number of ranks; and what is refused.
#include <chrono>
#include <thread>
#include <type_traits>

#include <hsm/distributed/data_parallel.hpp>

#include "distributed/ranks.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"
#include "training/training_cases.hpp"

namespace hsm::test::distributed_training_test {
namespace {

/// 24 windows: 1, 2, 3, 4 and 8 ranks share them.
TrainingConfig config_of(Index steps) {
  return {.batch = 24, .steps = steps, .validate_every = 5, .dropout = 0.1, .keep_best = true};
}

struct SharedRun : TrainedRun {
  using TrainedRun::TrainedRun;

  void train_shared(const std::function<bool(const TrainingProgress&)>& go_on = {},
                    const std::function<bool()>& stop = {}, int sequence_ranks = 1) {
    Workspace workspace;
    end = train_over_ranks(
        *all_ranks, model, state, std::span<const std::int32_t>(text),
        std::span<const std::int32_t>(validation), workspace,
        [&](const TrainingProgress& p) {
          told.push_back(p);
          return !go_on || go_on(p);
        },
        [&] { return stop && stop(); }, sequence_ranks);
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

/// Gives gradients to a sum, tells how many bytes are complete and how many have left, and is `late` on rank 1.
template <class Told>
struct LateGradients : CompleteGradients {
  LateGradients(GradientSum& all, std::chrono::milliseconds wait, Told& f)
      : CompleteGradients(all), late(wait), told(f) {}
  template <class Part>
  void complete(Part& part) {
    if (all_ranks->rank() == 1) std::this_thread::sleep_for(late);
    Part::visit([&](std::string_view, const auto& tensor) { bytes += 4 * tensor.size(); }, part);
    CompleteGradients::complete(part);
    told(bytes, all_ranks->traffic().collective_bytes - start);
  }
  std::chrono::milliseconds late;
  Told& told;
  Index start = all_ranks->traffic().collective_bytes, bytes = 0;
};

/// The gradients of other windows on each rank, summed as they become complete, and as those of sum_over_ranks.
template <class Told>
Net summed_gradients(const Net& model, Index bucket_bytes, std::chrono::milliseconds late, Told&& told) {
  const Ids ids = random_tokens(4 * kWindow, 20 + static_cast<std::uint64_t>(all_ranks->rank()));
  Net gradients = zeros_like(model), alone = gradients;
  Net::Saved saved;
  Workspace workspace;
  GradientSum sum(*all_ranks, bucket_bytes);
  using Hook = LateGradients<std::remove_reference_t<Told>>;
  language_model_gradients(model, ids, ids, 4, kWindow, saved, gradients, workspace, {}, 0,
                           Hook(sum, late, told));
  sum.finish();
  language_model_gradients(model, ids, ids, 4, kWindow, saved, alone, workspace);
  sum_over_ranks(*all_ranks, alone);
  Net::visit(
      [](std::string_view name, const auto& got, const auto& expected) {
        expect_close_to_scale(got, expected, Tolerance<float>::gradient, name);
      },
      gradients, alone);
  return gradients;
}

TEST(GradientSum, BucketsLeaveWhileTheBackwardPassGoesOnWhateverTheTimes) {
  const Net model = make_net();
  for (const Index bucket : {Index{64}, Index{4096}, Index{1} << 22}) {
    SCOPED_TRACE(bucket);
    Index parts = 0, last = 0;
    const Net quick = summed_gradients(model, bucket, {}, [&](Index complete, Index left) {
      EXPECT_GE(left, complete - bucket) << "no more than a bucket waits";
      EXPECT_LE(left, complete);
      ++parts;
      last = complete;
    });
    EXPECT_EQ(parts, model.layer_count() + 2) << "the norm, the blocks, the embedding";
    EXPECT_EQ(last, 4 * count_parameters(model));
    const Net slow = summed_gradients(model, bucket, std::chrono::milliseconds(2), [](Index, Index) {});
    EXPECT_TRUE(weights_of(quick) == weights_of(slow));
    expect_equal_weights(quick);
  }
}

TEST(SequenceRanks, LossesAreThoseOfOneProcessWithOneGroupOrMore) {
  const int n = all_ranks->size();
  for (const int sequence_ranks : {n, n / 2}) {
    if (sequence_ranks < 2) continue;
    SCOPED_TRACE(sequence_ranks);
    TrainingConfig config = config_of(10);
    config.batch = 6;  // windows of 16 tokens, which 4 and 8 ranks cut
    SharedRun shared(config);
    shared.train_shared([](const TrainingProgress& p) { return p.step < 4; }, {}, sequence_ranks);
    expect_equal_weights(shared.model);
    // By groups of one, or of all.
    shared.train_shared([](const TrainingProgress& p) { return p.step < 7; }, {}, 6 % n == 0 ? 1 : n);
    shared.train_shared({}, {}, sequence_ranks);
    TrainedRun alone(config);
    expect_curve_of(alone, shared);
    expect_equal_weights(shared.model);
  }
}

TEST(SequenceRanks, ShareOneWindow) {
  const int n = all_ranks->size();
  SharedRun shared({.batch = 1, .steps = 10, .validate_every = 5, .dropout = 0.1});
  shared.train_shared({}, {}, n);
  TrainedRun alone(shared.state.config);
  expect_curve_of(alone, shared);
  expect_equal_weights(shared.model);
}

TEST(SequenceRanks, AreRefusedWhereTheyCannotBe) {
  const int n = all_ranks->size();
  SharedRun run({.batch = 1, .steps = 2});
  for (const int bad : {0, n + 1}) {
    expect_refused([&] { run.train_shared({}, {}, bad); },
                   "train_over_ranks: sequence_ranks must be a divisor of the ranks, " + std::to_string(n) +
                       ", got " + std::to_string(bad));
  }
  if (n == 4 || n == 8) {
    expect_refused([&] { run.train_shared({}, {}, n / 2); },
                   "train_over_ranks: batch must be a multiple of the groups of ranks, 2, got 1");
  }
  if (n == 1) return;
  Random random(1);
  LanguageModelConfig config = run.model.config();
  config.layers = "ab,hkt:levels=2:heads=2";
  Net model(config, random);
  TrainingState<Net> state(model, {.batch = 1, .steps = 2}, TextMark(run.text), TextMark(run.validation));
  Workspace workspace;
  const std::span<const std::int32_t> text(run.text), validation(run.validation);
  expect_refused(
      [&] {
        const auto go_on = [](const TrainingProgress&) { return true; };
        train_over_ranks(
            *all_ranks, model, state, text, validation, workspace, go_on, [] { return false; }, n);
      },
      "train_over_ranks: a layer must be one that can be cut over ranks, got hkt heads 2 levels 2");
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
      weight({.batch = n, .steps = 1}), schedule({.batch = n, .steps = 1}), text({.batch = n, .steps = 1}),
      validation({.batch = n, .steps = 1});
  if (odd) weight.model.embedding().weight(0, 0) += 1;
  LanguageModelConfig config = schedule.model.config();
  if (odd) config.schedule = "reversed:dyadic";
  Random random(1);
  schedule.model = Net(config, random);
  if (odd) text.text[0] ^= 1;
  if (odd) validation.validation[0] ^= 1;
  for (const auto& [got, words] :
       {std::pair(sentence(rate), "the training config of rank 0, 'batch "),
        std::pair(sentence(weight), "the weights and moments of rank 0, 'fnv1a-64:"),
        std::pair(sentence(schedule), "the model of rank 0, 'float "),
        std::pair(sentence(text), "the training text that was given of rank 0, '"),
        std::pair(sentence(validation), "the validation text that was given of rank 0, '")}) {
    EXPECT_EQ(got.find(words) != std::string::npos, n > 1) << got;
    EXPECT_EQ(got.ends_with(" on rank " + std::to_string(n - 1)), n > 1) << got;
  }
}

}  // namespace
}  // namespace hsm::test::distributed_training_test
