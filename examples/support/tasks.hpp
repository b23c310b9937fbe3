// SPDX-License-Identifier: MIT
//
// Tasks that judge token mixers: sequences of symbols made at random, and at some places a symbol that follows
// from those before. Settings as in the literature, scaled to a small machine:
//
//   recall           multi-query associative recall (arXiv 2312.04927): N pairs of key and value, then each key
//                    once more, at gaps of probability g^-0.99; what is asked is its value
//   selective-copy   (arXiv 2403.17844): N symbols among blanks; then, one after another, the symbols alone
//   copy             at each place the symbol `distance` places before: what one path of shifts can do
//   induction        (arXiv 2212.14052): noise, a marker, a symbol, noise; at the next marker that symbol
//   parity           of the bits up to and with each place
//
// Targets are -1, which no loss counts, where nothing is asked. A target follows from the ids up to and with its
// place. Cost of a sequence: O(T), of recall O(T N).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/random.hpp>

#include "examples/support/text.hpp"

namespace hsm::examples {

/// One sequence to fill in, of T places each.
struct TaskSequence {
  std::span<std::int32_t> ids, targets;
  std::span<std::int32_t> places;  ///< of each target, where it belongs on the axis of its task
};

/// A task at its sizes.
struct Task {
  std::string name{};
  std::string sizes{};  ///< for people
  Index vocabulary = 0;
  Index time = 0;   ///< T
  Index asked = 0;  ///< targets of a sequence
  /// The accuracy of one symbol drawn from those that could be meant: of `recall` and `selective-copy` from
  /// those that were shown, else from all.
  double chance = 0;
  std::string axis{};  ///< what places count
  /// Makes the next sequence.
  std::function<void(Random&, TaskSequence)> draw{};
};

/// Some sequences of a task, one after another.
struct TaskBatch {
  std::vector<std::int32_t> ids{}, targets{}, places{};  ///< [B,T]

  /// Draws B = `batch` sequences.
  void draw(const Task& task, Random& random, Index batch) {
    const auto T = static_cast<std::size_t>(task.time), size = static_cast<std::size_t>(batch) * T;
    ids.assign(size, 0);
    targets.assign(size, -1);
    places.assign(size, 0);
    for (std::size_t first = 0; first < size; first += T) {
      const auto part = [&](std::vector<std::int32_t>& all) { return std::span(all).subspan(first, T); };
      task.draw(random, {part(ids), part(targets), part(places)});
    }
  }
};

/// What a stream of random numbers is for.
enum class TaskStream : std::uint64_t { kWeights, kTraining, kSelection, kTest };

/// Seeds are below this.
inline constexpr std::uint64_t kTaskSeeds = std::uint64_t{1} << 62;

/// The stream of a seed and a purpose; no two of them start alike, whatever the seeds.
inline Random task_random(std::uint64_t seed, TaskStream stream) {
  if (seed >= kTaskSeeds) hsm::detail::fail("task_random", "the seed", "below 2^62", std::to_string(seed));
  return Random(4 * seed + static_cast<std::uint64_t>(stream));
}

/// `count` different numbers of 0 ... n-1, in random order.
inline std::vector<std::int32_t> draw_different(Index count, Index n, Random& random) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
    std::swap(all[i], all[i + random.below(all.size() - i)]);
  all.resize(static_cast<std::size_t>(count));
  return all;
}

/// `count` different gaps of 1 ... most, in random order, each drawn with probability ~ g^-0.99 from those that
/// are left.
inline std::vector<Index> draw_gaps(Index count, Index most, Random& random) {
  std::vector<double> weights(static_cast<std::size_t>(most));
  for (std::size_t g = 0; g < weights.size(); ++g) weights[g] = std::pow(static_cast<double>(g + 1), -0.99);
  std::vector<Index> gaps;
  while (static_cast<Index>(gaps.size()) < count) {
    double place = random.uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
    std::size_t last = 0;  // the last one that could be drawn: rounding must not lead past it
    for (std::size_t g = 0; g < weights.size(); ++g) {
      if (weights[g] == 0) continue;
      last = g;
      place -= weights[g];
      if (place < 0) break;
    }
    weights[last] = 0;
    gaps.push_back(static_cast<Index>(last) + 1);
  }
  return gaps;
}

/// Ids: 0 blank, then the keys, then the values. Keys and values of a sequence are different; places count from
/// the value to where it is asked. Throws std::invalid_argument for more pairs than keys, or T < 4 pairs.
inline Task recall_task(Index time, Index pairs, Index symbols) {
  const char* const who = "recall_task";
  hsm::detail::check_at_least(who, "items", pairs, 1);
  hsm::detail::check_at_least(who, "symbols", symbols, pairs);
  hsm::detail::check_at_least(who, "context", time, 4 * pairs);
  const auto draw = [=](Random& random, TaskSequence out) {
    const auto keys = draw_different(pairs, symbols, random), values = draw_different(pairs, symbols, random);
    const std::vector<Index> gaps = draw_gaps(pairs, (time - 2 * pairs) / 2, random);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const std::int32_t key = 1 + keys[i], value = 1 + static_cast<std::int32_t>(symbols) + values[i];
      const std::size_t asked = 2 * keys.size() + 2 * static_cast<std::size_t>(gaps[i] - 1);
      out.ids[2 * i] = out.ids[asked] = key;
      out.ids[2 * i + 1] = out.targets[asked] = value;
      out.places[asked] = static_cast<std::int32_t>(asked - (2 * i + 1));
    }
  };
  return {"recall",
          counted(pairs, "pair") + " of " + counted(symbols, "key") + " and " + counted(symbols, "value") +
              format(", each asked once; length %td", time),
          1 + 2 * symbols,
          time,
          pairs,
          1.0 / static_cast<double>(pairs),
          "places from the value to its query",
          draw};
}

