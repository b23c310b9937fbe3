// SPDX-License-Identifier: MIT
//
// One call of a moving average over a list of segments. Channels do not meet, so a task has some channels of some
// segments. It goes a few tokens at a time: what belongs to a channel (q, p, eta, h) is then read once for all of them,
// and h is written once. The way back is in ema_backward.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include <hsm/core/elementwise.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/pack.hpp>
#include <hsm/core/tokens.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/recurrent/ema_layer.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Tokens from one memory of the record to the next.
inline constexpr Index kEmaBlock = 32;
/// Channels of a task at least: a cache line of float.
inline constexpr Index kEmaChannels = 16;
/// Tokens that are worked through together.
inline constexpr Index kEmaTokens = 4;
/// Parts at most that the segments are shared into: each has scratch and, on the way back, sums of its own.
inline constexpr Index kEmaParts = 16;

/// One value with the functions of a Pack.
template <class Scalar>
struct Single {
  static constexpr Index kSize = 1;
  Scalar value{};

  static Single read(const Scalar* from) { return {*from}; }
  static Single read_once(const Scalar* from) { return {*from}; }
  void write(Scalar* to) const { *to = value; }
  friend Single operator*(const Single& a, const Single& b) { return {a.value * b.value}; }
  void add_product(const Single& a, const Single& x) { value = multiply_add(a.value, x.value, value); }
};

/// f(c, V) for the channels c, c + V::kSize, ... of n: packs, then one by one.
template <class Scalar, class F>
HSM_INLINE void for_each_pack(Index n, F&& f) {
  Index c = 0;
  for (; c + Pack<Scalar>::kSize <= n; c += Pack<Scalar>::kSize) f(c, Pack<Scalar>{});
  for (; c < n; ++c) f(c, Single<Scalar>{});
}

/// n planes of a value per channel.
template <class S>
struct Planes {
  S* data = nullptr;
  Index stride = 0;  ///< values from one plane to the next

  S* plane(Index i) const { return data + i * stride; }
  /// From channel c on.
  Planes from(Index c) const { return {data + c, stride}; }
};

/// How far planes of `width` values lie apart in scratch: whole cache lines, and one more. Otherwise planes are, as the
/// rows of x and y, often multiples of a page apart, and a cache keeps few lines of one place of a page.
template <class Scalar>
constexpr Index plane_stride(Index width) {
  constexpr Index kLine = static_cast<Index>(64 / sizeof(Scalar));
  return (width + kLine - 1) / kLine * kLine + kLine;
}

/// A call in progress.
template <class Scalar>
class EmaPass {
  using State = RingState<Scalar>;
  using Saved = EmaSaved<Scalar>;
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;

 public:
  EmaPass(const EmaLayer<Scalar>& layer, Workspace& workspace);

  void forward(const In& x, const Out& y, std::span<const Segment> list, State* state, Saved* saved);
  void backward(const In& x, const Saved& saved, const In& dy, const Out& dx, Ema<Scalar>& gradients,
                State* state_gradient);

 private:
  /// The channels of a task.
  struct ChannelRange {
    Index first, count;
  };
  /// The segments of a task: numbers first ... first + count - 1, the part of that number.
  struct Part {
    Index number, first, count;
  };
  /// Tokens of a call from one on, at the first channel of a range. Those of a segment are evenly apart.
  template <class S>
  struct Rows {
    S* data;
    Index step;
  };
  template <class S>
  static Rows<S> rows(const Tokens<S>& tokens, Index token, const ChannelRange& range) {
    return {tokens.data ? tokens.at(token) + range.first : nullptr, tokens.token_stride};
  }
  /// What a task of backward computes in.
  struct Scratch {
    Planes<Scalar> memories;  // [kEmaBlock + 1][n]: before the first token of a block, and after each
    Planes<Scalar> carry;     // [n]: r
    Planes<Scalar> sums;      // [3][n]: deta, dp, dq of a block
    double* totals;           // [3][n][C]: of all blocks
  };

  Scalar* take(Index n) { return frame_.template take<Scalar>(n); }
  Planes<Scalar> take_planes(Index planes, Index width) {
    const Index stride = plane_stride<Scalar>(width);
    return {take(planes * stride), stride};
  }
  /// How many channels a task has. It changes no bit and may depend on who runs the tasks: where there are fewer
  /// segments than workers they share channels.
  Index range_size(Index segments) {
    const Index workers = workspace_.executor().workers();
    const Index ranges = segments >= workers ? 1 : (workers + segments - 1) / segments;
    const Index lines = (C_ + kEmaChannels - 1) / kEmaChannels;
    return (lines + ranges - 1) / ranges * kEmaChannels;
  }
  /// f(part, range, worker) for each part of the segments and each range of `width` channels.
  template <class F>
  void for_each_task(Index segments, Index width, F&& f) {
    const Index each = (segments + kEmaParts - 1) / kEmaParts;
    const Index ranges = (C_ + width - 1) / width, parts = (segments + each - 1) / each;
    parallel_blocks(workspace_.executor(), parts * ranges, 1, [&](Index task, Index, int worker) {
      const Index number = task / ranges, first = number * each, c = task % ranges * width;
      f(Part{number, first, (std::min)(each, segments - first)}, ChannelRange{c, (std::min)(width, C_ - c)},
        worker);
    });
  }
  /// The place of a segment's first block in a record: each segment has one more than it fills at most.
  static Index first_block(const Segment& segment, Index number) {
    return segment.first / kEmaBlock + number;
  }
  void copy(Planes<const Scalar> from, Planes<Scalar> to, Index width) const {
    for (Index i = 0; i < n_; ++i) std::copy(from.plane(i), from.plane(i) + width, to.plane(i));
  }

