// SPDX-License-Identifier: MIT
//
// The passes of LanguageModel: one over the segments of a call (layer/segment.hpp), for every mode, with a record or
// without, and its adjoint.
#pragma once

#include <algorithm>
#include <concepts>
#include <type_traits>

#include <hsm/model/language_model_block.hpp>

namespace hsm::inline HSM_ABI {

/// Takes the tokens through all layers; h is left behind the last.
template <ComputeScalar Scalar, class List>
template <class Exchange>
void LanguageModel<Scalar, List>::run(std::span<const std::int32_t> ids, Index B, Index T,
                                      std::span<const Segment> segments, State* state, const Activations& to,
                                      const Dropout& dropout, Workspace& workspace,
                                      Exchange& exchange) const {
  start(ids, B * T, segments, state, to, dropout, workspace);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const Tokens<const Scalar> x(to.mixer_input(l).data(), B, T, config_.width);
    Columns<Scalar> branch = to.branch;
    const Tokens<Scalar> y(branch.data(), B, T, config_.width);
    std::visit(
        [&](const auto& mixer) {
          using M = std::remove_cvref_t<decltype(mixer)>;
          typename M::State* held = state ? &std::get<typename M::State>(state->layers[l]) : nullptr;
          typename M::Saved* record = record_of<M>(l, to);
          exchange.forward(l, mixer, x, y, CallPart{0, T, segments}, held, record, workspace,
                           [&](const CallPart& part, typename M::State* own, typename M::Saved* kept) {
                             run_mixer(mixer, x.slice(part.first, part.count), part.segments,
                                       y.slice(part.first, part.count), own, kept, workspace);
                           });
        },
        blocks_[l].mixer);
    finish_block(l, to, dropout, workspace);
  }
  detail::advance(segments, state);
}

