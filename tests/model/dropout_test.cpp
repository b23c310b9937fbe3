// SPDX-License-Identifier: MIT
//
// Dropout: the mask against plain loops, where it falls in the model, and its gradients.
#include <hsm/model/dropout.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include <hsm/core/threaded_executor.hpp>
#include <hsm/training/language_model_loss.hpp>

#include "model/language_model_cases.hpp"
#include "support/matchers.hpp"
#include "support/tolerance.hpp"

namespace hsm::test::dropout_test {
namespace {

using Net = LanguageModel<double>;
using Matrix = BlockSaved<double>::Matrix;

constexpr Dropout kSome{.probability = 0.3, .key = 77};

/// By plain loops: SplitMix64 written out again, element by element.
std::vector<bool> expected_mask(const Dropout& dropout, std::uint64_t place, Index n) {
  const auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  };
  constexpr std::uint64_t kStride = 0x9E3779B97F4A7C15ull;
  const std::uint64_t seed = mix(dropout.key + (place + 1) * kStride);
  std::vector<bool> dropped;
  for (Index i = 0; i < n; ++i) {
    const std::uint64_t bits = mix(seed + (static_cast<std::uint64_t>(i / 2) + 1) * kStride);
    const std::uint64_t half = i % 2 == 0 ? bits & 0xFFFFFFFFu : bits >> 32;
    dropped.push_back(static_cast<double>(half) < std::floor(dropout.probability * 4294967296.0));
  }
  return dropped;
}

/// What is left of ones, (C, n).
template <class Scalar>
std::vector<Scalar> left_of_ones(const Dropout& dropout, std::uint64_t place, Index C, Index n,
                                 int threads = 1) {
  ThreadedExecutor executor(threads);
  OwnedColumns<Scalar> x(C, n);
  x.setOnes();
  dropout.apply(place, Columns<Scalar>(x.data(), C, n, Eigen::OuterStride<>(C)), executor);
  return {x.data(), x.data() + x.size()};
}

TEST(Dropout, DropsWhatPlainLoopsDropForAnySizeAndNumberOfThreads) {
  for (const Index C : {1, 3, 8}) {
    for (const Index n : {1, 31, 32, 33, 101}) {
      for (const std::uint64_t place : {Dropout::kEmbedding, Dropout::mixer(0), Dropout::feed_forward(4)}) {
        const std::vector<bool> dropped = expected_mask(kSome, place, C * n);
        for (const int threads : {1, 3}) {
          const auto got = left_of_ones<double>(kSome, place, C, n, threads);
          for (std::size_t i = 0; i < dropped.size(); ++i) {
            ASSERT_EQ(got[i] == 0, dropped[i]) << C << " " << n << " " << i;
            if (!dropped[i]) expect_close(got[i], 1 / 0.7, 0, 1e-9, "what stays");
          }
        }
      }
    }
  }
}

TEST(Dropout, OfAPartOfABatchIsThatPartOfTheWhole) {
  for (const Index C : {3, 8}) {
    const auto whole = left_of_ones<double>(kSome, Dropout::kEmbedding, C, 101);
    for (const Index first : {1, 4, 35}) {  // odd numbers of values before it too
      Dropout part = kSome;
      part.first = first;
      const std::vector<double> expected(whole.begin() + first * C, whole.end());
      EXPECT_EQ(left_of_ones<double>(part, Dropout::kEmbedding, C, 101 - first, 2), expected)
          << C << " channels, from token " << first;
    }
  }
}

TEST(Dropout, TheShareOfZerosIsThatOfTheProbabilityAndTheMeanIsKept) {
  constexpr Index kCount = 400'000;
  for (const double p : {0.05, 0.3, 0.5, 0.9}) {
    double zeros = 0, sum = 0;
    for (const float x : left_of_ones<float>({.probability = p, .key = 5}, 1, 8, kCount / 8)) {
      zeros += x == 0 ? 1 : 0;
      sum += static_cast<double>(x);
    }
    const double deviation = std::sqrt(p * (1 - p) / kCount);
    EXPECT_TRUE(std::fabs(zeros / kCount - p) < 4 * deviation) << p << " " << zeros / kCount;
    EXPECT_TRUE(std::fabs(sum / kCount - 1) < 4 * deviation / (1 - p)) << p << " " << sum / kCount;
  }
}

TEST(Dropout, KeysAndPlacesDrawDifferentMasks) {
  const auto first = left_of_ones<float>(kSome, 1, 8, 100);
  EXPECT_NE(left_of_ones<float>(kSome, 2, 8, 100), first);
  EXPECT_NE(left_of_ones<float>({.probability = 0.3, .key = 78}, 1, 8, 100), first);
  EXPECT_EQ(left_of_ones<float>(kSome, 1, 8, 100), first);
}

TEST(Dropout, ProbabilitiesOutsideOfZeroToOneAreRefused) {
  const auto model = random_model<double>(small_config(), 1);
  Random random(1);
  const Ids ids = random_ids(6, kVocabulary, random);
  Workspace workspace;
  Net::Saved saved;
  auto state = model.make_state();
  for (const double p :
       {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    const Dropout bad{.probability = p};
    EXPECT_THROW(model.hidden(ids, 2, 3, saved, workspace, bad), std::invalid_argument) << p;
    EXPECT_THROW(model.packed(ids, std::vector<Index>{0, 6}, saved, workspace, bad), std::invalid_argument);
    EXPECT_THROW(model.extend(ids, state, saved, workspace, bad), std::invalid_argument);
  }
  model.hidden(ids, 2, 3, saved, workspace, {.probability = std::nextafter(1.0, 0.0)});
  for (Index i = 0; i < saved.hidden.size(); ++i) ASSERT_TRUE(std::isfinite(saved.hidden.data()[i]));
}

/// Where `after` is `before` to the bit.
std::vector<bool> unchanged(const Matrix& before, const Matrix& after) {
  std::vector<bool> same;
  for (Index i = 0; i < before.size(); ++i) same.push_back(before.data()[i] == after.data()[i]);
  return same;
}

TEST(Dropout, FallsOnTheEmbeddingSumAndOnEveryBranchBeforeItIsAdded) {
  LanguageModelConfig config = small_config();
  config.positions = Positions::kLearned;
  const auto model = random_model<double>(config, 2);
  Random random(2);
  const Index B = 3, T = 20, n = B * T * config.width;
  const Ids ids = random_ids(B * T, kVocabulary, random);
  Workspace workspace;
  Net::Saved plain, saved;
  model.hidden(ids, B, T, plain, workspace);
  model.hidden(ids, B, T, saved, workspace, kSome);
  const std::vector<bool> none = expected_mask(kSome, Dropout::kEmbedding, n);
  for (std::size_t i = 0; i < none.size(); ++i) {
    const double whole = plain.blocks[0].before.data()[i];
    expect_close(saved.blocks[0].before.data()[i], none[i] ? 0 : whole / 0.7, 1e-12, 1e-9, "embedding sum");
  }
  for (std::size_t l = 0; l < saved.blocks.size(); ++l) {
    const BlockSaved<double>& block = saved.blocks[l];
    const Matrix& next = l + 1 < saved.blocks.size() ? saved.blocks[l + 1].before : saved.last;
    EXPECT_EQ(unchanged(block.before, block.middle), expected_mask(kSome, Dropout::mixer(l), n)) << l;
    EXPECT_EQ(unchanged(block.middle, next), expected_mask(kSome, Dropout::feed_forward(l), n)) << l;
  }
}

TEST(Dropout, OfZeroChangesNoBitAndARecordForgetsTheOneBefore) {
  const auto model = random_model<double>(small_config(), 3);
  Random random(3);
  const Ids ids = random_ids(40, kVocabulary, random);
  Workspace workspace;
  Net::Saved plain, zero, used;
  model.hidden(ids, 2, 20, plain, workspace);
  model.hidden(ids, 2, 20, zero, workspace, {.probability = 0, .key = 9});
  expect_same_bits(zero.hidden, plain.hidden, "hidden");
  model.hidden(ids, 2, 20, used, workspace, kSome);
  EXPECT_FALSE(used.hidden == plain.hidden);
  model.hidden(ids, 2, 20, used, workspace);
  expect_same_bits(used.hidden, plain.hidden, "hidden of a record that was used");
  EXPECT_FALSE(used.dropout.drops());
}

TEST(Dropout, PackedAndExtendDropTheSameElements) {
  const auto model = random_model<double>(small_config(), 4);
  Random random(4);
  const Ids ids = random_ids(20, kVocabulary, random);
  Workspace workspace;
  Net::Saved whole, packed, extended;
  auto state = model.make_state();
  model.hidden(ids, 1, 20, whole, workspace, kSome);
  model.packed(ids, std::vector<Index>{0, 20}, packed, workspace, kSome);
  model.extend(ids, state, extended, workspace, kSome);
  expect_close_to_scale(packed.hidden, whole.hidden, Tolerance<double>::mode, "packed");
  expect_close_to_scale(extended.hidden, whole.hidden, Tolerance<double>::mode, "extend");
}

/// The loss of a batch of 2 x 20 tokens under a fixed mask, and its gradients where they are asked for.
struct MaskedLoss {
  Ids ids, targets;

  explicit MaskedLoss(Random& random)
      : ids(random_ids(40, kVocabulary, random)), targets(random_ids(40, kVocabulary, random)) {}

  template <class Model>
  double of(const Model& model, const Dropout& dropout) const {
    Workspace workspace;
    typename Model::Saved saved;
    return language_model_loss(model, std::span<const std::int32_t>(ids),
                               std::span<const std::int32_t>(targets), 2, 20, saved, workspace, {}, dropout)
        .mean();
  }
  template <class Model>
  Model gradients(const Model& model, const Dropout& dropout, Workspace& workspace) const {
    Model result = zeros_like(model);
    typename Model::Saved saved;
    language_model_gradients(model, std::span<const std::int32_t>(ids),
                             std::span<const std::int32_t>(targets), 2, 20, saved, result, workspace,
                             dropout);
    return result;
  }
};

TEST(Dropout, GradientsUnderAFixedMaskAreThoseOfCentralDifferences) {
  LanguageModelConfig config = small_config();
  config.positions = Positions::kLearned;
  auto model = random_model<double>(config, 5);
  Random random(5);
  const MaskedLoss loss(random);
  Workspace workspace;
  workspace.poison = true;
  const auto gradients = loss.gradients(model, kSome, workspace);
  const auto difference = [&](double& value) {
    const double before = value;
    value = before + kDifferenceStep;
    const double above = loss.of(model, kSome);
    value = before - kDifferenceStep;
    const double below = loss.of(model, kSome);
    value = before;
    return (above - below) / (2 * kDifferenceStep);
  };
  Net::visit(
      [&](std::string_view name, auto& tensor, const auto& gradient) {
        for (int k = 0; k < 3; ++k) {
          const auto i = static_cast<Index>(random.below(static_cast<std::uint64_t>(tensor.size())));
          expect_close(gradient.data()[i], difference(tensor.data()[i]), Tolerance<double>::difference,
                       Tolerance<double>::difference, std::string(name) + " " + std::to_string(i));
        }
      },
      model, gradients);
}

TEST(Dropout, ThreadsChangeNoBitOfGradients) {
  LanguageModelConfig config = small_config();
  config.width = 24;
  const auto model = random_model<float>(config, 6);
  Random random(6);
  const MaskedLoss loss(random);
  ThreadedExecutor executor(3);
  Workspace serial, threaded(executor);
  const auto expected = loss.gradients(model, kSome, serial), got = loss.gradients(model, kSome, threaded);
  LanguageModel<float>::visit(
      [](std::string_view name, const auto& a, const auto& b) { expect_same_bits(a, b, name); }, got,
      expected);
}

}  // namespace
}  // namespace hsm::test::dropout_test
