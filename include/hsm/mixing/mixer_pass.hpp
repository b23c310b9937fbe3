// SPDX-License-Identifier: MIT
//
// One call of the engine, forward or backward, over a list of segments. Tokens are worked through in chunks
// that stay in cache: project (a product), combine (runs, see timeline.hpp), keep (the rings of the states),
// output (a product). With a record for backward there is one chunk of all tokens. Where kept planes are
// projected, what earlier chunks of the same segment kept is read from a ring: a long sequence is a short one
// that continues, so memory does not grow with T.
//
// Backward visits each token once where the policy is a pair: the token's gradient is what the pair (t, t-s)
// gives to t and what the pair (t+s, t) gives to it, so it can be finished in one visit and no two tasks
// write one column. With more taps the gradients are added into the taps instead, each head and document in
// one task.
#pragma once

#include <hsm/core/stream.hpp>
#include <hsm/mixing/mixer.hpp>
#include <hsm/mixing/timeline.hpp>

namespace hsm::detail {

/// The working set of a chunk and of a task; sizes in bytes, chosen once for the caches of current cores.
inline constexpr Index kChunkBytes = Index{4} << 20;
inline constexpr Index kTaskBytes = Index{1} << 19;
inline constexpr Index kCacheBytes = Index{1} << 13;  // of a block that is used again at once

/// Calls f(first, count) for the parts of tokens [first, first + n) of x and y whose columns are evenly
/// strided in both.
template <class X, class Y, class F>
void for_each_strided(const X& x, const Y& y, Index first, Index n, F&& f) {
  if (x.is_flat() && y.is_flat()) {
    f(first, n);
    return;
  }
  for (Index end = first + n; first < end;) {
    const Index count = std::min(end - first, x.time - first % x.time);
    f(first, count);
    first += count;
  }
}

template <class Policy>
struct MixerPass {
  using Scalar = typename Policy::Scalar;
  using State = MixerState<Scalar>;
  using Saved = MixerSaved<Scalar>;
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;
  static constexpr Stages kStages = Policy::kStages;

  MixerPass(const Mixer<Policy>& m, Workspace& w)
      : mixer(m), workspace(w), frame(w), zeros(frame.template take<Scalar>(m.channels())) {
    std::fill(zeros, zeros + mixer.channels(), Scalar(0));
  }

  /// The segments of a call: kept by the record where there is one, else in scratch.
  std::span<Segment> segments(Index count, Saved* saved) {
    if (saved) {
      saved->segments_.resize(static_cast<std::size_t>(count));
      return saved->segments_;
    }
    return {frame.template take<Segment>(count), static_cast<std::size_t>(count)};
  }

  void forward(const In& x, const Out& y, std::span<const Segment> list, State* state, Saved* saved);
  void backward(const In& x, const Saved& saved, const In& dy, const Out& dx, Policy& gradients,
                State* state_gradient);

 private:
  /// The tokens that a call holds at a time, and where things about them are.
  struct Scene {
    In x;
    std::span<const Segment> segments;
    const State* entry = nullptr;       // what continuing segments continue
    const Scalar* projected = nullptr;  // [(own + kept) C, tokens of the chunk]
    Index first = 0;                    // the chunk: tokens first ... first + count - 1 of the call
    Index count = 0;
    bool history = true;  // whether what lies before the chunk in a segment can be read from x alone
    Scalar* carry =
        nullptr;  // else the rings of the one fresh segment that crosses into this chunk, group after group
    Index longest = 0;  // tokens of the longest segment: no ring of `carry` needs more slots
  };

  Index C() const { return mixer.channels(); }
  Index rows_of(const HeadGroup& group) const { return C() / mixer.heads() * group.heads; }
  Index first_row(const HeadGroup& group) const { return C() / mixer.heads() * group.first_head; }
  Index projected_rows() const { return kStages.projected() * C(); }
  Index task_tokens() const {
    return std::max<Index>(16, kTaskBytes / (C() * static_cast<Index>(sizeof(Scalar))));
  }

