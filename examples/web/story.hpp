// SPDX-License-Identifier: MIT
//
// A text that a model writes token by token, and branches of it. A branch reads every token as soon as it is written, so
// it can be taken back to any place: the states of the layers have room for kSpare tokens; further back the text is read
// again, in one call, whose products may round otherwise. What the generator of the choices was before each token is kept
// as well: a text that is taken back and written again is the same text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <hsm/model/sampler.hpp>
#include <hsm/model/session.hpp>

#include "examples/hsm_lm/model.hpp"
#include "examples/hsm_lm/summary.hpp"

namespace hsm::examples {

/// Branches of one text, by number; branch 0 is the first.
class Story {
 public:
  /// How many tokens a branch takes back without reading again.
  static constexpr Index kSpare = 1024;

  /// The text that begins with `prompt`. Model and workspace must outlive it. Throws std::invalid_argument for a prompt of
  /// no tokens.
  Story(const Model& model, Workspace& workspace, std::vector<std::int32_t> prompt, std::uint64_t seed)
      : cost_(cost_of(model.config())), attention_(attention_of_equal_size(model.config())) {
    if (prompt.empty()) throw std::invalid_argument("the beginning must have at least 1 byte, got none");
    if (attention_) attention_cost_ = cost_of(*attention_);
    branches_.push_back({Session(model, workspace, {.on_full = OnFull::kRestart, .spare = kSpare}),
                         std::move(prompt),
                         {},
                         Random(seed)});
    branches_[0].session.prefill(branches_[0].ids);
    branches_[0].draws.assign(branches_[0].ids.size(), Random(seed).state());
  }

  /// Writes `count` more tokens of a branch, and returns them.
  std::span<const std::int32_t> write(std::size_t number, Index count, const SamplerOptions& options) {
    Branch& branch = at(number);
    Sampler sampler(options);
    for (Index i = 0; i < count; ++i) {
      const std::uint64_t before = branch.random.state();
      const std::int32_t id = sampler(branch.session.logits(), branch.random);
      branch.session.next(id);
      branch.ids.push_back(id);
      branch.draws.push_back(before);
    }
    return std::span(branch.ids).last(static_cast<std::size_t>(count));
  }

  /// Takes a branch back to its first `length` tokens, and its generator to what it was then.
  void rewind(std::size_t number, Index length) { rewind(at(number), length); }

  /// A new branch that begins as the first `length` tokens of another one and goes on with a generator of its own. Returns
  /// its number.
  std::size_t fork(std::size_t number, Index length, std::uint64_t seed) {
    Branch copy = at(number);
    rewind(copy, length);
    copy.random = Random(seed);
    branches_.push_back(std::move(copy));
    return branches_.size() - 1;
  }

  /// All tokens of a branch.
  const std::vector<std::int32_t>& ids(std::size_t number) { return at(number).ids; }
  /// Bytes that a stream's state needs after the tokens of a branch (model/cost.hpp).
  double state_bytes(std::size_t number) { return cost_.at(CostKind::kState, length_of(number)); }
  /// The same of attention with as many parameters; nothing where there is none.
  std::optional<double> attention_bytes(std::size_t number) {
    if (!attention_) return std::nullopt;
    return attention_cost_.at(CostKind::kState, length_of(number));
  }
  /// Bytes that a branch holds, with room to take tokens back and the logits of each of them.
  std::size_t held_bytes(std::size_t number) {
    const auto& memory = at(number).session.memory();
    return at(number).session.state_bytes() + static_cast<std::size_t>(memory.logits.size()) * sizeof(float);
  }

 private:
  using Session = GenerationSession<Model>;
  struct Branch {
    Session session;
    std::vector<std::int32_t> ids;     // all of them read
    std::vector<std::uint64_t> draws;  // the generator before each token, of the beginning as at its end
    Random random;
  };

  Branch& at(std::size_t number) {
    if (number >= branches_.size()) {
      throw std::out_of_range("a branch must be 0 to " + std::to_string(branches_.size() - 1) + ", got " +
                              std::to_string(number));
    }
    return branches_[number];
  }
  double length_of(std::size_t number) { return static_cast<double>(at(number).ids.size()); }

  static void rewind(Branch& branch, Index length) {
    const auto size = static_cast<Index>(branch.ids.size());
    if (length < 1 || length > size) {
      throw std::out_of_range("a text must be taken back to 1 to " + std::to_string(size) + " tokens, got " +
                              std::to_string(length));
    }
    if (length == size) return;
    const auto keep = static_cast<std::size_t>(length);
    branch.random = Random(branch.draws[keep]);
    branch.ids.resize(keep);
    branch.draws.resize(keep);
    Session& session = branch.session;
    const bool whole = session.position() == size && session.memory().state.can_rewind(0, size - length);
    if (whole) session.rewind(0, size - length);
    if (whole && session.memory().has_logits(0)) return;
    session.reset(0);
    session.prefill(branch.ids);
  }

  ModelCost cost_, attention_cost_;
  std::optional<LanguageModelConfig> attention_;
  std::vector<Branch> branches_;
};

}  // namespace hsm::examples
