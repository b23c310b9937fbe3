// SPDX-License-Identifier: MIT
//
// ListOps: the values against an evaluation of the ids from right to left, the lists against their grammar, and the
// shares of what is drawn.
#include "examples/support/listops.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "io/io_test_support.hpp"

namespace hsm::examples::listops_test {
namespace {

using test::mentions;
using test::message_of;

using Ids = std::vector<std::int32_t>;

/// The list of a text such as "[MAX 4 [MIN 2 9 ] ]".
Ids ids_of(const std::string& text) {
  static const std::map<std::string, std::int32_t> kWords{{"[MIN", kListOpsMin},
                                                          {"[MAX", kListOpsMax},
                                                          {"[MED", kListOpsMed},
                                                          {"[SM", kListOpsSm},
                                                          {"]", kListOpsClose}};
  Ids ids;
  std::istringstream words(text);
  for (std::string word; words >> word;)
    ids.push_back(kWords.contains(word) ? kWords.at(word) : kListOpsDigit + std::stoi(word));
  return ids;
}

/// Operator, values -> value, by counting how many values lie below; it sorts nothing.
int value_of(std::int32_t id, const std::vector<int>& values) {
  int sum = 0;
  for (const int value : values) sum += value;
  if (id == kListOpsSm) return sum % 10;
  const auto ranked = [&](std::size_t rank) {
    for (int value = 0; value < 10; ++value) {
      const auto upto =
          std::count_if(values.begin(), values.end(), [&](int other) { return other <= value; });
      if (static_cast<std::size_t>(upto) > rank) return value;
    }
    return -1;
  };
  const std::size_t n = values.size();
  if (id == kListOpsMin) return ranked(0);
  if (id == kListOpsMax) return ranked(n - 1);
  return n % 2 == 1 ? ranked(n / 2) : (ranked(n / 2 - 1) + ranked(n / 2)) / 2;
}

/// Value and depth of a list, read from right to left: a bracket opens values there, an operator ends them.
struct Read {
  int value = -1, depth = 0;
  std::set<std::size_t> arguments{};
};
Read read(const Ids& ids) {
  Read result;
  std::vector<std::vector<int>> open;
  for (auto id = ids.rbegin(); id != ids.rend(); ++id) {
    if (*id == kListOpsClose) {
      open.emplace_back();
      result.depth = std::max(result.depth, static_cast<int>(open.size()));
      continue;
    }
    if (open.empty()) {
      ADD_FAILURE() << "an id behind the list";
      return result;
    }
    if (*id < kListOpsMin) {
      open.back().push_back(*id - kListOpsDigit);
      continue;
    }
    result.arguments.insert(open.back().size());
    const int value = value_of(*id, open.back());
    open.pop_back();
    if (!open.empty()) {
      open.back().push_back(value);
    } else {
      result.value = value;
      EXPECT_EQ(id + 1, ids.rend()) << "ids before the list";
    }
  }
  EXPECT_TRUE(open.empty()) << "a bracket that opens nothing";
  return result;
}

TEST(ListOps, ReaderKnowsTheDefinition) {
  EXPECT_EQ(read(ids_of("[MAX 4 [MIN 2 9 ] 0 [SM 7 8 ] ]")).value, 5);
  EXPECT_EQ(read(ids_of("[MAX 4 [MIN 2 9 ] 0 [SM 7 8 ] ]")).depth, 2);
  EXPECT_EQ(read(ids_of("[MED 1 9 3 ]")).value, 3);
  EXPECT_EQ(read(ids_of("[MED 1 4 9 2 ]")).value, 3);
  EXPECT_EQ(read(ids_of("[MED 1 4 9 3 ]")).value, 3);  // 3.5 rounded down
  EXPECT_EQ(read(ids_of("[SM 9 9 9 ]")).value, 7);
}

TEST(ListOps, ValuesAreThoseOfTheIds) {
  Random random(5);
  for (const Index arguments : {2, 3, 10}) {
    for (const Index most : {4, 5, 16, 64, 512}) {
      for (int i = 0; i < 50; ++i) {
        SCOPED_TRACE(i);
        const Index least = std::max<Index>(4, most / 16);
        const ListOps list = draw_listops(least, most, arguments, random);
        ASSERT_GE(static_cast<Index>(list.ids.size()), least);
        ASSERT_LE(static_cast<Index>(list.ids.size()), most);
        const Read found = read(list.ids);
        ASSERT_EQ(list.value, found.value);
        ASSERT_EQ(list.depth, found.depth);
        ASSERT_LE(list.depth, kListOpsDepth);
        ASSERT_GE(*found.arguments.begin(), 2u);
        ASSERT_LE(*found.arguments.rbegin(), static_cast<std::size_t>(arguments));
      }
    }
  }
}

TEST(ListOps, ListsUseEverythingTheyMay) {
  Random random(6);
  std::map<std::int32_t, int> seen;
  std::set<std::size_t> arguments;
  Index deepest = 0;
  int ids = 0;
  for (int i = 0; i < 300; ++i) {
    const ListOps list = draw_listops(100, 400, 10, random);
    for (const std::int32_t id : list.ids) ++seen[id], ++ids;
    arguments.merge(read(list.ids).arguments);
    deepest = std::max(deepest, list.depth);
  }
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(kListOpsIds - 1));
  EXPECT_EQ(arguments.size(), 9u);
  EXPECT_EQ(deepest, kListOpsDepth);
  // Each kind of operator and each digit as often as the others, within four standard deviations.
  const auto expect_even = [&](std::int32_t first, int kinds) {
    int all = 0;
    for (int k = 0; k < kinds; ++k) all += seen[first + k];
    const double p = 1.0 / kinds;
    for (int k = 0; k < kinds; ++k)
      EXPECT_NEAR(seen[first + k] / static_cast<double>(all), p, 4 * std::sqrt(p * (1 - p) / all))
          << first + k;
  };
  expect_even(kListOpsDigit, 10);
  expect_even(kListOpsMin, 4);
}

TEST(ListOps, TheTaskAsksAtTheLastBracketAlone) {
  const Task task = listops_task(40, 5);
  EXPECT_EQ(task.vocabulary, 16);
  EXPECT_EQ(task.asked, 1);
  Random random(7);
  TaskBatch batch;
  batch.draw(task, random, 30);
  for (Index b = 0; b < 30; ++b) {
    const auto first = batch.ids.begin() + b * task.time;
    const Ids ids(std::find_if(first, first + task.time, [](std::int32_t id) { return id != 0; }),
                  first + task.time);
    const Read found = read(ids);
    EXPECT_GE(ids.size(), 10u);
    for (Index t = 0; t < task.time; ++t) {
      const auto i = static_cast<std::size_t>(b * task.time + t);
      const bool last = t == task.time - 1;
      EXPECT_EQ(batch.targets[i], last ? kListOpsDigit + found.value : -1);
      EXPECT_EQ(batch.places[i], last ? found.depth : 0);
    }
  }
}

TEST(ListOps, RefusesWhatCannotBe) {
  const auto expect_refused = [](auto error, auto action, const std::vector<std::string>& words) {
    EXPECT_TRUE(mentions(message_of<typename decltype(error)::type>(action), words));
  };
  constexpr std::type_identity<std::invalid_argument> kInvalid;
  constexpr std::type_identity<std::runtime_error> kNone;
  expect_refused(kInvalid, [] { listops_task(3, 5); }, {"listops_task", "context", "4", "3"});
  expect_refused(kInvalid, [] { listops_task(64, 1); }, {"listops_task", "items", "2", "1"});
  Random random(8);  // two arguments make lists of 4, 7, 10, ... ids
  expect_refused(kNone, [&] { draw_listops(5, 6, 2, random); }, {"listops", "5 to 6", "2 arguments"});
  // Lists of two arguments stay short: refused when the task is made, not in the middle of a run.
  expect_refused(kNone, [] { listops_task(1 << 14, 2); }, {"listops", "4096 to 16384"});
}

}  // namespace
}  // namespace hsm::examples::listops_test
