// SPDX-License-Identifier: MIT
//
// What a layer remembers that needs a fixed number of the last columns: per stream a token count and rings of the
// columns of its last tokens, `reach` of them and `spare` more. A shift mixer keeps a ring for each group of neighbouring
// heads with the same shift, of reach (K-1) s; a recurrence keeps one of reach 1, what it holds after each token. The count
// is mask and ring position at once: token number n of a stream lies in slot n mod slots, and tokens before number 0 do not
// exist. A state holds no scratch; it can be copied, saved and sent, and the gradient of a state is a state.
//
//   bytes per stream = sum over rings of slots * rows * sizeof(Scalar),  slots = reach + spare
//
// Rings that take up to 16 MiB, all of a state and all streams together, are there from the start. One that would pass that
// grows by make_room, which a layer calls before it writes: by doubling, since before its first turn token n lies in slot n.
// So a shift that no text reaches costs nothing.
//
// Rewind takes tokens back by lowering the count. That is exact while no slot that is needed again has been
// overwritten: after the highest count h ever reached, a ring holds the tokens from h - slots on, and a
// stream of n tokens needs those from n - reach on. So `spare` tokens below h can always be taken back, by
// one call or several, also with other tokens read in between, and all of them while h <= slots. A stream whose
// slots a call that threw has overwritten in part is not whole: calls refuse it until it is reset.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/types.hpp>
#include <hsm/layer/segment.hpp>

namespace hsm::inline HSM_ABI {

/// One ring of a state.
struct RingShape {
  Index rows = 0;  ///< values of a column
  Index shift =
      0;  ///< which tells apart rings of one size: s, or of a recurrence in how many parts it keeps a column
  Index reach = 0;  ///< columns that the next token needs
  /// Of the layer, such as "ab", which tells apart layers whose rings have the same sizes; a literal.
  std::string_view kind = {};

  /// Whether all four are equal.
  bool operator==(const RingShape&) const = default;
};

namespace detail {

/// The columns of one stream in one ring: slot i is the column data + i * rows.
template <class S>
struct RingView {
  S* data = nullptr;
  Index rows = 0;
  Index slot_count = 0;

  S* slot(Index token) const { return data + token % slot_count * rows; }
};

/// The slots of a ring that hold tokens, the first ones, given its length and the highest count of each stream: what a file
/// keeps of a state, and a message carries.
inline Index filled_slots(Index length, std::span<const Index> highest) {
  Index most = 0;
  for (const Index h : highest) most = (std::max)(most, h);
  return (std::min)(length, most);
}

}  // namespace detail

/// Rings of the last columns, for a fixed number of streams.
template <ComputeScalar Scalar>
class RingState {
 public:
  RingState() = default;
  /// Fresh streams. Throws std::invalid_argument, which `who` begins, for fewer than 0 streams or spare slots, and for
  /// what memory could never hold. options.capacity is not read.
  RingState(const char* who, const StateOptions& options, std::span<const RingShape> rings);
  /// The same streams.
  RingState(const RingState&) = default;
  /// The streams of the other, which is left empty.
  RingState(RingState&&) noexcept = default;
  /// The same streams, in the memory that there is where they fit; where memory is short nothing changes.
  RingState& operator=(const RingState& other) {
    const bool fits =
        counts_.size() == other.counts_.size() &&
        std::equal(rings_.begin(), rings_.end(), other.rings_.begin(), other.rings_.end(),
                   [](const Ring& a, const Ring& b) { return a.columns.size() == b.columns.size(); });
    if (!fits) return *this = RingState(other);
    rings_ = other.rings_;
    counts_ = other.counts_;
    highest_ = other.highest_;
    spare_ = other.spare_;
    return *this;
  }
  /// The streams of the other, which is left empty.
  RingState& operator=(RingState&&) noexcept = default;