  template <Index kCount, bool kEach>
  void advance(const ChannelRange& range, Planes<const Scalar> before, Planes<Scalar> after, Index step,
               Rows<const Scalar> x, Rows<Scalar> y) const;
  template <Index kCount>
  void retreat(const ChannelRange& range, const Scratch& scratch, Index token, Rows<const Scalar> x,
               Rows<const Scalar> dy, Rows<Scalar> dx) const;
  void run_segment(const In& x, const Out& y, const Segment& segment, const ChannelRange& range, State* state,
                   Planes<Scalar> moving, Scalar* record) const;
  void return_segment(const In& x, const In& dy, const Out& dx, const Segment& segment, Index past,
                      const ChannelRange& range, const Scalar* record, const RingView<Scalar>& ring,
                      const Scratch& scratch) const;
  void remember(const In& x, Index first, Index count, const ChannelRange& range,
                Planes<Scalar> memories) const;
  void take_gradient(Planes<Scalar> slot, const ChannelRange& range, Planes<Scalar> sum) const;
  void add_gradients(const double* totals, Index parts, Ema<Scalar>& gradients) const;

  const Ema<Scalar>& parameters_;
  Workspace& workspace_;
  Workspace::Frame frame_;
  const Index n_, C_;
  Scalar *share_, *damping_;    // [n,C]: sigmoid(alpha), sigmoid(delta)
  Planes<Scalar> p_, q_, eta_;  // [n]
  Scalar* zeros_;               // [n,C]: what a fresh stream remembers
};

template <class Scalar>
EmaPass<Scalar>::EmaPass(const EmaLayer<Scalar>& layer, Workspace& workspace)
    : parameters_(layer.parameters()),
      workspace_(workspace),
      frame_(workspace),
      n_(layer.dimensions()),
      C_(layer.channels()),
      share_(take(n_ * C_)),
      damping_(take(n_ * C_)),
      p_(take_planes(n_, C_)),
      q_(take_planes(n_, C_)),
      eta_(take_planes(n_, C_)),
      zeros_(take(n_ * C_)) {
  sigmoid(n_ * C_, parameters_.alpha.data(), share_);
  sigmoid(n_ * C_, parameters_.delta.data(), damping_);
  copy({parameters_.eta.data(), C_}, eta_, C_);
  for (Index i = 0; i < n_; ++i) {
    const Scalar *share = share_ + i * C_, *damping = damping_ + i * C_, *beta = &parameters_.beta(i, 0);
    for (Index c = 0; c < C_; ++c) {
      p_.plane(i)[c] = share[c] * beta[c];
      q_.plane(i)[c] = multiply_add(-share[c], damping[c], Scalar(1));
    }
  }
  std::fill(zeros_, zeros_ + n_ * C_, Scalar(0));
}

/// kCount tokens of a range: from the memories `before` the first to those `after` the last or, with kEach, each token,
/// `step` values apart. y may be null.
template <class Scalar>
template <Index kCount, bool kEach>
void EmaPass<Scalar>::advance(const ChannelRange& range, Planes<const Scalar> before, Planes<Scalar> after,
                              Index step, Rows<const Scalar> x, Rows<Scalar> y) const {
  const Planes<Scalar> q = q_.from(range.first), p = p_.from(range.first), eta = eta_.from(range.first);
  const auto all_channels = [&](auto n) HSM_INLINE_LAMBDA {
    for_each_pack<Scalar>(range.count, [&]<class V>(Index c, V) HSM_INLINE_LAMBDA {
      V in[kCount], out[kCount];
      HSM_WRITTEN_OUT
      for (Index t = 0; t < kCount; ++t) in[t] = V::read_once(x.data + t * x.step + c);
      const auto memory = [&]<bool kFirst>(Index i, std::bool_constant<kFirst>) HSM_INLINE_LAMBDA {
        const V qs = V::read_once(q.plane(i) + c), ps = V::read_once(p.plane(i) + c),
                etas = V::read_once(eta.plane(i) + c);
        V h = V::read(before.plane(i) + c);
        Scalar* to = after.plane(i) + c;
        HSM_WRITTEN_OUT
        for (Index t = 0; t < kCount; ++t) {
          V next = ps * in[t];
          next.add_product(qs, h);
          h = next;
          if constexpr (kEach) h.write(to + t * step);
          if constexpr (kFirst) {
            out[t] = etas * h;
          } else {
            out[t].add_product(etas, h);
          }
        }
        if constexpr (!kEach) h.write(to);
      };
      memory(0, std::true_type{});
      for (Index i = 1; i < n; ++i) memory(i, std::false_type{});
      if (!y.data) return;
      HSM_WRITTEN_OUT
      for (Index t = 0; t < kCount; ++t) out[t].write(y.data + t * y.step + c);
    });
  };
  if (n_ == 1) {  // known when it is compiled: the pointers of further memories leave no registers for these
    all_channels(std::integral_constant<Index, 1>{});
  } else {
    all_channels(n_);
  }
}

