// SPDX-License-Identifier: MIT
//
// The story generator against plain readers of its text: sizes, recalls, what settles them, and the split.
#include "examples/support/stories.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hsm::examples::stories_test {
namespace {

using hsm::examples::is_held_out;
using hsm::examples::make_stories;
using hsm::examples::Recall;
using hsm::examples::RecallKind;
using hsm::examples::RecallLogic;
using hsm::examples::Split;
using hsm::examples::story_words;
using hsm::examples::StorySet;

constexpr std::array kKinds = {RecallKind::person, RecallKind::thing, RecallKind::place};

struct Word {
  std::size_t offset;
  std::string text;
};

std::vector<Word> words_of(std::string_view text) {
  std::vector<Word> words;
  bool inside = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool letter = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z');
    if (letter && !inside) words.push_back({i, ""});
    if (letter) words.back().text += text[i];
    inside = letter;
  }
  return words;
}

bool is_kind(const std::string& word, RecallKind kind) {
  const auto words = story_words(kind);
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// The different words of a kind in a piece of text, by their last offset in it.
std::map<std::string, std::size_t> cast_of(std::string_view text, RecallKind kind) {
  std::map<std::string, std::size_t> cast;
  for (const Word& word : words_of(text)) {
    if (is_kind(word.text, kind)) cast[word.text] = word.offset;
  }
  return cast;
}

struct Story {
  std::string text;
  std::vector<Recall> recalls;  // offsets count from the story's first byte
};

std::vector<Story> stories_of(const StorySet& set) {
  std::vector<Story> stories(1);
  std::size_t first = 0;
  std::size_t next_recall = 0;
  for (std::size_t i = 0; i < set.text.size(); ++i) {
    if (next_recall < set.recalls.size() && set.recalls[next_recall].offset == i) {
      stories.back().recalls.push_back(set.recalls[next_recall++]);
      stories.back().recalls.back().offset = i - first;
    }
    stories.back().text += set.text[i];
    if (set.text[i] == '\n') {
      stories.emplace_back();
      first = i + 1;
    }
  }
  EXPECT_EQ(next_recall, set.recalls.size()) << "recalls out of order or outside the text";
  EXPECT_TRUE(stories.back().text.empty()) << "the text must end with a newline";
  stories.pop_back();
  return stories;
}

std::vector<std::string> sentences_of(std::string_view text) {
  std::vector<std::string> sentences(1);
  for (const char c : text) {
    sentences.back() += c;
    if (c == '.' || c == '?') sentences.emplace_back();
  }
  return sentences;
}

/// The words of `kind` in the first sentence that has both `cue` and a word of that kind.
std::vector<std::string> tied_to(const std::string& cue, RecallKind kind, std::string_view story) {
  for (const std::string& sentence : sentences_of(story)) {
    std::vector<std::string> tied;
    bool has_cue = false;
    for (const Word& word : words_of(sentence)) {
      has_cue = has_cue || word.text == cue;
      if (is_kind(word.text, kind)) tied.push_back(word.text);
    }
    if (has_cue && !tied.empty()) return tied;
  }
  return {};
}

const StorySet& training_set() {
  static const StorySet set = make_stories({.bytes = 600'000, .seed = 1, .split = Split::train});
  return set;
}

const StorySet& validation_set() {
  static const StorySet set = make_stories({.bytes = 200'000, .seed = 2, .split = Split::validation});
  return set;
}

TEST(Stories, TheSameOptionsGiveTheSameBytesAndALongerTextContinuesAShorterOne) {
  const StorySet first = make_stories({.bytes = 20'000, .seed = 7, .split = Split::train});
  const StorySet again = make_stories({.bytes = 20'000, .seed = 7, .split = Split::train});
  const StorySet longer = make_stories({.bytes = 50'000, .seed = 7, .split = Split::train});
  const StorySet other = make_stories({.bytes = 20'000, .seed = 8, .split = Split::train});
  EXPECT_EQ(first.text, again.text);
  EXPECT_EQ(first.recalls.size(), again.recalls.size());
  EXPECT_EQ(longer.text.substr(0, first.text.size()), first.text);
  EXPECT_NE(other.text.substr(0, 300), first.text.substr(0, 300));
}

TEST(Stories, TheTextFillsTheBytesAskedForToWithinOneStory) {
  for (const std::size_t bytes : {std::size_t{500}, std::size_t{1000}, std::size_t{12'345}}) {
    const std::size_t size =
        make_stories({.bytes = bytes, .seed = 3, .split = Split::validation}).text.size();
    EXPECT_LE(size, bytes);
    EXPECT_GT(size + 501, bytes);
    EXPECT_GE(size, 200u);
  }
}

TEST(Stories, EveryStoryIsALineOf200To500PrintableAsciiBytes) {
  for (const StorySet* set : {&training_set(), &validation_set()}) {
    for (const Story& story : stories_of(*set)) {
      EXPECT_GE(story.text.size(), 200u) << story.text;
      EXPECT_LE(story.text.size(), 500u) << story.text;
      EXPECT_FALSE(story.recalls.empty()) << story.text;
      for (std::size_t i = 0; i + 1 < story.text.size(); ++i) {
        ASSERT_TRUE(story.text[i] >= ' ' && story.text[i] <= '~') << story.text;
      }
    }
  }
}

TEST(Stories, EveryRecallIsAWordWhoseFirstByteTellsItsCandidatesApart) {
  for (const StorySet* set : {&training_set(), &validation_set()}) {
    for (const Story& story : stories_of(*set)) {
      for (const Recall& recall : story.recalls) {
        const std::string answer = story.text.substr(recall.offset, recall.length);
        const std::string before = story.text.substr(0, recall.offset);
        const auto known = cast_of(before, recall.kind);
        ASSERT_TRUE(known.contains(answer)) << answer << " was not introduced in " << story.text;
        ASSERT_EQ(static_cast<int>(known.size()), recall.candidates) << story.text;
        ASSERT_EQ(cast_of(story.text, recall.kind).size(), known.size()) << story.text;
        ASSERT_GE(recall.candidates, 2);
        std::set<char> first_bytes;
        for (const auto& candidate : known) first_bytes.insert(candidate.first[0]);
        ASSERT_EQ(first_bytes.size(), known.size()) << story.text;
        const std::size_t distance = recall.offset - known.at(answer);
        ASSERT_GE(distance, 20u) << answer << " in " << story.text;
        ASSERT_LE(distance, 120u) << answer << " in " << story.text;
      }
    }
  }
}

TEST(Stories, ALookupIsSettledByTheSentenceThatTiesTheAnswerToTheLastWordMentioned) {
  int checked = 0;
  for (const Story& story : stories_of(validation_set())) {
    if (story.text.find("traded") != std::string::npos) continue;
    for (const Recall& recall : story.recalls) {
      if (recall.logic != RecallLogic::lookup) continue;
      std::string cue;
      std::size_t last = 0;
      for (const RecallKind kind : kKinds) {
        for (const auto& [word, offset] : cast_of(story.text.substr(0, recall.offset), kind)) {
          if (cue.empty() || offset > last) {
            cue = word;
            last = offset;
          }
        }
      }
      const std::vector<std::string> tied = tied_to(cue, recall.kind, story.text.substr(0, recall.offset));
      ASSERT_EQ(tied.size(), 1u) << cue << " in " << story.text;
      ASSERT_EQ(tied.front(), story.text.substr(recall.offset, recall.length)) << story.text;
      ++checked;
    }
  }
  EXPECT_GT(checked, 400);
}

TEST(Stories, ATradeGivesEachThingToTheOtherOwner) {
  int trades = 0, questions = 0;
  for (const Story& story : stories_of(training_set())) {
    const std::size_t trade = story.text.find(" traded,");
    if (trade == std::string::npos) continue;
    const std::string before = story.text.substr(0, trade);
    const std::vector<Word> after = words_of(story.text.substr(trade));
    // traded so that the THING went to PERSON and the THING went to PERSON
    ASSERT_GE(after.size(), 14u) << story.text;
    const std::string thing = after[4].text, receiver = after[7].text, other_thing = after[10].text,
                      other_receiver = after[13].text;
    ASSERT_EQ(tied_to(thing, RecallKind::person, before), std::vector{other_receiver}) << story.text;
    ASSERT_EQ(tied_to(other_thing, RecallKind::person, before), std::vector{receiver}) << story.text;
    ++trades;
    // Whoever is asked about afterwards has the thing now.
    constexpr std::string_view kQuestion = "\"Who has the ";
    const std::size_t question = story.text.find(kQuestion, trade);
    if (question == std::string::npos) continue;
    const std::vector<Word> asked = words_of(story.text.substr(question));
    const std::string& wanted = asked[3].text;
    const std::size_t answer = story.text.find("It was ", question);
    ASSERT_NE(answer, std::string::npos) << story.text;
    const std::string owner = words_of(story.text.substr(answer))[2].text;
    if (wanted == thing) {
      ASSERT_EQ(owner, receiver) << story.text;
    }
    if (wanted == other_thing) {
      ASSERT_EQ(owner, other_receiver) << story.text;
    }
    ++questions;
  }
  EXPECT_GT(trades, 20);
  EXPECT_GT(questions, 2);
}

TEST(Stories, FourBytesOfContextAndTheLastMentionAreNoBetterThanChance) {
  std::map<std::string, std::map<char, int>> counts;
  const std::string& training = training_set().text;
  for (std::size_t i = 4; i < training.size(); ++i) ++counts[training.substr(i - 4, 4)][training[i]];

  struct Score {
    double answered = 0, chance = 0, total = 0;
  };
  Score ngram, recency;
  for (const Story& story : stories_of(validation_set())) {
    for (const Recall& recall : story.recalls) {
      const std::string answer = story.text.substr(recall.offset, recall.length);
      const auto known = cast_of(story.text.substr(0, recall.offset), recall.kind);
      auto& seen = counts[story.text.substr(recall.offset - 4, 4)];
      std::string likely, latest;
      for (const auto& [word, offset] : known) {
        if (likely.empty() || seen[word[0]] > seen[likely[0]]) likely = word;
        if (latest.empty() || offset > known.at(latest)) latest = word;
      }
      ngram.answered += likely == answer ? 1 : 0;
      ngram.chance += 1.0 / recall.candidates;
      ngram.total += 1;
      if (recall.logic != RecallLogic::lookup) continue;  // an echo may repeat the last one mentioned
      recency.answered += latest == answer ? 1 : 0;
      recency.chance += 1.0 / recall.candidates;
      recency.total += 1;
    }
  }
  ASSERT_GT(recency.total, 500);
  EXPECT_LT(ngram.answered / ngram.total, ngram.chance / ngram.total + 0.05);
  EXPECT_LT(recency.answered / recency.total, recency.chance / recency.total + 0.08);
}

TEST(Stories, WordsThatMeetInValidationNeverMeetInTraining) {
  std::set<std::pair<std::string, std::string>> met;
  const auto each_pair = [](const StorySet& set, auto&& use) {
    for (const Story& story : stories_of(set)) {
      for (const RecallKind kind : kKinds) {
        const auto cast = cast_of(story.text, kind);
        for (const auto& first : cast) {
          for (const auto& second : cast) {
            if (first.first < second.first) use(first.first, second.first);
          }
        }
      }
    }
  };
  each_pair(training_set(), [&](const std::string& first, const std::string& second) {
    met.emplace(first, second);
    EXPECT_FALSE(is_held_out(first, second)) << first << " " << second;
  });
  int pairs = 0;
  each_pair(validation_set(), [&](const std::string& first, const std::string& second) {
    EXPECT_TRUE(is_held_out(first, second)) << first << " " << second;
    EXPECT_FALSE(met.contains({first, second})) << first << " " << second;
    ++pairs;
  });
  EXPECT_GT(met.size(), 1000u);
  EXPECT_GT(pairs, 1000);
}

TEST(Stories, EveryWordOfValidationOccursInTraining) {
  std::set<std::string> needed;
  for (const Word& word : words_of(validation_set().text)) needed.insert(word.text);
  for (const RecallKind kind : kKinds) {
    for (const std::string_view word : story_words(kind)) needed.insert(std::string(word));
  }
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u, 5u}) {
    std::set<std::string> known;
    const StorySet training = make_stories({.bytes = 256 * 1024, .seed = seed, .split = Split::train});
    for (const Word& word : words_of(training.text)) known.insert(word.text);
    for (const std::string& word : needed) EXPECT_TRUE(known.contains(word)) << word << ", seed " << seed;
  }
}

TEST(Stories, TheSplitIsTheDocumentedHashAndHoldsOutAFifthOfThePairs) {
  int held_out = 0, total = 0;
  for (const std::string_view first : story_words(RecallKind::person)) {
    for (const std::string_view second : story_words(RecallKind::person)) {
      if (!(first < second)) continue;
      std::uint64_t hash = 14695981039346656037ull;
      for (const char c : std::string(first) + "+" + std::string(second)) {
        hash ^= static_cast<std::uint64_t>(c);
        hash *= 1099511628211ull;
      }
      hsm::Random random(hash);
      const bool expected = random.below(5) == 0;
      EXPECT_EQ(is_held_out(first, second), expected);
      EXPECT_EQ(is_held_out(second, first), expected);
      held_out += expected ? 1 : 0;
      ++total;
    }
  }
  EXPECT_GT(held_out * 100, total * 16);
  EXPECT_LT(held_out * 100, total * 24);
}

TEST(Stories, TheVocabularyIsLargeAndItsKindsAreDisjoint) {
  EXPECT_GE(story_words(RecallKind::person).size(), 40u);
  EXPECT_GE(story_words(RecallKind::thing).size(), 30u);
  EXPECT_GE(story_words(RecallKind::place).size(), 20u);
  std::set<std::string_view> all;
  std::size_t total = 0;
  for (const RecallKind kind : kKinds) {
    all.insert(story_words(kind).begin(), story_words(kind).end());
    total += story_words(kind).size();
  }
  EXPECT_EQ(all.size(), total);
}

TEST(Stories, TooFewBytesForOneStoryAreRefused) {
  EXPECT_NO_THROW(make_stories({.bytes = 500}));
  try {
    make_stories({.bytes = 499});
    FAIL() << "expected std::invalid_argument";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "make_stories: bytes must be at least 500, got 499");
  }
}

}  // namespace
}  // namespace hsm::examples::stories_test
