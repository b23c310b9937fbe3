// SPDX-License-Identifier: MIT
//
// How a GenerationSession reads tokens: straight through the model, or through a restart where learned
// positions end.
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/model/session.hpp>

namespace hsm::inline HSM_ABI {

template <class Model>
GenerationSession<Model>::GenerationSession(const Model& model, Workspace& workspace, SessionOptions options)
    : model_(&model), workspace_(&workspace), on_full_(options.on_full) {
  detail::check_at_least("GenerationSession", "streams", options.streams, 1);
  memory_.state = model.make_state({.streams = options.streams, .spare = options.spare});
  detail::check_at_least("GenerationSession", "kept_logits", options.kept_logits, 0);
  const Index before = options.kept_logits > 0 ? options.kept_logits - 1 : options.spare;  // the last token
  if (before >= (std::numeric_limits<Index>::max)() / model.config().vocabulary / options.streams) {
    detail::fail("GenerationSession", "kept_logits", "few enough to be counted",
                 "those of " + std::to_string(before) + " tokens before the last");
  }
  const Index columns = options.streams * (before + 1);
  memory_.logits.setZero(model.config().vocabulary, columns);
  memory_.ready.resize(static_cast<std::size_t>(columns));
  memory_.history.resize(static_cast<std::size_t>(options.streams));
  list_streams();
}

template <class Model>
GenerationSession<Model>::GenerationSession(const Model& model, Workspace& workspace, Memory memory,
                                            OnFull on_full)
    : model_(&model), workspace_(&workspace), on_full_(on_full), memory_(std::move(memory)) {
  memory_.check("GenerationSession", model);
  list_streams();
}

template <class Model>
void GenerationSession<Model>::prefill(std::span<const std::int32_t> ids) {
  const auto count = static_cast<Index>(ids.size());
  if (count == 0 || streams() == 0 || count % streams() != 0) {
    detail::fail("GenerationSession::prefill", "the number of token ids",
                 "a multiple of " + detail::counted(streams(), "stream") + " above 0", std::to_string(count));
  }
  read("GenerationSession::prefill", ids, offsets_of(count / streams()), all_);
}

template <class Model>
void GenerationSession<Model>::read(const char* who, std::span<const std::int32_t> ids,
                                    std::span<const Index> offsets, std::span<const Index> chosen) {
  detail::check_offsets(who, offsets, static_cast<Index>(ids.size()));
  detail::check_equal(who, "the number of streams", static_cast<Index>(chosen.size()),
                      static_cast<Index>(offsets.size()) - 1);
  bool full = false;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    checked(who, chosen[i]);
    if (!memory_.state.is_whole(chosen[i])) detail::fail_whole(who, chosen[i]);  // a restart would make it so
    const Index more = offsets[i + 1] - offsets[i];
    if (more <= room(chosen[i])) continue;
    full = true;
    if (on_full_ != OnFull::kRestart || !ends_with_positions(chosen[i])) fail_full(chosen[i], more);
  }
  if (full) return restart(ids, offsets, chosen);
  std::vector<std::int32_t> copy;
  for (const auto& tokens : memory_.history) {  // which grows
    const std::less<const std::int32_t*> before;
    if (before(ids.data(), tokens.data()) || !before(ids.data(), tokens.data() + tokens.size())) continue;
    copy.assign(ids.begin(), ids.end());
    ids = copy;
  }
  for (std::size_t i = 0; remembers() && i < chosen.size(); ++i) {  // nothing throws once the model has read
    auto& tokens = memory_.history[static_cast<std::size_t>(chosen[i])];
    const std::size_t size = tokens.size() + static_cast<std::size_t>(offsets[i + 1] - offsets[i]);
    if (size > tokens.capacity()) tokens.reserve((std::max)(size, 2 * tokens.capacity()));
  }
  extend(ids, offsets, chosen, memory_.state);
  if (!remembers()) return;
  const auto keep = static_cast<std::size_t>(model_->config().context);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    auto& tokens = memory_.history[static_cast<std::size_t>(chosen[i])];
    tokens.insert(tokens.end(), ids.begin() + offsets[i], ids.begin() + offsets[i + 1]);
    if (tokens.size() > keep) tokens.erase(tokens.begin(), tokens.end() - static_cast<std::ptrdiff_t>(keep));
  }
}

