// SPDX-License-Identifier: MIT
//
// The state of one layer as a safetensors file, exact to the bit, so that another process continues it. In
// the metadata
//
//   format "hsm-state"   version "2"   fingerprint of the layer (io/fingerprint.hpp)   spare
//
// and as tensors, of the layer's scalar (F32 or F64) where no type is given:
//
//   rings       counts, highest I64 [streams];  rings.<g> [streams, n, rows] for each ring: the first n
//               slots, where n is the largest of `highest`, but no more than the ring has
//   attention   counts I64 [streams];  cache.<stream> [2, H, held, C/H]: keys, then values of all tokens, or with a
//               window of the last min(count, W-1) and up to `spare` more
//   hkt         as rings, of which rings.0 holds the tails, and cache.<stream> [2, H, count, C/H] as attention; of each
//               level e from 1 on level<e>.<stream> [H, count / 2^e, C/H], the keys of its blocks
//
// A file so holds what was seen, however long the shifts are. Version "1", in which n was always all slots, is
// read too. All numbers are finite, or nothing is written.
//
// Saving replaces a file whole or not at all. Loading trusts nothing: every size is borne out by a tensor of
// the file before memory is taken, and a state of other parameters is refused. The capacity of attention, a
// limit on memory, is the loader's to choose, not the file's. Errors: std::runtime_error `file: what was
// expected, what came`; std::invalid_argument for a state that is not the layer's.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <hsm/attention/attention_state.hpp>
#include <hsm/hierarchical_attention/hierarchical_attention_state.hpp>
#include <hsm/io/file_checks.hpp>
#include <hsm/io/fingerprint.hpp>
#include <hsm/io/safetensors_writer.hpp>
#include <hsm/layer/ring_state.hpp>

