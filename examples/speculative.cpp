// SPDX-License-Identifier: MIT
//
// Speculative decoding: a small model drafts a few tokens, the large one reads them all in one call and keeps
// those that it would have drawn itself, so the text is that of the large model alone. It shows how to have the
// logits after every token of a call, and how both models take back what was drafted in vain.
#include <hsm/model/language_model.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <span>
#include <vector>

namespace {

using Model = hsm::LanguageModel<float>;
using Tokens = std::vector<std::int32_t>;
constexpr hsm::Index kVocabulary = 256, kDraft = 4, kTokens = 60;

hsm::Columns<float> columns(Eigen::MatrixXf& m) {
  return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
}

/// Draws a token by the logits. The place in the text settles the draw (Gumbel noise, added to the logits), so two
/// models that think alike draw alike.
std::int32_t draw(const Eigen::MatrixXf& logits, hsm::Index column, hsm::Index place) {
  hsm::Random random(static_cast<std::uint64_t>(place));
  std::int32_t best = 0;
  double highest = -std::numeric_limits<double>::infinity();
  for (hsm::Index v = 0; v < logits.rows(); ++v) {
    const double value = static_cast<double>(logits(v, column)) - std::log(-std::log(random.uniform()));
    if (value > highest) best = static_cast<std::int32_t>(v);
    highest = std::max(highest, value);
  }
  return best;
}

/// A model with the state of one stream of which tokens can be taken back.
class Reader {
 public:
  explicit Reader(const Model& model) : model_(model), state_(model.make_state({.spare = kDraft + 1})) {}

  /// Reads tokens and returns what it draws after each of them.
  Tokens read(std::span<const std::int32_t> ids) {
    // [readme]
    Eigen::MatrixXf logits(kVocabulary, static_cast<hsm::Index>(ids.size()));
    model_.extend(ids, state_, saved_, workspace_);      // any number of tokens, with a record
    model_.logits(saved_, columns(logits), workspace_);  // the logits after each of them
    // [/readme]
    Tokens choices;
    for (hsm::Index i = 0; i < logits.cols(); ++i) choices.push_back(draw(logits, i, ++place_));
    return choices;
  }

  /// Takes the last `count` tokens back.
  void forget(hsm::Index count) {
    state_.rewind(0, count);
    place_ -= count;
  }

 private:
  const Model& model_;
  hsm::Index place_ = 0;
  Model::State state_;
  Model::Saved saved_;
  hsm::Workspace workspace_;
};

Tokens write_alone(const Model& model, const Tokens& prompt) {
  Reader reader(model);
  Tokens text = {reader.read(prompt).back()};
  while (static_cast<hsm::Index>(text.size()) < kTokens)
    text.push_back(reader.read(std::span(&text.back(), 1)).back());
  return text;
}

Tokens write_together(const Model& model, const Model& draft, const Tokens& prompt, int& calls) {
  Reader large(model), small(draft);
  small.read(prompt);
  Tokens text = {large.read(prompt).back()};
  calls = 1;
  while (static_cast<hsm::Index>(text.size()) < kTokens) {
    Tokens tried = {text.back()};  // neither has read the last token yet
    for (hsm::Index i = 0; i < kDraft; ++i) tried.push_back(small.read(std::span(&tried.back(), 1)).back());
    small.read(std::span(&tried.back(), 1));
    const Tokens choices = large.read(tried);
    ++calls;
    std::size_t agreed = 0;
    while (agreed < kDraft && choices[agreed] == tried[agreed + 1]) ++agreed;
    text.insert(text.end(), choices.begin(), choices.begin() + static_cast<std::ptrdiff_t>(agreed) + 1);
    large.forget(kDraft - static_cast<hsm::Index>(agreed));
    small.forget(kDraft - static_cast<hsm::Index>(agreed));
  }
  text.resize(kTokens);
  return text;
}

}  // namespace

int main() {
  hsm::Random random(1);
  const Model large({.width = 64, .feed_forward = 128, .layers = "3*ab,attention,2*gated"}, random);
  Model small({.width = 64, .feed_forward = 16, .layers = "2*ab"}, random);
  small.embedding() = large.embedding();  // neither is trained: this lets them agree at times
  const Tokens prompt = {'O', 'n', 'c', 'e'};
  int calls = 0;
  const Tokens alone = write_alone(large, prompt), together = write_together(large, small, prompt, calls);
  std::printf("%td tokens in %d calls of the large model; the text is %s\n", kTokens, calls,
              alone == together ? "its own" : "another");
  return alone == together ? 0 : 1;
}
