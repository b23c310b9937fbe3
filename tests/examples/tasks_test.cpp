// SPDX-License-Identifier: MIT
//
// The tasks against oracles that read the ids alone: every target follows from the ids before or at it, nothing
// else is asked, and the chance level is what a guess reaches.
#include "examples/support/tasks.hpp"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "io/io_test_support.hpp"

namespace hsm::examples::tasks_test {
namespace {

using Ids = std::vector<std::int32_t>;

struct Sequence {
  Ids ids, targets, places;
};

std::vector<Sequence> sequences(const Task& task, Index count, std::uint64_t seed = 7) {
  Random random(seed);
  TaskBatch batch;
  batch.draw(task, random, count);
  std::vector<Sequence> all;
  const auto part = [&](const Ids& values, Index i) {
    const auto first = values.begin() + i * task.time;
    return Ids(first, first + task.time);
  };
  for (Index i = 0; i < count; ++i)
    all.push_back({part(batch.ids, i), part(batch.targets, i), part(batch.places, i)});
  return all;
}

/// What is asked at the last of `ids`, if anything, and its place on the axis.
struct Answer {
  std::int32_t target, place;
};
using Oracle = std::optional<Answer> (*)(const Task&, const Ids&);

/// Shows the oracle nothing but the ids up to each place.
void expect_answers(const Task& task, Oracle oracle) {
  SCOPED_TRACE(task.name + ": " + task.sizes);
  for (const Sequence& s : sequences(task, 50)) {
    Index asked = 0;
    for (std::size_t t = 0; t < s.ids.size(); ++t) {
      SCOPED_TRACE(t);
      ASSERT_GE(s.ids[t], 0);
      ASSERT_LT(s.ids[t], task.vocabulary);
      const auto answer =
          oracle(task, Ids(s.ids.begin(), s.ids.begin() + static_cast<std::ptrdiff_t>(t) + 1));
      ASSERT_EQ(s.targets[t], answer ? answer->target : -1);
      ASSERT_EQ(s.places[t], answer ? answer->place : 0);
      asked += answer.has_value();
    }
    EXPECT_EQ(asked, task.asked);
  }
}

constexpr Index kPairs = 3;

std::optional<Answer> recall_oracle(const Task&, const Ids& ids) {
  const auto t = static_cast<Index>(ids.size()) - 1;
  if (t < 2 * kPairs || ids.back() == 0) return {};
  for (Index i = 0; i < kPairs; ++i) {
    if (ids[static_cast<std::size_t>(2 * i)] == ids.back())
      return Answer{ids[static_cast<std::size_t>(2 * i + 1)], static_cast<std::int32_t>(t - 2 * i - 1)};
  }
  ADD_FAILURE() << "a query without a pair";
  return {};
}

std::optional<Answer> selective_copy_oracle(const Task&, const Ids& ids) {
  if (ids.back() != 1) return {};
  const auto asked = std::count(ids.begin(), ids.end(), 1);
  std::ptrdiff_t found = 0;
  for (const std::int32_t id : ids) {
    if (id > 1 && ++found == asked) return Answer{id, static_cast<std::int32_t>(asked)};
  }
  ADD_FAILURE() << "fewer symbols than are asked for";
  return {};
}

template <Index kDistance>
std::optional<Answer> copy_oracle(const Task&, const Ids& ids) {
  const auto t = static_cast<Index>(ids.size()) - 1;
  if (t < kDistance) return {};
  return Answer{ids[static_cast<std::size_t>(t - kDistance)], static_cast<std::int32_t>(t)};
}

std::optional<Answer> induction_oracle(const Task& task, const Ids& ids) {
  if (static_cast<Index>(ids.size()) < task.time) return {};
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 2);
  EXPECT_EQ(ids.back(), 0);
  const auto symbol = std::find(ids.begin(), ids.end(), 0) + 1;
  return Answer{*symbol, static_cast<std::int32_t>(ids.end() - 1 - symbol)};
}

std::optional<Answer> parity_oracle(const Task&, const Ids& ids) {
  return Answer{static_cast<std::int32_t>(std::count(ids.begin(), ids.end(), 1) % 2),
                static_cast<std::int32_t>(ids.size())};
}

TEST(Tasks, TargetsFollowFromTheIdsBeforeOrAtThem) {
  for (const Index time : {12, 13, 40}) expect_answers(recall_task(time, kPairs, 5), recall_oracle);
  expect_answers(recall_task(12, kPairs, 3), recall_oracle);
  for (const Index time : {8, 9, 40}) expect_answers(selective_copy_task(time, 4, 6), selective_copy_oracle);
  expect_answers(copy_task(20, 0, 5), copy_oracle<0>);
  expect_answers(copy_task(20, 1, 5), copy_oracle<1>);
  expect_answers(copy_task(20, 19, 5), copy_oracle<19>);
  for (const Index time : {3, 4, 30}) expect_answers(induction_task(time, 6), induction_oracle);
  for (const Index time : {1, 2, 33}) expect_answers(parity_task(time), parity_oracle);
}

TEST(Tasks, KeysAndValuesOfARecallAreDifferent) {
  const Task task = recall_task(32, 5, 6);
  EXPECT_EQ(task.vocabulary, 13);
  for (const Sequence& s : sequences(task, 100)) {
    std::set<std::int32_t> keys, values;
    for (std::size_t i = 0; i < 10; i += 2) {
      keys.insert(s.ids[i]);
      values.insert(s.ids[i + 1]);
    }
    EXPECT_EQ(keys.size(), 5u);
    EXPECT_EQ(values.size(), 5u);
    EXPECT_TRUE(*keys.begin() >= 1 && *keys.rbegin() <= 6);
    EXPECT_TRUE(*values.begin() >= 7 && *values.rbegin() <= 12);
  }
}

/// Within four standard deviations of a share of n draws.
void expect_share(double hits, double n, double expected) {
  EXPECT_NEAR(hits / n, expected, 4 * std::sqrt(expected * (1 - expected) / n));
}

TEST(Tasks, GapsFollowAPowerLaw) {
  Random random(3);
  constexpr Index kMost = 20, kDraws = 20'000;
  std::vector<double> counts(kMost + 1, 0);
  for (Index i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(draw_gaps(1, kMost, random).front())];
  double total = 0;
  for (Index g = 1; g <= kMost; ++g) total += std::pow(static_cast<double>(g), -0.99);
  for (Index g = 1; g <= kMost; ++g) {
    SCOPED_TRACE(g);
    expect_share(counts[static_cast<std::size_t>(g)], kDraws,
                 std::pow(static_cast<double>(g), -0.99) / total);
  }
  for (int i = 0; i < 100; ++i) {
    const auto all = draw_gaps(kMost, kMost, random);
    EXPECT_EQ(std::set<Index>(all.begin(), all.end()).size(), 20u);
    EXPECT_TRUE(*std::min_element(all.begin(), all.end()) == 1 &&
                *std::max_element(all.begin(), all.end()) == 20);
  }
}

TEST(Tasks, PlacesAreDrawnEvenly) {
  std::map<std::int32_t, double> markers, symbols;
  constexpr Index kCount = 8000;
  for (const Sequence& s : sequences(induction_task(10, 5), kCount)) ++markers[s.places.back()];
  ASSERT_EQ(markers.size(), 8u);
  for (const auto& [place, count] : markers) expect_share(count, kCount, 1.0 / 8);
  for (const Sequence& s : sequences(selective_copy_task(12, 3, 4), kCount)) {
    for (std::size_t t = 0; t < 9; ++t) symbols[static_cast<std::int32_t>(t)] += s.ids[t] > 1;
  }
  ASSERT_EQ(symbols.size(), 9u);
  for (const auto& [place, count] : symbols) expect_share(count, kCount, 3.0 / 9);
}

/// One of the symbols that could be meant, as the comment of `chance` says.
std::int32_t guess(const Task& task, const Sequence& s, Random& random) {
  const auto one_of = [&](const Ids& from) { return from[random.below(from.size())]; };
  Ids from;
  if (task.name == "recall") {
    for (std::size_t i = 1; i < 8; i += 2) from.push_back(s.ids[i]);
  } else if (task.name == "selective-copy") {
    std::copy_if(s.ids.begin(), s.ids.end(), std::back_inserter(from),
                 [](std::int32_t id) { return id > 1; });
  } else {
    for (std::int32_t id = task.name == "induction" ? 1 : 0; id < task.vocabulary; ++id) from.push_back(id);
  }
  return one_of(from);
}

TEST(Tasks, ChanceIsWhatAGuessReaches) {
  Random random(11);
  for (const Task& task : {recall_task(24, 4, 9), selective_copy_task(24, 5, 7), copy_task(24, 6, 9),
                           induction_task(24, 6), parity_task(24)}) {
    SCOPED_TRACE(task.name);
    double right = 0, asked = 0;
    for (const Sequence& s : sequences(task, 4000)) {
      for (const std::int32_t target : s.targets) {
        if (target == -1) continue;
        ++asked;
        right += guess(task, s, random) == target;
      }
    }
    EXPECT_EQ(asked, 4000.0 * static_cast<double>(task.asked));
    // Answers of one sequence are not independent: a factor of 2 for the few places where that counts.
    EXPECT_NEAR(right / asked, task.chance, 8 * std::sqrt(task.chance * (1 - task.chance) / asked));
  }
}

TEST(Tasks, SameSeedsGiveTheSameSequencesAndNoTwoStreamsShareOne) {
  const Task task = parity_task(64);
  std::set<Ids> seen;
  std::size_t drawn = 0;
  for (const std::uint64_t seed : {0u, 1u, 2u, 3u, 4u, 1000u}) {
    for (const TaskStream stream : {TaskStream::kTraining, TaskStream::kSelection, TaskStream::kTest}) {
      TaskBatch first, second;
      Random random = task_random(seed, stream), again = task_random(seed, stream);
      first.draw(task, random, 5);
      second.draw(task, again, 5);
      EXPECT_EQ(first.ids, second.ids);
      for (Index i = 0; i < 5; ++i, ++drawn)
        seen.insert(Ids(first.ids.begin() + i * task.time, first.ids.begin() + (i + 1) * task.time));
    }
  }
  EXPECT_EQ(seen.size(), drawn);
}

TEST(Tasks, RefusesSizesThatDoNotFit) {
  using Invalid = std::invalid_argument;
  const auto refused = [](auto make, const std::vector<std::string>& words) {
    EXPECT_TRUE(test::mentions(test::message_of<Invalid>(make), words));
  };
  refused([] { recall_task(15, 4, 8); }, {"context", "at least 16", "got 15"});
  refused([] { recall_task(64, 9, 8); }, {"symbols", "at least 9", "got 8"});
  refused([] { recall_task(64, 0, 8); }, {"items", "at least 1", "got 0"});
  refused([] { selective_copy_task(15, 8, 8); }, {"context", "at least 16", "got 15"});
  refused([] { selective_copy_task(15, 0, 8); }, {"items", "got 0"});
  refused([] { copy_task(4, 4, 8); }, {"context", "at least 5", "got 4"});
  refused([] { copy_task(4, -1, 8); }, {"distance", "got -1"});
  refused([] { copy_task(4, 1, 1); }, {"symbols", "at least 2", "got 1"});
  refused([] { induction_task(2, 8); }, {"context", "at least 3", "got 2"});
  refused([] { parity_task(0); }, {"context", "at least 1", "got 0"});
  refused([] { task_random(kTaskSeeds, TaskStream::kTest); }, {"seed", "below 2^62"});
}

}  // namespace
}  // namespace hsm::examples::tasks_test