namespace hsm::inline HSM_ABI {

/// The metadata `format` of a state file.
inline constexpr std::string_view kStateFormat = "hsm-state";
/// The metadata `version`; files of another one are refused, but for the next.
inline constexpr std::string_view kStateVersion = "2";
/// The version before, which is read too.
inline constexpr std::string_view kFirstStateVersion = "1";

namespace detail {

/// Tensors that are put together for a file, and live until it is written.
template <class Element>
using Gathered = std::deque<std::vector<Element>>;
/// Sizes and counts for a file, which holds them as I64 whatever Index is here.
using GatheredNumbers = Gathered<std::int64_t>;

/// Throws std::runtime_error where a value is NaN or infinite: no such file would load.
template <class Scalar>
void check_saved_finite(const std::string& file, const std::string& name, std::span<const Scalar> values) {
  for (const Scalar value : values) {
    if (!is_finite(value)) {
      throw std::runtime_error(file + ": tensor " + in_quotes(name) +
                               " must hold finite numbers to be saved, got " + std::to_string(value));
    }
  }
}

/// Adds what rings hold; the state must live until `file` is written.
template <class Scalar>
void add_state(SafetensorsWriter& writer, const std::string& file, const std::string& prefix,
               const RingState<Scalar>& state, GatheredNumbers& numbers, Gathered<Scalar>& gathered) {
  std::span<const Index> highest;
  RingState<Scalar>::visit(
      [&](const std::string& name, auto values, const std::vector<Index>& shape) {
        if constexpr (std::is_same_v<typename decltype(values)::value_type, Index>) {
          const auto& copy = numbers.emplace_back(values.begin(), values.end());
          writer.add(prefix + name, {shape[0]}, std::span<const std::int64_t>(copy));
          if (name == "highest") highest = values;
        } else {
          const Index filled = filled_slots(shape[1], highest);
          const auto size = static_cast<std::size_t>(filled * shape[2]);
          auto& columns = gathered.emplace_back();
          for (Index s = 0; s < shape[0]; ++s) {
            const auto own = values.subspan(static_cast<std::size_t>(s * shape[1] * shape[2]), size);
            columns.insert(columns.end(), own.begin(), own.end());
            // What a stream has not reached was never cleared.
            const auto reached = (std::min)(filled, highest[static_cast<std::size_t>(s)]) * shape[2];
            std::fill(columns.end() - static_cast<std::ptrdiff_t>(size) + reached, columns.end(), Scalar(0));
          }
          check_saved_finite<Scalar>(file, prefix + name, columns);
          writer.add(prefix + name, {shape[0], filled, shape[2]}, std::span<const Scalar>(columns));
        }
      },
      state);
}

/// Adds keys and values.
template <class Scalar>
void add_state(SafetensorsWriter& writer, const std::string& file, const std::string& prefix,
               const AttentionState<Scalar>& state, GatheredNumbers& numbers, Gathered<Scalar>& caches) {
  auto& counts = numbers.emplace_back();
  for (Index s = 0; s < state.streams(); ++s) counts.push_back(state.count(s));
  writer.add(prefix + "counts", {state.streams()}, std::span<const std::int64_t>(counts));
  const std::size_t first = caches.size();
  for (Index s = 0; s < state.streams(); ++s) caches.emplace_back();
  state.visit([&](Index s, CachePart, Index, std::span<const Scalar> block) {
    auto& cache = caches[first + static_cast<std::size_t>(s)];
    cache.insert(cache.end(), block.begin(), block.end());
  });
  for (Index s = 0; s < state.streams(); ++s) {
    check_saved_finite<Scalar>(file, prefix + "cache." + std::to_string(s),
                               caches[first + static_cast<std::size_t>(s)]);
    writer.add(prefix + "cache." + std::to_string(s),
               {2, state.heads(), state.held(s), state.channels() / state.heads()},
               std::span<const Scalar>(caches[first + static_cast<std::size_t>(s)]));
  }
}

/// Where a state of attention over a hierarchy has the blocks of a level of a stream, and their shape.
template <class Scalar>
std::pair<std::string, std::vector<Index>> level_tensor(const HierarchicalAttentionState<Scalar>& state,
                                                        Index s, Index l, Index blocks) {
  const std::string stream = "." + std::to_string(s);
  const Index H = state.heads(), width = state.width();
  if (l == 0) return {"cache" + stream, {2, H, blocks, width}};
  return {"level" + std::to_string(l) + stream, {H, blocks, width}};
}

/// Adds tails, and the blocks of each level.
template <class Scalar>
void add_state(SafetensorsWriter& writer, const std::string& file, const std::string& prefix,
               const HierarchicalAttentionState<Scalar>& state, GatheredNumbers& numbers,
               Gathered<Scalar>& gathered) {
  add_state(writer, file, prefix, state.tails(), numbers, gathered);
  std::vector<Scalar>* blocks = nullptr;
  HierarchicalAttentionState<Scalar>::visit(
      [&](Index s, Index l, Index part, std::span<const Scalar> values) {
        if (part == 0) blocks = &gathered.emplace_back();
        blocks->insert(blocks->end(), values.begin(), values.end());
        if (part + 1 < state.parts(l)) return;
        const auto tensor = level_tensor(state, s, l, state.blocks(s, l));
        check_saved_finite<Scalar>(file, prefix + tensor.first, *blocks);
        writer.add(prefix + tensor.first, {tensor.second.begin(), tensor.second.end()},
                   std::span<const Scalar>(*blocks));
      },
      state);
}

/// Reads rings, which makes() makes for StateOptions.
template <class State, class Scalar, class Makes>
State read_rings(FileChecks& file, const std::string& prefix, const Makes& makes, Index streams,
                 StateOptions options) {
  file.template expect<std::int64_t>(prefix + "counts", {streams});
  file.template expect<std::int64_t>(prefix + "highest", {streams});
  const std::vector<Index> highest = file.numbers(prefix + "highest");
  Index longest = 0;
  // f(name, values, shape, slots that tokens have reached, slots in the file) for each ring.
  const auto for_each_ring = [&](State& of, auto&& f) {
    std::size_t ring = 0;
    State::visit(
        [&](const std::string& name, auto values, const std::vector<Index>& shape) {
          if constexpr (std::is_same_v<typename decltype(values)::value_type, Scalar>) {
            const Index length = of.most_slots(ring++), filled = filled_slots(length, highest);
            f(prefix + name, values, shape, filled,
              file.size(prefix + name, 3, 1) == length ? length : filled);
          }
        },
        of);
  };
  State none = makes({.streams = 0, .spare = options.spare});  // its shapes
  for_each_ring(none, [&](const std::string& name, auto, const auto& shape, Index filled, Index there) {
    file.template expect<Scalar>(name, {streams, there, shape[2]});
    longest = (std::max)(longest, filled);
  });
  State state = makes({.streams = streams, .spare = options.spare});
  state.make_room(longest);
  for_each_ring(state,
                [&](const std::string& name, auto values, const auto& shape, Index filled, Index there) {
                  std::vector<Scalar> columns(static_cast<std::size_t>(streams * there * shape[2]));
                  file.template read<Scalar>(name, {streams, there, shape[2]}, std::span(columns));
                  file.check_finite(name, std::span<const Scalar>(columns));
                  for (Index s = 0; s < streams; ++s) {
                    std::copy_n(columns.data() + s * there * shape[2], filled * shape[2],
                                values.data() + s * shape[1] * shape[2]);
                  }
                });
  State::visit(
      [&](const std::string& name, auto values, const std::vector<Index>& shape) {
        if constexpr (std::is_same_v<typename decltype(values)::value_type, Index>)
          file.read_numbers(prefix + name, shape, values);
      },
      state);
  if (!state.is_sound())
    file.fail("the counts in " + in_quotes(prefix + "counts") + " must be ones that its rings allow");
  return state;
}

/// Reads rings.
template <class Mixer>
auto read_state_of(
    FileChecks& file, const std::string& prefix, const Mixer& mixer, Index streams,
    StateOptions options) requires std::same_as<typename Mixer::State, RingState<typename Mixer::Scalar>> {
  return read_rings<typename Mixer::State, typename Mixer::Scalar>(
      file, prefix, [&](const StateOptions& of) { return mixer.make_state(of); }, streams, options);
}

/// Reads tails, and the blocks of each level.
template <class Mixer>
auto read_state_of(FileChecks& file, const std::string& prefix, const Mixer& mixer, Index streams,
                   StateOptions options) requires
    std::same_as<typename Mixer::State, HierarchicalAttentionState<typename Mixer::Scalar>> {
  using Scalar = typename Mixer::Scalar;
  RingState<Scalar> tails = read_rings<RingState<Scalar>, Scalar>(
      file, prefix, [&](const StateOptions& of) { return mixer.make_state(of).tails(); }, streams, options);
  options.streams = 0;
  const HierarchicalAttentionState<Scalar> none = mixer.make_state(options);
  for (Index s = 0; s < streams; ++s) {
    if (none.capacity() > 0 && tails.count(s) > none.capacity()) {
      file.fail("the counts in " + in_quotes(prefix + "counts") + " must be 0 to a capacity of " +
                std::to_string(none.capacity()) + ", got " + std::to_string(tails.count(s)));
    }
    for (Index l = 0; l < none.levels(); ++l) {
      const auto tensor = level_tensor(none, s, l, blocks_of(tails.count(s), l));
      file.template expect<Scalar>(prefix + tensor.first, tensor.second);
    }
  }
  options.streams = streams;
  HierarchicalAttentionState<Scalar> state = mixer.make_state(options);
  state.restore(std::move(tails));
  std::vector<Scalar> values;
  const Scalar* next = nullptr;
  HierarchicalAttentionState<Scalar>::visit(
      [&](Index s, Index l, Index part, std::span<Scalar> to) {
        if (part == 0) {
          const auto tensor = level_tensor(state, s, l, state.blocks(s, l));
          values.resize(to.size() * static_cast<std::size_t>(state.parts(l)));
          file.template read<Scalar>(prefix + tensor.first, tensor.second, std::span(values));
          file.check_finite(prefix + tensor.first, std::span<const Scalar>(values));
          next = values.data();
        }
        std::copy_n(next, to.size(), to.data());
        next += to.size();
      },
      state);
  return state;
}

/// Reads keys and values.
template <class Mixer>
auto read_state_of(FileChecks& file, const std::string& prefix, const Mixer& mixer, Index streams,
                   StateOptions options) requires
    std::same_as<typename Mixer::State, AttentionState<typename Mixer::Scalar>> {
  using Scalar = typename Mixer::Scalar;
  const std::string name = prefix + "counts";
  file.template expect<std::int64_t>(name, {streams});
  const std::vector<Index> counts = file.numbers(name);
  options.streams = 0;
  const AttentionState<Scalar> none = mixer.make_state(options);
  options.streams = streams;
  std::vector<Index> held = counts;
  const Index H = none.heads(), width = none.channels() / H;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] < 0 || (none.capacity() > 0 && counts[s] > none.capacity())) {
      file.fail(
          "the counts in " + in_quotes(name) + " must be " +
          (none.capacity() > 0 ? "0 to a capacity of " + std::to_string(none.capacity()) : "at least 0") +
          ", got " + std::to_string(counts[s]));
    }
    const std::string cache = prefix + "cache." + std::to_string(s);
    if (none.window() > 0) {  // how many tokens were seen is borne out by nothing
      if (counts[s] > none.kMostTokens) {
        file.fail("the counts in " + in_quotes(name) + " must be at most " +
                  std::to_string(none.kMostTokens) + ", got " + std::to_string(counts[s]));
      }
      held[s] = file.size(cache, 4, 2);
      const Index least = (std::min)(counts[s], none.reach()), most = (std::min)(counts[s], none.most_held());
      if (held[s] < least || held[s] > most) {
        file.fail("tensor " + in_quotes(cache) + " must hold the last " + std::to_string(least) + " to " +
                  std::to_string(most) + " of " + counted(counts[s], "token") + ", got " +
                  std::to_string(held[s]));
      }
    }
    file.template expect<Scalar>(cache, {2, H, held[s], width});
  }
  AttentionState<Scalar> state = mixer.make_state(options);
  for (std::size_t s = 0; s < counts.size(); ++s) {
    state.hold(static_cast<Index>(s), counts[s] - held[s], counts[s]);
    std::vector<Scalar> cache(static_cast<std::size_t>(2 * H * held[s] * width));
    file.template read<Scalar>(prefix + "cache." + std::to_string(s), {2, H, held[s], width},
                               std::span(cache));
    file.check_finite(prefix + "cache." + std::to_string(s), std::span<const Scalar>(cache));
    const Scalar* next = cache.data();
    for (const Index part : {0, 1}) {
      for (Index h = 0; h < H; ++h, next += held[s] * width) {
        Scalar* to =
            part == 0 ? state.keys(static_cast<Index>(s), h) : state.values(static_cast<Index>(s), h);
        std::copy_n(next, held[s] * width, to);
      }
    }
  }
  return state;
}