  /// How many streams it holds.
  Index streams() const { return static_cast<Index>(counts_.size()); }
  /// How many tokens stream `stream` has seen. Throws std::out_of_range for a stream that is not there.
  Index count(Index stream) const { return counts_[checked(stream)]; }
  /// Bytes of kept columns, all streams together; of a long ring what it has grown to.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const Ring& ring : rings_) sum += static_cast<std::size_t>(ring.columns.size()) * sizeof(Scalar);
    return sum;
  }
  /// "rings of 8 x 4, 8 x 6 values of ab", rows by slots, for messages.
  std::string shape_text() const {
    std::string text = "rings of ";
    for (const Ring& ring : rings_)
      text += (&ring == rings_.data() ? "" : ", ") + std::to_string(ring.shape.rows) + " x " +
              std::to_string(ring.slot_count);
    const std::string_view kind = rings_.empty() ? std::string_view() : rings_.front().shape.kind;
    text += " values";
    if (!kind.empty()) text += " of " + std::string(kind);
    const RingShape shape = rings_.empty() ? RingShape{} : rings_.front().shape;
    if (shape.shift > shape.reach) text += " in " + detail::counted(shape.shift, "part");  // a recurrence's
    return text;
  }
  /// The most tokens of a stream, reset or rewound ones apart: 2^62, or 2^30 where Index has 32 bits.
  static constexpr Index kMostTokens = Index{1} << (kIndexBits - 1);
  /// How many more tokens `stream` can take. Throws std::out_of_range for a stream that is not there.
  Index room(Index stream) const { return kMostTokens - count(stream); }
  /// How many tokens below the highest count can always be taken back.
  Index spare() const { return spare_; }

  /// Makes room for what streams of up to `tokens` tokens leave, so that reading them takes no memory.
  void make_room(Index tokens) {
    for (Ring& ring : rings_) {
      if (ring.held < ring.slot_count && ring.held < tokens) grow(ring, tokens);
    }
  }

  /// Whether the stream can go on: false after a call that threw while it wrote to it, until it is reset or made
  /// a copy of another. Throws std::out_of_range for a stream that is not there.
  bool is_whole(Index stream) const { return highest_[checked(stream)] != kSpoiled; }

  /// Makes stream `stream` a fresh one, all of it 0, so that it is also the gradient 0. No more work than it was to fill
  /// the slots; of one that counts no token, as gradients do, all slots that are held.
  void reset(Index stream) {
    clear(stream);
    const std::size_t i = checked(stream);
    counts_[i] = highest_[i] = 0;
  }
  /// Makes every stream a fresh one.
  void reset() {
    for (Index stream = 0; stream < streams(); ++stream) reset(stream);
  }

  /// Whether rewind(stream, k) is possible. Throws std::out_of_range for a stream that is not there.
  bool can_rewind(Index stream, Index k) const {
    const Index n = counts_[checked(stream)];
    return k >= 0 && k <= n && (k > 0 || is_whole(stream)) && holds(n - k, highest_[checked(stream)]);
  }
  /// Takes the last k tokens of `stream` back: what follows continues as if they had never been there, with the same
  /// bits. O(1), of all tokens as reset. Throws std::out_of_range, with nothing changed, where the stream has seen
  /// fewer, or where columns that are needed again have been overwritten.
  void rewind(Index stream, Index k) {
    const std::size_t i = checked(stream);
    if (!can_rewind(stream, k)) fail_rewind(stream, k);
    if (k == 0) return;  // all of none too: a gradient counts none, and would be lost
    if (k == counts_[i]) return reset(stream);
    counts_[i] -= k;
  }

  /// After a call over several layers threw: the stream holds its first `count` tokens again, where it has as
  /// many or can be rewound to them, or is not whole.
  void take_back(Index stream, Index count) {
    const Index more = counts_[checked(stream)] - count;
    if (more > 0 && can_rewind(stream, more)) {
      rewind(stream, more);
    } else if (more != 0) {
      if (more > 0) counts_[checked(stream)] = count;
      spoil(stream);
    }
  }

  /// Makes stream `to` a copy of stream `from`: a fork, of which both go on alone. O(slots * rows).
  void copy_stream(Index from, Index to) {
    const std::size_t source = checked(from), target = checked(to);
    if (source == target) return;
    counts_[target] = counts_[source];
    highest_[target] = highest_[source];
    for (std::size_t g = 0; g < rings_.size(); ++g) {
      const Scalar* columns = ring(g, from).data;
      std::copy(columns, columns + rings_[g].shape.rows * rings_[g].held, ring(g, to).data);
    }
  }

  /// Whether both hold the same streams with the same values in all slots, where those that are not there yet
  /// are zero (NaN differs from NaN).
  bool operator==(const RingState& other) const {
    return same_shape(other) && counts_ == other.counts_ && highest_ == other.highest_ &&
           std::equal(rings_.begin(), rings_.end(), other.rings_.begin(),
                      [&](const Ring& a, const Ring& b) { return same_columns(a, b); });
  }

