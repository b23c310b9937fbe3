// SPDX-License-Identifier: MIT
//
// Blocks of keys and values of a sequence that is cut over ranks, on their way from each rank to the right, and which of
// their tokens go how far; see ring_attention.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <hsm/attention/segment_passes.hpp>
#include <hsm/distributed/token_shards.hpp>

namespace hsm::inline HSM_ABI::detail {

/// The keys and values, or their gradients, of tokens `first` ... `first` + `count` - 1 of all, of one rank: [2H][count][D].
template <class Scalar>
struct KeyBlock {
  int owner = 0;
  Index first = 0, count = 0;
  std::vector<Scalar> values;
  Communicator::Pending pending;  // destroyed first

  void resize(Index C) { values.resize(static_cast<std::size_t>(2 * C * count)); }
  Scalar* block(Index b, Index width) { return values.data() + b * count * width; }
};

/// The blocks that a rank gives, passes on and gets.
template <class Scalar>
class KeyBlocks {
 public:
  using Block = KeyBlock<Scalar>;

  /// For C channels, H heads, and queries that see `window` keys at most.
  KeyBlocks(const TokenShards& shards, Index C, Index H, Index window)
      : shards_(shards), ranks_(shards.ranks()), C_(C), H_(H), D_(C / H), window_(window) {}

  /// A document: its first token of all, and behind its last.
  struct Document {
    Index first, end;
  };
  Document arriving() const { return {shards_.first() - shards_.arriving(), shards_.arriving_end()}; }
  Document leaving() const {
    return {shards_.first() + shards_.tokens() - shards_.leaving(), shards_.leaving_end()};
  }
  /// The first token of `owner` that rank r or one behind it sees; behind its last one where none.
  Index first_seen(int owner, int r, const Document& document) const {
    const Index end = shards_.first(owner + 1);
    if (r >= ranks_.size() || shards_.first(r) >= document.end) return end;
    const Index first = (std::max)({shards_.first(owner), document.first, shards_.first(r) + 1 - window_});
    return (std::min)(first, end);
  }
  /// The blocks that come, in their order: owners.
  std::vector<int> incoming() const {
    std::vector<int> owners;
    if (!shards_.receives()) return owners;
    for (int owner = ranks_.rank() - 1; owner >= 0; --owner) {
      if (first_seen(owner, ranks_.rank(), arriving()) < shards_.first(owner + 1)) owners.push_back(owner);
    }
    return owners;
  }

  /// Sends what `from` has of tokens first ... end - 1 of all; `to` keeps it until it has left.
  void send(Block& from, Index first, Index end, int rank, Block& to) {
    to.first = first;
    to.count = (std::max)(end - first, Index{0});
    to.pending.wait();
    to.resize(C_);
    for (Index b = 0; to.count > 0 && b < 2 * H_; ++b)
      std::copy_n(from.block(b, D_) + (first - from.first) * D_, to.count * D_, to.block(b, D_));
    ranks_.send(std::span<const Scalar>(to.values), rank, to.pending);
  }

  /// Gives the own block to the right and passes on those that come, each before visit(i, block) is called; expect(i, block)
  /// where one has come, before the next is waited for. `first` is done while the first one travels.
  template <class S, class First, class Expect, class Visit>
  void pass(const HeadMemory<S>& memory, First&& first, Expect&& expect, Visit&& visit) {
    const int rank = ranks_.rank();
    const std::vector<int> owners = incoming();
    std::array<Block, 2> in, out;
    const auto receive = [&](std::size_t i) {
      if (i >= owners.size()) return;
      Block& block = in[i % 2];
      block.owner = owners[i];
      block.first = first_seen(owners[i], rank, arriving());
      block.count = shards_.first(owners[i] + 1) - block.first;
      block.resize(C_);
      ranks_.receive(std::span(block.values), rank - 1, block.pending);
    };
    receive(0);
    Block own;
    if (shards_.sends()) {
      const Index end = shards_.first() + shards_.tokens();
      own.first = first_seen(rank, rank + 1, leaving());
      own.count = end - own.first;
      own.resize(C_);
      for (Index b = 0; own.count > 0 && b < 2 * H_; ++b)
        std::copy_n(memory.block(b, own.first - shards_.first()), own.count * D_, own.block(b, D_));
      ranks_.send(std::span<const Scalar>(own.values), rank + 1, own.pending);
    }
    first();
    for (std::size_t i = 0; i < owners.size(); ++i) {
      Block& block = in[i % 2];
      block.pending.wait();
      const Index end = block.first + block.count;
      send(block, first_seen(block.owner, rank + 1, arriving()), end, rank + 1, out[i % 2]);
      expect(i, block);
      receive(i + 1);
      visit(i, block);
    }
  }

  /// Begins to receive the gradients of own keys and values, from the last ranks that saw them.
  std::vector<Block> expect_returned() {
    const int rank = ranks_.rank();
    std::vector<Block> parts(static_cast<std::size_t>(shards_.sends() ? ranks_.size() - rank - 1 : 0));
    if (parts.empty()) return parts;
    for (int r = rank + 1; r < ranks_.size(); ++r) {
      Block& part = parts[static_cast<std::size_t>(r - rank - 1)];
      part.first = first_seen(rank, r, leaving());
      part.count = first_seen(rank, r + 1, leaving()) - part.first;
      part.resize(C_);
      ranks_.receive(std::span(part.values), r, part.pending);
    }
    return parts;
  }

 private:
  const TokenShards& shards_;
  Communicator& ranks_;
  const Index C_, H_, D_, window_;
};

}  // namespace hsm::inline HSM_ABI::detail
