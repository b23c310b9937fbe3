// SPDX-License-Identifier: MIT
//
// What every pass of LanguageModel goes through: what lies before the layers, a mixer, what follows it.
#pragma once

#include <algorithm>

#include <hsm/model/language_model.hpp>

namespace hsm::inline HSM_ABI {

/// Where the activations of a pass lie, (C, n) each: in a record, layer by layer, or in scratch, where every layer
/// writes over what the one before left.
template <ComputeScalar Scalar, class List>
struct LanguageModel<Scalar, List>::Activations {
  Columns<Scalar> stream;  ///< scratch for the residual stream, not used with a record
  Columns<Scalar> input;   ///< scratch for what is normalised, not used with a record
  Columns<Scalar> branch;  ///< what a mixer or feed-forward network adds
  Saved* saved = nullptr;  ///< the record, if there is one

  /// The residual stream before layer l, or behind the last.
  Columns<Scalar> before(std::size_t l) const {
    return !saved ? stream : whole(l < saved->blocks.size() ? saved->blocks[l].before : saved->last);
  }
  /// Normalised: what the mixer of layer l reads, or h.
  Columns<Scalar> mixer_input(std::size_t l) const {
    return !saved ? input : whole(l < saved->blocks.size() ? saved->blocks[l].mixer_input : saved->hidden);
  }
  /// The residual stream between mixer and feed-forward network.
  Columns<Scalar> middle(std::size_t l) const { return !saved ? stream : whole(saved->blocks[l].middle); }
  /// What the feed-forward network reads.
  Columns<Scalar> feed_forward_input(std::size_t l) const {
    return !saved ? input : whole(saved->blocks[l].feed_forward_input);
  }
};

/// What goes into the first layer.
template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::start(std::span<const std::int32_t> ids, Index N,
                                        std::span<const Segment> segments, const State* state,
                                        const Activations& to, const Dropout& dropout,
                                        Workspace& workspace) const {
  Columns<Scalar> first = to.before(0);
  embedding_.look_up([&](Index j) { return ids[static_cast<std::size_t>(j)]; }, Write::kOverwrite, first);
  if (!positions_.empty()) {
    Workspace::Frame frame(workspace);
    Index* position = to.saved ? to.saved->positions.data() : frame.template take<Index>(N);
    for (const Segment& segment : segments) {
      const Index past = detail::past_of(segment, state);
      for (Index j = 0; j < segment.count; ++j) position[segment.first + j] = past + j;
    }
    positions_.look_up([&](Index j) { return position[j]; }, Write::kAdd, first);
  }
  dropout.apply(Dropout::kEmbedding, first, workspace.executor());
  norm_before(0).forward(detail::read(first), to.mixer_input(0), workspace.executor());
}

/// Where the mixer of layer l leaves its record, if there is one.
template <ComputeScalar Scalar, class List>
template <class M>
typename M::Saved* LanguageModel<Scalar, List>::record_of(std::size_t l, const Activations& to) {
  if (!to.saved) return nullptr;
  AnySaved<Scalar, List>& kept = to.saved->blocks[l].mixer;
  auto* record = std::get_if<typename M::Saved>(&kept);
  return record ? record : &kept.template emplace<typename M::Saved>();
}

template <ComputeScalar Scalar, class List>
template <class M>
void LanguageModel<Scalar, List>::run_mixer(const M& mixer, const Tokens<const Scalar>& x,
                                            std::span<const Segment> segments, const Tokens<Scalar>& y,
                                            typename M::State* state, typename M::Saved* record,
                                            Workspace& workspace) const {
  mixer.layer().run(x, segments, y, state, record, workspace);
}

/// What follows the mixer of layer l, up to what the next layer reads. The only place that runs a block forward.
template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::finish_block(std::size_t l, const Activations& to, const Dropout& dropout,
                                               Workspace& workspace) const {
  Executor& executor = workspace.executor();
  const Block<Scalar, List>& block = blocks_[l];
  Columns<Scalar> branch = to.branch;
  dropout.apply(Dropout::mixer(l), branch, executor);
  Columns<Scalar> middle = to.middle(l), input = to.feed_forward_input(l);
  block.feed_forward_norm.add_forward(detail::read(to.before(l)), detail::read(branch), middle, input,
                                      executor);
  if (to.saved) {
    block.feed_forward.forward(detail::read(input), branch, to.saved->blocks[l].feed_forward, workspace);
  } else {
    block.feed_forward.forward(detail::read(input), branch, workspace);
  }
  dropout.apply(Dropout::feed_forward(l), branch, executor);
  norm_before(l + 1).add_forward(detail::read(middle), detail::read(branch), to.before(l + 1),
                                 to.mixer_input(l + 1), executor);
}

}  // namespace hsm::inline HSM_ABI
