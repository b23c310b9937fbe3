// SPDX-License-Identifier: MIT
//
// What the entry points of LanguageModel ask of their arguments, before anything is changed.
#pragma once

#include <hsm/core/check.hpp>
#include <hsm/model/language_model.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

[[noreturn, gnu::cold]] HSM_NOINLINE inline void fail_record(const char* who) {
  fail(who, "saved", "the record of a call that ended", "one of a call that threw");
}
[[noreturn, gnu::cold]] HSM_NOINLINE inline void fail_norm(const char* who, const char* name, Index gain,
                                                           Index bias, Index C) {
  const Shape<2> got{gain, bias}, expected{C, C};
  fail(who, std::string("gain and bias of the ") + name, to_text(expected), to_text(got));
}
template <class Scalar>
void check_norm(const char* who, const char* name, const LayerNorm<Scalar>& norm, Index C) {
  if (norm.gain.size() != C || norm.bias.size() != C)
    fail_norm(who, name, norm.gain.size(), norm.bias.size(), C);
}

}  // namespace detail

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_ids(const char* who, std::span<const std::int32_t> ids,
                                            Index expected) const {
  detail::check_equal(who, "the number of token ids", static_cast<Index>(ids.size()), expected);
  detail::check_token_ids(who, ids, config_.vocabulary);
}

