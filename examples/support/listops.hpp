// SPDX-License-Identifier: MIT
//
// ListOps (arXiv 1804.06028, in the form of the Long Range Arena, arXiv 2011.04006): nested lists of digits, such as
//
//   [MAX 4 [MIN 2 9 ] 0 [SM 7 8 ] ]  ->  5
//
// whose value is asked at the last bracket. MED is the median, of an even number of values the mean of the two in
// the middle, rounded down; SM the sum modulo 10. An operator has 2 to `arguments` arguments, each an operator again
// with probability 1/4 while fewer than ten are open, else a digit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/random.hpp>

#include "examples/support/tasks.hpp"

namespace hsm::examples {

/// Ids of the task: 0 before the list, then the ten digits, the operators with their opening bracket, and the bracket
/// that closes.
enum ListOpsId : std::int32_t {
  kListOpsDigit = 1,
  kListOpsMin = 11,
  kListOpsMax,
  kListOpsMed,
  kListOpsSm,
  kListOpsClose,
  kListOpsIds
};

/// Operators that are open at a place at most.
inline constexpr Index kListOpsDepth = 10;

/// A list and its value.
struct ListOps {
  std::vector<std::int32_t> ids{};
  std::int32_t value = 0;  ///< 0 ... 9
  Index depth = 0;         ///< operators that are open where most are
};

namespace detail {

/// The value of an operator; sorts `values`.
inline std::int32_t listops_value(std::int32_t id, std::vector<std::int32_t>& values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  switch (id) {
    case kListOpsMin:
      return values.front();
    case kListOpsMax:
      return values.back();
    case kListOpsMed:
      return (values[(n - 1) / 2] + values[n / 2]) / 2;
    default:
      return std::accumulate(values.begin(), values.end(), 0) % 10;
  }
}

/// Appends an operator, `open` of them around it, and returns its value; -1 as soon as there are more than `most` ids.
inline std::int32_t draw_operator(Index open, Index arguments, std::size_t most, Random& random,
                                  ListOps& list) {
  const auto below = [&](Index n) { return static_cast<Index>(random.below(static_cast<std::uint64_t>(n))); };
  const auto id = static_cast<std::int32_t>(kListOpsMin + below(4));
  list.ids.push_back(id);
  list.depth = std::max(list.depth, open + 1);
  std::vector<std::int32_t> values;
  for (Index left = 2 + below(arguments - 1); left > 0; --left) {
    std::int32_t value = 0;
    if (open + 1 < kListOpsDepth && below(4) == 0) {
      value = draw_operator(open + 1, arguments, most, random, list);
      if (value < 0) return -1;
    } else {
      value = static_cast<std::int32_t>(below(10));
      list.ids.push_back(kListOpsDigit + value);
    }
    if (list.ids.size() >= most) return -1;  // the bracket that closes has no room
    values.push_back(value);
  }
  list.ids.push_back(kListOpsClose);
  return listops_value(id, values);
}

}  // namespace detail

/// A list of `least` to `most` ids: the first of those drawn that is so long. Throws std::runtime_error where none of
/// so many tries is.
inline ListOps draw_listops(Index least, Index most, Index arguments, Random& random, int tries = 100'000) {
  for (; tries > 0; --tries) {
    ListOps list;
    list.value = detail::draw_operator(0, arguments, static_cast<std::size_t>(most), random, list);
    if (list.value >= 0 && static_cast<Index>(list.ids.size()) >= least) return list;
  }
  throw std::runtime_error(format(
      "listops: there must be lists of %td to %td ids with up to %td arguments, and hardly any is drawn",
      least, most, arguments));
}

/// Lists of T/4 (at least 4) to T ids, behind as many 0 as they are shorter than T; asked is the value at the last
/// bracket. Places count the operators that are open where most are. Throws std::invalid_argument for
/// arguments < 2 or T < 4, and as draw_listops does.
inline Task listops_task(Index time, Index arguments) {
  const char* const who = "listops_task";
  hsm::detail::check_at_least(who, "items", arguments, 2);
  hsm::detail::check_at_least(who, "context", time, 4);
  const Index least = std::max<Index>(4, time / 4);
  constexpr int kTries = 10'000;  // a tenth of those of the work, which then finds one
  Random trial(0);                // what cannot be drawn is refused before the work begins
  for (int i = 0; i < 10; ++i) draw_listops(least, time, arguments, trial, kTries);
  const auto draw = [=](Random& random, TaskSequence out) {
    const ListOps list = draw_listops(least, time, arguments, random);
    std::copy(list.ids.rbegin(), list.ids.rend(), out.ids.rbegin());
    out.targets.back() = kListOpsDigit + list.value;
    out.places.back() = static_cast<std::int32_t>(list.depth);
  };
  return {
      "listops",
      format("nested MIN, MAX, MED and SM of 2 to %td arguments; length %td to %td", arguments, least, time),
      kListOpsIds,
      time,
      1,
      0.1,
      "operators within operators",
      draw};
}

}  // namespace hsm::examples
