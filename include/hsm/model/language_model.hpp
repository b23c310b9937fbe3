// SPDX-License-Identifier: MIT
//
// A causal language model with any stack of mixers:
//
//   x = E[token] (+ P[position]);   L pre-norm residual blocks;   h = norm(x);   logits = E h
//
// The struct is its parameters: weights, gradients and optimizer moments are values of this one type. Entry
// points work on token ids, sequence after sequence:
//
//   hidden    ids [B,T]                 h [C, B T] of whole sequences, with a record for backward
//   packed    ids [N], offsets          h [C, N] of documents one after another, with a record
//   extend    ids [streams,T], or the   the next tokens of streams, continuing a state: the logits after the
//             tokens of chosen streams  last one of each, or h of all with a record
//   backward  after any call with a record: the gradients of every parameter from the gradient of h
//
// Cost per token and layer: the mixer, 4 F C flop of feed-forward, O(C). extend without a record works chunk
// by chunk through all layers, so its memory does not grow with T (attention's cache apart). A model without
// positions has no largest context; learned positions end with their table, and begin again with every
// sequence, document and fresh stream. For the logits after every token take a record and multiply:
//
//   model.extend(ids, state, saved, workspace);    // or hidden, packed
//   model.logits(saved, logits, workspace);        // (V, n)
//
// Checks come before anything is changed. Where a call throws later (no memory, an executor that throws) its
// record is refused by backward, gradients hold a part of what was to be added, and each of its streams either
// holds what it held before or is refused until it is reset, as all of a state's gradient are then.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <hsm/model/block.hpp>
#include <hsm/model/dropout.hpp>
#include <hsm/model/embedding.hpp>
#include <hsm/model/exchange.hpp>
#include <hsm/model/language_model_config.hpp>
#include <hsm/model/language_model_state.hpp>
#include <hsm/model/tensor_places.hpp>
#include <hsm/schedule/schedule_text.hpp>

namespace hsm::inline HSM_ABI {

/// What forward leaves for backward.
template <ComputeScalar Scalar, class List = StandardLayers>
struct LanguageModelSaved {
  /// Tokens as columns.
  using Matrix = OwnedColumns<Scalar>;

  Index batch = 0;               ///< B of the call; 1 for packed and for chosen streams, -1 if it threw
  Index time = 0;                ///< T of the call; N for packed and for chosen streams
  Index streams = 0;             ///< of the state that was extended; 0 where there was none
  std::vector<Index> positions;  ///< [B T] where they are learned
  Dropout dropout;               ///< of the call
  /// What each layer left.
  std::vector<BlockSaved<Scalar, List>> blocks;
  Matrix last;    ///< [C, B T], the residual stream at the end
  Matrix hidden;  ///< [C, B T], h
};

/// A causal language model; see the file comment.
template <ComputeScalar ScalarType, class List = StandardLayers>
class LanguageModel {
 public:
  /// float or double.
  using Scalar = ScalarType;
  /// The layers that its recipe can name.
  using Layers = List;
  /// What a stream carries from call to call.
  using State = LanguageModelState<Scalar, List>;
  /// What a forward leaves for backward.
  using Saved = LanguageModelSaved<Scalar, List>;

  /// Fresh weights, drawn in this order: E normal(0.02), P normal(0.01) where there is one, then layer by layer the
  /// mixer's matrices and those of the feed-forward network as each states, each row by row; the maps that write
  /// to the residual stream are divided by sqrt(2 L). Throws std::invalid_argument for sizes below 1, a recipe or
  /// a schedule that is not one.
  LanguageModel(LanguageModelConfig config, Random& random);

  /// The sizes and layers it was made with; the recipe is canonical and states every option.
  const LanguageModelConfig& config() const { return config_; }
  /// L.
  Index layer_count() const { return static_cast<Index>(blocks_.size()); }
  /// Layer l, 0 <= l < L, unchecked.
  const Block<Scalar, List>& block(Index l) const { return blocks_[static_cast<std::size_t>(l)]; }
  /// The shifts of all layers and heads, attention layers counted.
  const ScheduleText& schedule() const { return schedule_; }
  /// E, also the output map.
  const Embedding<Scalar>& embedding() const { return embedding_; }
  /// E, to change in place; with other sizes the next call throws std::invalid_argument.
  Embedding<Scalar>& embedding() { return embedding_; }
  /// How E is stored, and, after store_matrices (core/parameters.hpp), the matrix of every layer. A model whose matrices
  /// are in fewer bytes runs in every mode; what trains it throws std::invalid_argument.
  Storage storage() const { return embedding_.narrow.storage(); }

