// SPDX-License-Identifier: MIT
//
// What a policy sees of the world: a run of `count` tokens of one document, the rows of some heads, and for
// each of its K taps one strided block. Tap 0 is the tokens themselves, tap k the tokens k s places before
// them. A policy knows nothing of time, batch, shift or threads.
//
//            local()       column t          read at t only
//   tap 0    tap(0, plane) column t          plane `plane` of what every tap reads
//   tap k    tap(k, plane) column t - k s    zeros, and present(k) false, where the document has no such token
//
// All blocks are (rows, count): `heads` heads from `first_head` on, rows_per_head() = C/H rows each. Heads lie
// one after another as they do in a token, in every plane alike: row i is of head first_head + i / (C/H) and of
// channel first_head * C/H + i, so a parameter with one value per channel is read from there on. A run covers
// neighbouring heads that mix at one distance: all of them where there is one shift, else some.
//
// What does not exist has no rows: local() of a policy without a local plane, planes that it does not have, and in a
// RunGradient the taps that are not present or not the call's to write. Where a tap is not present its values read
// as zeros, and `adjoint` must pass it by. adjoint_past is only called where tap 1 is there. Several threads may call
// one policy at a time, each with a run of its own.
#pragma once

#include <array>

#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// The most taps a policy can have.
inline constexpr Index kMostTaps = 16;
/// The most planes of C rows that a policy can keep per token.
inline constexpr Index kMostPlanes = 3;

namespace detail {

/// A block without its sizes; nullptr where there is none.
template <class Scalar>
struct StridedBlock {
  Scalar* data;
  Index stride;
};

/// The blocks of a run: S is const for values, not const for gradients.
template <class S>
struct RunBlocks {
  StridedBlock<S> local;
  std::array<std::array<StridedBlock<S>, kMostPlanes>, kMostTaps> taps;

  /// Moves all blocks on by `columns` columns, for taps first ... last: a long run is worked through in parts
  /// without being made anew.
  void advance(Index columns, Index first, Index last, int planes) {
    local.data += columns * local.stride;
    for (Index tap = first; tap <= last; ++tap) {
      for (int plane = 0; plane < planes; ++plane) {
        StridedBlock<S>& at = taps[static_cast<std::size_t>(tap)][static_cast<std::size_t>(plane)];
        at.data += columns * at.stride;
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
  /// core/nontemporal.hpp; it may as well not.
  bool nontemporal = false;

  /// C / H.
  Index rows_per_head() const { return rows / heads; }
  /// The projection that only token t itself reads, (rows, count); (0, count) where the policy has none.
  ConstColumns<Scalar> local() const { return block(blocks.local); }
  /// Plane `plane` of tap k, (rows, count).
  ConstColumns<Scalar> tap(Index k, Index plane = 0) const {
    return block(blocks.taps[static_cast<std::size_t>(k)][static_cast<std::size_t>(plane)]);
  }
  /// Whether the document has the tokens of this tap. Tap 0 always is.
  bool present(Index tap) const { return is_present[static_cast<std::size_t>(tap)]; }

  detail::RunBlocks<const Scalar> blocks;  ///< filled by the engine
  std::array<bool, kMostTaps> is_present;  ///< filled by the engine

 private:
  ConstColumns<Scalar> block(const detail::StridedBlock<const Scalar>& at) const {
    return {at.data, at.data ? rows : 0, count, Eigen::OuterStride<>(at.stride)};
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
  bool nontemporal = false;  ///< as in Run, for what the adjoint writes

  /// The gradient of local(), (rows, count); (0, count) where the policy has no local plane.
  Columns<Scalar> local() const { return block(blocks.local); }
  /// The gradient of plane `plane` of tap k, (rows, count); (0, count) where the tap is not present or another
  /// half of the adjoint writes it.
  Columns<Scalar> tap(Index k, Index plane = 0) const {
    return block(blocks.taps[static_cast<std::size_t>(k)][static_cast<std::size_t>(plane)]);
  }

  detail::RunBlocks<Scalar> blocks;  ///< filled by the engine

 private:
  Columns<Scalar> block(const detail::StridedBlock<Scalar>& at) const {
    return {at.data, at.data ? rows : 0, count, Eigen::OuterStride<>(at.stride)};
  }
};

}  // namespace hsm::inline HSM_ABI