  /// Calls f(name, values, shape) for all that a state holds, to save it and to fill one that make_state
  /// made: "counts" and "highest", spans of Index [streams], and for each ring "rings.<g>", a span
  /// of Scalar [streams, n, rows], where n is the number of slots that are there. What was filled must be
  /// checked by is_sound before it is used.
  template <class F, class Self>
  static void visit(F&& f, Self& self) {
    const Index n = self.streams();
    f("counts", std::span(self.counts_), std::vector<Index>{n});
    f("highest", std::span(self.highest_), std::vector<Index>{n});
    for (std::size_t g = 0; g < self.rings_.size(); ++g) {
      auto& ring = self.rings_[g];
      f("rings." + std::to_string(g),
        std::span(ring.columns.data(), static_cast<std::size_t>(ring.columns.size())),
        std::vector<Index>{n, ring.held, ring.shape.rows});
    }
  }
  /// How many slots ring g can come to, reach + spare.
  Index most_slots(std::size_t g) const { return rings_[g].slot_count; }
  /// Whether every count is one that calls and rewinds can lead to.
  bool is_sound() const {
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      const Index n = counts_[i], h = highest_[i];
      if (n < 0 || h < n || h > kMostTokens || (n == 0 && h > 0) || !holds(n, h)) return false;
      for (const Ring& ring : rings_) {
        if (h > ring.held && ring.held < ring.slot_count) return false;
      }
    }
    return true;
  }

  // For layers.

  /// How many rings it has.
  std::size_t ring_count() const { return rings_.size(); }
  /// The shape of ring g.
  const RingShape& ring_shape(std::size_t g) const { return rings_[g].shape; }
  /// Whether both have as many streams and spare slots, and the same rings.
  bool same_shape(const RingState& other) const {
    return counts_.size() == other.counts_.size() && spare_ == other.spare_ &&
           std::equal(rings_.begin(), rings_.end(), other.rings_.begin(), other.rings_.end(),
                      [](const Ring& a, const Ring& b) { return a.shape == b.shape; });
  }
  /// The columns of a stream in ring g, to write to.
  detail::RingView<Scalar> ring(std::size_t g, Index stream) {
    Ring& ring = rings_[g];
    return {ring.columns.data() + stream * ring.held * ring.shape.rows, ring.shape.rows, ring.held};
  }
  /// The columns of a stream in ring g.
  detail::RingView<const Scalar> ring(std::size_t g, Index stream) const {
    const Ring& ring = rings_[g];
    return {ring.columns.data() + stream * ring.held * ring.shape.rows, ring.shape.rows, ring.held};
  }
  /// Counts tokens whose columns were written.
  void advance(Index stream, Index tokens) {
    const auto i = static_cast<std::size_t>(stream);
    counts_[i] += tokens;
    highest_[i] = (std::max)(highest_[i], counts_[i]);
  }
  /// The stream is not whole.
  void spoil(Index stream) { highest_[checked(stream)] = kSpoiled; }

 private:
  /// All columns of a stream 0: those that its tokens have filled, or where it has none, as a gradient, any.
  void clear(Index stream) {
    const std::size_t i = checked(stream);
    for (std::size_t g = 0; g < rings_.size(); ++g) {
      const Index filled = counts_[i] == 0 ? rings_[g].held : (std::min)(rings_[g].held, highest_[i]);
      std::fill_n(ring(g, stream).data, rings_[g].shape.rows * filled, Scalar(0));
    }
  }

  struct Ring {
    RingShape shape;
    Index slot_count;              // reach + spare
    Index held;                    // slots that are there
    OwnedColumns<Scalar> columns;  // [rows, held * streams]
  };

  /// The highest count of a stream that is not whole: no rewind is possible from there, and is_sound is false.
  static constexpr Index kSpoiled = (std::numeric_limits<Index>::max)();

  std::size_t checked(Index stream) const {
    if (stream < 0 || stream >= streams()) fail_stream(stream);
    return static_cast<std::size_t>(stream);
  }
  // Sentences are made out of line: the checks before them are a part of every step.
  [[noreturn]] HSM_NOINLINE void fail_stream(Index stream) const {
    detail::raise<std::out_of_range>("RingState: stream must be 0 to " + std::to_string(streams() - 1) +
                                     ", got " + std::to_string(stream));
  }

  /// Whether all that a stream of n tokens needs is still there after its highest count was h.
  bool holds(Index n, Index h) const {
    return n == 0 || std::all_of(rings_.begin(), rings_.end(), [&](const Ring& ring) {
             return h <= ring.slot_count || n - ring.shape.reach >= h - ring.slot_count;
           });
  }

  [[noreturn]] void fail_rewind(Index stream, Index k) const {
    if (!is_whole(stream)) detail::fail_rewind_of_part("RingState::rewind", stream);
    const Index n = counts_[checked(stream)];
    std::string expected = "0 to " + std::to_string(n) + ", the tokens of stream " + std::to_string(stream);
    if (k >= 0 && k <= n) {
      const Index most = std::max<Index>(0, n - highest_[checked(stream)] + spare_);
      expected = "at most " + std::to_string(most) + ", or all " + std::to_string(n) +
                 ", since the state was made with " + detail::counted(spare_, "spare slot");
    }
    detail::raise<std::out_of_range>("RingState::rewind: the number of tokens must be " + expected +
                                     ", got " + std::to_string(k));
  }

  /// Columns of so many slots; throws std::invalid_argument where they could never be held in memory.
  static Index columns_of(const char* who, Index length, Index rows, Index streams) {
    constexpr Index kMost = (std::numeric_limits<Index>::max)() / static_cast<Index>(sizeof(Scalar));
    if (length > kMost / std::max<Index>(1, rows) / std::max<Index>(1, streams)) {
      detail::fail(who, "the state", "small enough to address",
                   detail::counted(rows, "row") + " x " + detail::counted(length, "slot") + " x " +
                       detail::counted(streams, "stream"));
    }
    return length * streams;
  }

  /// `ring` with more slots: those for `tokens` tokens, at least twice as many as before if there may be so many.
  void grow(Ring& ring, Index tokens) const {
    const Index twice = ring.held > ring.slot_count / 2 ? ring.slot_count : 2 * ring.held;
    const Index held = (std::min)(ring.slot_count, (std::max)(tokens, twice));
    decltype(ring.columns) columns(ring.shape.rows,
                                   columns_of("RingState", held, ring.shape.rows, streams()));
    for (Index stream = 0; stream < streams(); ++stream) {
      columns.middleCols(stream * held, ring.held) = ring.columns.middleCols(stream * ring.held, ring.held);
      columns.middleCols(stream * held + ring.held, held - ring.held).setZero();
    }
    ring.columns.swap(columns);
    ring.held = held;
  }

  bool same_columns(const Ring& a, const Ring& b) const {
    const Index both = (std::min)(a.held, b.held);
    const Ring& longer = a.held > b.held ? a : b;
    for (Index s = 0; s < streams(); ++s) {
      if (a.columns.middleCols(s * a.held, both) != b.columns.middleCols(s * b.held, both)) return false;
      if ((longer.columns.middleCols(s * longer.held + both, longer.held - both).array() != Scalar(0)).any())
        return false;
    }
    return true;
  }

  std::vector<Index> counts_;
  std::vector<Index> highest_;  // the highest count since the stream was fresh
  std::vector<Ring> rings_;
  Index spare_ = 0;
};

