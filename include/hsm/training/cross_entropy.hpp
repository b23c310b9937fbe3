// SPDX-License-Identifier: MIT
//
// Softmax cross-entropy of next-token prediction, and its gradient written over the logits.
//
//   loss[t]      = log(sum_v exp(z[v,t] - m)) + m - z[target[t], t],    m = max_v z[v,t]      in nats, >= 0
//   dloss/dz     = scale (softmax(z[:,t]) - [v = target[t]])
//   shapes       logits z (V, n), one column per token, columns any stride apart; targets [n]
//
// A target of -1 is ignored: no loss, not counted, gradient 0. Subtracting the maximum makes every exponent
// at most 0, so no finite logit overflows. A column with NaN, with +infinity, or of -infinity alone has loss
// NaN; -infinity beside finite logits is probability 0. Cost: O(V n), one read of the logits (and one write
// for the gradient) as long as a column fits in cache. Sums are taken per column and then over columns in
// double and in a fixed order: the number of threads changes no bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <hsm/core/check.hpp>
#include <hsm/core/elementwise.hpp>
#include <hsm/core/executor.hpp>
#include <hsm/core/types.hpp>

namespace hsm::inline HSM_ABI {

/// The target that is not predicted.
inline constexpr std::int32_t kIgnoredTarget = -1;

/// The summed loss of some tokens, in nats. Results of several batches add up.
struct CrossEntropy {
  double sum = 0;   ///< of -log p(target) over the tokens that count
  Index count = 0;  ///< tokens with a target other than -1

  /// Mean loss per counted token, in nats; 0 where nothing counts.
  double mean() const { return count == 0 ? 0.0 : sum / static_cast<double>(count); }

  /// Adds the tokens of `other`.
  CrossEntropy& operator+=(const CrossEntropy& other) {
    sum += other.sum;
    count += other.count;
    return *this;
  }
};

/// How many targets are not -1: `1.0 / count` is the scale of a mean loss.
inline Index count_targets(std::span<const std::int32_t> targets) {
  return static_cast<Index>(targets.size()) -
         static_cast<Index>(std::count(targets.begin(), targets.end(), kIgnoredTarget));
}

namespace detail {

/// Checks everything before anything is written.
inline void check_targets(const char* who, std::span<const std::int32_t> targets, Index V, Index n,
                          std::span<double> losses) {
  check_equal(who, "the number of targets", static_cast<Index>(targets.size()), n);
  if (!losses.empty()) check_equal(who, "the number of losses", static_cast<Index>(losses.size()), n);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] < kIgnoredTarget || targets[i] >= V) {
      detail::raise<std::out_of_range>(std::string(who) + ": target " + std::to_string(targets[i]) +
                                       " at position " + std::to_string(i) +
                                       " must be -1 or in [0, V), V = " + std::to_string(V));
    }
  }
}

/// max_i x[i], n >= 1, of the elements that are not NaN.
template <class Scalar>
Scalar largest_logit(Index n, const Scalar* x) {
  constexpr Index kLanes = 32;
  Scalar lanes[kLanes];
  std::fill(lanes, lanes + kLanes, x[0]);
  const Index whole = n - n % kLanes;
  for (Index i = 0; i < whole; i += kLanes) {
    for (Index j = 0; j < kLanes; ++j) lanes[j] = lanes[j] < x[i + j] ? x[i + j] : lanes[j];
  }
  for (Index i = whole; i < n; ++i) lanes[i - whole] = lanes[i - whole] < x[i] ? x[i] : lanes[i - whole];
  return *std::max_element(lanes, lanes + kLanes);
}

/// The exponentials are taken in blocks of this many, beside the logits and not over them: in a buffer of
/// their own the compiler knows that they overlap nothing.
inline constexpr Index kSoftmaxBlock = 512;

