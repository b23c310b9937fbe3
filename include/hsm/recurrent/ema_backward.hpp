// SPDX-License-Identifier: MIT
//
// The adjoint of a moving average. With r[t] = q g[t+1], the gradient that comes from later tokens, and that of the state
// after token t where it has one:
//
//   g_i[t] = eta_i dy[t] + r_i[t],   dx[t] = sum_i p_i g_i[t]
//   deta_i = sum_t dy[t] h_i[t],   dp_i = sum_t g_i[t] x[t],   dq_i = sum_t g_i[t] h_i[t-1]
//
// It goes from the last block of kEmaBlock tokens to the first and computes the memories of each again, from those that
// the record has before it. Sums are of Scalar within a block and of double beyond, those of parts added in their order.
#pragma once

#include <algorithm>
#include <cmath>

#include <hsm/recurrent/ema_pass.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The memories after each of tokens first ... first + count - 1 of the call, from those before the first.
template <class Scalar>
void EmaPass<Scalar>::remember(const In& x, Index first, Index count, const ChannelRange& range,
                               Planes<Scalar> memories) const {
  const Index step = n_ * memories.stride;
  const auto tokens = [&]<Index kCount>(Index t, std::integral_constant<Index, kCount>) {
    Scalar* before = memories.data + t * step;
    advance<kCount, true>(range, {before, memories.stride}, {before + step, memories.stride}, step,
                          rows(x, first + t, range), {nullptr, 0});
  };
  Index t = 0;
  for (; t + kEmaTokens <= count; t += kEmaTokens) tokens(t, std::integral_constant<Index, kEmaTokens>{});
  for (; t < count; ++t) tokens(t, std::integral_constant<Index, 1>{});
}

/// kCount tokens back, of which `token` is the first, counted from the start of its block: adds to the sums of the block.
template <class Scalar>
template <Index kCount>
void EmaPass<Scalar>::retreat(const ChannelRange& range, const Scratch& scratch, Index token,
                              Rows<const Scalar> x, Rows<const Scalar> dy, Rows<Scalar> dx) const {
  const Planes<Scalar> q = q_.from(range.first), p = p_.from(range.first), eta = eta_.from(range.first);
  const Planes<Scalar> carry = scratch.carry, sums = scratch.sums;
  const Index n = n_, step = n * scratch.memories.stride;
  const Planes<Scalar> memories{scratch.memories.data + token * step, scratch.memories.stride};
  for_each_pack<Scalar>(range.count, [&]<class V>(Index c, V) HSM_INLINE_LAMBDA {
    V in[kCount], given[kCount], out[kCount];
    HSM_WRITTEN_OUT
    for (Index t = 0; t < kCount; ++t) {
      in[t] = V::read_once(x.data + t * x.step + c);
      given[t] = V::read_once(dy.data + t * dy.step + c);
    }
    const auto memory = [&]<bool kFirst>(Index i, std::bool_constant<kFirst>) HSM_INLINE_LAMBDA {
      const V qs = V::read_once(q.plane(i) + c), ps = V::read_once(p.plane(i) + c),
              etas = V::read_once(eta.plane(i) + c);
      const Scalar* own = memories.plane(i) + c;
      V d_eta = V::read(sums.plane(i) + c), d_p = V::read(sums.plane(n + i) + c),
        d_q = V::read(sums.plane(2 * n + i) + c);
      V r = V::read(carry.plane(i) + c), h = V::read(own + kCount * step);
      HSM_WRITTEN_OUT
      for (Index t = kCount - 1; t >= 0; --t) {
        r.add_product(etas, given[t]);  // g
        d_eta.add_product(given[t], h);
        d_p.add_product(r, in[t]);
        h = V::read_once(own + t * step);
        d_q.add_product(r, h);
        if constexpr (kFirst) {
          out[t] = ps * r;
        } else {
          out[t].add_product(ps, r);
        }
        r = qs * r;
      }
      r.write(carry.plane(i) + c);
      d_eta.write(sums.plane(i) + c);
      d_p.write(sums.plane(n + i) + c);
      d_q.write(sums.plane(2 * n + i) + c);
    };
    memory(0, std::true_type{});
    for (Index i = 1; i < n; ++i) memory(i, std::false_type{});
    HSM_WRITTEN_OUT
    for (Index t = 0; t < kCount; ++t) out[t].write(dx.data + t * dx.step + c);
  });
}

