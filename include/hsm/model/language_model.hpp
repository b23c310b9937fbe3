// SPDX-License-Identifier: MIT
//
// A causal language model with any stack of mixers:
//
//   x = E[token] (+ P[position]);   L pre-norm residual blocks;   h = norm(x);   logits = E h
//
// The struct is its parameters: weights, gradients and optimizer moments are values of this one type. Entry
// points work on [B,T] token ids, sequence after sequence:
//
//   hidden    h [C, B T] of whole sequences, with a record for backward
//   backward  the gradients of every parameter from the gradient of h
//   extend    the next T tokens of every stream, continuing a state; gives the logits after the last one
//
// Cost per token and layer: the mixer, 4 F C flop of feed-forward, O(C). extend works chunk by chunk through
// all layers, so its memory does not grow with T (attention's cache apart). A model without positions has no
// largest context; learned positions end with their table.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <hsm/model/block.hpp>
#include <hsm/model/embedding.hpp>
#include <hsm/model/language_model_config.hpp>
#include <hsm/model/language_model_state.hpp>
#include <hsm/schedule/schedule_text.hpp>

namespace hsm {

/// What forward leaves for backward.
template <ComputeScalar Scalar>
struct LanguageModelSaved {
  Index batch = 0;  ///< B of the call
  Index time = 0;   ///< T of the call
  /// What each layer left.
  std::vector<BlockSaved<Scalar>> blocks;
  typename BlockSaved<Scalar>::Matrix last;    ///< [C, B T], the residual stream at the end
  typename BlockSaved<Scalar>::Matrix hidden;  ///< [C, B T], h
};

/// A causal language model; see the file comment.
template <ComputeScalar ScalarType, class List = StandardPolicies>
class LanguageModel {
 public:
  /// float or double.
  using Scalar = ScalarType;
  /// What a stream carries from call to call.
  using State = LanguageModelState<Scalar>;
  /// What a forward leaves for backward.
  using Saved = LanguageModelSaved<Scalar>;

  /// Fresh weights: E normal(0.02), P normal(0.01), the rest as each layer states, with the maps that write
  /// to the residual stream divided by sqrt(2 L). Throws std::invalid_argument for sizes below 1, a recipe or
  /// a schedule that is not one.
  LanguageModel(LanguageModelConfig config, Random& random);

  /// The sizes and layers it was made with.
  const LanguageModelConfig& config() const { return config_; }
  /// L.
  Index layer_count() const { return static_cast<Index>(blocks_.size()); }
  /// Layer l, 0 <= l < L, unchecked.
  const Block<Scalar, List>& block(Index l) const { return blocks_[static_cast<std::size_t>(l)]; }
  /// The shifts of all layers and heads, attention layers counted.
  const ScheduleText& schedule() const { return schedule_; }
  /// E, also the output map.
  const Embedding<Scalar>& embedding() const { return embedding_; }
  /// E, to change in place; sizes must stay.
  Embedding<Scalar>& embedding() { return embedding_; }

  /// Runs B sequences of T tokens; h is left in saved.hidden. Throws std::out_of_range for a token id outside
  /// [0,V) or T past learned positions, std::invalid_argument for a list that is not [B,T].
  void hidden(std::span<const std::int32_t> ids, Index B, Index T, Saved& saved, Workspace& workspace) const;

  /// Adds the gradients of all parameters to `gradients`, given that of saved.hidden. The part of E's
  /// gradient that comes through the logits is the loss's to add (training/language_model_loss.hpp). ids are
  /// those of the call that filled `saved`. Throws, before anything is changed, std::invalid_argument for
  /// another model's record or gradients and std::out_of_range for a bad token id.
  void backward(std::span<const std::int32_t> ids, const Saved& saved, ConstColumns<Scalar> d_hidden,
                LanguageModel& gradients, Workspace& workspace) const;

  /// logits (V, n) = E h for hidden columns (C, n).
  void logits(ConstColumns<Scalar> h, Columns<Scalar> out, Workspace& workspace) const {
    product(embedding_.weight, h, out, workspace.executor());
  }

