// SPDX-License-Identifier: MIT
//
// The passes of LanguageModel that keep a record: one over all tokens, which the modes tell what to ask of each
// layer's mixer and where positions begin, and the backward pass.
#pragma once

#include <hsm/model/language_model.hpp>

namespace hsm::inline HSM_ABI {

template <ComputeScalar Scalar, class List>
LanguageModel<Scalar, List>::AllStreams::AllStreams(Workspace::Frame& frame, Index count, Index T) {
  Index* offset = frame.template take<Index>(count + 1);
  Index* stream = frame.template take<Index>(count);
  for (Index i = 0; i <= count; ++i) offset[i] = i * T;
  for (Index i = 0; i < count; ++i) stream[i] = i;
  offsets = {offset, static_cast<std::size_t>(count) + 1};
  streams = {stream, static_cast<std::size_t>(count)};
}

/// All tokens at once, positions being those in `saved`; mix(mixer, l, x, y, saved) runs the mixer of layer
/// l.
template <ComputeScalar Scalar, class List>
template <class Mix>
void LanguageModel<Scalar, List>::run_recorded(std::span<const std::int32_t> ids, Index B, Index T,
                                               Saved& saved, Workspace& workspace, const Dropout& dropout,
                                               const Mix& mix) const {
  saved.batch = -1;  // a record of nothing until it is whole
  saved.dropout = dropout;
  const Index C = config_.width, N = B * T;
  Executor& executor = workspace.executor();
  Workspace::Frame frame(workspace);
  saved.blocks.resize(blocks_.size());
  Columns<Scalar> stream = sized(saved.blocks.empty() ? saved.last : saved.blocks.front().before, N);
  Columns<Scalar> normalised =
      sized(saved.blocks.empty() ? saved.hidden : saved.blocks.front().mixer_input, N);
  embedding_.look_up([&](Index j) { return ids[static_cast<std::size_t>(j)]; }, Write::kOverwrite, stream);
  if (!positions_.empty()) {
    positions_.look_up([&](Index j) { return saved.positions[static_cast<std::size_t>(j)]; }, Write::kAdd,
                       stream);
  }
  dropout.apply(Dropout::kEmbedding, stream, executor);
  (blocks_.empty() ? norm_ : blocks_.front().mixer_norm).forward(detail::read(stream), normalised, executor);
  Columns<Scalar> branch = frame.template columns<Scalar>(C, N);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const Block<Scalar, List>& block = blocks_[l];
    BlockSaved<Scalar>& kept = saved.blocks[l];
    std::visit(
        [&](const auto& mixer) {
          using MixerSavedType = typename std::remove_cvref_t<decltype(mixer)>::Saved;
          if (!std::holds_alternative<MixerSavedType>(kept.mixer)) kept.mixer = mixer.make_saved();
          mix(mixer, l, Tokens<const Scalar>(kept.mixer_input.data(), B, T, C),
              Tokens<Scalar>(branch.data(), B, T, C), std::get<MixerSavedType>(kept.mixer));
        },
        block.mixer);
    dropout.apply(Dropout::mixer(l), branch, executor);
    Columns<Scalar> middle = sized(kept.middle, N), input = sized(kept.feed_forward_input, N);
    block.feed_forward_norm.add_forward(read(kept.before), detail::read(branch), middle, input, executor);
    block.feed_forward.forward(detail::read(input), branch, kept.feed_forward, workspace);
    dropout.apply(Dropout::feed_forward(l), branch, executor);
    const bool more = l + 1 < blocks_.size();
    Columns<Scalar> next = sized(more ? saved.blocks[l + 1].before : saved.last, N);
    Columns<Scalar> next_input = sized(more ? saved.blocks[l + 1].mixer_input : saved.hidden, N);
    (more ? blocks_[l + 1].mixer_norm : norm_)
        .add_forward(detail::read(middle), detail::read(branch), next, next_input, executor);
  }
  saved.batch = B;
  saved.time = T;
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::hidden(std::span<const std::int32_t> ids, Index B, Index T, Saved& saved,
                                         Workspace& workspace, const Dropout& dropout) const {
  constexpr const char* kWho = "LanguageModel::hidden";
  detail::check_at_least(kWho, "batch", B, 0);
  detail::check_at_least(kWho, "time", T, 0);
  check_ids(kWho, ids, B * T);
  check_positions(kWho, 0, T);
  dropout.check(kWho);
  saved.batch = -1;
  saved.streams = 0;
  saved.positions.resize(positions_.empty() ? 0 : ids.size());
  for (std::size_t j = 0; j < saved.positions.size(); ++j) saved.positions[j] = static_cast<Index>(j) % T;
  run_recorded(ids, B, T, saved, workspace, dropout,
               [&](const auto& mixer, std::size_t, const auto& x, const auto& y, auto& kept) {
                 mixer.forward(x, y, kept, workspace);
               });
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::packed(std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                         Saved& saved, Workspace& workspace, const Dropout& dropout) const {
  constexpr const char* kWho = "LanguageModel::packed";
  const auto N = static_cast<Index>(ids.size());
  detail::check_offsets(kWho, offsets, N);
  check_ids(kWho, ids, N);
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) check_positions(kWho, 0, offsets[i + 1] - offsets[i]);
  dropout.check(kWho);
  saved.batch = -1;
  saved.streams = 0;
  saved.positions.clear();
  for (std::size_t i = 0; !positions_.empty() && i + 1 < offsets.size(); ++i) {
    for (Index j = offsets[i]; j < offsets[i + 1]; ++j) saved.positions.push_back(j - offsets[i]);
  }
  run_recorded(ids, 1, N, saved, workspace, dropout,
               [&](const auto& mixer, std::size_t, const auto& x, const auto& y, auto& kept) {
                 mixer.packed(x, offsets, y, kept, workspace);
               });
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                         std::span<const Index> streams, State& state, Saved& saved,
                                         Workspace& workspace, const Dropout& dropout) const {
  check_chosen("LanguageModel::extend", ids, offsets, streams, state, workspace);
  dropout.check("LanguageModel::extend");
  saved.batch = -1;
  saved.streams = state.streams();
  saved.positions.clear();
  for (std::size_t i = 0; !positions_.empty() && i < streams.size(); ++i) {
    for (Index j = offsets[i]; j < offsets[i + 1]; ++j)
      saved.positions.push_back(state.count(streams[i]) + j - offsets[i]);
  }
  Workspace::Frame frame(workspace);
  Undo undo(state, streams, frame);
  run_recorded(ids, 1, static_cast<Index>(ids.size()), saved, workspace, dropout,
               [&](const auto& mixer, std::size_t l, const auto& x, const auto& y, auto& kept) {
                 using MixerState = typename std::remove_cvref_t<decltype(mixer)>::State;
                 mixer.extend(x, offsets, streams, std::get<MixerState>(state.layers[l]), y, kept, workspace);
               });
  for (std::size_t i = 0; i < streams.size(); ++i)
    state.counts[static_cast<std::size_t>(streams[i])] += offsets[i + 1] - offsets[i];
  undo.kept = true;
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, State& state, Saved& saved,
                                         Workspace& workspace, const Dropout& dropout) const {
  constexpr const char* kWho = "LanguageModel::extend";
  check_state(kWho, state);
  const auto count = static_cast<Index>(ids.size());
  if (count % state.streams() != 0)
    detail::fail(kWho, "the number of token ids",
                 "a multiple of " + std::to_string(state.streams()) + " streams", std::to_string(count));
  Workspace::Frame frame(workspace);
  const AllStreams all(frame, state.streams(), count / state.streams());
  extend(ids, all.offsets, all.streams, state, saved, workspace, dropout);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::backward(std::span<const std::int32_t> ids, const Saved& saved,
                                           ConstColumns<Scalar> d_hidden, LanguageModel& gradients,
                                           Workspace& workspace, State* state_gradient) const {
  constexpr const char* kWho = "LanguageModel::backward";
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
  Executor& executor = workspace.executor();
  const Dropout& dropout = saved.dropout;
  Workspace::Frame frame(workspace);
  Columns<Scalar> d_stream = frame.template columns<Scalar>(C, N);
  Columns<Scalar> d_input = frame.template columns<Scalar>(C, N);
  // The gradient of a branch: that of the stream, less what was dropped.
  Columns<Scalar> d_branch = dropout.drops() ? frame.template columns<Scalar>(C, N) : d_stream;
  d_stream.setZero();
  norm_.backward(read(saved.last), d_hidden, d_stream, gradients.norm_, workspace);
  for (std::size_t l = blocks_.size(); l-- > 0;) {
    const Block<Scalar, List>& block = blocks_[l];
    const BlockSaved<Scalar>& kept = saved.blocks[l];
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
          mixer.backward(
              Tokens<const Scalar>(kept.mixer_input.data(), B, T, C), std::get<typename M::Saved>(kept.mixer),
              Tokens<const Scalar>(d_branch.data(), B, T, C), Tokens<Scalar>(d_input.data(), B, T, C),
              std::get<M>(d_block.mixer).parameters(), workspace,
              state_gradient ? &std::get<typename M::State>(state_gradient->layers[l]) : nullptr);
        },
        block.mixer);
    block.mixer_norm.backward(read(kept.before), detail::read(d_input), d_stream, d_block.mixer_norm,
                              workspace);
  }
  dropout.apply(Dropout::kEmbedding, d_stream, executor);
  Embedding<Scalar>::scatter([&](Index j) { return ids[static_cast<std::size_t>(j)]; },
                             detail::read(d_stream), gradients.embedding_, executor);
  if (!positions_.empty()) {
    Embedding<Scalar>::scatter([&](Index j) { return saved.positions[static_cast<std::size_t>(j)]; },
                               detail::read(d_stream), gradients.positions_, executor);
  }
}

}  // namespace hsm::inline HSM_ABI
