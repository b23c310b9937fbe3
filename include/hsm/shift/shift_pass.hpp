// SPDX-License-Identifier: MIT
//
// One call of the engine over a list of segments: what its tokens, taps, rings and gradients are, and where.
// The passes themselves are defined in shift_forward.hpp, shift_in_place.hpp and shift_backward.hpp.
#pragma once

#include <cstddef>
#include <span>

#include <hsm/core/linear_passes.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/layer/segment.hpp>
#include <hsm/shift/mixer_saved.hpp>
#include <hsm/shift/mixer_state.hpp>
#include <hsm/shift/mixing_policy.hpp>
#include <hsm/shift/shift_layer.hpp>
#include <hsm/shift/timeline.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The working set of a task; sizes in bytes, chosen once for the caches of current cores.
inline constexpr Index kTaskBytes = Index{1} << 19;
inline constexpr Index kCacheBytes = Index{1} << 13;  // of a block that is used again at once

/// A call in progress: the mixer, its scratch, and the two passes.
template <class Policy>
struct ShiftPass {
  using Scalar = typename Policy::Scalar;
  using State = MixerState<Scalar>;
  using Saved = MixerSaved<Scalar>;
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;
  static constexpr Stages kStages = Policy::kStages;

  ShiftPass(const ShiftLayer<Policy>& l, Workspace& w)
      : layer(l), workspace(w), frame(w), zeros(frame.template take<Scalar>(l.channels())) {}

  /// y.data may be null: then only the state is brought past the tokens.
  void forward(const In& x, const Out& y, std::span<const Segment> list, State* state, Saved* saved);
  void forward_in_place(const Out& x);
  void backward(const In& x, const Saved& saved, const In& dy, const Out& dx, Policy& gradients,
                State* state_gradient);

 private:
  /// The tokens that a call holds at a time, and where things about them are.
  struct Chunk {
    In x;
    std::span<const Segment> segments;
    const State* entry = nullptr;       // what continuing segments continue
    const Scalar* projected = nullptr;  // [(local + shifted) C, tokens of the chunk]
    Index first = 0;                    // the chunk: tokens first ... first + count - 1 of the call
    Index count = 0;
    bool history = true;  // whether what lies before the chunk in a segment can be read from x alone
    Scalar* carry =
        nullptr;  // else the rings of the one fresh segment that crosses into this chunk, group after group
    Index longest = 0;  // tokens of the longest segment: no ring of `carry` needs more slots
  };

  Index C() const { return layer.channels(); }
  Index rows_of(const HeadGroup& group) const { return C() / layer.heads() * group.heads; }
  Index first_row(const HeadGroup& group) const { return C() / layer.heads() * group.first_head; }
  Index projected_rows() const { return kStages.projected() * C(); }
  Index task_tokens() const {
    return std::max<Index>(16, kTaskBytes / static_cast<Index>(sizeof(Scalar)) / C());
  }

  /// How many columns of `rows` values fit into `bytes`.
  static Index columns_in(Index bytes, Index rows) {
    return bytes / static_cast<Index>(sizeof(Scalar)) / rows;
  }

  /// Before make_run: zeros for the partners that documents lack, unless all streams have seen all of theirs.
  void fill_zeros(std::span<const Segment> list, const State* entry) {
    const Index farthest = layer.state_reach();
    const auto lacks = [&](const Segment& segment) { return past_of(segment, entry) < farthest; };
    if (std::any_of(list.begin(), list.end(), lacks)) std::fill(zeros, zeros + layer.channels(), Scalar(0));
  }

  /// Calls f(part, from, to) for the parts that tokens [first, first + n) of the call touch, and which of
  /// their tokens these are.
  template <class F>
  void for_each_part(const Chunk& chunk, Index first, Index n, F&& f) const {
    const auto ends_before = [](const Segment& segment, Index token) {
      return segment.first + segment.count <= token;
    };
    auto it = std::lower_bound(chunk.segments.begin(), chunk.segments.end(), first, ends_before);
    for (; it != chunk.segments.end() && it->first < first + n; ++it) {
      const Index start = (std::max)(it->first, chunk.first);
      const Index end = (std::min)(it->first + it->count, chunk.first + chunk.count);
      const Index offset = start - it->first;
      const Index before = past_of(*it, chunk.entry);
      const SegmentPart part{start, end - start, before + offset, chunk.history ? offset : 0,
                             static_cast<Index>(it - chunk.segments.begin())};
      const Index from = (std::max)(first, start) - start, to = (std::min)(first + n, end) - start;
      if (from < to) f(part, from, to);
    }
  }

  /// The ring that a part's taps read where they leave the buffers.
  RingView<const Scalar> ring(const Chunk& chunk, const SegmentPart& part, std::size_t g) const {
    const Segment& segment = chunk.segments[static_cast<std::size_t>(part.segment)];
    if (!segment.fresh()) return chunk.entry->ring(g, segment.stream);
    const RingView<Scalar> carried = carry_ring(chunk, g);
    return {carried.data, carried.rows, carried.slot_count};
  }
  RingView<Scalar> carry_ring(const Chunk& chunk, std::size_t g) const {
    if (!chunk.carry) return {nullptr, 0, 1};
    Index offset = 0;
    for (std::size_t i = 0; i < g; ++i) offset += carry_size(chunk, i);
    return {chunk.carry + offset, kStages.planes() * rows_of(layer.groups()[g]), carry_slots(chunk, g)};
  }
  Index carry_slots(const Chunk& chunk, std::size_t g) const {
    return (std::min)(layer.reach(layer.groups()[g]), chunk.longest);
  }
  Index carry_size(const Chunk& chunk, std::size_t g) const {
    return kStages.planes() * rows_of(layer.groups()[g]) * carry_slots(chunk, g);
  }