  /// The state of fresh streams. Throws std::invalid_argument for fewer than 1, or a negative capacity.
  State make_state(StateOptions options = {}) const;

  /// The next T >= 1 tokens of every stream, ids [streams, T]; last_logits (V, streams) are those after each
  /// stream's last token. Throws, before anything is changed, std::out_of_range for a bad token id or more
  /// than room() tokens, std::invalid_argument for another model's state or sizes that do not fit.
  void extend(std::span<const std::int32_t> ids, State& state, Columns<Scalar> last_logits,
              Workspace& workspace) const;

  /// How many more tokens the streams of `state` can take: the rest of the learned positions or of the
  /// capacity that attention was given, or no limit.
  Index room(const State& state) const;

  /// Calls f(name, tensor, more...) for every tensor.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Embedding<Scalar>::visit(named("embedding", f), self.embedding_, more.embedding_...);
    Embedding<Scalar>::visit(named("positions", f), self.positions_, more.positions_...);
    for (std::size_t l = 0; l < self.blocks_.size(); ++l) {
      Block<Scalar, List>::visit(named("layers." + std::to_string(l), f), self.blocks_[l],
                                 more.blocks_[l]...);
    }
    LayerNorm<Scalar>::visit(named("norm", f), self.norm_, more.norm_...);
  }

 private:
  static constexpr Index kChunkBytes = Index{2}
                                       << 20;  // of residual stream, branch and feed-forward together

  void check_ids(const char* who, std::span<const std::int32_t> ids, Index B, Index T, Index position) const;
  void check_saved(const char* who, const Saved& saved) const;
  void check_gradients(const char* who, const LanguageModel& gradients) const;
  void check_state(const char* who, const State& state) const;
  Columns<Scalar> sized(typename BlockSaved<Scalar>::Matrix& m, Index n) const {
    m.resize(config_.width, n);
    return {m.data(), config_.width, n, Eigen::OuterStride<>(config_.width)};
  }
  ConstColumns<Scalar> read(const typename BlockSaved<Scalar>::Matrix& m) const {
    return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
  }

  LanguageModelConfig config_;
  ScheduleText schedule_;
  Embedding<Scalar> embedding_;  // [V,C]
  Embedding<Scalar> positions_;  // [context,C] or empty
  std::vector<Block<Scalar, List>> blocks_;
  LayerNorm<Scalar> norm_;
};

