// SPDX-License-Identifier: MIT
//
// Sums of gradients over ranks, made while the backward pass goes on: a part of a model whose gradients are complete
// (model/exchange.hpp) is given away, and what is together some megabytes, a bucket, leaves.
//
//   hsm::GradientSum sum(ranks);
//   hsm::language_model_gradients(model, ids, targets, B, T, saved, gradients, workspace, {}, all_targets,
//                                 hsm::CompleteGradients(sum));
//   sum.finish();                                        // or, all at once: hsm::sum_over_ranks(ranks, gradients);
//
// Which tensors travel together and in which order is settled by the model alone, so one number of ranks gives the same
// bits each time, however long messages take. A tensor larger than a bucket goes by itself, in place; others are copied,
// and a few buckets are under way at a time. MPI goes on with them when the next part comes.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <list>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <hsm/distributed/communicator.hpp>
#include <hsm/model/exchange.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// Tensors of one scalar that are summed together.
template <class Scalar>
class TensorSum {
  struct Bucket {
    std::vector<Scalar> values;
    std::vector<std::span<Scalar>> tensors;  // whose values they are
    Communicator::Pending pending;           // destroyed first
  };
  static constexpr std::size_t kUnderWay = 8;

 public:
  TensorSum(Communicator& ranks, Index bucket_bytes)
      : ranks_(ranks), most_(static_cast<std::size_t>(bucket_bytes) / sizeof(Scalar)) {}

  /// Begins to sum a tensor, at once or with those that follow.
  void add(std::span<Scalar> values) {
    if (values_.size() + values.size() > most_) leave();
    if (values.size() > most_) return ranks_.begin_sum(values, next().pending);
    values_.insert(values_.end(), values.begin(), values.end());
    tensors_.push_back(values);
  }
  /// Puts back what has arrived.
  void progress() {
    while (!under_way_.empty() && under_way_.front().pending.done()) put_back();
  }
  /// Waits for all.
  void finish() {
    leave();
    while (!under_way_.empty()) put_back();
  }

 private:
  void leave() {
    if (tensors_.empty()) return;
    Bucket& bucket = next();
    bucket.values = std::exchange(values_, {});
    bucket.tensors = std::exchange(tensors_, {});
    ranks_.begin_sum(std::span<Scalar>(bucket.values), bucket.pending);
  }
  Bucket& next() {
    if (under_way_.size() == kUnderWay) put_back();
    return under_way_.emplace_back();
  }
  void put_back() {
    Bucket& bucket = under_way_.front();
    bucket.pending.wait();
    auto from = bucket.values.cbegin();
    for (const std::span<Scalar> values : bucket.tensors) {
      std::copy_n(from, values.size(), values.begin());
      from += static_cast<std::ptrdiff_t>(values.size());
    }
    under_way_.pop_front();
  }

  Communicator& ranks_;
  const std::size_t most_;
  std::vector<Scalar> values_;
  std::vector<std::span<Scalar>> tensors_;  // whose values have not left
  std::list<Bucket> under_way_;
};

}  // namespace detail

/// Gradients on their way to become the sums of those of all ranks; see the file comment. Between the first add() and
/// finish() tensors that were given must stay, and nobody else reads or writes them.
class GradientSum {
 public:
  /// The ranks, which must outlive this, and how many bytes travel together.
  explicit GradientSum(Communicator& ranks, Index bucket_bytes = Index{1} << 22)
      : in_float_(ranks, bucket_bytes), in_double_(ranks, bucket_bytes) {}

  /// Collective, each rank with its own of the same part: anything with visit. Throws std::runtime_error where MPI fails.
  template <class Part>
  void add(Part& part) {
    Part::visit(
        [&](std::string_view, auto& tensor) {
          const std::span values(tensor.data(), static_cast<std::size_t>(tensor.size()));
          if constexpr (std::same_as<typename decltype(values)::value_type, float>) {
            in_float_.add(values);
          } else {
            in_double_.add(values);
          }
        },
        part);
    in_float_.progress();
    in_double_.progress();
  }
  /// Collective. Waits until all that was added is summed, the same bits on each rank.
  void finish() {
    in_float_.finish();
    in_double_.finish();
  }

 private:
  detail::TensorSum<float> in_float_;
  detail::TensorSum<double> in_double_;
};

/// What language_model_gradients needs to give gradients to a sum as they become complete.
struct CompleteGradients : NoExchange {
  /// `all` must outlive it.
  explicit CompleteGradients(GradientSum& all) : sum(&all) {}
  /// Adds them.
  template <class Part>
  void complete(Part& part) {
    sum->add(part);
  }
  GradientSum* sum;  ///< what they are given to
};

/// Collective. Every tensor of `parameters` (anything with visit: gradients of a mixer or a model) becomes the sum of
/// those of all ranks, the same bits on each. Tensors travel together, some megabytes at a time.
template <class Parameters>
void sum_over_ranks(Communicator& ranks, Parameters& parameters) {
  GradientSum sum(ranks);
  sum.add(parameters);
  sum.finish();
}

}  // namespace hsm::inline HSM_ABI
