// SPDX-License-Identifier: MIT
//
// The passes of LanguageModel over a part of a sequence that others have the rest of.
#pragma once

#include <algorithm>

#include <hsm/model/language_model_passes.hpp>

namespace hsm::inline HSM_ABI {

template <ComputeScalar Scalar, class List>
template <class Exchange>
void LanguageModel<Scalar, List>::hidden(std::span<const std::int32_t> ids, std::span<const Segment> segments,
                                         State& state, Saved& saved, Workspace& workspace,
                                         const Dropout& dropout, Exchange& exchange) const {
  constexpr const char* kWho = "LanguageModel::hidden";
  const auto N = static_cast<Index>(ids.size());
  check_state(kWho, state);
  check_ids(kWho, ids, N);
  for (const Segment& segment : segments)
    check_positions(kWho, detail::past_of(segment, &state), segment.count);
  dropout.check(kWho);
  run_recorded(ids, 1, N, segments, &state, saved, dropout, workspace, exchange);
}

template <ComputeScalar Scalar, class List>
template <class Exchange>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, State& state, Scalar* last_hidden,
                                         Workspace& workspace, Exchange& exchange) const {
  constexpr const char* kWho = "LanguageModel::extend";
  const Index C = config_.width, N = static_cast<Index>(ids.size());
  check_state(kWho, state);
  check_ids(kWho, ids, N);
  check_positions(kWho, state.count(0), N);
  const Index fitting =
      workspace.chunk_bytes / static_cast<Index>(sizeof(Scalar)) / (4 * C + config_.feed_forward);
  const Index chunk = std::clamp<Index>(fitting / 16 * 16, 16, 1024);
  Workspace::Frame frame(workspace);
  Columns<Scalar> stream = frame.template columns<Scalar>(C, N), input = frame.template columns<Scalar>(C, N);
  Scalar* branch = frame.template take<Scalar>(C * (std::min)(chunk, N));
  const Segment all{0, N, 0};
  detail::StreamUndo undo(&state, std::span(&all, 1), frame);
  start(ids, N, std::span(&all, 1), &state, {stream, input, input}, {}, workspace);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const auto run_chunks = [&]<class M>(const M& mixer, Index begin, Index end, typename M::State* held) {
      for (Index first = begin; first < end; first += chunk) {
        const Segment part{0, (std::min)(chunk, end - first), 0};
        const auto columns = [&](Scalar* of) {
          return Columns<Scalar>(of, C, part.count, Eigen::OuterStride<>(C));
        };
        const Activations to{columns(at(stream, 0, first)), columns(at(input, 0, first)), columns(branch)};
        const Tokens<const Scalar> x(at(input, 0, first), 1, part.count, C);
        const Tokens<Scalar> y(branch, 1, part.count, C);
        run_mixer(mixer, x, std::span(&part, 1), y, held, nullptr, workspace);
        finish_block(l, to, {}, workspace);
      }
    };
    std::visit(
        [&](const auto& mixer) {
          using M = std::remove_cvref_t<decltype(mixer)>;
          exchange.forward(l, mixer, Tokens<const Scalar>(input.data(), 1, N, C),
                           Tokens<Scalar>(nullptr, 1, N, C), CallPart{0, N, std::span(&all, 1)},
                           &std::get<typename M::State>(state.layers[l]), nullptr, workspace,
                           [&](const CallPart& part, typename M::State* own, typename M::Saved*) {
                             run_chunks(mixer, part.first, part.first + part.count, own);
                           });
        },
        blocks_[l].mixer);
  }
  detail::advance(std::span(&all, 1), &state);
  undo.kept = true;
  if (N > 0) std::copy_n(at(input, 0, N - 1), C, last_hidden);
}

}  // namespace hsm::inline HSM_ABI
