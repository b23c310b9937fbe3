// SPDX-License-Identifier: MIT
//
// Softmax attention over a sequence that is cut over ranks. Queries stay, keys and values go: each rank gives the keys and
// values of its own tokens to the right, and passes on what it got from the left, block after block, the nearest first. A
// block is attended to while the next one travels, and its result merged by the sums of weights:
//
//   L = log2(2^L_1 + 2^L_2),   out = 2^(L_1 - L) out_1 + 2^(L_2 - L) out_2
//
// No rank ever holds more than a few blocks, nor scores of more than a tile. With a window a block loses, at each rank, the
// tokens that nobody to the right sees, and goes no further than somebody sees it. Back goes the same, and beside each
// block the gradient of its keys and values, to which every rank adds; where a token is seen by no one further its
// gradient goes straight to its owner.
//
//   forth, to the right neighbour:   sum over blocks that it sees of  2 C tokens
//   back:                            the same; for all but the nearest block again as much; and 2 C for each of one's own tokens
//                                    that others saw, to its owner
//
// Equal to one rank within the bound of attention for cuts of time. Sources: online softmax arXiv 1805.02867; blocks of a
// sequence in a ring of processes arXiv 2310.01889, which has them go round; causal blocks need not.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <hsm/attention/attention_layer.hpp>
#include <hsm/core/elementwise.hpp>
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

/// One call of attention, forth or back.
template <class Scalar>
class RingAttention {
  using Block = KeyBlock<Scalar>;
  using In = Tokens<const Scalar>;
  using Out = Tokens<Scalar>;
  using Saved = AttentionSaved<Scalar>;

 public:
  RingAttention(const AttentionLayer<Scalar>& layer, const TokenShards& shards, Workspace& workspace)
      : parameters_(layer.parameters()),
        shards_(shards),
        ranks_(shards.ranks()),
        workspace_(workspace),
        C_(layer.channels()),
        H_(layer.heads()),
        D_(C_ / H_),
        window_(keys_seen(layer.window())) {
    for (const Segment& segment : shards.segments())
      segments_.push_back({segment.first, segment.count, Segment::kFresh});
    arriving_ = shards.receives() ? segments_[0].count : 0;
  }

  /// y = mix(x), leaving in `saved` what backward needs; segments are recorded as fresh ones.
  void forward(const In& x, const Out& y, Saved& saved) {
    const Index N = x.count();
    saved.sizes = {-1, -1, -1};
    saved.segments = segments_;
    saved.rotary = parameters_.rotary;
    saved.window = parameters_.window;
    saved.block = saved.top = 0;
    saved.heads.resize(3 * C_ * N);
    saved.mixed.resize(C_ * N);
    saved.log_sums.resize(H_ * N);
    saved.streams = Segment::kFresh;
    const HeadMemory<Scalar> memory{C_, H_, N, saved.heads.data(), saved.mixed.data(), saved.log_sums.data()};
    if (N > 0) {
      project_heads(parameters_.project, x, memory, workspace_);
      if (parameters_.rotary > 0)
        turn_segments(parameters_.rotary, std::span<const Segment>(segments_), memory, past(), workspace_);
    }
    const auto attend_own = [&] {
      if (N == 0) return;
      std::vector<DocumentKeys<Scalar>> documents;
      for (const Segment& segment : segments_)
        documents.push_back({memory.block(0, segment.first), memory.block(H_, segment.first), N * D_, 0});
      attend_segments({parameters_.window, 0, 0}, std::span<const Segment>(segments_), memory,
                      documents.data(), workspace_);
    };
    pass_blocks(
        memory, attend_own, [](std::size_t, Block&) {},
        [&](std::size_t, Block& block) { attend_block(memory, block); });
    if (N > 0) map_back(parameters_, saved.mixed.data(), x, y, workspace_);
    saved.sizes = x.shape();
  }

  /// The adjoint: dx is overwritten, gradients are added to.
  void backward(const In& x, const Saved& saved, const In& dy, const Out& dx, Attention<Scalar>& gradients) {
    const Index N = x.count();
    Workspace::Frame frame(workspace_);
    Columns<Scalar> d_mixed = frame.template columns<Scalar>(C_, N);
    Columns<Scalar> d_joint = frame.template columns<Scalar>(3 * C_, N);
    const HeadMemory<const Scalar> memory{
        C_, H_, N, saved.heads.data(), saved.mixed.data(), saved.log_sums.data()};
    std::vector<Block> returned = expect_returned();
    const auto return_own = [&] {
      if (N == 0) return;
      return_output(parameters_, x, saved, dy, d_mixed, gradients, workspace_.executor());
      attend_segments_backward<Scalar>(saved, memory, d_mixed.data(), d_joint.data(), nullptr, workspace_);
    };
    std::vector<Block> sums(incoming().size()), sent(2 * sums.size());
    const auto expect_sum = [&](std::size_t i, Block& block) {
      Block& sum = sums[i];
      sum.owner = block.owner;
      sum.first = block.first;
      sum.count = block.count;
      sum.resize(C_);
      if (block.owner + 1 < ranks_.rank()) {
        ranks_.receive(std::span(sum.values), ranks_.rank() - 1, sum.pending);
      } else {
        std::fill(sum.values.begin(), sum.values.end(), Scalar(0));
      }
    };
    pass_blocks(memory, return_own, expect_sum, [&](std::size_t i, Block& block) {
      Block& sum = sums[i];
      sum.pending.wait();
      return_block(memory, block, sum, d_mixed.data(), d_joint.data());
      const Index end = block.first + block.count,
                  next = first_seen(block.owner, ranks_.rank() + 1, arriving());
      send(sum, sum.first, next, block.owner, sent[2 * i]);
      send(sum, next, end, ranks_.rank() + 1, sent[2 * i + 1]);
      sum.values = {};
      if (i >= 2) sent[2 * i - 4].pending.wait(), sent[2 * i - 4].values = {};
      if (i >= 2) sent[2 * i - 3].pending.wait(), sent[2 * i - 3].values = {};
    });
    for (Block& part : returned) {
      part.pending.wait();
      add_returned(part, d_joint);
    }
    if (N == 0) return;
    if (parameters_.rotary > 0) turn_segments_back(saved, C_, H_, N, d_joint.data(), past(), workspace_);
    return_projection(parameters_, x, d_joint, dx, gradients, workspace_.executor());
  }

