// SPDX-License-Identifier: MIT
//
// Ranks as the processes of a training run (training/processes.hpp): groups of N ranks in a row, N = 1 where no sequence is
// cut. The windows that a group takes are one sequence of as many documents, cut into N parts of equal length: at most one
// window goes on from rank to rank, and where N divides the windows none does.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <hsm/distributed/sharded_model.hpp>
#include <hsm/training/processes.hpp>

namespace hsm::inline HSM_ABI::detail {

template <class Model>
class RankProcesses {
 public:
  /// Collective. `sequence_ranks` divide the ranks.
  RankProcesses(Communicator& ranks, int sequence_ranks) : ranks_(ranks), sequence_ranks_(sequence_ranks) {
    if (sequence_ranks > 1) sequence_.emplace(ranks, ranks.rank() / sequence_ranks);
  }
  Index groups() const { return ranks_.size() / sequence_ranks_; }
  Index group() const { return ranks_.rank() / sequence_ranks_; }
  bool all(bool yes) {
    std::int64_t no = yes ? 0 : 1;
    ranks_.sum(std::span(&no, 1));
    return no == 0;
  }
  double of_first(double value) {
    ranks_.broadcast(std::span(&value, 1), 0);
    return value;
  }
  void sum(CrossEntropy& loss) {
    double both[] = {loss.sum, static_cast<double>(loss.count)};
    ranks_.sum(std::span<double>(both));
    loss = {both[0], static_cast<Index>(both[1])};
  }

  /// Sums are made while the backward pass goes on.
  CrossEntropy gradients(const Model& model, const WindowBatch& own, const Dropout& dropout,
                         Index batch_targets, Model& gradients, Workspace& workspace) {
    GradientSum sum(ranks_);
    CrossEntropy loss;
    if (sequence_) {
      const TokenShards shards = cut(own);
      ShardPass pass = part_of(own, shards);
      pass.dropout = dropout;
      pass.dropout.first += shards.first();
      loss = shard_gradients(pass, model, batch_targets == 0 ? 0.0 : 1.0 / static_cast<double>(batch_targets),
                             saved_, gradients, workspace, &sum);
    } else {
      loss = language_model_gradients(model, own.ids, own.targets, own.count, own.time, saved_.record,
                                      gradients, workspace, dropout, batch_targets, CompleteGradients(sum));
    }
    sum.finish();
    return loss;
  }
  CrossEntropy loss(const Model& model, const WindowBatch& own, Workspace& workspace) {
    if (!sequence_) {
      return language_model_loss(model, own.ids, own.targets, own.count, own.time, saved_.record, workspace);
    }
    const TokenShards shards = cut(own);
    return shard_loss(part_of(own, shards), model, saved_, workspace);
  }

 private:
  TokenShards cut(const WindowBatch& own) {
    std::vector<Index> offsets;
    for (Index i = 0; i <= own.count; ++i) offsets.push_back(i * own.time);
    const Index n = sequence_->size(), r = sequence_->rank(), all = offsets.back();
    return TokenShards(*sequence_, all / n + (r < all % n ? 1 : 0), offsets);
  }
  static ShardPass part_of(const WindowBatch& own, const TokenShards& shards) {
    const auto part = [&](std::span<const std::int32_t> all) {
      return all.subspan(static_cast<std::size_t>(shards.first()), static_cast<std::size_t>(shards.tokens()));
    };
    return {"train_over_ranks", shards, part(own.ids), part(own.targets)};
  }

  Communicator& ranks_;
  const int sequence_ranks_;
  std::optional<Communicator> sequence_;  // those of the own group
  ShardedModelSaved<Model> saved_;
};

}  // namespace hsm::inline HSM_ABI::detail