  /// How many columns of `rows` values fit into `bytes`.
  static Index columns_in(Index bytes, Index rows) {
    return bytes / (rows * static_cast<Index>(sizeof(Scalar)));
  }

  /// Calls f(piece, from, to) for the pieces that tokens [first, first + n) of the call touch, and which of
  /// their tokens these are.
  template <class F>
  void for_each_piece(const Scene& scene, Index first, Index n, F&& f) const {
    const auto ends_before = [](const Segment& segment, Index token) {
      return segment.first + segment.count <= token;
    };
    auto it = std::lower_bound(scene.segments.begin(), scene.segments.end(), first, ends_before);
    for (; it != scene.segments.end() && it->first < first + n; ++it) {
      const Index start = std::max(it->first, scene.first);
      const Index end = std::min(it->first + it->count, scene.first + scene.count);
      const Index offset = start - it->first;
      const Index before = it->fresh() ? 0 : scene.entry->count(it->stream);
      const Piece piece{start, end - start, before + offset, scene.history ? offset : 0,
                        it - scene.segments.begin()};
      const Index from = std::max(first, start) - start, to = std::min(first + n, end) - start;
      if (from < to) f(piece, from, to);
    }
  }

  /// The ring that a piece's taps read where they leave the buffers.
  RingView<const Scalar> ring(const Scene& scene, const Piece& piece, std::size_t g) const {
    const Segment& segment = scene.segments[static_cast<std::size_t>(piece.segment)];
    if (!segment.fresh()) return scene.entry->ring(g, segment.stream);
    const RingView<Scalar> carried = carry_ring(scene, g);
    return {carried.data, carried.rows, carried.slots};
  }
  RingView<Scalar> carry_ring(const Scene& scene, std::size_t g) const {
    if (!scene.carry) return {nullptr, 0, 1};
    Index offset = 0;
    for (std::size_t i = 0; i < g; ++i) offset += carry_size(scene, i);
    return {scene.carry + offset, kStages.planes() * rows_of(mixer.groups_[g]), carry_slots(scene, g)};
  }
  Index carry_slots(const Scene& scene, std::size_t g) const {
    return std::min(mixer.slots(mixer.groups_[g], 0), scene.longest);
  }
  Index carry_size(const Scene& scene, std::size_t g) const {
    return kStages.planes() * rows_of(mixer.groups_[g]) * carry_slots(scene, g);
  }

  /// The blocks of tokens [start, end) of a piece for one group of heads.
  Run<Scalar> make_run(const Scene& scene, const Piece& piece, std::size_t g, Index start, Index end) const {
    const HeadGroup& group = mixer.groups_[g];
    Run<Scalar> run;
    run.first_head = group.first_head;
    run.heads = group.heads;
    run.rows = rows_of(group);
    run.count = end - start;
    run.blocks.own = projected_strip(scene, piece.first + start, 0, first_row(group));
    const Index taps = mixer.taps();
    for (Index k = 0; k < taps; ++k) {
      const auto tap = static_cast<std::size_t>(k);
      const Index t = start - k * group.shift;
      const Place place = place_of(piece, start, k * group.shift);
      run.is_present[tap] = place != Place::kNowhere;
      const RingView<const Scalar> from =
          place == Place::kRing ? ring(scene, piece, g) : RingView<const Scalar>{};
      for (int plane = 0; plane < kStages.planes(); ++plane) {
        auto& strip = run.blocks.kept[tap][static_cast<std::size_t>(plane)];
        if (place == Place::kNowhere) {
          strip = {zeros, 0};
        } else if (place == Place::kRing) {
          strip = {from.slot(piece.position + t) + plane * run.rows, from.rows};
        } else {
          strip = kept_strip(scene, group, piece.first + t, plane);
        }
      }
    }
    return run;
  }
  /// What token `token` of the call keeps.
  Strip<const Scalar> kept_strip(const Scene& scene, const HeadGroup& group, Index token, int plane) const {
    if (kStages.keeps_input && plane == 0)
      return {scene.x.at(token) + first_row(group), scene.x.token_stride};
    return projected_strip(scene, token, kStages.own + plane - (kStages.keeps_input ? 1 : 0),
                           first_row(group));
  }
  Strip<const Scalar> projected_strip(const Scene& scene, Index token, int plane, Index row) const {
    if constexpr (kStages.projected() == 0) {
      return {zeros, 0};
    } else {
      return {scene.projected + (token - scene.first) * projected_rows() + plane * C() + row,
              projected_rows()};
    }
  }