  /// Runs B sequences of T tokens; h is left in saved.hidden. `dropout` is for training, in this call and those
  /// below: what it drops, backward drops too. Throws std::out_of_range for a token id outside [0,V) or T past
  /// learned positions, std::invalid_argument for a list that is not [B,T] or a dropout outside [0,1).
  void hidden(std::span<const std::int32_t> ids, Index B, Index T, Saved& saved, Workspace& workspace,
              const Dropout& dropout = {}) const;

  /// The same for documents one after another: document i is tokens offsets[i] ... offsets[i+1]-1 of ids [N].
  /// Offsets begin with 0, do not fall and end with N. Positions start again with each document.
  void packed(std::span<const std::int32_t> ids, std::span<const Index> offsets, Saved& saved,
              Workspace& workspace, const Dropout& dropout = {}) const;

  /// Adds the gradients of all parameters to `gradients`, given that of saved.hidden. The part of E's
  /// gradient that comes through the logits is the loss's to add (training/language_model_loss.hpp). ids are
  /// those of the call that filled `saved`. `state_gradient`, only after an extend, comes in as the gradient
  /// of the state that the call left (a fresh state for none) and goes out as that of the state it started
  /// from: chunk by chunk from the last to the first it is backpropagation through time, equal to the
  /// gradient of the whole sequence; without it the gradient stops at the start of the chunk. Throws, before
  /// anything is changed, std::invalid_argument for another model's record, gradients or state,
  /// std::out_of_range for a bad token id.
  void backward(std::span<const std::int32_t> ids, const Saved& saved, ConstColumns<Scalar> d_hidden,
                LanguageModel& gradients, Workspace& workspace, State* state_gradient = nullptr) const;

  /// Runs a part of a sequence that others have the rest of: `segments` of its tokens, the first and the last of which
  /// may continue streams of `state`, whose layers `exchange` fills before each runs (model/exchange.hpp); h [C, N] is
  /// left in saved.hidden. For distributed/, where the ids and segments come from. `dropout` is that of a part of a batch
  /// whose sequences lie one after another.
  template <class Exchange>
  void hidden(std::span<const std::int32_t> ids, std::span<const Segment> segments, State& state,
              Saved& saved, Workspace& workspace, const Dropout& dropout, Exchange& exchange) const;
  /// The same without a record, layer after layer, each chunk by chunk; its one segment continues stream 0. The
  /// stream of `state` is left behind the last token, and h of that one, if there is one, in last_hidden [C]. Memory:
  /// 2 C values for each token of the part.
  template <class Exchange>
  void extend(std::span<const std::int32_t> ids, State& state, Scalar* last_hidden, Workspace& workspace,
              Exchange& exchange) const;
  /// The backward of such a call of hidden.
  template <class Exchange>
  void backward(std::span<const std::int32_t> ids, const Saved& saved, ConstColumns<Scalar> d_hidden,
                LanguageModel& gradients, Workspace& workspace, State* state_gradient,
                Exchange& exchange) const;

  /// logits (V, n) = E h for hidden columns (C, n). Throws std::invalid_argument for other sizes, and columns of
  /// `out` that overlap.
  void logits(ConstColumns<Scalar> h, Columns<Scalar> out, Workspace& workspace) const {
    check_embedding("LanguageModel::logits");
    check_logits("LanguageModel::logits", h.cols(), out);
    detail::check_equal("LanguageModel::logits", "the rows of h", h.rows(), config_.width);
    embedding_.multiply(h, out, workspace.executor());
  }
  /// logits (V, n) after each of the n tokens of the call that filled `saved`, in the order of its ids. Throws
  /// std::invalid_argument for an `out` of another size, and the record of a call that threw.
  void logits(const Saved& saved, Columns<Scalar> out, Workspace& workspace) const {
    check_ended("LanguageModel::logits", saved);
    detail::check_equal("LanguageModel::logits", "out", Shape<2>{out.rows(), out.cols()},
                        Shape<2>{config_.vocabulary, saved.hidden.cols()});
    logits(read(saved.hidden), out, workspace);
  }

  /// The state of fresh streams. Throws std::invalid_argument for fewer than 1, or a negative capacity.
  State make_state(StateOptions options = {}) const;

  /// The next T >= 1 tokens of every stream, ids [streams, T]; last_logits (V, streams) are those after each
  /// stream's last token. With `tail` > 1 they are those after each of its last `tail` tokens, or of all where it gets
  /// fewer: (V, sum of min(tail, T)), stream after stream. Throws, before anything is changed, std::out_of_range for a
  /// bad token id or more than room() tokens, std::invalid_argument for another model's state, tail < 1 or sizes that do
  /// not fit. With a workspace that has served such a call before, one token of one stream makes no allocation,
  /// but where the state grows (layer/token_mixer.hpp).
  void extend(std::span<const std::int32_t> ids, State& state, Columns<Scalar> last_logits,
              Workspace& workspace, Index tail = 1) const;

