// SPDX-License-Identifier: MIT
//
// A stack of layers without products, y = a .* x[t] + b .* x[t-s], run depth-first by channels. No channel
// reads another, so a cache line of channels goes through all layers by itself: a chunk of its tokens and its
// share of all states stay in the first-level cache, and every layer overwrites what it reads.
//
//   chunk     tokens first ... first + n - 1 as [line][token][values of a line], gathered from x
//   rings     [line][slots of all layers][values of a line], the states of one stream
//   a layer   for each slot: past = ring; for its tokens t, t + s, ...: (w, past) = (a w + b past, w); ring = past
//
// That order of the exchange leaves in a slot the last token that belongs there, as the states have it.
// Layers at s, 2 s, 4 s go through a chunk in one pass. O(L) per value, memory read and written once; scratch: a
// chunk, the states of one stream and 2 L C weights. Same bits as layer by layer (arXiv 2601.22852 for the
// mixing). Reports no errors: extend of stack.hpp has checked its arguments.
#pragma once

#include <algorithm>

#include <hsm/core/pack.hpp>
#include <hsm/shift/mixer.hpp>
#include <hsm/shift/policies/pair_rows.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Tokens of a chunk: with a line of channels and the rings of eight layers just the first-level cache.
inline constexpr Index kStackTokens = 256;

/// One call of extend for a stack of L such layers.
template <class Policy>
class PairStack {
 public:
  using Scalar = typename Policy::Scalar;
  using State = MixerState<Scalar>;

  PairStack(const Mixer<Policy>* layers, State* states, Index count)
      : layers_(layers), states_(states), L_(count) {}

  /// Whether the stack can be run this way over T tokens, and is the faster for it: all heads of a layer at
  /// one shift, no spare slots, and more tokens than the states hold, which are gathered and scattered too.
  bool takes(Index T) const {
    Index slot_count = 0;
    for (Index l = 0; l < L_; ++l) {
      if (layers_[l].layer().groups().size() != 1 || states_[l].spare() != 0) return false;
      if (shift(l) > T - slot_count) return false;
      slot_count += shift(l);
    }
    return true;
  }

  /// y = all layers of x; the states move on.
  void run(const Tokens<const Scalar>& x, const Tokens<Scalar>& y, bool nontemporal, Workspace& workspace) {
    const Index C = x.channels, T = x.time;
    lines_ = (C + kLine - 1) / kLine;
    slots_ = 0;
    for (Index l = 0; l < L_; ++l) slots_ += shift(l);
    const Index fitting = workspace.chunk_bytes / static_cast<Index>(sizeof(Scalar)) / (lines_ * kLine);
    tokens_ = std::clamp<Index>(fitting, 16, kStackTokens);
    Workspace::Frame frame(workspace);
    weights_ = frame.template take<Scalar>(2 * L_ * lines_ * kLine);
    rings_ = frame.template take<Scalar>(lines_ * slots_ * kLine);
    chunk_ = frame.template take<Scalar>(lines_ * tokens_ * kLine);
    std::fill_n(weights_, 2 * L_ * lines_ * kLine, Scalar(0));
    for (Index l = 0; l < L_; ++l) {
      Scalar* a = weights_ + 2 * l * lines_ * kLine;
      layers_[l].parameters().channel_weights(a, a + lines_ * kLine);
    }
    Executor& executor = workspace.executor();
    for (Index l = 0; l < L_; ++l) states_[l].make_room(shift(l));
    for (Index b = 0; b < x.batch; ++b) {
      for_each_ring(b, [&](Scalar* ring, Index l, auto state) {
        const Index known = (std::min)(shift(l), states_[l].count(b));
        gather(known, state.data, state.rows, C, ring, slots_);
        for (Index line = 0; line < lines_; ++line)
          std::fill_n(ring + (line * slots_ + known) * kLine, (shift(l) - known) * kLine, Scalar(0));
      });
      for (Index first = 0; first < T; first += tokens_) {
        const Index n = (std::min)(tokens_, T - first);
        const Scalar* from = x.at(b * T + first);
        Scalar* to = y.at(b * T + first);
        parallel_blocks(executor, n, 16, [&](Index t, Index count, int) {
          gather(count, from + t * x.token_stride, x.token_stride, C, chunk_ + t * kLine, tokens_);
        });
        parallel_blocks(executor, lines_, 2, [&](Index line, Index count, int) {
          for (; count > 0; --count, ++line) mix(line, b, first, n);
        });
        parallel_blocks(executor, n, 16, [&](Index t, Index count, int) {
          scatter(count, chunk_ + t * kLine, tokens_, C, to + t * y.token_stride, y.token_stride,
                  nontemporal);
          if (nontemporal) nontemporal_fence();
        });
      }
      for_each_ring(b, [&](Scalar* ring, Index l, auto state) {
        scatter(shift(l), ring, slots_, C, state.data, state.rows, false);
        states_[l].advance(b, T);
      });
    }
  }

