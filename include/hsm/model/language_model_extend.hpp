// SPDX-License-Identifier: MIT
//
// LanguageModel::extend without a record: chunk after chunk of all streams through all layers, so that what a
// chunk needs stays in cache and memory does not grow with the length of the text.
#pragma once

#include <hsm/model/language_model.hpp>

namespace hsm::inline HSM_ABI {

template <ComputeScalar Scalar, class List>
LanguageModel<Scalar, List>::Undo::Undo(State& of, std::span<const Index> list, Workspace::Frame& frame)
    : state(of), streams(list), counts(frame.template take<Index>(static_cast<Index>(list.size()))) {
  for (std::size_t i = 0; i < streams.size(); ++i) counts[i] = state.count(streams[i]);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, State& state,
                                         Columns<Scalar> last_logits, Workspace& workspace) const {
  constexpr const char* kWho = "LanguageModel::extend";
  check_state(kWho, state);
  const auto count = static_cast<Index>(ids.size());
  if (count == 0 || count % state.streams() != 0) {
    detail::fail(kWho, "the number of token ids",
                 "a multiple of " + std::to_string(state.streams()) + " streams above 0",
                 std::to_string(count));
  }
  Workspace::Frame frame(workspace);
  const AllStreams all(frame, state.streams(), count / state.streams());
  extend(ids, all.offsets, all.streams, state, last_logits, workspace);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                         std::span<const Index> streams, State& state,
                                         Columns<Scalar> last_logits, Workspace& workspace) const {
  constexpr const char* kWho = "LanguageModel::extend";
  check_chosen(kWho, ids, offsets, streams, state, workspace);
  const Index C = config_.width, S = static_cast<Index>(streams.size());
  check_logits(kWho, S, last_logits);
  Index longest = 0;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    const Index length = offsets[i + 1] - offsets[i];
    detail::check_at_least(kWho, "the tokens of each stream", length, 1);
    longest = (std::max)(longest, length);
  }
  if (S == 0) return;
  const Index token_values = 4 * C + config_.feed_forward;
  const Index fitting = workspace.chunk_bytes / static_cast<Index>(sizeof(Scalar)) / token_values / S;
  const Index chunk = std::clamp<Index>(fitting / 16 * 16, 16, 1024);
  Executor& executor = workspace.executor();
  Workspace::Frame frame(workspace);
  const Index most = (std::min)((std::min)(chunk, longest) * S, static_cast<Index>(ids.size()));
  Scalar* stream_data = frame.template take<Scalar>(C * most);
  Scalar* input_data = frame.template take<Scalar>(C * most);
  Scalar* branch_data = frame.template take<Scalar>(C * most);
  Columns<Scalar> last = frame.template columns<Scalar>(C, S);
  Index* token = frame.template take<Index>(most);     // of ids, for each token of the chunk
  Index* position = frame.template take<Index>(most);  // of these
  Index* bounds = frame.template take<Index>(S + 1);   // the offsets of the chunk,
  Index* chosen = frame.template take<Index>(S);       // and its streams
  Undo undo(state, streams, frame);
  for (Index first = 0; first < longest; first += chunk) {
    Index N = 0, parts = 0;
    bounds[0] = 0;
    for (std::size_t i = 0; i < streams.size(); ++i) {
      const Index n = (std::min)(chunk, offsets[i + 1] - offsets[i] - first);
      if (n <= 0) continue;
      for (Index j = 0; j < n; ++j, ++N) {
        token[N] = offsets[i] + first + j;
        position[N] = state.count(streams[i]) + j;
      }
      chosen[parts] = streams[i];
      bounds[++parts] = N;
    }
    const std::span<const Index> part_offsets(bounds, static_cast<std::size_t>(parts) + 1);
    const std::span<const Index> part_streams(chosen, static_cast<std::size_t>(parts));
    const auto columns = [&](Scalar* data) { return Columns<Scalar>(data, C, N, Eigen::OuterStride<>(C)); };
    Columns<Scalar> stream = columns(stream_data), input = columns(input_data), branch = columns(branch_data);
    embedding_.look_up([&](Index j) { return ids[static_cast<std::size_t>(token[j])]; }, Write::kOverwrite,
                       stream);
    if (!positions_.empty()) positions_.look_up([&](Index j) { return position[j]; }, Write::kAdd, stream);
    (blocks_.empty() ? norm_ : blocks_.front().mixer_norm).forward(detail::read(stream), input, executor);
    for (std::size_t l = 0; l < blocks_.size(); ++l) {
      const Block<Scalar, List>& block = blocks_[l];
      std::visit(
          [&](const auto& mixer) {
            using MixerState = typename std::remove_cvref_t<decltype(mixer)>::State;
            mixer.extend(Tokens<const Scalar>(input.data(), 1, N, C), part_offsets, part_streams,
                         std::get<MixerState>(state.layers[l]), Tokens<Scalar>(branch.data(), 1, N, C),
                         workspace);
          },
          block.mixer);
      block.feed_forward_norm.add_forward(detail::read(stream), detail::read(branch), stream, input,
                                          executor);
      block.feed_forward.forward(detail::read(input), branch, workspace);
      (l + 1 < blocks_.size() ? blocks_[l + 1].mixer_norm : norm_)
          .add_forward(detail::read(stream), detail::read(branch), stream, input, executor);
    }
    for (std::size_t i = 0, part = 0; i < streams.size(); ++i) {
      const Index n = (std::min)(chunk, offsets[i + 1] - offsets[i] - first);
      if (n <= 0) continue;
      state.counts[static_cast<std::size_t>(streams[i])] += n;
      last.col(static_cast<Index>(i)) = input.col(bounds[++part] - 1);  // kept by the stream's last chunk
    }
  }
  logits(detail::read(last), last_logits, workspace);
  undo.kept = true;
}

}  // namespace hsm::inline HSM_ABI