/// Throws std::runtime_error for a stream that a call which threw has left in part: no file could be loaded again.
template <class State>
void check_saved_whole(const std::string& name, const State& state) {
  for (Index s = 0; s < state.streams(); ++s) {
    if (!state.is_whole(s))
      throw std::runtime_error(
          name + ": stream " + std::to_string(s) +
          " must be whole to be saved, got one that a call which threw has left in part");
  }
}

}  // namespace detail

/// Writes the state of `mixer` to `path`. Throws std::invalid_argument for the
/// state of another layer, std::runtime_error if the file cannot be written, a stream is not whole or a value is not
/// finite, with an existing file untouched.
template <class AMixer>
void save_state(const std::filesystem::path& path, const AMixer& mixer, const typename AMixer::State& state) {
  if (!mixer.fits(state))
    detail::fail("save_state", "the state", "one from this layer's make_state", "another's");
  detail::check_saved_whole(detail::path_text(path), state);
  SafetensorsWriter writer;
  writer.set_metadata("format", std::string(kStateFormat));
  writer.set_metadata("version", std::string(kStateVersion));
  writer.set_metadata("fingerprint", fingerprint(mixer));
  writer.set_metadata("spare", std::to_string(state.spare()));
  detail::GatheredNumbers numbers;
  detail::Gathered<typename AMixer::Scalar> values;
  detail::add_state(writer, detail::path_text(path), "", state, numbers, values);
  writer.write(path);
}

/// The state in a file that is already in memory. Throws as load_state does.
template <class AMixer>
typename AMixer::State read_state(const SafetensorsFile& from, const AMixer& mixer, Index capacity = 0) {
  detail::check_at_least("read_state", "capacity", capacity, 0);
  detail::FileChecks file(from);
  file.expect_metadata("format", kStateFormat);
  file.expect_version(kStateVersion, kFirstStateVersion);
  file.expect_fingerprint(fingerprint(mixer));
  const Index spare = file.number("spare"), streams = file.length("counts");
  try {
    auto state = detail::read_state_of(file, "", mixer, streams, {.capacity = capacity, .spare = spare});
    file.expect_no_more();
    return state;
  } catch (const std::invalid_argument& error) {  // from make_state
    file.fail("does not describe a state: " + std::string(error.what()));
  }
}

/// The state of `mixer` that save_state wrote, with the capacity of attention as given (0 = grows). Throws
/// std::runtime_error, naming file, what was expected and what came.
template <class AMixer>
typename AMixer::State load_state(const std::filesystem::path& path, const AMixer& mixer,
                                  Index capacity = 0) {
  return read_state(SafetensorsFile::load(path), mixer, capacity);
}

}  // namespace hsm::inline HSM_ABI
