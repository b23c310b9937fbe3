// SPDX-License-Identifier: MIT
//
// One call of linear attention over a list of segments, for every execution mode: kLinearStretch tokens at a time are
// projected, mixed and mapped back, so that scratch does not grow with the call. Products are by token, mixing by
// segment and head: each task goes through its tokens (linear_attention_forward.hpp), and leaves what it remembers to
// the state, or to the next stretch where its segment goes on. The way back is in linear_attention_backward.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include <hsm/core/executor.hpp>
#include <hsm/core/linear_passes.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/recurrent/linear_attention_layer.hpp>
#include <hsm/recurrent/linear_attention_scratch.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Tokens of a stretch, at least one sequence of them or a part of one.
inline constexpr Index kLinearStretch = 2048;

/// A call in progress.
template <class Scalar>
class LinearAttentionPass {
  using State = RingState<Scalar>;
  using Saved = LinearAttentionSaved<Scalar>;
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;

 public:
  LinearAttentionPass(const LinearAttentionLayer<Scalar>& layer, Workspace& workspace)
      : parameters_(layer.parameters()),
        workspace_(workspace),
        frame_(workspace),
        sizes_(LinearSizes::of<Scalar>(layer.channels(), layer.heads())) {}

  void forward(const In& x, const Out& y, std::span<const Segment> list, State* state, Saved* saved);
  void backward(const In& x, const Saved& saved, const In& dy, const Out& dx,
                LinearAttention<Scalar>& gradients, State* state_gradient);

 private:
  using Scratch = LinearScratch<Scalar>;
  using Memory = RowsOf<Scalar>;

  /// The tokens of a segment in a stretch: `from` is the place of the first in the segment, `place` in the stretch.
  struct Piece {
    Index segment, from, count, place;
  };
  /// Where the columns of a stretch lie, their first token first.
  struct Stretch {
    const Scalar* joint;   // [3C]
    Scalar *mixed, *sums;  // [C], [H], null where nobody wants them
    Scalar *left, *kept;   // [H][rows][padded]: from the stretch before, for the next
  };

  Scalar* take(Index n) { return frame_.template take<Scalar>(n); }
  Scratch scratch_of(Scalar* all, int worker) const {
    return Scratch(sizes_, all + worker * Scratch::size(sizes_));
  }
  /// What stream s remembers of head h after a token, without gaps.
  Memory memory_at(const RingView<Scalar>& ring, Index token, Index h) const {
    return {ring.slot(token) + h * sizes_.held, sizes_.width};
  }
  /// The same in scratch, in rows of whole strips.
  Memory padded(Scalar* memory) const { return {memory, sizes_.padded}; }
  void copy(RowsOf<const Scalar> from, Memory to) const {
    for (Index r = 0; r < sizes_.rows; ++r) std::copy_n(from.row(r), sizes_.width, to.row(r));
  }
  void clear(Scalar* memory) const { std::fill_n(memory, sizes_.rows * sizes_.padded, Scalar(0)); }

  /// Key and value of head h of token i of the chunk, from its column of the joint projection.
  void read_pair(const Scalar* joint, Index h, Index i, const Scratch& own) const {
    const Scalar* token = joint + h * sizes_.width;
    key_features(sizes_.width, token + sizes_.C, own.keys.row(i));
    std::fill(own.keys.row(i) + sizes_.width, own.keys.row(i) + sizes_.padded, Scalar(0));
    std::copy_n(token + 2 * sizes_.C, sizes_.width, own.values.row(i));
    own.values.row(i)[sizes_.width] = 1;
  }
  void read_query(const Scalar* joint, Index h, Index i, const Scratch& own) const {
    query_features(sizes_.width, joint + h * sizes_.width, own.queries.row(i), own.row);
    std::fill(own.queries.row(i) + sizes_.width, own.queries.row(i) + sizes_.padded, Scalar(0));
  }

  void start_record(const In& x, std::span<const Segment> list, const State* state, Saved& saved) const;
  template <class F>
  void for_each_part(const In& x, const Out& y, F&& f) const;
  Index cut_pieces(std::span<const Segment> list, Index first, Index count, Index& at, Piece* pieces) const;
  void run_piece(const Piece& piece, const Segment& segment, Index h, const Powers<Scalar>& powers,
                 State* state, const Stretch& stretch, const Scratch& own) const;
  void run_chunk(Index h, Index place, Index count, const Powers<Scalar>& powers, const Stretch& stretch,
                 const Scratch& own) const;
  void run_token(Index h, Index place, Scalar g, Memory before, Memory after, const Stretch& stretch,
                 const Scratch& own) const;
  void return_segment(const Saved& saved, Index number, Index h, const Scalar* d_mixed, Scalar* d_joint,
                      State* state_gradient, const Scratch& own) const;
  void read_gradient(const Saved& saved, const Scalar* d_mixed, Index token, Index h, Index i,
                     const Scratch& own) const;
  void add_memory(RowsOf<const Scalar> from, Memory to) const;

  const LinearAttention<Scalar>& parameters_;
  Workspace& workspace_;
  Workspace::Frame frame_;
  const LinearSizes sizes_;
};

/// Room for what is recorded, and what streams remember at entry.
template <class Scalar>
void LinearAttentionPass<Scalar>::start_record(const In& x, std::span<const Segment> list, const State* state,
                                               Saved& saved) const {
  saved.start(list, state);
  saved.decay = parameters_.decay;
  const Index N = x.count(), H = sizes_.H;
  set_size(saved.joint, 3 * sizes_.C, N);
  set_size(saved.mixed, sizes_.C, N);
  set_size(saved.divisors, H, N);
  set_size(saved.before, H * sizes_.held, state ? static_cast<Index>(list.size()) : 0);
  for (std::size_t i = 0; state && i < list.size(); ++i) {
    if (saved.past[i] == 0) continue;
    const Scalar* from = state->ring(0, list[i].stream).slot(saved.past[i] - 1);
    std::copy_n(from, H * sizes_.held, &saved.before(0, static_cast<Index>(i)));
  }
}