  /// The blocks of tokens [start, end) of a part for one group of heads.
  HSM_NOINLINE Run<Scalar> make_run(const Chunk& chunk, const SegmentPart& part, std::size_t g, Index start,
                                    Index end) const {
    const HeadGroup& group = layer.groups()[g];
    Run<Scalar> run;
    run.first_head = group.first_head;
    run.heads = group.heads;
    run.rows = rows_of(group);
    run.count = end - start;
    run.blocks.local = kStages.local > 0 ? projected_block(chunk, part.first + start, 0, first_row(group))
                                         : StridedBlock<const Scalar>{nullptr, 0};
    const Index taps = layer.taps();
    for (Index k = 0; k < taps; ++k) {
      const auto tap = static_cast<std::size_t>(k);
      const Index t = start - k * group.shift;
      const TapSource place = source_of(part, start, k * group.shift);
      run.is_present[tap] = place != TapSource::kNone;
      if (k == 1 && place == TapSource::kBuffer) run.distance = group.shift;
      const RingView<const Scalar> from =
          place == TapSource::kRing ? ring(chunk, part, g) : RingView<const Scalar>{};
      for (int plane = 0; plane < kStages.planes(); ++plane) {
        auto& block = run.blocks.taps[tap][static_cast<std::size_t>(plane)];
        if (place == TapSource::kNone) {
          block = {zeros, 0};
        } else if (place == TapSource::kRing) {
          block = {from.slot(part.position + t) + plane * run.rows, from.rows};
        } else {
          block = shifted_block(chunk, group, part.first + t, plane);
        }
      }
      for (int plane = kStages.planes(); plane < kMostPlanes; ++plane)
        run.blocks.taps[tap][static_cast<std::size_t>(plane)] = {nullptr, 0};
    }
    return run;
  }
  /// What token `token` of the call keeps.
  StridedBlock<const Scalar> shifted_block(const Chunk& chunk, const HeadGroup& group, Index token,
                                           int plane) const {
    if (kStages.shifts_input && plane == 0)
      return {chunk.x.at(token) + first_row(group), chunk.x.token_stride};
    return projected_block(chunk, token, kStages.local + plane - (kStages.shifts_input ? 1 : 0),
                           first_row(group));
  }
  StridedBlock<const Scalar> projected_block(const Chunk& chunk, Index token, int plane, Index row) const {
    if constexpr (kStages.projected() == 0) {
      return {nullptr, 0};
    } else {
      return {chunk.projected + (token - chunk.first) * projected_rows() + plane * C() + row,
              projected_rows()};
    }
  }

  void combine(const Chunk& chunk, Scalar* mixed, const Out& y);
  void keep(const Chunk& chunk, State* state);
  void mix_in_place(const Chunk& chunk, const SegmentPart& part, std::size_t g, const Out& x) const;

  /// The gradients that belong to a Chunk.
  struct Gradient {
    Out dx;
    Scalar* projected = nullptr;    // as Chunk::projected
    const Scalar* mixed = nullptr;  // [C, tokens], or nullptr: dy itself
    In dy;
    State* state = nullptr;
    State* ring = nullptr;     // state, or where contributions to a state that nobody asked about go
    bool nontemporal = false;  // whether dx is written past the cache
  };
  ConstColumns<Scalar> mixed_gradient(const Gradient& d, const HeadGroup& group, Index token, Index n) const {
    if (d.mixed)
      return {d.mixed + token * C() + first_row(group), rows_of(group), n, Eigen::OuterStride<>(C())};
    return d.dy.rows(token, n, first_row(group), rows_of(group));
  }
  /// Plane `plane` of the gradient of what token `token` keeps.
  StridedBlock<Scalar> shifted_gradient(const Gradient& d, const HeadGroup& group, Index token,
                                        int plane) const {
    if (kStages.shifts_input && plane == 0) return {d.dx.at(token) + first_row(group), d.dx.token_stride};
    const int index = kStages.local + plane - (kStages.shifts_input ? 1 : 0);
    return {d.projected + token * projected_rows() + index * C() + first_row(group), projected_rows()};
  }
  RunGradient<Scalar> make_gradient(const Chunk& chunk, const Gradient& d, const SegmentPart& part,
                                    std::size_t g, Index start, Index end, Index first_tap,
                                    Index last_tap) const;
  void take_state_gradient(const Chunk& chunk, const Gradient& d, const SegmentPart& part, std::size_t g,
                           Index from, Index to) const;
  void gather_adjoint(const Chunk& chunk, const Gradient& d, Policy& gradients);
  void gather_run(const Chunk& chunk, const Gradient& d, const SegmentPart& part, std::size_t g, Index start,
                  Index end, std::span<double> sums) const;
  void scatter_adjoint(const Chunk& chunk, const Gradient& d, Policy& gradients);
  void scatter_part(const Chunk& chunk, const Gradient& d, Index task, std::span<double> sums) const;
  double* take_sums(Index tasks);
  void add_sums(const double* sums, Index tasks, Policy& gradients) const;

  const ShiftLayer<Policy>& layer;
  Workspace& workspace;
  Workspace::Frame frame;
  Scalar* zeros;  // what missing partners read as, see fill_zeros
};

}  // namespace hsm::inline HSM_ABI::detail

#include <hsm/shift/shift_backward.hpp>
#include <hsm/shift/shift_forward.hpp>
#include <hsm/shift/shift_in_place.hpp>