/// One segment back: the carry goes out as the gradient of what it began with. `ring` has the gradients of what it left,
/// of its last tokens each their own, since later calls may go on from any of them; it has none where these are cut off.
template <class Scalar>
void EmaPass<Scalar>::return_segment(const In& x, const In& dy, const Out& dx, const Segment& segment,
                                     Index past, const ChannelRange& range, const Scalar* record,
                                     const RingView<Scalar>& ring, const Scratch& scratch) const {
  const Index kept = segment.count - ring.slot_count;  // from this token on each has left something
  for (Index block = (segment.count + kEmaBlock - 1) / kEmaBlock; block-- > 0;) {
    const Index first = segment.first + block * kEmaBlock;
    const Index count = (std::min)(kEmaBlock, segment.count - block * kEmaBlock);
    copy(Planes<const Scalar>{record + block * n_ * C_, C_}.from(range.first), scratch.memories, range.count);
    remember(x, first, count, range, scratch.memories);
    std::fill(scratch.sums.data, scratch.sums.plane(3 * n_), Scalar(0));
    const auto tokens = [&]<Index kCount>(Index t, std::integral_constant<Index, kCount>) {
      retreat<kCount>(range, scratch, t, rows(x, first + t, range), rows(dy, first + t, range),
                      rows(dx, first + t, range));
    };
    for (Index t = count; t > 0;) {
      const Index last = block * kEmaBlock + t - 1;
      if (last >= kept) take_gradient({ring.slot(past + last), C_}, range, scratch.carry);
      if (last > kept || t % kEmaTokens != 0) {
        tokens(--t, std::integral_constant<Index, 1>{});
      } else {
        tokens(t -= kEmaTokens, std::integral_constant<Index, kEmaTokens>{});
      }
    }
    for (Index i = 0; i < 3 * n_; ++i) {
      double* total = scratch.totals + i * C_ + range.first;
      for (Index c = 0; c < range.count; ++c) total[c] += static_cast<double>(scratch.sums.plane(i)[c]);
    }
  }
}

/// Adds the gradient in a slot to `sum`, planes from the range on, and leaves zeros there.
template <class Scalar>
void EmaPass<Scalar>::take_gradient(Planes<Scalar> slot, const ChannelRange& range,
                                    Planes<Scalar> sum) const {
  for (Index i = 0; i < n_; ++i) {
    Scalar* from = slot.plane(i) + range.first;
    add(range.count, sum.plane(i), from, sum.plane(i));
    std::fill_n(from, range.count, Scalar(0));
  }
}

template <class Scalar>
void EmaPass<Scalar>::backward(const In& x, const Saved& saved, const In& dy, const Out& dx,
                               Ema<Scalar>& gradients, State* state_gradient) {
  const auto segments = static_cast<Index>(saved.segments.size());
  if (segments == 0) return;
  saved.make_room(state_gradient);
  const Index parts = (std::min)(segments, kEmaParts), width = range_size(segments);
  const Index each = (kEmaBlock + 5) * n_;  // planes of a worker
  const Planes<Scalar> scratch = take_planes(each * workspace_.executor().workers(), width);
  auto* totals = frame_.template take<double>(parts * 3 * n_ * C_);
  std::fill(totals, totals + parts * 3 * n_ * C_, 0.0);
  for_each_task(segments, width, [&](const Part& part, const ChannelRange& range, int worker) {
    const auto planes = [&](Index first) {
      return Planes<Scalar>{scratch.plane(worker * each + first * n_), scratch.stride};
    };
    const Scratch own{planes(0), planes(kEmaBlock + 1), planes(kEmaBlock + 2),
                      totals + part.number * 3 * n_ * C_};
    for (Index i = part.first; i < part.first + part.count; ++i) {
      const Segment& segment = saved.segments[static_cast<std::size_t>(i)];
      const Index past = saved.past[static_cast<std::size_t>(i)];
      std::fill(own.carry.data, own.carry.plane(n_), Scalar(0));
      RingView<Scalar> ring;
      if (state_gradient && !segment.fresh()) ring = state_gradient->ring(0, segment.stream);
      return_segment(x, dy, dx, segment, past, range, saved.before.data() + first_block(segment, i) * n_ * C_,
                     ring, own);
      if (past > 0 && ring.data) {
        const Planes<Scalar> entry = Planes<Scalar>{ring.slot(past - 1), C_}.from(range.first);
        for (Index k = 0; k < n_; ++k) add(range.count, entry.plane(k), own.carry.plane(k), entry.plane(k));
      }
    }
  });
  add_gradients(totals, parts, gradients);
}

/// Through p = a beta and q = 1 - a d with a = sigmoid(alpha), d = sigmoid(delta), whose slope is a (1 - a), with
/// 1 - a = sigmoid(-alpha): near 1 the rest of a rounded a says little of it.
template <class Scalar>
void EmaPass<Scalar>::add_gradients(const double* totals, Index parts, Ema<Scalar>& gradients) const {
  const Index size = n_ * C_;
  const auto rest = [](Scalar x) { return 1 / (1 + std::exp(static_cast<double>(x))); };
  for (Index k = 0; k < size; ++k) {
    double d_eta = 0, d_p = 0, d_q = 0;
    for (Index part = 0; part < parts; ++part) {
      const double* own = totals + part * 3 * size + k;
      d_eta += own[0];
      d_p += own[size];
      d_q += own[2 * size];
    }
    const double a = static_cast<double>(share_[k]), d = static_cast<double>(damping_[k]);
    const double rest_a = rest(parameters_.alpha.data()[k]), rest_d = rest(parameters_.delta.data()[k]);
    const double beta = static_cast<double>(parameters_.beta.data()[k]);
    gradients.alpha.data()[k] += static_cast<Scalar>((d_p * beta - d_q * d) * a * rest_a);
    gradients.beta.data()[k] += static_cast<Scalar>(d_p * a);
    gradients.delta.data()[k] += static_cast<Scalar>(-d_q * a * d * rest_d);
    gradients.eta.data()[k] += static_cast<Scalar>(d_eta);
  }
}

}  // namespace hsm::inline HSM_ABI::detail
