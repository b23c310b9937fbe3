// SPDX-License-Identifier: MIT
//
// Who writes the text of hsm_lm generate: the model alone, or with a draft.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>

#include <hsm/model/speculation.hpp>

#include "examples/hsm_lm/model.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// The tokens of a text, as the model draws them, or as a draft has them tried before.
class Writer {
 public:
  explicit Writer(GenerationSession<Model> session) : held_(std::move(session)) {}
  Writer(const Model& model, const Model& draft, Workspace& workspace, SpeculationOptions options)
      : held_(std::in_place_type<Together>, model, draft, workspace, options) {}

  /// Has read all but the last token that next gave.
  const GenerationSession<Model>& session() const {
    const auto* together = std::get_if<Together>(&held_);
    return together ? together->session() : std::get<Alone>(held_);
  }
  void prefill(std::span<const std::int32_t> ids) {
    std::visit([&](auto& session) { session.prefill(ids); }, held_);
  }
  /// The next tokens, at most so many.
  template <class Choose>
  std::span<const std::int32_t> next(const Choose& choose, Random& random, Index most) {
    if (auto* together = std::get_if<Together>(&held_)) return together->next(choose, random, most);
    auto& session = std::get<Alone>(held_);
    if (last_) session.next(*last_);
    last_ = choose(session.logits(), random);
    return {&*last_, 1};
  }
  /// What the draft was worth, for people.
  std::string draft_text() const {
    const auto* together = std::get_if<Together>(&held_);
    if (!together) return "";
    return format("; %td of %td drafted tokens kept", together->accepted(), together->drafted());
  }

 private:
  using Alone = GenerationSession<Model>;
  using Together = SpeculativeSession<Model>;
  std::variant<Alone, Together> held_;
  std::optional<std::int32_t> last_;
};

}  // namespace hsm::examples