 private:
  /// A document: its first token of all, and behind its last.
  struct Document {
    Index first, end;
  };
  Document arriving() const { return {shards_.first() - shards_.arriving(), shards_.arriving_end()}; }
  Document leaving() const {
    return {shards_.first() + shards_.tokens() - shards_.leaving(), shards_.leaving_end()};
  }
  /// How many tokens of its document lie before segment i.
  auto past() const {
    return [this](std::size_t i) { return i == 0 ? shards_.arriving() : Index{0}; };
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
  void pass_blocks(const HeadMemory<S>& memory, First&& first, Expect&& expect, Visit&& visit) {
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

  /// How many of the arriving document's queries see a key of the block, the first ones, and the place of the first query
  /// from the block's first key on.
  Index seeing(const Block& block) const {
    return std::clamp(block.count - 1 + window_ - place(block), Index{0}, arriving_);
  }
  Index place(const Block& block) const { return shards_.first() - block.first; }

  /// Merges what the queries of the arriving document see in a block.
  void attend_block(const HeadMemory<Scalar>& memory, Block& block) {
    const Index queries = seeing(block), tiles = (queries + kQueryTile - 1) / kQueryTile;
    if (queries == 0) return;
    Workspace::Frame frame(workspace_);
    const Index size = attend_scratch<Scalar>(D_), each = size + kQueryTile * (D_ + 1);
    Scalar* scratch = frame.template take<Scalar>(each * workspace_.executor().workers());
    parallel_blocks(workspace_.executor(), H_ * tiles, 1, [&](Index task, Index, int worker) {
      const Index h = task / tiles, first = task % tiles * kQueryTile;
      const Index count = (std::min)(kQueryTile, queries - first);
      Scalar* out = scratch + worker * each;
      Scalar* log_sums = out + kQueryTile * D_;
      const HeadTokens<Scalar> head{memory.queries(h, first), block.block(h, D_), block.block(H_ + h, D_),
                                    window_, block.count};
      attend(D_, Index{0}, count, place(block) + first, head, HeadResults<Scalar>{out, D_, log_sums},
             log_sums + kQueryTile);
      for (Index i = 0; i < count; ++i) {
        Scalar& total = *memory.log_sum(h, first + i);
        const Scalar larger = (std::max)(total, log_sums[i]);
        const Scalar held = std::exp2(total - larger), more = std::exp2(log_sums[i] - larger);
        const Scalar inverse = Scalar(1) / (held + more);
        Scalar* own = memory.mixed + (first + i) * C_ + h * D_;
        for (Index d = 0; d < D_; ++d) own[d] = (held * own[d] + more * out[i * D_ + d]) * inverse;
        total = larger + std::log2(held + more);
      }
    });
  }

  /// What the queries of the arriving document give to a block, added to `sum`, and get from it, added to d_joint.
  void return_block(const HeadMemory<const Scalar>& memory, Block& block, Block& sum, const Scalar* d_mixed,
                    Scalar* d_joint) {
    const Index queries = seeing(block);
    if (queries == 0) return;
    Workspace::Frame frame(workspace_);
    const Index size = BackwardScratch<Scalar>::size(D_, queries), each = size + queries * D_;
    Scalar* scratch = frame.template take<Scalar>(each * workspace_.executor().workers());
    parallel_blocks(workspace_.executor(), H_, 1, [&](Index h, Index, int worker) {
      Scalar* d_queries = scratch + worker * each;
      const HeadTokens<Scalar> head{memory.queries(h, 0), block.block(h, D_), block.block(H_ + h, D_),
                                    window_, block.count};
      attend_backward<Scalar>(
          D_, queries, place(block), head,
          HeadForward<Scalar>{memory.mixed + h * D_, d_mixed + h * D_, C_, memory.log_sum(h, 0)},
          HeadGradients<Scalar>{d_queries, nullptr, nullptr, D_, sum.block(h, D_), sum.block(H_ + h, D_)},
          d_queries + queries * D_);
      for (Index i = 0; i < queries; ++i) {
        Scalar* own = d_joint + i * 3 * C_ + h * D_;
        for (Index d = 0; d < D_; ++d) own[d] += d_queries[i * D_ + d];
      }
    });
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
  void add_returned(Block& part, Columns<Scalar> d_joint) const {
    for (Index b = 0; part.count > 0 && b < 2 * H_; ++b) {
      for (Index i = 0; i < part.count; ++i) {
        Scalar* own = at(d_joint, C_ + b * D_, part.first - shards_.first() + i);
        add(D_, part.block(b, D_) + i * D_, own, own);
      }
    }
  }

  const Attention<Scalar>& parameters_;
  const TokenShards& shards_;
  Communicator& ranks_;
  Workspace& workspace_;
  const Index C_, H_, D_, window_;
  std::vector<Segment> segments_;
  Index arriving_ = 0;  // queries of the document that goes on from the left, the first tokens
};

}  // namespace hsm::inline HSM_ABI::detail