/// Ids: 0 blank, 1 "the next one, please", then the symbols. Places count the symbols, from 1. Throws
/// std::invalid_argument for items < 1, symbols < 2 or T < 2 items.
inline Task selective_copy_task(Index time, Index items, Index symbols) {
  const char* const who = "selective_copy_task";
  hsm::detail::check_at_least(who, "items", items, 1);
  hsm::detail::check_at_least(who, "symbols", symbols, 2);
  hsm::detail::check_at_least(who, "context", time, 2 * items);
  const auto draw = [=](Random& random, TaskSequence out) {
    const Index shown = time - items;
    auto where = draw_different(items, shown, random);
    std::sort(where.begin(), where.end());
    for (std::size_t i = 0; i < where.size(); ++i) {
      const std::size_t asked = static_cast<std::size_t>(shown) + i;
      out.ids[asked] = 1;
      out.ids[static_cast<std::size_t>(where[i])] = out.targets[asked] =
          2 + static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(symbols)));
      out.places[asked] = static_cast<std::int32_t>(i) + 1;
    }
  };
  const double n = static_cast<double>(items), S = static_cast<double>(symbols);
  return {"selective-copy",
          format("%td of %td symbols among blanks; length %td", items, symbols, time),
          2 + symbols,
          time,
          items,
          1 / n + (1 - 1 / n) / S,  // the very one, or another that is equal
          "which of the symbols",
          draw};
}

/// All ids are symbols. Places count from the start of the sequence. Throws std::invalid_argument for a distance
/// < 0, symbols < 2 or T <= distance.
inline Task copy_task(Index time, Index distance, Index symbols) {
  const char* const who = "copy_task";
  hsm::detail::check_at_least(who, "distance", distance, 0);
  hsm::detail::check_at_least(who, "symbols", symbols, 2);
  hsm::detail::check_at_least(who, "context", time, distance + 1);
  const auto draw = [=](Random& random, TaskSequence out) {
    const auto k = static_cast<std::size_t>(distance);
    for (std::size_t t = 0; t < out.ids.size(); ++t) {
      out.ids[t] = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(symbols)));
      if (t < k) continue;
      out.targets[t] = out.ids[t - k];
      out.places[t] = static_cast<std::int32_t>(t);
    }
  };
  return {
      "copy",
      format("the symbol %s before, of %td; length %td", counted(distance, "place").c_str(), symbols, time),
      symbols,
      time,
      time - distance,
      1.0 / static_cast<double>(symbols),
      "place in the sequence",
      draw};
}

/// Ids: 0 the marker, then the symbols. The first marker is anywhere, the second is the last id. Places count
/// from the symbol after the first marker to the second. Throws std::invalid_argument for symbols < 2 or T < 3.
inline Task induction_task(Index time, Index symbols) {
  const char* const who = "induction_task";
  hsm::detail::check_at_least(who, "symbols", symbols, 2);
  hsm::detail::check_at_least(who, "context", time, 3);
  const auto draw = [=](Random& random, TaskSequence out) {
    for (std::int32_t& id : out.ids)
      id = 1 + static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(symbols)));
    const std::size_t last = out.ids.size() - 1, marker = random.below(last - 1);
    out.ids[marker] = out.ids[last] = 0;
    out.targets[last] = out.ids[marker + 1];
    out.places[last] = static_cast<std::int32_t>(last - (marker + 1));
  };
  return {"induction",
          format("the symbol after an earlier marker, of %td; length %td", symbols, time),
          1 + symbols,
          time,
          1,
          1.0 / static_cast<double>(symbols),
          "places from the symbol to the second marker",
          draw};
}

/// Ids are bits. Places count the bits so far. Throws std::invalid_argument for T < 1.
inline Task parity_task(Index time) {
  hsm::detail::check_at_least("parity_task", "context", time, 1);
  const auto draw = [](Random& random, TaskSequence out) {
    std::int32_t odd = 0;
    for (std::size_t t = 0; t < out.ids.size(); ++t) {
      out.ids[t] = static_cast<std::int32_t>(random.below(2));
      odd ^= out.ids[t];
      out.targets[t] = odd;
      out.places[t] = static_cast<std::int32_t>(t) + 1;
    }
  };
  return {"parity", format("of the bits so far; length %td", time), 2, time, time, 0.5, "bits so far", draw};
}

}  // namespace hsm::examples
