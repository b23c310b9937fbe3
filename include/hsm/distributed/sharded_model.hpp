// SPDX-License-Identifier: MIT
//
// A language model over a sequence that is cut over ranks (token_shards.hpp): every rank holds the model, and runs it over
// its own tokens. Layer by layer a state goes to the right, and back its gradient to the left (layer_exchange.hpp); else
// ranks do not wait for each other.
//
//   hsm::TokenShards shards(ranks, ids.size());                                        // collective
//   const auto loss = hsm::sharded_gradients(model, shards, ids, targets, saved, gradients, workspace);   // of all tokens
//   hsm::sum_over_ranks(ranks, gradients);                                             // before the step of the optimizer
//
//   hsm::sharded_prefill(model, shards, ids, state, last_logits, workspace);           // the last rank then has the state
//
// Equal to one rank within the bounds of the layers for cuts of time. Learned positions are those of the whole sequence,
// and begin again with each document. Dropout is not done. Attention over chosen blocks or a hierarchy (hkt) is refused, and
// in prefill all attention, whose state does not fit on one rank.
// Errors: std::invalid_argument or std::out_of_range, before a state or a gradient is sent, on the rank whose arguments are
// wrong; the others then wait, so let run_ranks end them. std::runtime_error, the same on every rank, where the models of the
// ranks are of different configs.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <hsm/distributed/sharded_mixer.hpp>
#include <hsm/model/language_model.hpp>
#include <hsm/training/language_model_loss.hpp>

namespace hsm::inline HSM_ABI {

namespace detail {

template <class Records>
struct AnyEndRecords;
template <class... Saved>
struct AnyEndRecords<std::variant<Saved...>> {
  using Type = std::variant<EndRecords<Saved>...>;
};

}  // namespace detail

/// What a sharded run of a model leaves for backward.
template <class Model>
struct ShardedModelSaved {
  typename Model::Saved record;  ///< of the tokens of this rank
  /// Of each layer, of its first and last tokens, where they were run apart.
  std::vector<typename detail::AnyEndRecords<AnySaved<typename Model::Scalar, typename Model::Layers>>::Type>
      ends;
};

/// Throws std::invalid_argument, in the name of `who`, for a model with a layer that cannot be cut over ranks, or, where
/// that is wanted, whose state does not fit on one.
template <class Model>
void check_can_be_cut(const char* who, const Model& model, bool state_wanted = false) {
  for (Index l = 0; l < model.layer_count(); ++l) {
    std::visit(
        [&](const auto& mixer) {
          using Layer = typename std::remove_cvref_t<decltype(mixer)>::Layer;
          detail::LayerExchange<Layer>::check(who, mixer.layer(), state_wanted);
        },
        model.block(l).mixer);
  }
}

namespace detail {

/// The exchange (model/exchange.hpp) between ranks.
template <class Model>
class ModelExchange {
 public:
  using Ends = decltype(ShardedModelSaved<Model>::ends);

  /// `ends` may be null where nothing is recorded, and then states are wanted; gradients are given to `sum`, where there
  /// is one, as they become complete. Throws std::invalid_argument for a layer that cannot be cut.
  ModelExchange(const char* who, const Model& model, const TokenShards& shards, Ends* ends,
                GradientSum* sum = nullptr)
      : shards_(shards), ends_(ends), sum_(sum) {
    check_can_be_cut(who, model, !ends);
    if (ends_) ends_->resize(static_cast<std::size_t>(model.layer_count()));
  }

  template <class Mixer, class In, class Out, class Run>
  void forward(std::size_t l, const Mixer& mixer, const In& x, const Out& y, const CallPart& call,
               typename Mixer::State* state, typename Mixer::Saved* record, Workspace& workspace, Run&& run) {
    LayerExchange<typename Mixer::Layer>(mixer.layer(), shards_)
        .forward(x, y, call, *state, record, record ? &ends<Mixer>(l) : nullptr, workspace, run);
  }

  template <class Mixer, class In, class Out, class Run>
  void backward(std::size_t l, const Mixer& mixer, const In& x, const typename Mixer::Saved& record,
                const In& dy, const Out& dx, typename Mixer::Parameters& gradients, typename Mixer::State* d,
                Workspace& workspace, Run&& run) {
    LayerExchange<typename Mixer::Layer>(mixer.layer(), shards_)
        .backward(x, record, ends<Mixer>(l), dy, dx, gradients, *d, workspace, run);
  }

  template <class Part>
  void complete(Part& part) {
    if (sum_) sum_->add(part);
  }

