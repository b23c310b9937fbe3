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
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <hsm/attention/attention_layer.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/distributed/key_blocks.hpp>

namespace hsm::inline HSM_ABI::detail {

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
        window_(keys_seen(layer.window())),
        blocks_(shards, C_, H_, window_) {
    for (const Segment& segment : shards.segments())
      segments_.push_back({segment.first, segment.count, Segment::kFresh});
    arriving_ = shards.receives() ? segments_[0].count : 0;
  }

  /// y = mix(x), leaving in `saved` what backward needs; segments are recorded as fresh ones.
  void forward(const In& x, const Out& y, Saved& saved) {
    const Index N = x.count();
    saved.template start<AttentionState<Scalar>>(segments_, nullptr);
    saved.options = parameters_.options();
    set_size(saved.heads, 3 * C_ * N);
    set_size(saved.mixed, C_ * N);
    set_size(saved.log_sums, H_ * N);
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
      attend_segments<Scalar>(parameters_, std::span<const Segment>(segments_), memory, documents.data(),
                              workspace_);
    };
    blocks_.pass(
        memory, attend_own, [](std::size_t, Block&) {},
        [&](std::size_t, Block& block) { attend_block(memory, block); });
    write_tokens<Scalar>(parameters_.output, saved.mixed.data(), y, 0, N, workspace_.executor());
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
    std::vector<Block> returned = blocks_.expect_returned();
    const auto return_own = [&] {
      if (N == 0) return;
      return_output(parameters_.output, saved.mixed.data(), dy, d_mixed.data(), gradients.output,
                    workspace_.executor());
      attend_segments_backward<Scalar>(saved, memory, d_mixed.data(), d_joint.data(), nullptr, workspace_);
    };
    std::vector<Block> sums(blocks_.incoming().size()), sent(2 * sums.size());
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
    blocks_.pass(memory, return_own, expect_sum, [&](std::size_t i, Block& block) {
      Block& sum = sums[i];
      sum.pending.wait();
      return_block(memory, block, sum, d_mixed.data(), d_joint.data());
      const Index end = block.first + block.count,
                  next = blocks_.first_seen(block.owner, ranks_.rank() + 1, blocks_.arriving());
      blocks_.send(sum, sum.first, next, block.owner, sent[2 * i]);
      blocks_.send(sum, next, end, ranks_.rank() + 1, sent[2 * i + 1]);
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
    return_projection<Scalar>(parameters_.project, x, d_joint.data(), Write::kOverwrite, dx,
                              gradients.project, workspace_.executor());
  }

 private:
  /// How many tokens of its document lie before segment i.
  auto past() const {
    return [this](std::size_t i) { return i == 0 ? shards_.arriving() : Index{0}; };
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
    const std::ptrdiff_t size = attend_scratch<Scalar>(D_), each = size + kQueryTile * (D_ + 1);
    Scalar* scratch = frame.template take<Scalar>(each, workspace_.executor().workers());
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
    const std::ptrdiff_t size = BackwardScratch<Scalar>::size(D_, queries), each = size + queries * D_;
    Scalar* scratch = frame.template take<Scalar>(each, workspace_.executor().workers());
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
  KeyBlocks<Scalar> blocks_;
  std::vector<Segment> segments_;
  Index arriving_ = 0;  // queries of the document that goes on from the left, the first tokens
};

}  // namespace hsm::inline HSM_ABI::detail