 private:
  static constexpr Index kLine = kPairLine<Scalar>;

  Index shift(Index l) const { return layers_[l].layer().groups()[0].shift; }

  /// f(ring, l, the view of the state's) for all layers of a stream.
  template <class F>
  void for_each_ring(Index stream, F&& f) {
    Scalar* ring = rings_;
    for (Index l = 0; l < L_; ++l) {
      f(ring, l, states_[l].ring(0, stream));
      ring += shift(l) * kLine;
    }
  }

  /// `count` rows of C values, `stride` apart, to lines, each of `length` rows.
  static void gather(Index count, const Scalar* from, Index stride, Index C, Scalar* to, Index length) {
    for (Index t = 0; t < count; ++t) {
      const Scalar* row = from + t * stride;
      Scalar* out = to + t * kLine;
      Index c = 0;
      for (; c + kLine <= C; c += kLine, out += length * kLine) copy_line(row + c, out, false);
      if (c < C) {
        std::fill_n(out, kLine, Scalar(0));
        std::copy(row + c, row + C, out);
      }
    }
  }
  /// And back.
  static void scatter(Index count, const Scalar* from, Index length, Index C, Scalar* to, Index stride,
                      bool nontemporal) {
    for (Index t = 0; t < count; ++t) {
      const Scalar* in = from + t * kLine;
      Scalar* row = to + t * stride;
      const bool past_cache = nontemporal && is_aligned(row);
      Index c = 0;
      for (; c + kLine <= C; c += kLine, in += length * kLine) copy_line(in, row + c, past_cache);
      std::copy(in, in + (C - c), row + c);
    }
  }
  static void copy_line(const Scalar* from, Scalar* to, bool nontemporal) {
    using P = Pack<Scalar>;
    const P first = P::read(from), second = P::read(from + P::kSize);
    first.write(to, nontemporal);
    second.write(to + P::kSize, nontemporal);
  }

  /// Takes the chunk of n tokens from `first` on through all layers, for one line of channels.
  void mix(Index line, Index stream, Index first, Index n) {
    Scalar* values = chunk_ + line * tokens_ * kLine;
    Scalar* ring = rings_ + line * slots_ * kLine;
    for (Index l = 0; l < L_;) {
      const Index position = states_[l].count(stream) + first, fused = fusing(l, stream, n);
      if (fused == 3) {
        mix<3>(l, line, n, position, values, ring);
      } else if (fused == 2) {
        mix<2>(l, line, n, position, values, ring);
      } else {
        mix<1>(l, line, n, position, values, ring);
      }
      for (const Index end = l + fused; l < end; ++l) ring += shift(l) * kLine;
    }
  }

  /// How many layers from l on, at most 3, can be run together: at shifts s, 2 s, 4 s, with chains that long.
  Index fusing(Index l, Index stream, Index n) const {
    Index count = 1;
    while (count < 3 && l + count < L_ && shift(l + count) == shift(l) << count && n >= shift(l) << count &&
           states_[l + count].count(stream) == states_[l].count(stream))
      ++count;
    return count;
  }