/// block[i] = exp(x[i] - shift), i < n, as the weights of a softmax are; returns their sum.
template <class Scalar>
double shifted_exps(Index n, const Scalar* x, Scalar shift, Scalar (&block)[kSoftmaxBlock]) {
  constexpr Index kLanes = 16;
  for (Index i = 0; i < n; ++i) block[i] = x[i] - shift;
  softmax_weights(n, block, block);
  Scalar lanes[kLanes] = {};
  const Index whole = n - n % kLanes;
  for (Index i = 0; i < whole; i += kLanes) {
    for (Index j = 0; j < kLanes; ++j) lanes[j] += block[i + j];
  }
  for (Index i = whole; i < n; ++i) lanes[i - whole] += block[i];
  double sum = 0;
  for (const Scalar lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

/// -log softmax(z)[target] of one column.
template <class Scalar>
double column_loss(Index V, const Scalar* z, std::int32_t target) {
  Scalar block[kSoftmaxBlock];
  const Scalar shift = largest_logit(V, z);
  double sum = 0;
  for (Index v = 0; v < V; v += kSoftmaxBlock) {
    sum += shifted_exps((std::min)(kSoftmaxBlock, V - v), z + v, shift, block);
  }
  return std::log(sum) + (static_cast<double>(shift) - static_cast<double>(z[target]));
}

/// The same, and z becomes scale (softmax(z) - [v = target]).
template <class Scalar>
double column_gradient(Index V, Scalar* z, std::int32_t target, double scale) {
  Scalar block[kSoftmaxBlock];
  const Scalar shift = largest_logit(V, z);
  const double distance = static_cast<double>(shift) - static_cast<double>(z[target]);
  double sum = 0;
  for (Index v = 0; v < V; v += kSoftmaxBlock) {
    const Index n = (std::min)(kSoftmaxBlock, V - v);
    sum += shifted_exps(n, z + v, shift, block);
    std::copy(block, block + n, z + v);
  }
  const Scalar factor = static_cast<Scalar>(scale / sum);
  for (Index v = 0; v < V; ++v) z[v] *= factor;
  z[target] -= static_cast<Scalar>(scale);
  return std::log(sum) + distance;
}

/// Calls column(t) -> loss for each counted token and ignored(t) for the others, some columns per task, and
/// adds up the losses in the order of tokens.
template <class Column, class Ignored>
CrossEntropy sum_token_losses(Index V, std::span<const std::int32_t> targets, std::span<double> losses,
                              Executor& executor, Column&& column, Ignored&& ignored) {
  constexpr Index kTaskElements = Index{1} << 15;  // some 20 us of work
  std::vector<double> own;
  if (losses.empty()) {
    own.resize(targets.size());
    losses = own;
  }
  const Index block = (std::max)(Index{1}, kTaskElements / (std::max)(Index{1}, V));
  parallel_blocks(executor, static_cast<Index>(targets.size()), block, [&](Index first, Index size, int) {
    for (Index t = first; t < first + size; ++t) {
      const auto i = static_cast<std::size_t>(t);
      losses[i] = 0;
      if (targets[i] == kIgnoredTarget) {
        ignored(t);
      } else {
        losses[i] = column(t, targets[i]);
      }
    }
  });
  CrossEntropy result;
  result.count = count_targets(targets);
  for (const double loss : losses) result.sum += loss;
  return result;
}

}  // namespace detail

/// Loss of each token and their sum. `losses` is empty or takes the loss [n] of each token, 0 where ignored.
/// Throws std::out_of_range for a target outside [-1, V), std::invalid_argument for wrong sizes.
template <ComputeScalar Scalar>
CrossEntropy cross_entropy(ConstColumns<Scalar> logits, std::span<const std::int32_t> targets,
                           Executor& executor, std::span<double> losses = {}) {
  const Index V = logits.rows();
  detail::check_targets("cross_entropy", targets, V, logits.cols(), losses);
  return detail::sum_token_losses(
      V, targets, losses, executor,
      [&](Index t, std::int32_t target) {
        return detail::column_loss(V, logits.data() + t * logits.outerStride(), target);
      },
      [](Index) {});
}

/// The same for a writable block.
template <ComputeScalar Scalar>
CrossEntropy cross_entropy(Columns<Scalar> logits, std::span<const std::int32_t> targets, Executor& executor,
                           std::span<double> losses = {}) {
  const ConstColumns<Scalar> view(logits.data(), logits.rows(), logits.cols(),
                                  Eigen::OuterStride<>(logits.outerStride()));
  return cross_entropy(view, targets, executor, losses);
}

/// The same loss, and the logits are replaced by the gradient of `scale` times its sum. For the mean over a
/// batch `scale` is 1 / count_targets(all targets of the batch), also when the batch is worked through in
/// parts. Throws as cross_entropy does, before anything is written; columns must not overlap.
template <ComputeScalar Scalar>
CrossEntropy cross_entropy_gradient(Columns<Scalar> logits, std::span<const std::int32_t> targets,
                                    double scale, Executor& executor, std::span<double> losses = {}) {
  const char* who = "cross_entropy_gradient";
  const Index V = logits.rows();
  detail::check_targets(who, targets, V, logits.cols(), losses);
  if (logits.cols() > 1) detail::check_at_least(who, "the stride of columns", logits.outerStride(), V);
  const auto column = [&](Index t) { return logits.data() + t * logits.outerStride(); };
  return detail::sum_token_losses(
      V, targets, losses, executor,
      [&](Index t, std::int32_t target) { return detail::column_gradient(V, column(t), target, scale); },
      [&](Index t) { std::fill(column(t), column(t) + V, Scalar(0)); });
}

}  // namespace hsm::inline HSM_ABI
