// SPDX-License-Identifier: MIT
//
// How well a text is predicted, by the trained model and by a byte n-gram model:
//
//   bits per byte   mean of -log2 p(byte | the bytes before it)
//   recall          the first byte of a word that the story has introduced: is it the most probable of all 256
//                   bytes, and the most probable of those that begin the words in question?
//
// The model reads windows of T bytes that overlap by half, so each byte but the first T/2 is predicted from T/2
// bytes at least. For recall it reads each story from its first byte, as a document of its own.
#pragma once

#include <algorithm>
#include <array>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/training/language_model_loss.hpp>

#include "examples/hsm_lm/demo_text.hpp"
#include "examples/hsm_lm/model.hpp"
#include "examples/support/ngram.hpp"

namespace hsm::examples {

/// Bits per byte of the model on `text`, all bytes but the first.
inline double model_bits_per_byte(const Model& model, std::string_view text, Workspace& workspace) {
  constexpr std::size_t kBatch = 16;
  const auto ids = ByteTokenizer::encode(text);
  const auto T = static_cast<std::size_t>(model.config().context), half = std::max<std::size_t>(1, T / 2);
  std::vector<std::int32_t> inputs, targets;  // [windows of a batch, T]
  Model::Saved saved;
  CrossEntropy total;
  const auto run = [&] {
    const auto windows = static_cast<Index>(inputs.size() / T);
    total += language_model_loss(model, std::span<const std::int32_t>(inputs),
                                 std::span<const std::int32_t>(targets), windows, static_cast<Index>(T),
                                 saved, workspace);
    inputs.clear();
    targets.clear();
  };
  std::size_t predicted = 1;  // bytes whose prediction has been counted
  for (std::size_t first = 0; predicted < ids.size(); first += half) {
    for (std::size_t at = first; at < first + T; ++at) {
      const bool fresh = at + 1 >= predicted && at + 1 < ids.size();
      inputs.push_back(at < ids.size() ? ids[at] : 0);
      targets.push_back(fresh ? ids[at + 1] : kIgnoredTarget);
    }
    predicted = first + T + 1;
    if (inputs.size() == kBatch * T) run();
  }
  if (!inputs.empty()) run();
  return total.mean() / std::numbers::ln2;
}

/// A place of recall with what decides it.
struct RecallPlace {
  std::size_t story_begin = 0, story_end = 0;  ///< its story in the text
  std::size_t offset = 0;                      ///< of the word's first byte
  RecallLogic logic = RecallLogic::lookup;
  unsigned char answer = 0;
  std::string candidates;  ///< first bytes of the story's words of this kind
};

/// All recalls of a text of stories, in order.
inline std::vector<RecallPlace> recall_places(std::string_view text, std::span<const Recall> recalls) {
  std::vector<RecallPlace> places;
  std::size_t begin = 0, end = text.find('\n') + 1;
  for (const Recall& recall : recalls) {
    while (recall.offset >= end) {
      begin = end;
      end = text.find('\n', begin) + 1;
    }
    RecallPlace place{
        begin, end, recall.offset, recall.logic, static_cast<unsigned char>(text[recall.offset]), ""};
    const std::string_view story = text.substr(begin, end - begin);
    for (const std::string_view word : story_words(recall.kind)) {
      if (detail::last_mention(story, word) != std::string_view::npos) place.candidates += word[0];
    }
    places.push_back(std::move(place));
  }
  return places;
}

/// How often a model was right.
struct RecallScore {
  Index places = 0;
  Index right_of_all = 0;         ///< the answer was the most probable of all bytes
  Index right_of_candidates = 0;  ///< ... of the candidates
  double chance = 0;              ///< what guessing among the candidates would get right

  /// Counts a place; score(byte) is larger for more probable bytes.
  template <class Score>
  void count(const RecallPlace& place, Score&& score) {
    int best = 0;
    for (int byte = 1; byte < 256; ++byte) best = score(byte) > score(best) ? byte : best;
    int chosen = -1;
    for (const char c : place.candidates) {
      const int byte = static_cast<unsigned char>(c);
      chosen = chosen < 0 || score(byte) > score(chosen) ? byte : chosen;
    }
    ++places;
    right_of_all += best == place.answer;
    right_of_candidates += chosen == place.answer;
    chance += 1.0 / static_cast<double>(place.candidates.size());
  }

  static double share(double right, Index places) {
    return places > 0 ? right / static_cast<double>(places) : 0.0;
  }
};

/// Scores of echo and of lookup places.
using RecallScores = std::array<RecallScore, 2>;

inline RecallScore& score_of(RecallScores& scores, RecallLogic logic) {
  return scores[logic == RecallLogic::echo ? 0 : 1];
}

/// The model at all places, some stories at a time.
inline RecallScores model_recall(const Model& model, std::string_view text,
                                 std::span<const RecallPlace> places, Workspace& workspace) {
  constexpr std::size_t kStories = 16;
  const Index V = model.config().vocabulary, C = model.config().width;
  Model::Saved saved;
  RecallScores scores;
  std::size_t next = 0;
  while (next < places.size()) {
    // The stories of a batch, each behind the newline that ends the story before it, filled up to one length:
    // what follows a story cannot reach back into it.
    std::vector<const RecallPlace*> starts;
    std::size_t longest = 0, last = next;
    for (; last < places.size(); ++last) {
      if (starts.empty() || starts.back()->story_begin != places[last].story_begin) {
        if (starts.size() == kStories) break;
        starts.push_back(&places[last]);
        longest = std::max(longest, places[last].story_end - places[last].story_begin);
      }
    }
    std::vector<std::int32_t> ids(starts.size() * longest, '\n');
    for (std::size_t s = 0; s < starts.size(); ++s) {
      const auto story = ByteTokenizer::encode(
          text.substr(starts[s]->story_begin, starts[s]->story_end - starts[s]->story_begin - 1));
      std::copy(story.begin(), story.end(), ids.begin() + static_cast<std::ptrdiff_t>(s * longest + 1));
    }
    model.hidden(ids, static_cast<Index>(starts.size()), static_cast<Index>(longest), saved, workspace);

    Eigen::VectorXf logits(V);
    for (std::size_t s = 0; next < last; ++next) {
      const RecallPlace& place = places[next];
      while (starts[s]->story_begin != place.story_begin) ++s;
      const auto column = static_cast<Index>(s * longest + place.offset - place.story_begin);
      model.logits({saved.hidden.data() + column * C, C, 1, Eigen::OuterStride<>(C)},
                   {logits.data(), V, 1, Eigen::OuterStride<>(V)}, workspace);
      score_of(scores, place.logic).count(place, [&](int byte) { return logits[byte]; });
    }
  }
  return scores;
}

/// The n-gram model at all places.
inline RecallScores ngram_recall(const ByteNgram& ngram, std::string_view text,
                                 std::span<const RecallPlace> places) {
  RecallScores scores;
  for (const RecallPlace& place : places) {
    const auto p = ngram.distribution(text.substr(0, place.offset));
    score_of(scores, place.logic).count(place, [&](int byte) { return p[static_cast<std::size_t>(byte)]; });
  }
  return scores;
}

}  // namespace hsm::examples