  /// The next tokens of each of `streams`, different ones, and of no other: those of streams[i] are tokens
  /// offsets[i] ... offsets[i+1]-1 of ids [N], at least one each. last_logits (V, streams.size(), with a tail as
  /// above) in the order of the list. Throws as above.
  void extend(std::span<const std::int32_t> ids, std::span<const Index> offsets,
              std::span<const Index> streams, State& state, Columns<Scalar> last_logits, Workspace& workspace,
              Index tail = 1) const;

  /// The same as one chunk with a record for backward, for any number of tokens: h [C, N] is left in
  /// saved.hidden.
  void extend(std::span<const std::int32_t> ids, State& state, Saved& saved, Workspace& workspace,
              const Dropout& dropout = {}) const;
  /// The same for chosen streams.
  void extend(std::span<const std::int32_t> ids, std::span<const Index> offsets,
              std::span<const Index> streams, State& state, Saved& saved, Workspace& workspace,
              const Dropout& dropout = {}) const;

  /// How many more tokens `stream` can take: the rest of the learned positions, of the capacity that attention was
  /// given, or of what can be counted. Throws std::out_of_range for a stream that is not there.
  Index room(const State& state, Index stream) const;
  /// The least of all streams.
  Index room(const State& state) const;
  /// Throws std::invalid_argument unless all tensors have the sizes of the config.
  void check_tensors(const char* who) const;
  /// Throws std::invalid_argument unless `state` came from make_state of a model with these layers, and all tensors have
  /// their sizes.
  void check_state(const char* who, const State& state) const;
  /// Throws std::invalid_argument unless `gradients` is another model of the same config, whose tensors have the sizes of
  /// these.
  void check_gradients(const char* who, const LanguageModel& gradients) const;