/// All tokens at once, with a record.
template <ComputeScalar Scalar, class List>
template <class Exchange>
void LanguageModel<Scalar, List>::run_recorded(std::span<const std::int32_t> ids, Index B, Index T,
                                               std::span<const Segment> segments, State* state, Saved& saved,
                                               const Dropout& dropout, Workspace& workspace,
                                               Exchange& exchange) const {
  const Index C = config_.width, N = B * T;
  saved.batch = -1;  // a record of nothing until it is whole
  saved.time = T;
  saved.streams = state ? state->streams() : 0;
  saved.dropout = dropout;
  saved.positions.resize(positions_.empty() ? 0 : ids.size());
  saved.blocks.resize(blocks_.size());
  for (auto& block : saved.blocks) {
    for (auto* matrix : {&block.before, &block.mixer_input, &block.middle, &block.feed_forward_input})
      detail::set_size(*matrix, C, N);
  }
  detail::set_size(saved.last, C, N);
  detail::set_size(saved.hidden, C, N);
  Workspace::Frame frame(workspace);
  detail::StreamUndo undo(state, segments, frame);
  Columns<Scalar> branch = frame.template columns<Scalar>(C, N);
  run(ids, B, T, segments, state, {branch, branch, branch, &saved}, dropout, workspace, exchange);
  undo.kept = true;
  saved.batch = B;
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::run_recorded(std::span<const std::int32_t> ids, Index B, Index T,
                                               std::span<const Segment> segments, State* state, Saved& saved,
                                               const Dropout& dropout, Workspace& workspace) const {
  NoExchange none;
  run_recorded(ids, B, T, segments, state, saved, dropout, workspace, none);
}

/// Without a record: chunk after chunk of all streams through all layers, so that what a chunk needs stays in cache and
/// memory does not grow with the length of the text.
template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::run_chunks(std::span<const std::int32_t> ids,
                                             std::span<const Segment> segments, State& state,
                                             Columns<Scalar> last_logits, Index tail,
                                             Workspace& workspace) const {
  constexpr const char* kWho = "LanguageModel::extend";
  const Index C = config_.width, S = static_cast<Index>(segments.size());
  detail::check_at_least(kWho, "the tail", tail, 1);
  Index longest = 0, asked = 0;  // tokens of a stream, and tokens whose logits are wanted
  for (const Segment& segment : segments) {
    detail::check_at_least(kWho, "the tokens of each stream", segment.count, 1);
    longest = (std::max)(longest, segment.count);
    asked += (std::min)(tail, segment.count);
  }
  check_logits(kWho, asked, last_logits);
  if (S == 0) return;
  const Index token_values = 4 * C + config_.feed_forward;
  const Index fitting = workspace.chunk_bytes / static_cast<Index>(sizeof(Scalar)) / token_values;
  const auto tokens_of = [&](Index chunk) {
    Index sum = 0;
    for (const Segment& segment : segments) sum += (std::min)(chunk, segment.count);
    return sum;
  };
  Index chunk = std::clamp<Index>(fitting / S / 16 * 16, 16, 1024);
  // Streams with fewer tokens leave their room to those with more.
  const Index room = (std::max)(fitting, chunk * S);
  while (chunk < (std::min<Index>)(longest, 1024) && tokens_of(chunk + 16) <= room) chunk += 16;
  Workspace::Frame frame(workspace);
  const Index most = tokens_of(chunk);
  Scalar* data[3];  // stream, input, branch
  for (Scalar*& each : data) each = frame.template take<Scalar>(C * most);
  Columns<Scalar> last = frame.template columns<Scalar>(C, asked);
  std::int32_t* id = frame.template take<std::int32_t>(most);
  Segment* parts = frame.template take<Segment>(S);  // of the chunk
  detail::StreamUndo undo(&state, segments, frame);
  NoExchange none;
  for (Index first = 0; first < longest; first += chunk) {
    Index N = 0;
    std::size_t count = 0;
    for (const Segment& segment : segments) {
      const Index n = (std::min)(chunk, segment.count - first);
      if (n <= 0) continue;
      std::copy_n(ids.data() + segment.first + first, n, id + N);
      parts[count++] = {N, n, segment.stream};
      N += n;
    }
    const auto columns = [&](Scalar* of) { return Columns<Scalar>(of, C, N, Eigen::OuterStride<>(C)); };
    const Activations to{columns(data[0]), columns(data[1]), columns(data[2])};
    run({id, static_cast<std::size_t>(N)}, 1, N, {parts, count}, &state, to, {}, workspace, none);
    Index at = 0, part_at = 0;  // in `last`, and of the segment in the chunk
    for (const Segment& segment : segments) {
      const Index kept = (std::min)(tail, segment.count), n = (std::min)(chunk, segment.count - first);
      for (Index t = (std::max)(first, segment.count - kept); t < first + n; ++t)
        last.col(at + kept - (segment.count - t)) = to.input.col(part_at + t - first);
      at += kept;
      part_at += (std::max)(n, Index{0});
    }
  }
  logits(detail::read(last), last_logits, workspace);
  undo.kept = true;
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::hidden(std::span<const std::int32_t> ids, Index B, Index T, Saved& saved,
                                         Workspace& workspace, const Dropout& dropout) const {
  constexpr const char* kWho = "LanguageModel::hidden";
  check_tensors(kWho);
  check_ids(kWho, ids, detail::count_tokens(kWho, B, T));
  check_positions(kWho, 0, T);
  dropout.check(kWho);
  Workspace::Frame frame(workspace);
  run_recorded(ids, B, T, detail::equal_segments(frame, B, T, false), nullptr, saved, dropout, workspace);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::packed(std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                         Saved& saved, Workspace& workspace, const Dropout& dropout) const {
  constexpr const char* kWho = "LanguageModel::packed";
  const auto N = static_cast<Index>(ids.size());
  detail::check_offsets(kWho, offsets, N);
  check_tensors(kWho);
  check_ids(kWho, ids, N);
  dropout.check(kWho);
  Workspace::Frame frame(workspace);
  const std::span<const Segment> segments = detail::segments_at(frame, offsets, {});
  for (const Segment& segment : segments) check_positions(kWho, 0, segment.count);
  run_recorded(ids, 1, N, segments, nullptr, saved, dropout, workspace);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                         std::span<const Index> streams, State& state, Saved& saved,
                                         Workspace& workspace, const Dropout& dropout) const {
  constexpr const char* kWho = "LanguageModel::extend";
  Workspace::Frame frame(workspace);
  const auto segments = chosen_streams(kWho, frame, ids, offsets, streams, state);
  dropout.check(kWho);
  run_recorded(ids, 1, static_cast<Index>(ids.size()), segments, &state, saved, dropout, workspace);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, State& state, Saved& saved,
                                         Workspace& workspace, const Dropout& dropout) const {
  constexpr const char* kWho = "LanguageModel::extend";
  Workspace::Frame frame(workspace);
  const auto segments = every_stream(kWho, frame, ids, state);
  dropout.check(kWho);
  run_recorded(ids, 1, static_cast<Index>(ids.size()), segments, &state, saved, dropout, workspace);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                         std::span<const Index> streams, State& state,
                                         Columns<Scalar> last_logits, Workspace& workspace,
                                         Index tail) const {
  Workspace::Frame frame(workspace);
  run_chunks(ids, chosen_streams("LanguageModel::extend", frame, ids, offsets, streams, state), state,
             last_logits, tail, workspace);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, State& state,
                                         Columns<Scalar> last_logits, Workspace& workspace,
                                         Index tail) const {
  Workspace::Frame frame(workspace);
  run_chunks(ids, every_stream("LanguageModel::extend", frame, ids, state), state, last_logits, tail,
             workspace);
}

template <ComputeScalar Scalar, class List>
template <class Exchange>
void LanguageModel<Scalar, List>::backward(std::span<const std::int32_t> ids, const Saved& saved,
                                           ConstColumns<Scalar> d_hidden, LanguageModel& gradients,
                                           Workspace& workspace, State* state_gradient,
                                           Exchange& exchange) const {
  constexpr const char* kWho = "LanguageModel::backward";
  check_tensors(kWho);
  check_saved(kWho, saved);
  const Index B = saved.batch, T = saved.time, C = config_.width, N = B * T;
  check_ids(kWho, ids, N);
  detail::check_equal(kWho, "d_hidden", Shape<2>{d_hidden.rows(), d_hidden.cols()}, Shape<2>{C, N});
  check_gradients(kWho, gradients);
  if (state_gradient) {
    if (saved.streams == 0)
      detail::fail(kWho, "state_gradient", "absent unless saved is the record of an extend", "one");
    check_state(kWho, *state_gradient);
    detail::check_equal(kWho, "the streams of state_gradient", state_gradient->streams(), saved.streams);
  }
  if constexpr (std::derived_from<std::remove_cv_t<Exchange>, NoExchange>)
    check_records(kWho, saved, state_gradient);
  detail::UnfinishedGradient<State> unfinished(state_gradient);
  Executor& executor = workspace.executor();
  const Dropout& dropout = saved.dropout;
  Workspace::Frame frame(workspace);
  Columns<Scalar> d_stream = frame.template columns<Scalar>(C, N);
  Columns<Scalar> d_input = frame.template columns<Scalar>(C, N);
  // The gradient of a branch: that of the stream, less what was dropped.
  Columns<Scalar> d_branch = dropout.drops() ? frame.template columns<Scalar>(C, N) : d_stream;
  d_stream.setZero();
  norm_.backward(read(saved.last), d_hidden, d_stream, gradients.norm_, workspace);
  exchange.complete(gradients.norm_);
  for (std::size_t l = blocks_.size(); l-- > 0;) {
    const Block<Scalar, List>& block = blocks_[l];
    const BlockSaved<Scalar, List>& kept = saved.blocks[l];
    Block<Scalar, List>& d_block = gradients.blocks_[l];
    dropout.copy(Dropout::feed_forward(l), detail::read(d_stream), d_branch, executor);
    block.feed_forward.backward(read(kept.feed_forward_input), kept.feed_forward, detail::read(d_branch),
                                d_input, d_block.feed_forward, workspace);
    block.feed_forward_norm.backward(read(kept.middle), detail::read(d_input), d_stream,
                                     d_block.feed_forward_norm, workspace);
    dropout.copy(Dropout::mixer(l), detail::read(d_stream), d_branch, executor);
    std::visit(
        [&](const auto& mixer) {
          using M = std::remove_cvref_t<decltype(mixer)>;
          const Tokens<const Scalar> x(kept.mixer_input.data(), B, T, C), dy(d_branch.data(), B, T, C);
          const Tokens<Scalar> dx(d_input.data(), B, T, C);
          auto& d_mixer = std::get<M>(d_block.mixer).parameters();
          auto* d_state = state_gradient ? &std::get<typename M::State>(state_gradient->layers[l]) : nullptr;
          const auto& record = std::get<typename M::Saved>(kept.mixer);
          exchange.backward(
              l, mixer, x, record, dy, dx, d_mixer, d_state, workspace,
              [&](Index first, Index count, const typename M::Saved& part, typename M::State* d) {
                mixer.backward(x.slice(first, count), part, dy.slice(first, count), dx.slice(first, count),
                               d_mixer, workspace, d);
              });
        },
        block.mixer);
    block.mixer_norm.backward(read(kept.before), detail::read(d_input), d_stream, d_block.mixer_norm,
                              workspace);
    exchange.complete(d_block);
  }
  dropout.apply(Dropout::kEmbedding, d_stream, executor);
  Embedding<Scalar>::scatter([&](Index j) { return ids[static_cast<std::size_t>(j)]; },
                             detail::read(d_stream), gradients.embedding_, executor);
  exchange.complete(gradients.embedding_);
  if (!positions_.empty()) {
    Embedding<Scalar>::scatter([&](Index j) { return saved.positions[static_cast<std::size_t>(j)]; },
                               detail::read(d_stream), gradients.positions_, executor);
    exchange.complete(gradients.positions_);
  }
  unfinished.gradient = nullptr;
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::backward(std::span<const std::int32_t> ids, const Saved& saved,
                                           ConstColumns<Scalar> d_hidden, LanguageModel& gradients,
                                           Workspace& workspace, State* state_gradient) const {
  NoExchange none;
  backward(ids, saved, d_hidden, gradients, workspace, state_gradient, none);
}

}  // namespace hsm::inline HSM_ABI