/// Anybody may have changed the tensors through visit.
template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_tensors(const char* who) const {
  const Index C = config_.width, F = config_.feed_forward;
  if (blocks_.empty()) detail::fail(who, "the model", "one that has its layers", "one that was moved from");
  check_embedding(who);
  if (config_.positions == Positions::kLearned) {
    detail::check_equal(who, "the shape of the positions", Shape<2>{positions_.rows(), positions_.channels()},
                        Shape<2>{config_.context, C});
  }
  for (const Block<Scalar, List>& block : blocks_) {
    detail::check_norm(who, "norm before a mixer", block.mixer_norm, C);
    std::visit(
        [&](const auto& mixer) {
          mixer.layer().check(who);
          detail::check_equal(who, "the channels of a mixer", mixer.channels(), C);
        },
        block.mixer);
    detail::check_norm(who, "norm before a feed-forward network", block.feed_forward_norm, C);
    detail::check_linear(who, "up of a feed-forward network", block.feed_forward.up, F, C, F);
    detail::check_linear(who, "down of a feed-forward network", block.feed_forward.down, C, F, C);
  }
  detail::check_norm(who, "last norm", norm_, C);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_embedding(const char* who) const {
  detail::check_equal(who, "the shape of the embedding", Shape<2>{embedding_.rows(), embedding_.channels()},
                      Shape<2>{config_.vocabulary, config_.width});
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_positions(const char* who, Index before, Index more) const {
  if (positions_.empty() || more <= config_.context - before) return;
  detail::raise<std::out_of_range>(
      std::string(who) + ": the model has learned " + detail::counted(config_.context, "position") +
      ", got " + detail::counted(before, "token") + " before and " + std::to_string(more) + " more");
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_segments(const char* who, std::span<const std::int32_t> ids,
                                                 std::span<const Segment> segments,
                                                 const State& state) const {
  check_ids(who, ids, static_cast<Index>(ids.size()));
  for (const Segment& segment : segments) {
    if (!state.is_whole(segment.stream)) detail::fail_whole(who, segment.stream);
    const Index count = state.count(segment.stream), most = room(state, segment.stream);
    check_positions(who, count, segment.count);
    if (segment.count > most) detail::fail_room(who, segment, count, most);
  }
}

/// A segment of every stream, all of one length.
template <ComputeScalar Scalar, class List>
std::span<const Segment> LanguageModel<Scalar, List>::every_stream(const char* who, Workspace::Frame& frame,
                                                                   std::span<const std::int32_t> ids,
                                                                   const State& state) const {
  check_state(who, state);
  const auto count = static_cast<Index>(ids.size());
  if (count % state.streams() != 0)
    detail::fail(who, "the number of token ids",
                 "a multiple of " + detail::counted(state.streams(), "stream"), std::to_string(count));
  const std::span<const Segment> segments =
      detail::equal_segments(frame, state.streams(), count / state.streams(), true);
  check_segments(who, ids, segments, state);
  return segments;
}

/// A segment of each of the streams that a caller names.
template <ComputeScalar Scalar, class List>
std::span<const Segment> LanguageModel<Scalar, List>::chosen_streams(const char* who, Workspace::Frame& frame,
                                                                     std::span<const std::int32_t> ids,
                                                                     std::span<const Index> offsets,
                                                                     std::span<const Index> streams,
                                                                     const State& state) const {
  check_state(who, state);
  detail::check_offsets(who, offsets, static_cast<Index>(ids.size()));
  detail::check_streams(who, streams, static_cast<Index>(offsets.size()) - 1, state.streams(),
                        frame.template take<Index>(static_cast<Index>(streams.size())));
  const std::span<const Segment> segments = detail::segments_at(frame, offsets, streams);
  check_segments(who, ids, segments, state);
  return segments;
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_logits(const char* who, Index n, const Columns<Scalar>& out) const {
  detail::check_equal(who, "the logits", Shape<2>{out.rows(), out.cols()}, Shape<2>{config_.vocabulary, n});
  if (n > 1) detail::check_at_least(who, "the stride of the logits", out.outerStride(), config_.vocabulary);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_ended(const char* who, const Saved& saved) {
  if (saved.batch < 0) detail::fail_record(who);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_saved(const char* who, const Saved& saved) const {
  check_ended(who, saved);
  const auto fail_saved = [who] { detail::fail(who, "saved", "the record of this model", "another's"); };
  const Shape<2> expected{config_.width, saved.batch * saved.time};
  detail::check_equal(who, "the record's layers", static_cast<Index>(saved.blocks.size()), layer_count());
  detail::check_equal(who, "the record's last", Shape<2>{saved.last.rows(), saved.last.cols()}, expected);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const BlockSaved<Scalar, List>& kept = saved.blocks[l];
    const auto same_kind = [&](const auto& mixer) {
      return std::holds_alternative<typename std::remove_cvref_t<decltype(mixer)>::Saved>(kept.mixer);
    };
    if (!std::visit(same_kind, blocks_[l].mixer) || kept.feed_forward.before.rows() != config_.feed_forward ||
        kept.feed_forward.before.cols() != expected[1]) {
      fail_saved();
    }
  }
  const Index positions = positions_.empty() ? 0 : expected[1];
  if (static_cast<Index>(saved.positions.size()) != positions) fail_saved();
  for (const Index position : saved.positions) {
    if (position >= config_.context) fail_saved();
  }
}

/// What the layers themselves ask of their records, of a call that one process made.
template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_records(const char* who, const Saved& saved,
                                                const State* state_gradient) const {
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const BlockSaved<Scalar, List>& kept = saved.blocks[l];
    const Tokens<const Scalar> x(kept.mixer_input.data(), saved.batch, saved.time, config_.width);
    std::visit(
        [&](const auto& mixer) {
          using M = std::remove_cvref_t<decltype(mixer)>;
          using Held = const typename M::State;
          Held* d_state = state_gradient ? &std::get<typename M::State>(state_gradient->layers[l]) : nullptr;
          mixer.check_record(who, x, std::get<typename M::Saved>(kept.mixer), d_state);
        },
        blocks_[l].mixer);
  }
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_gradients(const char* who, const LanguageModel& gradients) const {
  detail::check_wide(who, embedding_.narrow);
  if (&gradients == this) detail::fail(who, "gradients", "a model of its own", "the model itself");
  const LanguageModelConfig& other = gradients.config_;
  if (other.vocabulary != config_.vocabulary || other.width != config_.width ||
      other.feed_forward != config_.feed_forward || other.positions != config_.positions ||
      (config_.positions == Positions::kLearned && other.context != config_.context) ||
      other.layers != config_.layers) {
    detail::fail(who, "gradients", "a model of the same config", "another");
  }
  visit(
      [&](std::string_view name, const auto& own, const auto& gradient) {
        detail::check_gradient_of(who, name, {own.rows(), own.cols()}, {gradient.rows(), gradient.cols()});
      },
      *this, gradients);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_state(const char* who, const State& state) const {
  check_tensors(who);
  detail::check_equal(who, "the layers of the state", static_cast<Index>(state.layers.size()), layer_count());
  detail::check_at_least(who, "streams", state.streams(), 1);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const auto fits = [&](const auto& mixer) {
      const auto* held = std::get_if<typename std::remove_cvref_t<decltype(mixer)>::State>(&state.layers[l]);
      return held && held->streams() == state.streams() && mixer.fits(*held);
    };
    if (!std::visit(fits, blocks_[l].mixer))
      detail::fail(who, "the state", "one from this model's make_state", "another's");
  }
}

template <ComputeScalar Scalar, class List>
Index LanguageModel<Scalar, List>::room(const State& state, Index stream) const {
  const Index most = state.room(stream);
  return positions_.empty() ? most : (std::min)(most, config_.context - state.count(stream));
}

template <ComputeScalar Scalar, class List>
Index LanguageModel<Scalar, List>::room(const State& state) const {
  Index most = (std::numeric_limits<Index>::max)();
  for (Index s = 0; s < state.streams(); ++s) most = (std::min)(most, room(state, s));
  return most;
}

template <ComputeScalar Scalar, class List>
auto LanguageModel<Scalar, List>::make_state(StateOptions options) const -> State {
  check_tensors("LanguageModel::make_state");
  detail::check_at_least("LanguageModel::make_state", "streams", options.streams, 1);
  State state;
  for (const auto& block : blocks_) {
    std::visit([&](const auto& mixer) { state.layers.emplace_back(mixer.make_state(options)); }, block.mixer);
  }
  state.counts.assign(static_cast<std::size_t>(options.streams), 0);
  return state;
}

}  // namespace hsm::inline HSM_ABI