  void project(const Scene& scene, Scalar* projected);
  void combine(const Scene& scene, Scalar* mixed, const Out& y);
  void combine_streamed(Run<Scalar>& run, Columns<Scalar> y) const;
  void keep(const Scene& scene, State* state);

  /// The gradients that belong to a Scene.
  struct Gradient {
    Out dx;
    Scalar* projected = nullptr;    // as Scene::projected
    const Scalar* mixed = nullptr;  // [C, tokens], or nullptr: dy itself
    In dy;
    State* state = nullptr;
    State* ring = nullptr;  // state, or where contributions to a state that nobody asked about go
  };
  ConstColumns<Scalar> mixed_gradient(const Gradient& d, const HeadGroup& group, Index token, Index n) const {
    if (d.mixed)
      return {d.mixed + token * C() + first_row(group), rows_of(group), n, Eigen::OuterStride<>(C())};
    return d.dy.rows(token, n, first_row(group), rows_of(group));
  }
  /// Plane `plane` of the gradient of what token `token` keeps.
  Strip<Scalar> kept_gradient(const Gradient& d, const HeadGroup& group, Index token, int plane) const {
    if (kStages.keeps_input && plane == 0) return {d.dx.at(token) + first_row(group), d.dx.token_stride};
    const int index = kStages.own + plane - (kStages.keeps_input ? 1 : 0);
    return {d.projected + token * projected_rows() + index * C() + first_row(group), projected_rows()};
  }
  RunGradient<Scalar> make_gradient(const Scene& scene, const Gradient& d, const Piece& piece, std::size_t g,
                                    Index start, Index end, Index first_tap, Index last_tap) const;
  void take_state_gradient(const Scene& scene, const Gradient& d, const Piece& piece, std::size_t g,
                           Index from, Index to) const;
  void gather_adjoint(const Scene& scene, const Gradient& d, Policy& gradients);
  void gather_run(const Scene& scene, const Gradient& d, const Piece& piece, std::size_t g, Index start,
                  Index end, std::span<double> sums) const;
  void scatter_adjoint(const Scene& scene, const Gradient& d);

