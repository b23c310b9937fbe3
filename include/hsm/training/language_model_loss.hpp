// SPDX-License-Identifier: MIT
//
// The next-token loss of a language model, alone and with all its gradients:
//
//   loss = mean over targets != -1 of -log softmax(E h[t])[target[t]]      in nats
//
// Logits exist for a block of tokens at a time (kLogitBytes), never [V, B T]: their loss, their gradient, the
// gradient of E and of h follow while the block is in cache. 6 flop per parameter and token for loss and
// gradients together.
#pragma once

#include <concepts>
#include <type_traits>

#include <hsm/model/language_model.hpp>
#include <hsm/training/cross_entropy.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

inline constexpr Index kLogitBytes = Index{4} << 20;

/// Calls f(first, n, h, logits, targets) for blocks of tokens whose logits have been computed.
template <class Model, class F>
void for_each_logit_block(const Model& model, const typename Model::Saved& saved,
                          std::span<const std::int32_t> targets, Workspace& workspace, F&& f) {
  using Scalar = typename Model::Scalar;
  const Index V = model.config().vocabulary, C = model.config().width, N = saved.hidden.cols();
  const Index block =
      std::clamp<Index>(kLogitBytes / static_cast<Index>(sizeof(Scalar)) / V / 64 * 64, 64, 4096);
  Workspace::Frame frame(workspace);
  Scalar* buffer = frame.template take<Scalar>(V * (std::min)(block, N));
  for (Index first = 0; first < N; first += block) {
    const Index n = (std::min)(block, N - first);
    const ConstColumns<Scalar> h(saved.hidden.data() + first * C, C, n, Eigen::OuterStride<>(C));
    const Columns<Scalar> logits(buffer, V, n, Eigen::OuterStride<>(V));
    model.logits(h, logits, workspace);
    f(first, n, h, logits, targets.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n)));
  }
}

/// The summed loss of the tokens of a record. d_hidden [C, N] becomes the gradient of `scale` times it, and what goes
/// through the logits is added to that of E.
template <class Model>
CrossEntropy hidden_gradient(const Model& model, const typename Model::Saved& saved,
                             std::span<const std::int32_t> targets, double scale,
                             Columns<typename Model::Scalar> d_hidden, Model& gradients,
                             Workspace& workspace) {
  using Scalar = typename Model::Scalar;
  CrossEntropy total;
  Vector<Scalar> no_bias;
  for_each_logit_block(
      model, saved, targets, workspace,
      [&](Index first, Index n, const auto& h, const auto& logits, auto part) {
        total += cross_entropy_gradient(logits, part, scale, workspace.executor());
        const Columns<Scalar> dh(at(d_hidden, 0, first), h.rows(), n, Eigen::OuterStride<>(h.rows()));
        product_transposed<Scalar>(model.embedding().weight, read(logits), Write::kOverwrite, dh,
                                   workspace.executor());
        product_outer<Scalar>(read(logits), h, gradients.embedding().weight, no_bias, workspace.executor());
      });
  return total;
}

}  // namespace detail

/// The summed loss of B sequences of T tokens. `losses`, where given, takes the loss of every token [B T];
/// `dropout` is that of a training step.
/// Throws std::out_of_range for ids or targets outside [0,V) (targets: [-1,V)), std::invalid_argument for
/// lists of another length.
template <class Model>
CrossEntropy language_model_loss(const Model& model, std::span<const std::int32_t> ids,
                                 std::span<const std::int32_t> targets, Index B, Index T,
                                 typename Model::Saved& saved, Workspace& workspace,
                                 std::span<double> losses = {}, const Dropout& dropout = {}) {
  constexpr const char* kWho = "language_model_loss";
  detail::check_targets(kWho, targets, model.config().vocabulary, detail::count_tokens(kWho, B, T), losses);
  model.hidden(ids, B, T, saved, workspace, dropout);
  CrossEntropy total;
  detail::for_each_logit_block(model, saved, targets, workspace,
                               [&](Index first, Index n, const auto&, const auto& logits, auto part) {
                                 const auto part_losses =
                                     losses.empty() ? losses
                                                    : losses.subspan(static_cast<std::size_t>(first),
                                                                     static_cast<std::size_t>(n));
                                 total += cross_entropy(logits, part, workspace.executor(), part_losses);
                               });
  return total;
}

/// The same, and adds the gradient of the mean loss to `gradients`: the mean over these targets, or, where they are a part
/// of a batch, over the `batch_targets` of all of it that are not -1. `exchange` is told which gradients are complete
/// (model/exchange.hpp). Throws as above, and std::invalid_argument for gradients of another config or that are
/// the model itself, with nothing added.
template <class Model, class Exchange = NoExchange>
CrossEntropy language_model_gradients(const Model& model, std::span<const std::int32_t> ids,
                                      std::span<const std::int32_t> targets, Index B, Index T,
                                      typename Model::Saved& saved, Model& gradients, Workspace& workspace,
                                      const Dropout& dropout = {}, Index batch_targets = 0,
                                      Exchange&& exchange = {}) {
  using Scalar = typename Model::Scalar;
  constexpr const char* kWho = "language_model_gradients";
  const Index N = detail::count_tokens(kWho, B, T);
  detail::check_targets(kWho, targets, model.config().vocabulary, N, {});
  model.check_gradients(kWho, gradients);
  model.hidden(ids, B, T, saved, workspace, dropout);
  const Index count = batch_targets > 0 ? batch_targets : count_targets(targets);
  const double scale = count == 0 ? 0.0 : 1.0 / static_cast<double>(count);
  Workspace::Frame frame(workspace);
  const Columns<Scalar> d_hidden = frame.template columns<Scalar>(model.config().width, N);
  const CrossEntropy total =
      detail::hidden_gradient(model, saved, targets, scale, d_hidden, gradients, workspace);
  if constexpr (std::same_as<std::remove_cvref_t<Exchange>, NoExchange>)
    model.backward(ids, saved, detail::read(d_hidden), gradients, workspace);
  else
    model.backward(ids, saved, detail::read(d_hidden), gradients, workspace, nullptr, exchange);
  return total;
}

}  // namespace hsm::inline HSM_ABI