  /// Every tensor, in the order of visit: its shape, whether weight decay applies to it, whether it writes to the
  /// residual stream. O(L).
  TensorSpecs describe() const;
  /// Calls f(name, tensor, more...) for every tensor, to read and to change in place; where one has another size
  /// afterwards the next call throws std::invalid_argument.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    if constexpr (!SeesStorage<F> &&
                  detail::are_of_library<Scalar>(std::type_identity<AnyMixer<Scalar, List>>{})) {
      (self.check_same_layers(more), ...);
      detail::call_for_each<Scalar, Self, More...>(f, {self.places(true), more.places(false)...});
    } else {
      visit_layers(f, self, more...);
    }
  }

 private:
  /// visit, going into the layers.
  template <class F, class Self, class... More>
  static void visit_layers(F&& f, Self& self, More&... more) {
    Embedding<Scalar>::visit(named("embedding", f), self.embedding_, more.embedding_...);
    if (!self.positions_.empty())
      named("positions", f)("weight", self.positions_.weight, more.positions_.weight...);
    for (std::size_t l = 0; l < self.blocks_.size(); ++l) {
      Block<Scalar, List>::visit(named("layers." + std::to_string(l), f), self.blocks_[l],
                                 more.blocks_[l]...);
    }
    LayerNorm<Scalar>::visit(named("norm", f), self.norm_, more.norm_...);
  }
  /// Throws unless the other model has the same kinds of layers.
  void check_same_layers(const LanguageModel& other) const {
    bool same = other.blocks_.size() == blocks_.size();
    for (std::size_t l = 0; same && l < blocks_.size(); ++l)
      same = other.blocks_[l].mixer.index() == blocks_[l].mixer.index();
    if (!same) detail::fail("LanguageModel::visit", "the models", "of the same layers", "others");
  }
  /// Where the tensors are. visit gives them out as const where the model is.
  detail::TensorPlaces places(bool with_names) const;

  void check_ids(const char* who, std::span<const std::int32_t> ids, Index expected) const;
  void check_positions(const char* who, Index before, Index more) const;
  void check_segments(const char* who, std::span<const std::int32_t> ids, std::span<const Segment> segments,
                      const State& state) const;
  void check_logits(const char* who, Index n, const Columns<Scalar>& out) const;
  void check_embedding(const char* who) const;
  static void check_ended(const char* who, const Saved& saved);
  void check_saved(const char* who, const Saved& saved) const;
  void check_records(const char* who, const Saved& saved, const State* state_gradient) const;

  struct Activations;
  std::span<const Segment> every_stream(const char* who, Workspace::Frame& frame,
                                        std::span<const std::int32_t> ids, const State& state) const;
  std::span<const Segment> chosen_streams(const char* who, Workspace::Frame& frame,
                                          std::span<const std::int32_t> ids, std::span<const Index> offsets,
                                          std::span<const Index> streams, const State& state) const;
  template <class Exchange>
  void run(std::span<const std::int32_t> ids, Index B, Index T, std::span<const Segment> segments,
           State* state, const Activations& to, const Dropout& dropout, Workspace& workspace,
           Exchange& exchange) const;
  void start(std::span<const std::int32_t> ids, Index N, std::span<const Segment> segments,
             const State* state, const Activations& to, const Dropout& dropout, Workspace& workspace) const;
  template <class M>
  static typename M::Saved* record_of(std::size_t l, const Activations& to);
  template <class M>
  void run_mixer(const M& mixer, const Tokens<const Scalar>& x, std::span<const Segment> segments,
                 const Tokens<Scalar>& y, typename M::State* state, typename M::Saved* record,
                 Workspace& workspace) const;
  void finish_block(std::size_t l, const Activations& to, const Dropout& dropout, Workspace& workspace) const;
  const LayerNorm<Scalar>& norm_before(std::size_t l) const {
    return l < blocks_.size() ? blocks_[l].mixer_norm : norm_;
  }
  template <class Exchange>
  void run_recorded(std::span<const std::int32_t> ids, Index B, Index T, std::span<const Segment> segments,
                    State* state, Saved& saved, const Dropout& dropout, Workspace& workspace,
                    Exchange& exchange) const;
  void run_recorded(std::span<const std::int32_t> ids, Index B, Index T, std::span<const Segment> segments,
                    State* state, Saved& saved, const Dropout& dropout, Workspace& workspace) const;
  void run_chunks(std::span<const std::int32_t> ids, std::span<const Segment> segments, State& state,
                  Columns<Scalar> last_logits, Index tail, Workspace& workspace) const;
  static Columns<Scalar> whole(OwnedColumns<Scalar>& m) {
    return {m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows())};
  }
  static ConstColumns<Scalar> read(const OwnedColumns<Scalar>& m) {
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
[[gnu::cold]] LanguageModel<Scalar, List>::LanguageModel(LanguageModelConfig config, Random& random)
    : config_(std::move(config)) {
  constexpr const char* kWho = "LanguageModel";
  detail::check_at_least(kWho, "vocabulary", config_.vocabulary, 1);
  detail::check_at_least(kWho, "width", config_.width, 1);
  detail::check_at_least(kWho, "feed_forward", config_.feed_forward, 1);
  detail::check_at_least(kWho, "context", config_.context, 1);
  constexpr Index kMostContext = (std::numeric_limits<std::int32_t>::max)();  // that a file states
  if (config_.context > kMostContext)
    detail::fail(kWho, "context", "at most " + std::to_string(kMostContext), std::to_string(config_.context));
  const Recipe recipe = with_all_options(List{}, Recipe::parse(config_.layers), config_.width);
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
  const TensorSpecs specs = describe();
  std::size_t next = 0;
  visit(
      [&](std::string_view, auto& tensor) {
        if (specs[next++].writes_result) tensor *= scale;
      },
      *this);
}

template <ComputeScalar Scalar, class List>
detail::TensorPlaces LanguageModel<Scalar, List>::places(bool with_names) const {
  detail::TensorPlaces places;
  auto& self = const_cast<LanguageModel&>(*this);
  if (with_names) {
    visit_layers(detail::ListPlaces<Scalar>{places}, self);
  } else {
    visit_layers(detail::ListNamelessPlaces<Scalar>{{places}}, self);
  }
  return places;
}

template <ComputeScalar Scalar, class List>
[[gnu::cold]] TensorSpecs LanguageModel<Scalar, List>::describe() const {
  const Index C = config_.width;
  const auto table = [](const char* name, const Embedding<Scalar>& embedding) {
    return embedding.empty()
               ? TensorSpecs{}
               : prefixed(name, Embedding<Scalar>::describe(embedding.rows(), embedding.channels()));
  };
  TensorSpecs specs = join({table("embedding", embedding_), table("positions", positions_)});
  const Recipe recipe = Recipe::parse(config_.layers);
  for (std::size_t l = 0; l < recipe.layers.size(); ++l) {
    TensorSpecs block =
        join({prefixed("mixer_norm", LayerNorm<Scalar>::describe(C)),
              prefixed("mixer", describe_mixer<Scalar>(List{}, recipe.layers[l], C)),
              prefixed("feed_forward_norm", LayerNorm<Scalar>::describe(C)),
              prefixed("feed_forward", FeedForward<Scalar>::describe(C, config_.feed_forward))});
    for (TensorSpec& spec : prefixed("layers." + std::to_string(l), std::move(block)))
      specs.push_back(std::move(spec));
  }
  return join({std::move(specs), prefixed("norm", LayerNorm<Scalar>::describe(C))});
}

}  // namespace hsm::inline HSM_ABI

#include <hsm/model/language_model_checks.hpp>
#include <hsm/model/language_model_part.hpp>
#include <hsm/model/language_model_passes.hpp>
