// SPDX-License-Identifier: MIT
//
// The engine's sense of time. A `SegmentPart` is a part of a segment whose tokens lie in one call's buffers; its
// tap partners lie in the same buffers, in the ring of a state, or nowhere. `for_each_run` cuts a part, from
// its end back to its start, into runs in which every tap is one strided block.
//
//   the partner of token t at distance d is
//     in the buffers        where t - d >= -available
//     in the ring           where position + t - d >= 0, in slot (position + t - d) mod slots
//     before the document   else: zeros
#pragma once

#include <algorithm>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Columns of a run at the most: enough that finding where its taps are costs nothing.
inline constexpr Index kRunColumns = 256;

/// Heads first_head ... first_head + heads - 1 mix over the same shift.
struct HeadGroup {
  Index shift;
  Index first_head;
  Index heads;

  bool operator==(const HeadGroup&) const = default;
};

/// Tokens first ... first + count - 1 of a call.
struct SegmentPart {
  Index first = 0;  // in the call's order of tokens
  Index count = 0;
  Index position = 0;   // tokens of the document before `first`
  Index available = 0;  // how many of these lie before `first` in the call's buffers
  Index segment = 0;    // the number of the segment it belongs to
};

/// Where the partner of a token is.
enum class TapSource { kBuffer, kRing, kNone };

inline TapSource source_of(const SegmentPart& part, Index t, Index distance) {
  if (t - distance >= -part.available) return TapSource::kBuffer;
  return part.position + t - distance >= 0 ? TapSource::kRing : TapSource::kNone;
}

/// The smallest start such that in [start, end) the partners at `distance` are one strided block.
inline Index strided_start(const SegmentPart& part, Index end, Index distance, Index slot_count) {
  const Index last = end - 1;
  switch (source_of(part, last, distance)) {
    case TapSource::kBuffer:
      return distance - part.available;
    case TapSource::kRing: {
      const Index slot = (part.position + last - distance) % slot_count;
      return (std::max)(distance - part.position, last - slot);
    }
    case TapSource::kNone:
      break;
  }
  return 0;
}

/// Calls f(start, end) for the runs of tokens [from, to) of the part, the last run first. `forward_pairs`:
/// also cut where the token `shift` places later leaves the part, as the gathering adjoint needs.
template <class F>
void for_each_run(const SegmentPart& part, Index from, Index to, Index shift, Index taps, Index slot_count,
                  bool forward_pairs, F&& f) {
  for (Index end = to; end > from;) {
    Index start = (std::max)(from, end - kRunColumns);
    for (Index k = 1; k < taps; ++k)
      start = (std::max)(start, strided_start(part, end, k * shift, slot_count));
    if (forward_pairs && part.count - shift < end) start = (std::max)(start, part.count - shift);
    f(start, end);
    end = start;
  }
}

}  // namespace hsm::inline HSM_ABI::detail
