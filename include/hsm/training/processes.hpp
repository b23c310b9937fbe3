// SPDX-License-Identifier: MIT
//
// The processes of a training run: one. Others (distributed/rank_processes.hpp) share each batch and the windows of a
// validation, and say the same; all of them make every call in the same order.
#pragma once

#include <cstdint>
#include <span>

#include <hsm/training/language_model_loss.hpp>

namespace hsm::inline HSM_ABI::detail {

/// Windows of tokens and their targets, [count, time] each.
struct WindowBatch {
  std::span<const std::int32_t> ids, targets;
  Index count = 0, time = 0;
};

/// One process has all windows.
template <class Model>
class OneProcess {
 public:
  /// Windows are shared by groups of processes, which divide the batch: how many there are, and the number of the own one.
  Index groups() const { return 1; }
  Index group() const { return 0; }
  /// Whether it is so on all of them.
  bool all(bool yes) { return yes; }
  /// The value of process 0.
  double of_first(double value) { return value; }
  /// Becomes the sum of all.
  void sum(CrossEntropy&) {}

  /// The loss of what this process has of the windows of its group. `gradients`, zeros before, become those of the mean
  /// loss of the batch, which has `batch_targets` targets.
  CrossEntropy gradients(const Model& model, const WindowBatch& own, const Dropout& dropout,
                         Index batch_targets, Model& gradients, Workspace& workspace) {
    return language_model_gradients(model, own.ids, own.targets, own.count, own.time, saved_, gradients,
                                    workspace, dropout, batch_targets);
  }
  /// The same loss alone, without dropout.
  CrossEntropy loss(const Model& model, const WindowBatch& own, Workspace& workspace) {
    return language_model_loss(model, own.ids, own.targets, own.count, own.time, saved_, workspace);
  }

 private:
  typename Model::Saved saved_;
};

}  // namespace hsm::inline HSM_ABI::detail