/// Calls f(first, part of x, part of y) for stretches: as many whole sequences as fit, or a part of one.
template <class Scalar>
template <class F>
void LinearAttentionPass<Scalar>::for_each_part(const In& x, const Out& y, F&& f) const {
  const auto part = [](const auto& tokens, Index b, Index t, Index batch, Index time) {
    auto own = tokens;
    if (own.data) own.data = own.at(b, t);
    own.batch = batch;
    own.time = time;
    return own;
  };
  const Index each = x.time < 1 ? 1 : std::max<Index>(1, kLinearStretch / x.time);
  for (Index b = 0; b < x.batch; b += each) {
    const Index batch = (std::min)(each, x.batch - b);
    for (Index t = 0; t < x.time; t += kLinearStretch) {
      const Index time = (std::min)(kLinearStretch, x.time - t);
      f(b * x.time + t, part(x, b, t, batch, time), part(y, b, t, batch, time));
    }
  }
}

/// The pieces of the segments in tokens first ... first + count - 1, `at` the first that reaches so far. Returns how
/// many there are.
template <class Scalar>
Index LinearAttentionPass<Scalar>::cut_pieces(std::span<const Segment> list, Index first, Index count,
                                              Index& at, Piece* pieces) const {
  const auto segments = static_cast<Index>(list.size());
  Index n = 0;
  for (Index i = at; i < segments; ++i) {
    const Segment& segment = list[static_cast<std::size_t>(i)];
    const Index end = segment.first + segment.count;
    if (segment.first >= first + count) break;
    at = i;
    const Index from = (std::max)(first, segment.first), to = (std::min)(first + count, end);
    if (from < to) pieces[n++] = {i, from - segment.first, to - from, from - first};
  }
  return n;
}

template <class Scalar>
void LinearAttentionPass<Scalar>::forward(const In& x, const Out& y, std::span<const Segment> list,
                                          State* state, Saved* saved) {
  const Index C = sizes_.C, H = sizes_.H, N = x.count();
  if (saved) start_record(x, list, state, *saved);
  make_room(list, state);
  const Index most = (std::min)(N, kLinearStretch);
  const Index all = H * sizes_.rows * sizes_.padded;
  Scalar* joint = saved ? nullptr : take(3 * C * most);
  Scalar* mixed = saved || !y.data ? nullptr : take(C * most);
  Scalar* carry[2] = {take(N > most ? all : 0), take(N > most ? all : 0)};
  Scalar* scratch = take(Scratch::size(sizes_) * workspace_.executor().workers());
  Piece* pieces = frame_.template take<Piece>((std::min)(most, static_cast<Index>(list.size())));
  UnfinishedStreams<State> unfinished{state, list};
  Index at = 0, turn = 0;
  for_each_part(x, y, [&](Index first, const In& own_x, const Out& own_y) {
    Stretch stretch{};
    const Index count = own_x.count();
    Scalar* projected = saved ? saved->joint.data() + first * 3 * C : joint;
    project_tokens(parameters_.project, own_x, 0, count, projected, workspace_.executor());
    stretch.joint = projected;
    stretch.mixed = saved ? saved->mixed.data() + first * C : mixed;
    stretch.sums = saved ? saved->divisors.data() + first * H : nullptr;
    stretch.left = carry[turn];
    stretch.kept = carry[1 - turn];
    turn = 1 - turn;
    const Index n = cut_pieces(list, first, count, at, pieces);
    parallel_blocks(workspace_.executor(), n * H, 1, [&](Index task, Index, int worker) {
      const Piece& piece = pieces[task / H];
      const Index h = task % H;
      run_piece(piece, list[static_cast<std::size_t>(piece.segment)], h,
                Powers<Scalar>(parameters_.kept_share(h)), state, stretch, scratch_of(scratch, worker));
    });
    if (own_y.data)
      write_tokens<Scalar>(parameters_.output, stretch.mixed, own_y, 0, count, workspace_.executor());
  });
  unfinished.advance();
  if (saved) saved->sizes = x.shape();
}

}  // namespace hsm::inline HSM_ABI::detail

#include <hsm/recurrent/linear_attention_backward.hpp>
#include <hsm/recurrent/linear_attention_forward.hpp>

namespace hsm::inline HSM_ABI {

template <ComputeScalar Scalar>
void LinearAttentionLayer<Scalar>::run(const Tokens<const Scalar>& x, std::span<const Segment> segments,
                                       const Tokens<Scalar>& y, State* state, Saved* saved,
                                       Workspace& workspace) const {
  detail::LinearAttentionPass<Scalar>(*this, workspace).forward(x, y, segments, state, saved);
}

template <ComputeScalar Scalar>
void LinearAttentionLayer<Scalar>::run_adjoint(const Tokens<const Scalar>& x, const Saved& saved,
                                               const Tokens<const Scalar>& dy, const Tokens<Scalar>& dx,
                                               Parameters& gradients, State* state_gradient,
                                               Workspace& workspace) const {
  detail::LinearAttentionPass<Scalar>(*this, workspace).backward(x, saved, dy, dx, gradients, state_gradient);
}

}  // namespace hsm::inline HSM_ABI