/// Whether it is the learned positions that end the stream, and not a state that was made for fewer tokens.
template <class Model>
bool GenerationSession<Model>::ends_with_positions(Index stream) const {
  return remembers() && room(stream) == model_->config().context - position(stream);
}

template <class Model>
void GenerationSession<Model>::fail_full(Index stream, Index more) const {
  const std::string end = ends_with_positions(stream)
                              ? "the model has learned " +
                                    detail::counted(model_->config().context, "position") + " and " +
                                    std::to_string(position(stream)) + " are used"
                              : "the state of stream " + std::to_string(stream) + " has room for " +
                                    detail::counted(room(stream), "more token");
  detail::raise<std::out_of_range>("GenerationSession: " + end + ", got " +
                                   detail::counted(more, "more token"));
}

/// Extends `state`, and leaves the logits where they belong.
template <class Model>
void GenerationSession<Model>::extend(std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                      std::span<const Index> chosen, typename Model::State& state) {
  const Index kept = memory_.kept_logits();
  Index asked = 0, at = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i) asked += (std::min)(kept, offsets[i + 1] - offsets[i]);
  Workspace::Frame frame(*workspace_);
  Columns<Scalar> some =
      frame.template columns<Scalar>(memory_.logits.rows(), asked);  // of their own while a call may throw
  model_->extend(ids, offsets, chosen, state, some, *workspace_, kept);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const Index count = state.count(chosen[i]), more = offsets[i + 1] - offsets[i];
    if (count == more) std::fill_n(ready_of(chosen[i]), kept, std::uint8_t{0});  // fresh, or from a restart
    for (Index n = count - (std::min)(kept, more) + 1; n <= count; ++n) {
      const std::size_t column = memory_.column(chosen[i], n);
      memory_.logits.col(static_cast<Index>(column)) = some.col(at++);
      memory_.ready[column] = 1;
    }
  }
  tokens_read_ += static_cast<Index>(ids.size());
}

/// The same where some of the streams have no room: as if the tokens came one by one, each that finds the
/// stream full restarts it. What lies before the last of these restarts is not read.
template <class Model>
void GenerationSession<Model>::restart(std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                       std::span<const Index> chosen) {
  const Index context = model_->config().context, half = std::max<Index>(1, context / 2);
  detail::check_token_ids("GenerationSession", ids,
                          model_->config().vocabulary);  // those too that are not read
  auto state = memory_.state;
  auto history = memory_.history;
  Index restarts = memory_.restarts;
  std::vector<std::int32_t> texts;
  std::vector<Index> bounds{0}, read_again;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const Index more = offsets[i + 1] - offsets[i], room_left = room(chosen[i]);
    auto& tokens = history[static_cast<std::size_t>(chosen[i])];
    tokens.insert(tokens.end(), ids.begin() + offsets[i], ids.begin() + offsets[i + 1]);
    Index fresh = more;
    if (more > room_left) {
      const Index period = context - half + 1;  // tokens from one restart to the next
      const Index past = more - room_left - 1;  // tokens after the one that restarts first
      state.reset(chosen[i]);
      fresh = half + past % period;
      restarts += 1 + past / period;
      tokens.erase(tokens.begin(), tokens.end() - fresh);
    }
    read_again.push_back(more > room_left ? half - 1 : 0);
    texts.insert(texts.end(), tokens.end() - fresh, tokens.end());
    bounds.push_back(static_cast<Index>(texts.size()));
  }
  extend(texts, bounds, chosen, state);  // last to throw
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    // Tokens that a restart read again have other logits now than they had.
    const Index count = state.count(chosen[i]), again = read_again[i];
    const Index first = std::max<Index>(1, count - memory_.kept_logits() + 1);
    for (Index n = first; n <= again; ++n) memory_.ready[memory_.column(chosen[i], n)] = 0;
  }
  memory_.state = std::move(state);
  memory_.history = std::move(history);
  memory_.restarts = restarts;
}

}  // namespace hsm::inline HSM_ABI
