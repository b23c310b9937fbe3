// SPDX-License-Identifier: MIT
//
// Training over ranks that share each batch: every rank holds the model and the texts and draws the same B windows,
// and takes B / n of them in a row, n the number of ranks. Where windows are long, a group of N ranks takes B N / n of them,
// cut along time (token_shards.hpp).
//
//   gradient = sum over ranks of d/dw (sum of the losses of its windows / targets of the whole batch)
//
//   hsm::run_ranks(argc, argv, [&](hsm::Communicator& ranks) {
//     hsm::train_over_ranks(ranks, model, state, text, validation, workspace,
//                           [&](const hsm::TrainingProgress& p) { if (ranks.rank() == 0) ...; return true; });
//     return 0;
//   });
//
// All ranks then take the same step, so that their weights stay equal bit for bit. The run is that of one process but for
// the order in which gradients are added: the same windows, the same dropout, losses equal within rounding, which grows
// with the steps as that of any training does (1e-5 after 200 steps of the tests). One number of ranks gives the same bits
// each time. A state says nothing of ranks, and any number of them goes on from it. Windows of a validation are shared
// in the same way. What goes over the wire in a step, per rank: the gradients, summed over ranks some megabytes at a time
// while the backward pass goes on (gradient_sum.hpp), and three numbers.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include <hsm/distributed/rank_processes.hpp>
#include <hsm/io/fingerprint.hpp>
#include <hsm/training/trainer.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

/// Takes the bits of all weights into a hash.
template <class Model>
void add_weights(Fnv1a64& hash, const Model& model) {
  Model::visit(
      [&](std::string_view, const auto& tensor) {
        hash.add(std::as_bytes(std::span(tensor.data(), static_cast<std::size_t>(tensor.size()))));
      },
      model);
}

}  // namespace detail

/// Collective. Throws std::runtime_error, the same sentence on every rank, unless all ranks go on with the same run: model,
/// texts, config, step, weights and moments. Reads each of them once.
template <class Model>
void check_same_run(Communicator& ranks, const Model& model, const TrainingState<Model>& state) {
  detail::check_same_config(ranks, model);
  std::string config;
  TrainingConfig::visit(
      [&](std::string_view name, const auto& field) {
        char text[64];
        const auto end = std::to_chars(std::begin(text), std::end(text), +field).ptr;  // whatever the locale
        config += (config.empty() ? "" : ", ") + std::string(name) + " " + std::string(text, end);
      },
      state.config);
  ranks.check_agreement("the training config", config);
  ranks.check_agreement("the training text", state.text.text());
  ranks.check_agreement("the validation text", state.validation.text());
  ranks.check_agreement("the steps done", std::to_string(state.progress.step));
  Fnv1a64 hash;
  hash.add(std::to_string(state.windows.state()) + " " + std::to_string(state.dropout.state()));
  detail::add_weights(hash, model);
  detail::add_weights(hash, state.optimizer.first_moment());
  detail::add_weights(hash, state.optimizer.second_moment());
  ranks.check_agreement("the weights and moments", hash.text());
}

/// Collective. `train` (training/trainer.hpp) over ranks, each with the same model, state and texts. Callback and stop are asked on
/// every rank as often, and one rank that wants to end ends all; the callback may be collective, stop() must not be. Each
/// group of `sequence_ranks` ranks in a row shares its windows. Throws as train does, then on every rank alike,
/// std::invalid_argument unless sequence_ranks divide the ranks and the groups the batch, and for a layer that cannot be cut
/// where there is something to cut, and std::runtime_error as check_same_run does. What only one rank throws, such as
/// std::bad_alloc, leaves the others waiting: end them, as run_ranks does.
template <class Model, class Callback, class Stop>
TrainingProgress train_over_ranks(Communicator& ranks, Model& model, TrainingState<Model>& state,
                                  std::span<const std::int32_t> text,
                                  std::span<const std::int32_t> validation, Workspace& workspace,
                                  Callback&& callback, Stop&& stop, int sequence_ranks = 1) {
  constexpr const char* kWho = "train_over_ranks";
  check_same_run(ranks, model, state);
  ranks.check_agreement("the training text that was given", TextMark(text).text());
  ranks.check_agreement("the validation text that was given", TextMark(validation).text());
  ranks.check_agreement("the sequence ranks", std::to_string(sequence_ranks));
  if (sequence_ranks < 1 || ranks.size() % sequence_ranks != 0) {
    detail::fail(kWho, "sequence_ranks", "a divisor of the ranks, " + std::to_string(ranks.size()),
                 std::to_string(sequence_ranks));
  }
  if (sequence_ranks > 1) check_can_be_cut(kWho, model);
  const int groups = ranks.size() / sequence_ranks;
  if (state.config.batch < 1 || state.config.batch % groups != 0) {
    detail::fail(kWho, "batch",
                 std::string("a multiple of the ") + (sequence_ranks > 1 ? "groups of " : "") + "ranks, " +
                     std::to_string(groups),
                 std::to_string(state.config.batch));
  }
  return detail::train_by(detail::RankProcesses<Model>(ranks, sequence_ranks), model, state, text, validation,
                          workspace, callback, stop);
}

/// The same, with validations that are never cut short.
template <class Model, class Callback>
TrainingProgress train_over_ranks(Communicator& ranks, Model& model, TrainingState<Model>& state,
                                  std::span<const std::int32_t> text,
                                  std::span<const std::int32_t> validation, Workspace& workspace,
                                  Callback&& callback) {
  return train_over_ranks(ranks, model, state, text, validation, workspace, callback, [] { return false; });
}

}  // namespace hsm::inline HSM_ABI
