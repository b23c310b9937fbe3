// SPDX-License-Identifier: MIT
//
// The memory of a language model between calls: the state of each layer, for some streams, each at its own
// number of tokens. A plain value: copy it to fork all streams, copy_stream to fork one. Shift mixers hold
// (K-1) s_l columns (and the spare ones) per stream and layer however long the text is, attention 2 C values
// per token, with a window those of the last ones. The gradient of a state is a state.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include <hsm/model/any_mixer.hpp>

namespace hsm::inline HSM_ABI {

/// What a model remembers of its streams between calls to extend. Made by LanguageModel::make_state.
template <ComputeScalar Scalar, class List = StandardLayers>
struct LanguageModelState {
  /// One state per layer.
  std::vector<AnyState<Scalar, List>> layers;
  std::vector<Index> counts;  ///< tokens that each stream has seen

  /// No streams.
  LanguageModelState() = default;
  /// The same streams.
  LanguageModelState(const LanguageModelState&) = default;
  /// The streams of the other, which is left to be destroyed or assigned to.
  LanguageModelState(LanguageModelState&&) noexcept = default;
  /// The same streams; where memory is short nothing changes.
  LanguageModelState& operator=(const LanguageModelState& other) { return *this = LanguageModelState(other); }
  /// The streams of the other, which is left to be destroyed or assigned to.
  LanguageModelState& operator=(LanguageModelState&&) noexcept = default;

  /// How many streams it holds.
  Index streams() const { return static_cast<Index>(counts.size()); }
  /// Tokens that `stream` has seen. Throws std::out_of_range for a stream that is not there.
  Index count(Index stream) const { return counts[checked(stream)]; }

  /// Bytes held by all layers.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& layer : layers)
      sum += std::visit([](const auto& state) { return state.bytes(); }, layer);
    return sum;
  }

  /// Whether `stream` can go on: false after a call that threw while layers had read tokens that could not be taken
  /// back, until it is reset. Throws std::out_of_range for a stream that is not there.
  bool is_whole(Index stream) const {
    checked(stream);
    return std::all_of(layers.begin(), layers.end(), [&](const auto& layer) {
      return std::visit([&](const auto& state) { return state.is_whole(stream); }, layer);
    });
  }
  /// After a call threw: the stream holds its first `count` tokens again, or is not whole.
  void take_back(Index stream, Index count) {
    for (auto& layer : layers) std::visit([&](auto& state) { state.take_back(stream, count); }, layer);
    counts[checked(stream)] = count;
  }

  /// The stream is not whole.
  void spoil(Index stream) {
    checked(stream);
    for (auto& layer : layers) std::visit([&](auto& state) { state.spoil(stream); }, layer);
  }

  /// Counts tokens that every layer has read.
  void advance(Index stream, Index tokens) { counts[checked(stream)] += tokens; }
  /// Makes `stream` a fresh one, whose positions begin again. No more work than it was to fill the slots of its
  /// rings; of attention nothing is touched.
  void reset(Index stream) {
    counts[checked(stream)] = 0;
    for (auto& layer : layers) std::visit([&](auto& state) { state.reset(stream); }, layer);
  }
  /// Makes every stream a fresh one.
  void reset() {
    for (Index s = 0; s < streams(); ++s) reset(s);
  }

  /// How many more tokens every layer can take. Throws std::out_of_range for a stream that is not there.
  Index room(Index stream) const {
    checked(stream);
    Index most = (std::numeric_limits<Index>::max)();
    for (const auto& layer : layers)
      most = (std::min)(most, std::visit([&](const auto& state) { return state.room(stream); }, layer));
    return most;
  }

  /// Whether every layer can take the last k tokens of `stream` back: attention without a window always, the others
  /// as far as their spare slots reach (layer/ring_state.hpp, attention/cached_stream.hpp).
  bool can_rewind(Index stream, Index k) const {
    if (k < 0 || k > count(stream)) return false;
    return std::all_of(layers.begin(), layers.end(), [&](const auto& layer) {
      return std::visit([&](const auto& state) { return state.can_rewind(stream, k); }, layer);
    });
  }
  /// Takes the last k tokens of `stream` back: what follows continues as if they had never been there. Throws
  /// std::out_of_range, with nothing changed, where can_rewind is false.
  void rewind(Index stream, Index k) {
    if (!can_rewind(stream, k)) {
      if (!is_whole(stream)) detail::fail_rewind_of_part("LanguageModelState::rewind", stream);
      detail::raise<std::out_of_range>(
          "LanguageModelState::rewind: the number of tokens must be at most the " +
          std::to_string(count(stream)) + " of stream " + std::to_string(stream) +
          ", and within the spare slots of every layer unless all are taken back, got " + std::to_string(k));
    }
    for (auto& layer : layers) std::visit([&](auto& state) { state.rewind(stream, k); }, layer);
    counts[checked(stream)] -= k;
  }

  /// Makes stream `to` a copy of stream `from`, of which both go on alone. Throws std::out_of_range for a
  /// stream that is not there; where memory is short `to` is not whole.
  void copy_stream(Index from, Index to) {
    const std::size_t source = checked(from), target = checked(to);
    if (source == target) return;
    spoil(to);  // until each layer has copied it: what throws leaves a stream that is refused
    counts[target] = counts[source];
    for (auto& layer : layers) std::visit([&](auto& state) { state.copy_stream(from, to); }, layer);
  }

 private:
  std::size_t checked(Index stream) const {
    if (stream < 0 || stream >= streams()) {
      detail::raise<std::out_of_range>("LanguageModelState: stream must be 0 to " +
                                       std::to_string(streams() - 1) + ", got " + std::to_string(stream));
    }
    return static_cast<std::size_t>(stream);
  }
};

}  // namespace hsm::inline HSM_ABI