 private:
  template <class Mixer>
  EndRecords<typename Mixer::Saved>& ends(std::size_t l) {
    using Held = EndRecords<typename Mixer::Saved>;
    auto* held = std::get_if<Held>(&(*ends_)[l]);
    return held ? *held : (*ends_)[l].template emplace<Held>();
  }

  const TokenShards& shards_;
  Ends* ends_;
  GradientSum* sum_;
};

/// Collective. Throws std::runtime_error, the same on every rank, unless the models of all ranks have one config.
template <class Model>
void check_same_config(Communicator& ranks, const Model& model) {
  const LanguageModelConfig& config = model.config();
  ranks.check_agreement(
      "the model", std::string(sizeof(typename Model::Scalar) == sizeof(float) ? "float" : "double") + " " +
                       std::to_string(config.vocabulary) + "/" + std::to_string(config.width) + "/" +
                       std::to_string(config.feed_forward) + "/" + std::to_string(config.context) +
                       (config.positions == Positions::kLearned ? " with positions " : " ") + config.layers +
                       " over " + config.schedule);
}

/// Collective. The same, and throws unless they have the tokens of the shards.
template <class Model>
void check_sharded_model(const char* who, const Model& model, const TokenShards& shards,
                         std::span<const std::int32_t> ids) {
  check_same_config(shards.ranks(), model);
  check_equal(who, "the number of token ids", static_cast<Index>(ids.size()), shards.tokens());
}

/// A state for the streams of the shards, whose first stream has seen what lies to the left.
template <class Model>
typename Model::State make_shard_state(const Model& model, const TokenShards& shards) {
  auto state = model.make_state({.streams = shards.streams()});
  state.counts[0] = shards.arriving();
  return state;
}

/// What a call of the tokens of this rank is told besides.
struct ShardPass {
  const char* who;
  const TokenShards& shards;
  std::span<const std::int32_t> ids, targets;
  Dropout dropout = {};
};

/// The loss of the tokens of this rank. Adds the gradient of `scale` times that of all, giving it to `sum` if there is one.
template <class Model>
CrossEntropy shard_gradients(const ShardPass& pass, const Model& model, double scale,
                             ShardedModelSaved<Model>& saved, Model& gradients, Workspace& workspace,
                             GradientSum* sum = nullptr) {
  using Scalar = typename Model::Scalar;
  const TokenShards& shards = pass.shards;
  ModelExchange<Model> exchange(pass.who, model, shards, &saved.ends, sum);
  auto state = make_shard_state(model, shards);
  model.hidden(pass.ids, shards.segments(), state, saved.record, workspace, pass.dropout, exchange);
  Workspace::Frame frame(workspace);
  const Columns<Scalar> d_hidden = frame.template columns<Scalar>(model.config().width, shards.tokens());
  const CrossEntropy total =
      hidden_gradient(model, saved.record, pass.targets, scale, d_hidden, gradients, workspace);
  auto d_state = model.make_state({.streams = shards.streams()});
  model.backward(pass.ids, saved.record, read(d_hidden), gradients, workspace, &d_state, exchange);
  return total;
}

/// The same loss alone; `losses`, where given, takes that of each token.
template <class Model>
CrossEntropy shard_loss(const ShardPass& pass, const Model& model, ShardedModelSaved<Model>& saved,
                        Workspace& workspace, std::span<double> losses = {}) {
  ModelExchange<Model> exchange(pass.who, model, pass.shards, &saved.ends);
  auto state = make_shard_state(model, pass.shards);
  model.hidden(pass.ids, pass.shards.segments(), state, saved.record, workspace, pass.dropout, exchange);
  CrossEntropy total;
  for_each_logit_block(model, saved.record, pass.targets, workspace,
                       [&](Index first, Index n, const auto&, const auto& logits, auto part) {
                         const auto own = losses.empty() ? losses
                                                         : losses.subspan(static_cast<std::size_t>(first),
                                                                          static_cast<std::size_t>(n));
                         total += cross_entropy(logits, part, workspace.executor(), own);
                       });
  return total;
}

}  // namespace detail

/// Collective. The loss of all tokens of all ranks, the same on each, with the gradient of its mean: each rank adds what
/// its own tokens give to `gradients` (see sum_over_ranks). ids and targets are those of this rank. Throws
/// std::out_of_range for ids outside [0,V), targets outside [-1,V), and past learned positions.
template <class Model>
CrossEntropy sharded_gradients(const Model& model, const TokenShards& shards,
                               std::span<const std::int32_t> ids, std::span<const std::int32_t> targets,
                               ShardedModelSaved<Model>& saved, Model& gradients, Workspace& workspace) {
  constexpr const char* kWho = "sharded_gradients";
  detail::check_sharded_model(kWho, model, shards, ids);
  check_can_be_cut(kWho, model);
  detail::check_targets(kWho, targets, model.config().vocabulary, shards.tokens(), {});
  model.check_gradients(kWho, gradients);
  std::int64_t count = count_targets(targets);
  shards.ranks().sum(std::span(&count, 1));
  CrossEntropy total = detail::shard_gradients({kWho, shards, ids, targets}, model,
                                               count == 0 ? 0.0 : 1.0 / static_cast<double>(count), saved,
                                               gradients, workspace);
  shards.ranks().sum(std::span(&total.sum, 1));
  total.count = static_cast<Index>(count);
  return total;
}

/// Collective. The summed loss of all tokens of all ranks, without gradients. `losses`, where given, takes those of the
/// tokens of this rank. Throws as sharded_gradients.
template <class Model>
CrossEntropy sharded_loss(const Model& model, const TokenShards& shards, std::span<const std::int32_t> ids,
                          std::span<const std::int32_t> targets, ShardedModelSaved<Model>& saved,
                          Workspace& workspace, std::span<double> losses = {}) {
  constexpr const char* kWho = "sharded_loss";
  detail::check_sharded_model(kWho, model, shards, ids);
  check_can_be_cut(kWho, model);
  detail::check_targets(kWho, targets, model.config().vocabulary, shards.tokens(), losses);
  CrossEntropy total = detail::shard_loss({kWho, shards, ids, targets}, model, saved, workspace, losses);
  std::int64_t count = total.count;
  shards.ranks().sum(std::span(&total.sum, 1));
  shards.ranks().sum(std::span(&count, 1));
  total.count = static_cast<Index>(count);
  return total;
}

/// Collective. Reads a text of one document, without a record: memory for 2 C values per token of this rank. `state`, of
/// one fresh stream of this model without spare tokens, holds the state behind the last token of all on the last rank, that
/// behind its own tokens on the others; last_logits [V] become those after the last token of all, on every rank. Throws as
/// sharded_gradients, and std::invalid_argument for several documents, no token at all, or another state; the stream then
/// is fresh, or refused until it is reset.
template <class Model>
void sharded_prefill(const Model& model, const TokenShards& shards, std::span<const std::int32_t> ids,
                     typename Model::State& state, std::span<typename Model::Scalar> last_logits,
                     Workspace& workspace) {
  using Scalar = typename Model::Scalar;
  constexpr const char* kWho = "sharded_prefill";
  const Index C = model.config().width, V = model.config().vocabulary;
  detail::check_sharded_model(kWho, model, shards, ids);
  detail::ModelExchange<Model> exchange(kWho, model, shards, nullptr);
  detail::check_at_least(kWho, "the number of all tokens", shards.total(), 1);
  if (shards.documents() != 1)
    detail::fail(kWho, "the shards", "those of one document",
                 detail::counted(shards.documents(), "document"));
  detail::check_equal(kWho, "the number of last_logits", static_cast<Index>(last_logits.size()), V);
  model.check_state(kWho, state);
  detail::check_equal(kWho, "the streams of the state", state.streams(), Index{1});
  detail::check_equal(kWho, "the tokens that the state has seen", state.count(0), Index{0});
  if (!state.is_whole(0)) detail::fail_whole(kWho, 0);
  for (const auto& layer : state.layers) {
    std::visit(
        [](const auto& held) {  // slots of tokens that another rank read would lie elsewhere, or not be there
          if constexpr (requires { held.spare(); })
            detail::check_equal(kWho, "the spare tokens of the state", held.spare(), Index{0});
        },
        layer);
  }
  struct Undo {
    typename Model::State& state;
    bool kept = false;
    ~Undo() {
      if (!kept) state.take_back(0, 0);
    }
  } undo{state};
  state.counts[0] = shards.arriving();
  std::vector<Scalar> last(static_cast<std::size_t>(C));
  model.extend(ids, state, last.data(), workspace, exchange);
  undo.kept = true;
  const bool own = shards.tokens() > 0 && shards.first() + shards.tokens() == shards.total();
  if (own) {
    model.logits(ConstColumns<Scalar>(last.data(), C, 1, Eigen::OuterStride<>(C)),
                 Columns<Scalar>(last_logits.data(), V, 1, Eigen::OuterStride<>(V)), workspace);
  }
  std::int64_t root = own ? shards.ranks().rank() : 0;
  shards.ranks().sum(std::span(&root, 1));
  shards.ranks().broadcast(last_logits, static_cast<int>(root));
}

}  // namespace hsm::inline HSM_ABI