/// One segment: what it leaves goes to the state, what lies before its blocks to `record`, where these are given.
template <class Scalar>
void EmaPass<Scalar>::run_segment(const In& x, const Out& y, const Segment& segment,
                                  const ChannelRange& range, State* state, Planes<Scalar> moving,
                                  Scalar* record) const {
  const Index past = past_of(segment, state);
  const RingView<Scalar> ring =
      segment.fresh() ? RingView<Scalar>{nullptr, 0, 0} : state->ring(0, segment.stream);
  const Index kept = segment.count - ring.slot_count;  // from this token on memories go to the ring
  const auto slot = [&](Index token) { return Planes<Scalar>{ring.slot(token), C_}.from(range.first); };
  Planes<const Scalar> h = Planes<const Scalar>{zeros_, C_}.from(range.first);
  if (past > 0) h = {slot(past - 1).data, C_};
  const auto tokens = [&]<Index kCount>(Index t, Planes<Scalar> to, std::integral_constant<Index, kCount>) {
    const Index token = segment.first + t;
    advance<kCount, false>(range, h, to, 0, rows(x, token, range), rows(y, token, range));
    h = {to.data, to.stride};
  };
  for (Index t = 0; t < segment.count;) {
    if (record && t % kEmaBlock == 0)
      copy(h, Planes<Scalar>{record + t / kEmaBlock * n_ * C_, C_}.from(range.first), range.count);
    if (t + kEmaTokens <= (std::min)(kept, segment.count)) {
      tokens(t, moving, std::integral_constant<Index, kEmaTokens>{});
      t += kEmaTokens;
    } else {
      tokens(t, t >= kept && ring.data ? slot(past + t) : moving, std::integral_constant<Index, 1>{});
      ++t;
    }
  }
}

template <class Scalar>
void EmaPass<Scalar>::forward(const In& x, const Out& y, std::span<const Segment> list, State* state,
                              Saved* saved) {
  const auto segments = static_cast<Index>(list.size());
  if (saved) {
    saved->start(list, state);
    set_size(saved->before, n_ * C_, x.count() / kEmaBlock + segments);
  }
  make_room(list, state);
  const Planes<Scalar> moving = take_planes((std::min)(segments, kEmaParts) * n_, C_);
  UnfinishedStreams<State> unfinished{state, list};
  if (segments > 0) {
    for_each_task(segments, range_size(segments), [&](const Part& part, const ChannelRange& range, int) {
      const Planes<Scalar> own{moving.plane(part.number * n_), moving.stride};
      for (Index i = part.first; i < part.first + part.count; ++i) {
        const Segment& segment = list[static_cast<std::size_t>(i)];
        run_segment(x, y, segment, range, state, own.from(range.first),
                    saved ? saved->before.data() + first_block(segment, i) * n_ * C_ : nullptr);
      }
    });
  }
  unfinished.advance();
  if (saved) saved->sizes = x.shape();
}

}  // namespace hsm::inline HSM_ABI::detail

#include <hsm/recurrent/ema_backward.hpp>

namespace hsm::inline HSM_ABI {

template <ComputeScalar Scalar>
void EmaLayer<Scalar>::run(const Tokens<const Scalar>& x, std::span<const Segment> segments,
                           const Tokens<Scalar>& y, State* state, Saved* saved, Workspace& workspace) const {
  detail::EmaPass<Scalar>(*this, workspace).forward(x, y, segments, state, saved);
}

template <ComputeScalar Scalar>
void EmaLayer<Scalar>::run_adjoint(const Tokens<const Scalar>& x, const Saved& saved,
                                   const Tokens<const Scalar>& dy, const Tokens<Scalar>& dx,
                                   Parameters& gradients, State* state_gradient, Workspace& workspace) const {
  detail::EmaPass<Scalar>(*this, workspace).backward(x, saved, dy, dx, gradients, state_gradient);
}

}  // namespace hsm::inline HSM_ABI
