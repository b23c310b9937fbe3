// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "examples/hsm_lm/demo_scores.hpp"

template class hsm::LanguageModel<float>;

namespace hsm::examples::demo_scores_test {
namespace {

Model small_model(const std::string& layers, Index context) {
  Random random(1);
  Model model({.width = 16, .feed_forward = 24, .context = context, .layers = layers}, random);
  Model::visit(  // further from uniform than a fresh model
      [](std::string_view name, auto& tensor) {
        if (name == "embedding.weight") tensor *= 20.0f;
      },
      model);
  return model;
}

/// The logits after `tokens`, read as one fresh sequence.
Eigen::VectorXd logits_after(const Model& model, std::string_view tokens) {
  Workspace workspace;
  Model::Saved saved;
  const auto ids = ByteTokenizer::encode(tokens);
  model.hidden(ids, 1, static_cast<Index>(ids.size()), saved, workspace);
  return (model.embedding().weight * saved.hidden.rightCols(1)).cast<double>();
}

/// log2 of p(next | tokens).
double log2_probability(const Model& model, std::string_view tokens, char next) {
  const Eigen::VectorXd z = logits_after(model, tokens);
  return (z[static_cast<unsigned char>(next)] - std::log(z.array().exp().sum())) / std::log(2.0);
}

TEST(DemoScores, EachByteIsPredictedOnceFromHalfAWindowAtLeast) {
  const Model model = small_model("2*ab,attention", 10);
  Workspace workspace;
  for (const std::size_t size :
       {std::size_t{2}, std::size_t{10}, std::size_t{11}, std::size_t{12}, std::size_t{137}}) {
    const std::string text = make_stories({.bytes = 1000}).text.substr(0, size);
    double bits = 0;
    for (std::size_t i = 1; i < size; ++i) {
      // The windows begin at 0, 5, 10, ...; byte i belongs to the first that reaches it.
      const std::size_t start = i <= 10 ? 0 : (i - 10 + 4) / 5 * 5;
      bits -= log2_probability(model, text.substr(start, i - start), text[i]);
    }
    EXPECT_NEAR(model_bits_per_byte(model, text, workspace), bits / static_cast<double>(size - 1), 1e-4)
        << size << " bytes";
  }
}

TEST(DemoScores, RecallPlacesKnowTheirStoryAndItsCandidates) {
  const StorySet set = make_stories({.bytes = 20'000, .split = Split::validation});
  const auto places = recall_places(set.text, set.recalls);
  ASSERT_EQ(places.size(), set.recalls.size());
  for (std::size_t i = 0; i < places.size(); ++i) {
    const RecallPlace& place = places[i];
    EXPECT_LE(place.story_begin, place.offset);
    EXPECT_LT(place.offset, place.story_end);
    EXPECT_TRUE(place.story_begin == 0 || set.text[place.story_begin - 1] == '\n');
    EXPECT_EQ(set.text.find('\n', place.story_begin) + 1, place.story_end);
    EXPECT_EQ(static_cast<int>(place.candidates.size()), set.recalls[i].candidates);
    EXPECT_NE(place.candidates.find(static_cast<char>(place.answer)), std::string::npos);
    EXPECT_EQ(std::set<char>(place.candidates.begin(), place.candidates.end()).size(),
              place.candidates.size());
  }
}

TEST(DemoScores, ABatchOfStoriesScoresLikeOneStoryAtATime) {
  const StorySet set = make_stories({.bytes = 12'000, .split = Split::validation});
  const auto places = recall_places(set.text, set.recalls);
  const Model model = small_model("ab,attention", 64);
  Workspace workspace;
  RecallScores expected;
  for (const RecallPlace& place : places) {
    const std::string read = "\n" + set.text.substr(place.story_begin, place.offset - place.story_begin);
    const Eigen::VectorXd z = logits_after(model, read);
    score_of(expected, place.logic).count(place, [&](int byte) { return z[byte]; });
  }
  const RecallScores scores = model_recall(model, set.text, places, workspace);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_GT(scores[i].places, 20);
    EXPECT_EQ(scores[i].places, expected[i].places);
    EXPECT_EQ(scores[i].right_of_all, expected[i].right_of_all);
    EXPECT_EQ(scores[i].right_of_candidates, expected[i].right_of_candidates);
    EXPECT_DOUBLE_EQ(scores[i].chance, expected[i].chance);
  }
}

TEST(DemoScores, ChanceIsWhatGuessingWouldGetRightAndScoresCountTheBest) {
  RecallPlace place;
  place.answer = 'b';
  place.candidates = "ab";
  RecallScore score;
  score.count(place, [](int byte) { return byte == 'b' ? 2 : byte == 'x' ? 3 : 0; });
  EXPECT_EQ(score.places, 1);
  EXPECT_EQ(score.right_of_all, 0);
  EXPECT_EQ(score.right_of_candidates, 1);
  EXPECT_DOUBLE_EQ(score.chance, 0.5);
  place.candidates = "abc";
  score.count(place, [](int byte) { return byte == 'c' ? 1 : 0; });
  EXPECT_EQ(score.right_of_candidates, 1);
  score.count(place, [](int byte) { return byte == 'b' ? 1 : 0; });
  EXPECT_EQ(score.right_of_all, 1);
  EXPECT_EQ(score.right_of_candidates, 2);
  EXPECT_DOUBLE_EQ(score.chance, 0.5 + 2.0 / 3);
}

}  // namespace
}  // namespace hsm::examples::demo_scores_test