template <ComputeScalar Scalar>
RingState<Scalar>::RingState(const char* who, const StateOptions& options, std::span<const RingShape> rings)
    : spare_(options.spare) {
  detail::check_at_least(who, "streams", options.streams, 0);
  detail::check_at_least(who, "spare", options.spare, 0);
  if (options.spare > (std::numeric_limits<Index>::max)() / 2)
    detail::fail(who, "spare", "below 2^" + std::to_string(kIndexBits - 1), std::to_string(options.spare));
  columns_of(who, 1, static_cast<Index>(sizeof(Index)), options.streams);  // the counts
  counts_.assign(static_cast<std::size_t>(options.streams), 0);
  highest_ = counts_;
  Index left = (Index{1} << 24) / static_cast<Index>(sizeof(Scalar));  // values
  for (const RingShape& shape : rings) {
    const Index length = shape.reach + spare_;
    const Index rows = std::max<Index>(1, shape.rows), n = std::max<Index>(1, options.streams);
    const bool whole = length <= left / rows / n;
    if (whole) left -= length * rows * n;
    rings_.push_back({shape, length, whole ? length : 0, {}});
    rings_.back().columns.setZero(shape.rows, rings_.back().held * options.streams);
  }
}

}  // namespace hsm::inline HSM_ABI