template <ComputeScalar Scalar, class List>
LanguageModel<Scalar, List>::LanguageModel(LanguageModelConfig config, Random& random)
    : config_(std::move(config)) {
  constexpr const char* kWho = "LanguageModel";
  detail::check_at_least(kWho, "vocabulary", config_.vocabulary, 1);
  detail::check_at_least(kWho, "width", config_.width, 1);
  detail::check_at_least(kWho, "feed_forward", config_.feed_forward, 1);
  detail::check_at_least(kWho, "context", config_.context, 1);
  const Recipe recipe = Recipe::parse(config_.layers);
  config_.layers = recipe.text();
  const auto L = static_cast<Index>(recipe.layers.size());
  schedule_ = ScheduleText::parse(config_.schedule, L);
  config_.schedule = schedule_.text();
  const Index C = config_.width;
  embedding_ = Embedding<Scalar>(config_.vocabulary, C, 0.02, random);
  if (config_.positions == Positions::kLearned)
    positions_ = Embedding<Scalar>(config_.context, C, 0.01, random);
  for (Index l = 0; l < L; ++l) {
    const auto i = static_cast<std::size_t>(l);
    blocks_.push_back({LayerNorm<Scalar>(C),
                       make_mixer<Scalar>(List{}, recipe.layers[i], C, schedule_.head_shifts(l), random),
                       LayerNorm<Scalar>(C), FeedForward<Scalar>(C, config_.feed_forward, random)});
  }
  norm_ = LayerNorm<Scalar>(C);
  const auto scale = static_cast<Scalar>(1 / std::sqrt(2.0 * static_cast<double>(L)));
  visit(
      [&](std::string_view name, auto& tensor) {
        if (name.ends_with("output.weight") || name.ends_with("down.weight")) tensor *= scale;
      },
      *this);
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_ids(const char* who, std::span<const std::int32_t> ids, Index B,
                                            Index T, Index position) const {
  detail::check_at_least(who, "batch", B, 0);
  detail::check_at_least(who, "time", T, 0);
  detail::check_equal(who, "the number of token ids", static_cast<Index>(ids.size()), B * T);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= config_.vocabulary) {
      throw std::out_of_range(std::string(who) + ": token id " + std::to_string(i) + " must be 0 to " +
                              std::to_string(config_.vocabulary - 1) + ", got " + std::to_string(ids[i]));
    }
  }
  if (!positions_.empty() && position + T > config_.context) {
    throw std::out_of_range(std::string(who) + ": the model has learned " + std::to_string(config_.context) +
                            " positions, got " + std::to_string(position) + " tokens before and " +
                            std::to_string(T) + " more");
  }
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_saved(const char* who, const Saved& saved) const {
  const Shape<2> expected{config_.width, saved.batch * saved.time};
  detail::check_equal(who, "the record's layers", static_cast<Index>(saved.blocks.size()), layer_count());
  detail::check_equal(who, "the record's last", Shape<2>{saved.last.rows(), saved.last.cols()}, expected);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const BlockSaved<Scalar>& kept = saved.blocks[l];
    const auto same_kind = [&](const auto& mixer) {
      return std::holds_alternative<typename std::remove_cvref_t<decltype(mixer)>::Saved>(kept.mixer);
    };
    if (!std::visit(same_kind, blocks_[l].mixer) || kept.feed_forward.before.rows() != config_.feed_forward ||
        kept.feed_forward.before.cols() != expected[1]) {
      detail::fail(who, "saved", "the record of this model", "another's");
    }
  }
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_gradients(const char* who, const LanguageModel& gradients) const {
  const LanguageModelConfig& other = gradients.config_;
  if (other.vocabulary != config_.vocabulary || other.width != config_.width ||
      other.feed_forward != config_.feed_forward || other.positions != config_.positions ||
      (config_.positions == Positions::kLearned && other.context != config_.context) ||
      other.layers != config_.layers) {
    detail::fail(who, "gradients", "a model of the same config", "another");
  }
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::check_state(const char* who, const State& state) const {
  detail::check_equal(who, "the layers of the state", static_cast<Index>(state.layers.size()), layer_count());
  detail::check_at_least(who, "streams", state.streams, 1);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const auto same_kind = [&](const auto& mixer) {
      const auto* held = std::get_if<typename std::remove_cvref_t<decltype(mixer)>::State>(&state.layers[l]);
      return held && held->streams() == state.streams;
    };
    if (!std::visit(same_kind, blocks_[l].mixer))
      detail::fail(who, "the state", "one from this model's make_state", "another's");
  }
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::hidden(std::span<const std::int32_t> ids, Index B, Index T, Saved& saved,
                                         Workspace& workspace) const {
  check_ids("LanguageModel::hidden", ids, B, T, 0);
  const Index C = config_.width, N = B * T;
  Executor& executor = workspace.executor();
  Workspace::Frame frame(workspace);
  saved.batch = B;
  saved.time = T;
  saved.blocks.resize(blocks_.size());
  Columns<Scalar> stream = sized(saved.blocks.empty() ? saved.last : saved.blocks.front().before, N);
  Columns<Scalar> normalised =
      sized(saved.blocks.empty() ? saved.hidden : saved.blocks.front().mixer_input, N);
  embedding_.look_up([&](Index j) { return ids[static_cast<std::size_t>(j)]; }, Write::kOverwrite, stream);
  if (!positions_.empty()) positions_.look_up([&](Index j) { return j % T; }, Write::kAdd, stream);
  (blocks_.empty() ? norm_ : blocks_.front().mixer_norm).forward(detail::read(stream), normalised, executor);
  Columns<Scalar> branch = frame.template columns<Scalar>(C, N);
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    const Block<Scalar, List>& block = blocks_[l];
    BlockSaved<Scalar>& kept = saved.blocks[l];
    std::visit(
        [&](const auto& mixer) {
          using MixerSavedType = typename std::remove_cvref_t<decltype(mixer)>::Saved;
          if (!std::holds_alternative<MixerSavedType>(kept.mixer)) kept.mixer = mixer.make_saved();
          mixer.forward(Tokens<const Scalar>(kept.mixer_input.data(), B, T, C),
                        Tokens<Scalar>(branch.data(), B, T, C), std::get<MixerSavedType>(kept.mixer),
                        workspace);
        },
        block.mixer);
    Columns<Scalar> middle = sized(kept.middle, N), input = sized(kept.feed_forward_input, N);
    block.feed_forward_norm.add_forward(read(kept.before), detail::read(branch), middle, input, executor);
    block.feed_forward.forward(detail::read(input), branch, kept.feed_forward, workspace);
    const bool more = l + 1 < blocks_.size();
    Columns<Scalar> next = sized(more ? saved.blocks[l + 1].before : saved.last, N);
    Columns<Scalar> next_input = sized(more ? saved.blocks[l + 1].mixer_input : saved.hidden, N);
    (more ? blocks_[l + 1].mixer_norm : norm_)
        .add_forward(detail::read(middle), detail::read(branch), next, next_input, executor);
  }
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::backward(std::span<const std::int32_t> ids, const Saved& saved,
                                           ConstColumns<Scalar> d_hidden, LanguageModel& gradients,
                                           Workspace& workspace) const {
  constexpr const char* kWho = "LanguageModel::backward";
  const Index B = saved.batch, T = saved.time, C = config_.width, N = B * T;
  check_ids(kWho, ids, B, T, 0);
  detail::check_equal(kWho, "d_hidden", Shape<2>{d_hidden.rows(), d_hidden.cols()}, Shape<2>{C, N});
  check_saved(kWho, saved);
  check_gradients(kWho, gradients);
  Workspace::Frame frame(workspace);
  Columns<Scalar> d_stream = frame.template columns<Scalar>(C, N);
  Columns<Scalar> d_input = frame.template columns<Scalar>(C, N);
  d_stream.setZero();
  norm_.backward(read(saved.last), d_hidden, d_stream, gradients.norm_, workspace);
  for (std::size_t l = blocks_.size(); l-- > 0;) {
    const Block<Scalar, List>& block = blocks_[l];
    const BlockSaved<Scalar>& kept = saved.blocks[l];
    Block<Scalar, List>& d_block = gradients.blocks_[l];
    block.feed_forward.backward(read(kept.feed_forward_input), kept.feed_forward, detail::read(d_stream),
                                d_input, d_block.feed_forward, workspace);
    block.feed_forward_norm.backward(read(kept.middle), detail::read(d_input), d_stream,
                                     d_block.feed_forward_norm, workspace);
    std::visit(
        [&](const auto& mixer) {
          using M = std::remove_cvref_t<decltype(mixer)>;
          mixer.backward(
              Tokens<const Scalar>(kept.mixer_input.data(), B, T, C), std::get<typename M::Saved>(kept.mixer),
              Tokens<const Scalar>(d_stream.data(), B, T, C), Tokens<Scalar>(d_input.data(), B, T, C),
              std::get<M>(d_block.mixer).parameters(), workspace);
        },
        block.mixer);
    block.mixer_norm.backward(read(kept.before), detail::read(d_input), d_stream, d_block.mixer_norm,
                              workspace);
  }
  Embedding<Scalar>::scatter([&](Index j) { return ids[static_cast<std::size_t>(j)]; },
                             detail::read(d_stream), gradients.embedding_, workspace.executor());
  if (!positions_.empty()) {
    Embedding<Scalar>::scatter([&](Index j) { return j % T; }, detail::read(d_stream), gradients.positions_,
                               workspace.executor());
  }
}

template <ComputeScalar Scalar, class List>
Index LanguageModel<Scalar, List>::room(const State& state) const {
  Index most = positions_.empty() ? std::numeric_limits<Index>::max() : config_.context - state.count;
  for (const auto& layer : state.layers) {
    const auto* cache = std::get_if<AttentionState<Scalar>>(&layer);
    if (!cache || cache->capacity() == 0) continue;
    for (Index s = 0; s < cache->streams(); ++s) most = std::min(most, cache->capacity() - cache->count(s));
  }
  return most;
}

template <ComputeScalar Scalar, class List>
auto LanguageModel<Scalar, List>::make_state(StateOptions options) const -> State {
  detail::check_at_least("LanguageModel::make_state", "streams", options.streams, 1);
  State state;
  state.streams = options.streams;
  for (const auto& block : blocks_) {
    std::visit([&](const auto& mixer) { state.layers.emplace_back(mixer.make_state(options)); }, block.mixer);
  }
  return state;
}

template <ComputeScalar Scalar, class List>
void LanguageModel<Scalar, List>::extend(std::span<const std::int32_t> ids, State& state,
                                         Columns<Scalar> last_logits, Workspace& workspace) const {
  constexpr const char* kWho = "LanguageModel::extend";
  check_state(kWho, state);
  const Index C = config_.width, B = state.streams;
  detail::check_at_least(kWho, "the number of token ids", static_cast<Index>(ids.size()), B);
  const Index T = static_cast<Index>(ids.size()) / B;
  check_ids(kWho, ids, B, T, state.count);
  detail::check_equal(kWho, "last_logits", Shape<2>{last_logits.rows(), last_logits.cols()},
                      Shape<2>{config_.vocabulary, B});
  if (T > room(state)) {
    throw std::out_of_range(std::string(kWho) + ": the state has room for " + std::to_string(room(state)) +
                            " more tokens, got " + std::to_string(T));
  }
  const Index token_bytes = (4 * C + config_.feed_forward) * static_cast<Index>(sizeof(Scalar));
  const Index chunk = std::clamp<Index>(kChunkBytes / (token_bytes * B) / 16 * 16, 16, 1024);
  Executor& executor = workspace.executor();
  Workspace::Frame frame(workspace);
  const Index most = std::min(chunk, T) * B;
  Scalar* stream_data = frame.template take<Scalar>(C * most);
  Scalar* input_data = frame.template take<Scalar>(C * most);
  Scalar* branch_data = frame.template take<Scalar>(C * most);
  for (Index first = 0; first < T; first += chunk) {
    const Index n = std::min(chunk, T - first), N = n * B;
    const auto columns = [&](Scalar* data) { return Columns<Scalar>(data, C, N, Eigen::OuterStride<>(C)); };
    Columns<Scalar> stream = columns(stream_data), input = columns(input_data), branch = columns(branch_data);
    embedding_.look_up([&](Index j) { return ids[static_cast<std::size_t>(j / n * T + first + j % n)]; },
                       Write::kOverwrite, stream);
    if (!positions_.empty())
      positions_.look_up([&](Index j) { return state.count + j % n; }, Write::kAdd, stream);
    (blocks_.empty() ? norm_ : blocks_.front().mixer_norm).forward(detail::read(stream), input, executor);
    for (std::size_t l = 0; l < blocks_.size(); ++l) {
      const Block<Scalar, List>& block = blocks_[l];
      std::visit(
          [&](const auto& mixer) {
            auto& mixer_state =
                std::get<typename std::remove_cvref_t<decltype(mixer)>::State>(state.layers[l]);
            mixer.extend(Tokens<const Scalar>(input.data(), B, n, C), mixer_state,
                         Tokens<Scalar>(branch.data(), B, n, C), workspace);
          },
          block.mixer);
      block.feed_forward_norm.add_forward(detail::read(stream), detail::read(branch), stream, input,
                                          executor);
      block.feed_forward.forward(detail::read(input), branch, workspace);
      (l + 1 < blocks_.size() ? blocks_[l + 1].mixer_norm : norm_)
          .add_forward(detail::read(stream), detail::read(branch), stream, input, executor);
    }
    state.count += n;
    if (first + n == T) {
      logits(ConstColumns<Scalar>(input.data() + (n - 1) * C, C, B, Eigen::OuterStride<>(n * C)), last_logits,
             workspace);
    }
  }
}

}  // namespace hsm