  /// Layers l ... l + kCount - 1 for n tokens from `position` on. Of the chain t, t + s, t + 2 s, ... layer
  /// l + i reads what came in 2^i links before: these values stay in registers from link to link.
  template <Index kCount>
  void mix(Index l, Index line, Index n, Index position, Scalar* values, Scalar* ring) const {
    using P = Pack<Scalar>;
    constexpr Index kPeriod = Index{1} << (kCount - 1);
    const Index s = shift(l), whole = kCount == 1 ? n : n - n % (kPeriod * s);
    for (Index half = 0; half < 2; ++half) {
      P a[kCount], b[kCount];
      HSM_WRITTEN_OUT
      for (Index i = 0; i < kCount; ++i) {
        const Scalar* weights = weights_ + (2 * (l + i) * lines_ + line) * kLine + half * P::kSize;
        a[i] = P::read(weights);
        b[i] = P::read(weights + lines_ * kLine);
      }
      Scalar* value = values + half * P::kSize;
      P past[2 * kPeriod - 1];  // of layer l + i from 2^i - 1 on, and where in the rings it is kept
      Index slot_count[2 * kPeriod - 1];
      for (Index i = 0; i < kCount; ++i) {
        const Index links = Index{1} << i;
        for (Index k = 0; k < links; ++k) slot_count[links - 1 + k] = (position + k * s) % (s * links);
      }
      const auto for_each_slot = [&](auto&& f) HSM_INLINE_LAMBDA {
        HSM_WRITTEN_OUT
        for (Index i = 0; i < kCount; ++i) {
          const Index links = Index{1} << i;
          HSM_WRITTEN_OUT
          for (Index k = 0; k < links; ++k) f(i, links - 1 + k);
        }
      };
      for (Index first = 0; first < (std::min)(s, whole);) {
        // Chains up to where the first of the slots is the last of its ring.
        Index chains = (std::min)(s, whole) - first;
        Scalar* slot[2 * kPeriod - 1];
        for_each_slot([&](Index i, Index j) {
          chains = (std::min)(chains, (s << i) - slot_count[j]);
          slot[j] = ring + (((Index{1} << i) - 1) * s + slot_count[j]) * kLine + half * P::kSize;
        });
        for (Index c = 0; c < chains; ++c, ++first) {
          for_each_slot([&](Index, Index j) { past[j] = P::read(slot[j] + c * kLine); });
          for (Index t = first; t < whole; t += kPeriod * s) {
            HSM_WRITTEN_OUT
            for (Index k = 0; k < kPeriod; ++k) {
              Scalar* place = value + (t + k * s) * kLine;
              P now = P::read(place);
              HSM_WRITTEN_OUT
              for (Index i = 0; i < kCount; ++i) {
                P& before = past[(1 << i) - 1 + k % (1 << i)];
                P sum = b[i] * before;
                sum.add_product(a[i], now);
                before = now;
                now = sum;
              }
              now.write(place);
            }
          }
          for_each_slot([&](Index, Index j) { past[j].write(slot[j] + c * kLine); });
        }
        for_each_slot([&](Index i, Index j) {
          slot_count[j] += chains;
          if (slot_count[j] == s << i) slot_count[j] = 0;
        });
      }
    }
    for (Index i = 0; kCount > 1 && i < kCount && whole < n; ++i) {  // what fills no whole links
      mix<1>(l + i, line, n - whole, position + whole, values + whole * kLine, ring);
      ring += shift(l + i) * kLine;
    }
  }

  const Mixer<Policy>* layers_;
  State* states_;
  Index L_;
  Index lines_ = 0;
  Index slots_ = 0;            // of all layers
  Index tokens_ = 0;           // of a chunk
  Scalar* weights_ = nullptr;  // [L][a, b][lines * kLine]
  Scalar* rings_ = nullptr;
  Scalar* chunk_ = nullptr;
};

}  // namespace hsm::inline HSM_ABI::detail