  const Mixer<Policy>& mixer;
  Workspace& workspace;
  Workspace::Frame frame;
  Scalar* zeros;
};

template <class Policy>
void MixerPass<Policy>::forward(const In& x, const Out& y, std::span<const Segment> list, State* state,
                                Saved* saved) {
  const Index N = x.count();
  if (saved) {
    saved->entry_ = state ? *state : State();
    saved->projected_.resize(projected_rows(), N);
    if constexpr (kStages.output) saved->mixed_.resize(C(), N);
    saved->shape_ = x.shape();
  }
  constexpr int kPlanes = kStages.projected() + (kStages.output ? 1 : 0);
  Index chunk = std::max<Index>(N, 1);
  if (!saved && kPlanes > 0) {
    const Index fitting = kChunkBytes / (kPlanes * C() * static_cast<Index>(sizeof(Scalar)));
    chunk = std::min(chunk, std::clamp<Index>(fitting / 64 * 64, 64, 2048));
  }
  Scene scene{x, list, state};
  scene.history = saved || kStages.kept == 0;
  if (!scene.history && chunk < N) {
    for (const Segment& segment : list) scene.longest = std::max(scene.longest, segment.count);
    Index size = 0;
    for (std::size_t g = 0; g < mixer.groups_.size(); ++g) size += carry_size(scene, g);
    scene.carry = frame.template take<Scalar>(size);
  }
  Scalar* projected =
      saved ? saved->projected_.data() : frame.template take<Scalar>(projected_rows() * chunk);
  Scalar* mixed = !kStages.output ? nullptr
                  : saved         ? saved->mixed_.data()
                                  : frame.template take<Scalar>(C() * chunk);
  scene.projected = projected;
  for (scene.first = 0; scene.first < N; scene.first += chunk) {
    scene.count = std::min(chunk, N - scene.first);
    project(scene, projected);
    combine(scene, mixed, y);
    if (state || scene.carry) keep(scene, state);
    if constexpr (kStages.output) {
      for_each_strided(y, y, scene.first, scene.count, [&](Index first, Index n) {
        const ConstColumns<Scalar> z(mixed + (first - scene.first) * C(), C(), n, Eigen::OuterStride<>(C()));
        mixer.policy_.output.forward(z, y.columns(first, n), workspace.executor());
      });
    }
  }
  if (state) {
    for (const Segment& segment : list)
      state->counts_[static_cast<std::size_t>(segment.stream)] += segment.count;
  }
}

template <class Policy>
void MixerPass<Policy>::project(const Scene& scene, Scalar* projected) {
  if constexpr (kStages.projected() > 0) {
    for_each_strided(scene.x, scene.x, scene.first, scene.count, [&](Index first, Index n) {
      Columns<Scalar> out(projected + (first - scene.first) * projected_rows(), projected_rows(), n,
                          Eigen::OuterStride<>(projected_rows()));
      mixer.policy_.project.forward(scene.x.columns(first, n), out, workspace.executor());
    });
  }
}

template <class Policy>
void MixerPass<Policy>::combine(const Scene& scene, Scalar* mixed, const Out& y) {
  const auto bytes = static_cast<std::size_t>(y.count() * C()) * sizeof(Scalar);
  const bool stream = !mixed && should_stream(workspace.stores, bytes);
  parallel_blocks(workspace.executor(), scene.count, task_tokens(), [&](Index begin, Index n, int) {
    for_each_piece(scene, scene.first + begin, n, [&](const Piece& piece, Index from, Index to) {
      for (std::size_t g = 0; g < mixer.groups_.size(); ++g) {
        const HeadGroup& group = mixer.groups_[g];
        for_each_run(piece, from, to, group.shift, mixer.taps(), ring(scene, piece, g).slots, false,
                     [&](Index start, Index end) {
                       Run<Scalar> run = make_run(scene, piece, g, start, end);
                       const Index token = piece.first + start;
                       if (mixed) {
                         Scalar* z = mixed + (token - scene.first) * C() + first_row(group);
                         mixer.policy_.combine(run, {z, run.rows, run.count, Eigen::OuterStride<>(C())});
                       } else if (stream && columns_in(kCacheBytes, run.rows) > 0) {
                         combine_streamed(run, y.rows(token, run.count, first_row(group), run.rows));
                       } else {
                         mixer.policy_.combine(run, y.rows(token, run.count, first_row(group), run.rows));
                       }
                     });
      }
    });
    if (stream) stream_fence();
  });
}

/// Combines into a block that stays in the first-level cache, and streams it out, part by part.
template <class Policy>
void MixerPass<Policy>::combine_streamed(Run<Scalar>& run, Columns<Scalar> y) const {
  alignas(64) Scalar block[kCacheBytes / static_cast<Index>(sizeof(Scalar))];
  const Index total = run.count;
  for (Index first = 0; first < total; first += run.count) {
    run.count = std::min(total - first, columns_in(kCacheBytes, run.rows));
    mixer.policy_.combine(run, Columns<Scalar>(block, run.rows, run.count, Eigen::OuterStride<>(run.rows)));
    if (y.outerStride() == run.rows) {
      stream_copy(run.rows * run.count, block, at(y, 0, first));
    } else {
      for (Index j = 0; j < run.count; ++j) stream_copy(run.rows, block + j * run.rows, at(y, 0, first + j));
    }
    run.blocks.advance(run.count, 0, mixer.taps() - 1, kStages.planes());
  }
}

template <class Policy>
void MixerPass<Policy>::keep(const Scene& scene, State* state) {
  parallel_blocks(workspace.executor(), scene.count, task_tokens(), [&](Index begin, Index n, int) {
    for_each_piece(scene, scene.first + begin, n, [&](const Piece& piece, Index from, Index to) {
      const Segment& segment = scene.segments[static_cast<std::size_t>(piece.segment)];
      const bool ends = piece.first + piece.count == segment.first + segment.count;
      if (segment.fresh() && (!scene.carry || ends)) return;
      for (std::size_t g = 0; g < mixer.groups_.size(); ++g) {
        const RingView<Scalar> to_ring =
            segment.fresh() ? carry_ring(scene, g) : state->ring(g, segment.stream);
        const Index rows = rows_of(mixer.groups_[g]);
        for (Index t = std::max(from, piece.count - to_ring.slots); t < to; ++t) {
          Scalar* slot = to_ring.slot(piece.position + t);
          for (int plane = 0; plane < kStages.planes(); ++plane) {
            const Scalar* column = kept_strip(scene, mixer.groups_[g], piece.first + t, plane).data;
            std::copy(column, column + rows, slot + plane * rows);
          }
        }
      }
    });
  });
}

/// Where an adjoint of tokens [start, end) writes, for taps first_tap ... last_tap.
template <class Policy>
auto MixerPass<Policy>::make_gradient(const Scene& scene, const Gradient& d, const Piece& piece,
                                      std::size_t g, Index start, Index end, Index first_tap,
                                      Index last_tap) const -> RunGradient<Scalar> {
  const HeadGroup& group = mixer.groups_[g];
  RunGradient<Scalar> to;
  to.rows = rows_of(group);
  to.count = end - start;
  to.blocks.own = {zeros, 0};
  if constexpr (kStages.own > 0) {
    to.blocks.own = {d.projected + (piece.first + start) * projected_rows() + first_row(group),
                     projected_rows()};
  }
  for (Index k = first_tap; k <= last_tap; ++k) {
    const Index t = start - k * group.shift;
    for (int plane = 0; plane < kStages.planes(); ++plane) {
      auto& strip = to.blocks.kept[static_cast<std::size_t>(k)][static_cast<std::size_t>(plane)];
      switch (place_of(piece, start, k * group.shift)) {
        case Place::kBuffer:
          strip = kept_gradient(d, group, piece.first + t, plane);
          break;
        case Place::kRing: {
          const RingView<Scalar> ring =
              d.ring->ring(g, scene.segments[static_cast<std::size_t>(piece.segment)].stream);
          strip = {ring.slot(piece.position + t) + plane * to.rows, ring.rows};
          break;
        }
        case Place::kNowhere:
          strip = {nullptr, 0};
          break;
      }
    }
  }
  return to;
}

/// Adds the gradient of the state that the call left to the tokens [from, to) of the piece that it holds, and
/// clears it: the slots then belong to the state at entry.
template <class Policy>
void MixerPass<Policy>::take_state_gradient(const Scene& scene, const Gradient& d, const Piece& piece,
                                            std::size_t g, Index from, Index to) const {
  const Segment& segment = scene.segments[static_cast<std::size_t>(piece.segment)];
  if (!d.state || segment.fresh()) return;
  const RingView<Scalar> ring = d.state->ring(g, segment.stream);
  const Index rows = rows_of(mixer.groups_[g]);
  for (Index t = std::max(from, piece.count - ring.slots); t < to; ++t) {
    Scalar* slot = ring.slot(piece.position + t);
    for (int plane = 0; plane < kStages.planes(); ++plane) {
      Scalar* column = kept_gradient(d, mixer.groups_[g], piece.first + t, plane).data;
      for (Index i = 0; i < rows; ++i) column[i] += slot[plane * rows + i];
    }
    std::fill(slot, slot + ring.rows, Scalar(0));
  }
}

/// Finishes the gradients of tokens [start, end), in parts small enough that what one half has written is in cache for the other.
template <class Policy>
void MixerPass<Policy>::gather_run(const Scene& scene, const Gradient& d, const Piece& piece, std::size_t g,
                                   Index start, Index end, std::span<double> sums) const {
  const Policy& policy = mixer.policy_;
  const HeadGroup& group = mixer.groups_[g];
  const Index s = group.shift, part = std::max<Index>(1, columns_in(kCacheBytes, rows_of(group)));
  const bool followed = end + s <= piece.count;
  const Index next_start = followed ? start + s : start;
  Run<Scalar> now = make_run(scene, piece, g, start, end);
  Run<Scalar> next = make_run(scene, piece, g, next_start, next_start + (end - start));
  RunGradient<Scalar> d_now = make_gradient(scene, d, piece, g, start, end, 0, 0);
  RunGradient<Scalar> d_next =
      make_gradient(scene, d, piece, g, next_start, next_start + (end - start), followed, followed);
  for (Index first = start; first < end; first += part) {
    const Index n = std::min(part, end - first);
    now.count = next.count = d_now.count = d_next.count = n;
    policy.adjoint_now(now, mixed_gradient(d, group, piece.first + first, n), d_now, sums);
    if (followed) policy.adjoint_past(next, mixed_gradient(d, group, piece.first + first + s, n), d_next);
    now.blocks.advance(n, 0, 1, kStages.planes());
    next.blocks.advance(n, 0, 1, kStages.planes());
    d_now.blocks.advance(n, 0, 0, kStages.planes());
    d_next.blocks.advance(n, followed, followed, kStages.planes());
  }
}

/// The adjoint of a pair policy: every token finished in one visit.
template <class Policy>
void MixerPass<Policy>::gather_adjoint(const Scene& scene, const Gradient& d, Policy& gradients) {
  const Policy& policy = mixer.policy_;
  const Index tasks = (scene.count + task_tokens() - 1) / task_tokens();
  const Index sum_count = sum_count_of(policy);
  double* sums = frame.template take<double>(tasks * sum_count);
  std::fill(sums, sums + tasks * sum_count, 0.0);
  parallel_blocks(workspace.executor(), scene.count, task_tokens(), [&](Index begin, Index n, int) {
    const std::span<double> task_sums(sums + begin / task_tokens() * sum_count,
                                      static_cast<std::size_t>(sum_count));
    for_each_piece(scene, begin, n, [&](const Piece& piece, Index from, Index to) {
      for (std::size_t g = 0; g < mixer.groups_.size(); ++g) {
        const HeadGroup& group = mixer.groups_[g];
        const Index s = group.shift;
        for_each_run(piece, from, to, s, 2, ring(scene, piece, g).slots, true,
                     [&](Index start, Index end) { gather_run(scene, d, piece, g, start, end, task_sums); });
        take_state_gradient(scene, d, piece, g, from, to);
      }
    });
  });
  if constexpr (HasSums<Policy>) {
    for (Index task = 0; task < tasks; ++task) {
      policy.add_sums(std::span<const double>(sums + task * sum_count, static_cast<std::size_t>(sum_count)),
                      gradients);
    }
  }
  if (!d.state) return;
  // What the first s tokens of a continuing segment give to the state at its entry.
  for_each_piece(scene, 0, scene.count, [&](const Piece& piece, Index, Index) {
    for (std::size_t g = 0; g < mixer.groups_.size(); ++g) {
      const HeadGroup& group = mixer.groups_[g];
      const Index reach = std::min(group.shift, piece.count);
      for_each_run(piece, 0, reach, group.shift, 2, ring(scene, piece, g).slots, false,
                   [&](Index start, Index end) {
                     if (place_of(piece, start, group.shift) != Place::kRing) return;
                     policy.adjoint_past(make_run(scene, piece, g, start, end),
                                         mixed_gradient(d, group, piece.first + start, end - start),
                                         make_gradient(scene, d, piece, g, start, end, 1, 1));
                   });
    }
  });
}

/// The adjoint of a policy with any number of taps: added into the taps, one task per document and group of
/// heads.
template <class Policy>
void MixerPass<Policy>::scatter_adjoint(const Scene& scene, const Gradient& d) {
  const auto groups = static_cast<Index>(mixer.groups_.size());
  const auto documents = static_cast<Index>(scene.segments.size());
  parallel_blocks(workspace.executor(), documents * groups, 1, [&](Index task, Index, int) {
    const auto g = static_cast<std::size_t>(task % groups);
    const HeadGroup& group = mixer.groups_[g];
    const Segment& segment = scene.segments[static_cast<std::size_t>(task / groups)];
    if (segment.count == 0) return;
    const Index before = segment.fresh() ? 0 : scene.entry->count(segment.stream);
    const Piece piece{segment.first, segment.count, before, 0, task / groups};
    for (Index t = 0; t < piece.count; ++t) {
      for (int plane = 0; plane < kStages.planes(); ++plane) {
        Scalar* column = kept_gradient(d, group, piece.first + t, plane).data;
        std::fill(column, column + rows_of(group), Scalar(0));
      }
    }
    take_state_gradient(scene, d, piece, g, 0, piece.count);
    for_each_run(piece, 0, piece.count, group.shift, mixer.taps(), ring(scene, piece, g).slots, false,
                 [&](Index start, Index end) {
                   mixer.policy_.adjoint(make_run(scene, piece, g, start, end),
                                         mixed_gradient(d, group, piece.first + start, end - start),
                                         make_gradient(scene, d, piece, g, start, end, 0, mixer.taps() - 1));
                 });
  });
}

template <class Policy>
void MixerPass<Policy>::backward(const In& x, const Saved& saved, const In& dy, const Out& dx,
                                 Policy& gradients, State* state_gradient) {
  const Index N = x.count();
  if (N == 0) return;
  Executor& executor = workspace.executor();
  Scene scene{x, saved.segments_, &saved.entry_, saved.projected_.data(), 0, N, true, nullptr};
  State unwanted;
  if (!state_gradient && saved.entry_.streams() > 0 && !HasPairAdjoint<Policy>) unwanted = saved.entry_;
  Gradient d{dx,
             frame.template take<Scalar>(projected_rows() * N),
             nullptr,
             dy,
             state_gradient,
             state_gradient ? state_gradient : &unwanted};
  if constexpr (kStages.output) {
    Scalar* dz = frame.template take<Scalar>(C() * N);
    d.mixed = dz;
    for_each_strided(dy, dy, 0, N, [&](Index first, Index n) {
      const auto part = dy.columns(first, n);
      mixer.policy_.output.backward_input(part, Write::kOverwrite,
                                          {dz + first * C(), C(), n, Eigen::OuterStride<>(C())}, executor);
      const ConstColumns<Scalar> z(saved.mixed_.data() + first * C(), C(), n, Eigen::OuterStride<>(C()));
      Linear<Scalar>::backward_parameters(z, part, gradients.output, executor);
    });
  }
  if constexpr (HasPairAdjoint<Policy>) {
    gather_adjoint(scene, d, gradients);
  } else {
    scatter_adjoint(scene, d);
  }
  if constexpr (kStages.projected() > 0) {
    for_each_strided(x, dx, 0, N, [&](Index first, Index n) {
      const ConstColumns<Scalar> part(d.projected + first * projected_rows(), projected_rows(), n,
                                      Eigen::OuterStride<>(projected_rows()));
      mixer.policy_.project.backward_input(part, kStages.keeps_input ? Write::kAdd : Write::kOverwrite,
                                           dx.columns(first, n), executor);
      Linear<Scalar>::backward_parameters(x.columns(first, n), part, gradients.project, executor);
    });
  }
}

}  // namespace hsm::detail
