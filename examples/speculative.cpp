// SPDX-License-Identifier: MIT
//
// Speculative decoding: a small model drafts a few tokens, the large one reads them all in one call and keeps those that
// it draws itself, so the text is that of the large model alone.
#include <hsm/model/sampler.hpp>
#include <hsm/model/speculation.hpp>

#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

using Model = hsm::LanguageModel<float>;
using Text = std::vector<std::int32_t>;
constexpr hsm::Index kTokens = 60;

Text write_alone(const Model& model, const Text& prompt) {
  hsm::Workspace workspace;
  hsm::GenerationSession session(model, workspace);
  hsm::Sampler sampler({.temperature = 0});
  hsm::Random random(7);
  Text text;
  session.prefill(prompt);
  for (;;) {
    text.push_back(sampler(session.logits(), random));
    if (static_cast<hsm::Index>(text.size()) == kTokens) return text;
    session.next(text.back());
  }
}

Text write_together(const Model& model, const Model& draft, const Text& prompt) {
  hsm::Workspace workspace;
  hsm::Sampler sampler({.temperature = 0});
  hsm::Random random(7);
  Text text;
  // [shown]
  hsm::SpeculativeSession session(model, draft, workspace, {.draft_tokens = 4});
  session.prefill(prompt);
  while (hsm::Index left = kTokens - static_cast<hsm::Index>(text.size())) {
    for (const std::int32_t id : session.next(sampler, random, left)) text.push_back(id);  // one to five
  }
  // [/shown]
  std::printf("%td of %td drafted tokens were kept\n", session.accepted(), session.drafted());
  return text;
}

}  // namespace

int main() {
  hsm::Random random(1);
  const Model large({.width = 64, .feed_forward = 128, .layers = "3*ab,attention,2*gated"}, random);
  Model small({.width = 64, .feed_forward = 16, .layers = "2*ab"}, random);
  small.embedding() = large.embedding();  // neither is trained: this lets them agree at times
  const Text prompt = {'O', 'n', 'c', 'e'};
  const bool same = write_alone(large, prompt) == write_together(large, small, prompt);
  std::printf("%td tokens; the text is %s\n", kTokens, same ? "its own" : "another");
  return same ? 0 : 1;
}
