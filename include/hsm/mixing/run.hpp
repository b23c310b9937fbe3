// SPDX-License-Identifier: MIT
//
// What a policy sees of the world: a run of `count` tokens of one document, the rows of some heads, and for
// each of its K taps one strided block. Tap 0 is the tokens themselves, tap k the tokens k s places before
// them. A policy knows nothing of time, batch, shift or threads.
//
//            own(t)                         read at t only
//   tap 0    kept(0, plane)(t)              plane p of the kept columns at t
//   tap k    kept(k, plane)(t - k s)        zeros, and present(k) false, where the document has no such token
//
// All blocks are (rows, count): `heads` heads from `first_head` on, rows_per_head() = C/H rows each. Heads lie
// one after another as they do in a token, in every plane alike: row i is of head first_head + i / (C/H) and of
// channel first_head * C/H + i, so a parameter with one value per channel is read from there on. A run covers
// neighbouring heads that mix at one distance: all of them where there is one shift, else some.
//
// Where a tap is not present, its values read as zeros and its gradient is no memory at all (a null address):
// `adjoint` must pass it by. adjoint_past is only called where tap 1 is there. Several threads may call one policy at
// a time, each with a run of its own.
#pragma once

#include <array>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// The most taps a policy can have.
inline constexpr Index kMostTaps = 16;
/// The most planes of C rows that a policy can keep per token.
inline constexpr Index kMostPlanes = 3;

namespace detail {

/// A block without its sizes.
template <class Scalar>
struct Strip {
  Scalar* data;
  Index stride;
};

/// The blocks of a run: S is const for values, not const for gradients.
template <class S>
struct RunBlocks {
  Strip<S> own;
  std::array<std::array<Strip<S>, kMostPlanes>, kMostTaps> kept;

  /// Moves all blocks on by `columns` columns, for taps first ... last: a long run is worked through in parts
  /// without being made anew.
  void advance(Index columns, Index first, Index last, int planes) {
    own.data += columns * own.stride;
    for (Index tap = first; tap <= last; ++tap) {
      for (int plane = 0; plane < planes; ++plane) {
        Strip<S>& strip = kept[static_cast<std::size_t>(tap)][static_cast<std::size_t>(plane)];
        strip.data += columns * strip.stride;
      }
    }
  }
};

}  // namespace detail

/// The columns that one call of `combine`, or of an adjoint, reads.
template <class Scalar>
class Run {
 public:
  /// The head that row 0 belongs to.
  Index first_head = 0;
  /// How many heads the rows span.
  Index heads = 0;
  Index rows = 0;   ///< heads * C / H
  Index count = 0;  ///< tokens
  /// Where not 0: column j of tap 1 is column j - distance of tap 0, so that what is read for one column can
  /// serve another.
  Index distance = 0;
  /// Whether the result is larger than the cache, so that combine does well to write it by write_each of
  /// core/stream.hpp; it may as well not.
  bool stream = false;

  /// C / H.
  Index rows_per_head() const { return rows / heads; }
  /// The projection that only token t itself reads, (rows, count).
  ConstColumns<Scalar> own() const { return block(blocks.own); }
  /// Plane `plane` of tap `tap`, (rows, count).
  ConstColumns<Scalar> kept(Index tap, Index plane = 0) const {
    return block(blocks.kept[static_cast<std::size_t>(tap)][static_cast<std::size_t>(plane)]);
  }
  /// Whether the document has the tokens of this tap. Tap 0 always is.
  bool present(Index tap) const { return is_present[static_cast<std::size_t>(tap)]; }

  detail::RunBlocks<const Scalar> blocks;  ///< filled by the engine
  std::array<bool, kMostTaps> is_present;  ///< filled by the engine

 private:
  ConstColumns<Scalar> block(const detail::Strip<const Scalar>& strip) const {
    return {strip.data, rows, count, Eigen::OuterStride<>(strip.stride)};
  }
};

/// Where an adjoint writes: the gradients of the blocks of a Run, of the same sizes.
template <class Scalar>
class RunGradient {
 public:
  /// As in Run.
  Index rows = 0;
  /// As in Run.
  Index count = 0;
  bool stream = false;  ///< as in Run, for what the adjoint writes

  /// The gradient of own, (rows, count).
  Columns<Scalar> own() const { return block(blocks.own); }
  /// The gradient of plane `plane` of tap `tap`, (rows, count).
  Columns<Scalar> kept(Index tap, Index plane = 0) const {
    return block(blocks.kept[static_cast<std::size_t>(tap)][static_cast<std::size_t>(plane)]);
  }

  detail::RunBlocks<Scalar> blocks;  ///< filled by the engine

 private:
  Columns<Scalar> block(const detail::Strip<Scalar>& strip) const {
    return {strip.data, rows, count, Eigen::OuterStride<>(strip.stride)};
  }
};

}  // namespace hsm::inline HSM_ABI
