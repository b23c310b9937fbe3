// SPDX-License-Identifier: MIT
//
// What a model costs, from its config alone: multiply-adds per token in training and in generation, and the bytes of
// a stream's state, each as a function of the context T, by layer and in total.
//
//   forward per token
//     products     of a layer: P C^2, P its matrices C x C (layer_size.hpp); its feed-forward network: 2 C F
//     mixing       C (local + K planes), one for each value that `combine` reads; of attention 2 C for each token that is
//                  seen, C of q.k and C of the weighted sum of values, and a token at place t sees t + 1, with a
//                  window W no more than W, with `top` chosen blocks of `block` no more than top block + (block + 1) / 2,
//                  the mean over the places in its own, and C for each of T / block blocks to choose from; of hkt, level e,
//                  C / 2^e more for each token that is seen, in training C / 4^e, and 2 C^2 / 2^e of products
//     logits       V C
//   training       3 forward, at the mean of a sequence of T tokens, which see (T+1)/2, with a window W < T of attention
//                  W - W (W-1) / (2 T), and so with blocks, W their mean: the adjoint of each product is two of its size
//   generation     forward of one token that sees T
//   state          of a mixer sum over heads of min(T, (K-1) s_h) planes C/H values, of attention 2 C T, with a window
//                  2 C min(T, W-1), with blocks C T / block more, of hkt C T / 2^e more of level e (its tails are not
//                  counted), of a recurrence what it holds after a token
//
// Exact are the products, (a,b), channel and attention's pairs, but that those of blocks are means: over whole blocks of a
// training sequence within block^2 / (8 T) tokens, and where all blocks are chosen none is compared. An estimate is the
// mixing of the others, which is within a few C of what their formulas count, and for a policy whose combine has tensors of
// its own, at least one for each of their values. Not counted, since they are O(C + F) and no products: norms, activations, biases, softmax
// and the look-up of embeddings; nor what an implementation computes twice (attention's backward computes its scores
// again, C for each pair). A state may hold more memory than it needs: rings that take up to 16 MiB in all are there from the
// start (layer/ring_state.hpp), and longer ones and attention's cache grow by doubling; with a window
// it comes to twice what is needed (attention/cached_stream.hpp).
//
// Sources: arXiv 2601.22852 for the mixers and their linear cost; the factor 3 is the usual count of a forward and a
// backward pass (arXiv 2001.08361, section 2.1, where a multiply-add is 2 operations).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include <hsm/model/parameter_budget.hpp>

namespace hsm::inline HSM_ABI {

/// What is counted: multiply-adds per token in training or in generation, or bytes of one stream's state.
enum class CostKind { kTraining, kGeneration, kState };

/// For how many tokens some heads of a mixer keep each: (K-1) s.
struct KeptSpan {
  double tokens = 0;  ///< (K-1) s
  double heads = 0;   ///< how many of its heads do
};

/// The cost of one layer. Counts that could pass an integer are double.
struct LayerCost {
  double products = 0;      ///< multiply-adds per token, of its matrices C x C
  double mixing = 0;        ///< multiply-adds per token of what is no product, attention's pairs left out
  double feed_forward = 0;  ///< multiply-adds per token of the network behind it
  double seen = 0;          ///< multiply-adds for each token that is seen: 2 C of attention, else 0
  double shared = 0;  ///< of these what training does without, since a pair of blocks is multiplied once
  double most_seen = kAll;      ///< how many tokens are seen at most, the one itself counted
  double compared = 0;          ///< multiply-adds for each token before it, of choosing blocks: C / B
  double token_bytes = 0;       ///< what a state keeps of a token; of a mixer per head
  std::vector<KeptSpan> spans;  ///< of a mixer: all its heads; of attention with a window one

  /// In place of a number of tokens: all of them.
  static constexpr double kAll = (std::numeric_limits<double>::max)();

  /// Whether its state grows with each token, all of which it sees or chooses from.
  bool unbounded() const { return spans.empty(); }
  /// Whether it sees the last tokens one by one, and no others.
  bool windowed() const { return bounded() && !unbounded(); }
  /// Whether it sees no more than so many tokens, the last or chosen ones.
  bool bounded() const { return most_seen < kAll; }
  /// Multiply-adds in training for each token that is seen.
  double trained() const { return seen - shared; }
  /// Multiply-adds of a forward pass for a token with so many before it, itself counted.
  double forward(double tokens) const {
    return products + mixing + feed_forward + seen * (std::min)(tokens, most_seen) + compared * tokens;
  }
  /// How many tokens are seen by a token of a sequence of T on the average.
  double mean_seen(double T) const {
    return T <= most_seen ? (T + 1) / 2 : most_seen - most_seen * (most_seen - 1) / (2 * T);
  }
  /// Bytes of a stream's state after `tokens` tokens.
  double state_bytes(double tokens) const {
    if (unbounded()) return token_bytes * tokens;
    double kept = 0;
    for (const KeptSpan& span : spans) kept += span.heads * (std::min)(span.tokens, tokens);
    return token_bytes * kept;
  }
  /// At the context T.
  double at(CostKind kind, double T) const {
    if (kind == CostKind::kTraining)
      return 3 * (products + mixing + feed_forward + trained() * mean_seen(T) + compared * (T + 1) / 2);
    return kind == CostKind::kGeneration ? forward(T) : state_bytes(T);
  }
};

/// The cost of a model.
struct ModelCost {
  std::vector<LayerCost> layers;  ///< in order
  double logits = 0;              ///< multiply-adds per token

  /// At the context T, of all layers and the logits together.
  double at(CostKind kind, double T) const {
    double sum = kind == CostKind::kTraining ? 3 * logits : kind == CostKind::kGeneration ? logits : 0;
    for (const LayerCost& layer : layers) sum += layer.at(kind, T);
    return sum;
  }
};

/// The cost of the layer whose sizes are `size`, with a feed-forward network of width F behind it. Head h is at
/// shifts[h mod size], which attention does not read.
inline LayerCost layer_cost(const LayerSize& size, Index channels, Index F, std::span<const Index> shifts,
                            std::size_t scalar_bytes = sizeof(float)) {
  const LayerFootprint& token = size.footprint;
  const double C = static_cast<double>(channels);
  const double kept = static_cast<double>(token.kept + token.kept_by_width * (channels / size.heads));
  const double plane_bytes = C * kept * static_cast<double>(scalar_bytes);
  double blocks = 0, pairs = 0;  // of levels above the tokens, for each token and pair of them
  for (Index l = 1; l < token.levels; ++l) {
    blocks += std::exp2(-static_cast<double>(l));
    pairs += std::exp2(-2 * static_cast<double>(l));
  }
  LayerCost cost;
  cost.products = (static_cast<double>(token.products) + 2 * blocks) * C * C;
  cost.feed_forward = 2 * C * static_cast<double>(F);
  if (token.unbounded || token.window > 0) {
    cost.seen = C * (kept + blocks);
    cost.shared = C * (blocks - pairs);
    cost.token_bytes = plane_bytes + C * blocks * static_cast<double>(scalar_bytes);
    if (token.block > 0) {
      const double B = static_cast<double>(token.block);
      cost.most_seen = static_cast<double>(token.top) * B + (B + 1) / 2;
      cost.compared = C / B;
      cost.token_bytes += C / B * static_cast<double>(scalar_bytes);
    }
    if (token.unbounded) return cost;
    cost.most_seen = static_cast<double>(token.window);
    cost.spans.push_back({cost.most_seen - 1, 1});
    return cost;
  }
  cost.mixing = C * (static_cast<double>(token.local) + static_cast<double>(token.reads) * kept);
  if (size.taps == 0) {  // a recurrence: what it holds after the last token
    cost.token_bytes = plane_bytes;
    cost.spans.push_back({1, 1});
    return cost;
  }
  cost.mixing = (std::max)(cost.mixing, static_cast<double>(size.parameters) - cost.products);
  cost.token_bytes = plane_bytes / static_cast<double>(size.heads);
  const Index H = size.heads, differ = static_cast<Index>(shifts.size());
  for (Index i = 0; i < (std::min)(H, differ); ++i) {  // the heads i, i + differ, i + 2 differ, ...
    const double shift = static_cast<double>(shifts[static_cast<std::size_t>(i)]);
    cost.spans.push_back(
        {static_cast<double>(size.taps - 1) * shift, static_cast<double>((H - i - 1) / differ + 1)});
  }
  return cost;
}

/// The cost of a model of `config`, whose state holds values of `scalar_bytes` bytes. Throws as parameters_of does; a context
/// or a shift that the constructor of the model finds too large has a cost all the same.
template <class List = StandardLayers>
ModelCost cost_of(const LanguageModelConfig& config, std::size_t scalar_bytes = sizeof(float)) {
  static_cast<void>(parameters_of<List>(config));  // what does not fit throws
  const Recipe recipe = Recipe::parse(config.layers);
  const std::vector<LayerSize> sizes = layer_sizes<List>(recipe, config.width);
  const ScheduleText schedule = ScheduleText::parse(config.schedule, static_cast<Index>(sizes.size()));
  ModelCost cost;
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    cost.layers.push_back(layer_cost(sizes[l], config.width, config.feed_forward,
                                     schedule.head_shifts(static_cast<Index>(l)), scalar_bytes));
  }
  cost.logits = static_cast<double>(config.vocabulary) * static_cast<double>(config.width);
  return cost;
}

namespace detail {

/// Sorts numbers, each once.
inline void sort_once(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

/// Where training of `a` costs least beside `b` between the bends `from` and `to`: the difference is a line and
/// gamma / T, of the windows that are full; nothing where it only rises or falls there, or has no such place.
inline std::optional<double> least_between(const ModelCost& a, const ModelCost& b, double from, double to) {
  double slope = 0, gamma = 0;
  for (const ModelCost* cost : {&a, &b}) {
    const double sign = cost == &a ? 1 : -1;
    for (const LayerCost& layer : cost->layers) {
      const double W = layer.most_seen;
      (W <= from ? gamma : slope) += sign * layer.trained() * (W <= from ? -W * (W - 1) : 1);
      slope += sign * layer.compared;
    }
  }
  if (!(slope > 0 && gamma > 0)) return std::nullopt;
  const double least = std::sqrt(gamma / slope);
  if (!(least > from && least < to)) return std::nullopt;
  return least;
}

/// The contexts between which the difference of both costs changes its sign once at most, ascending; 1 is the first.
inline std::vector<double> cost_bends(CostKind kind, const ModelCost& a, const ModelCost& b, double most) {
  std::vector<double> bends{1, most};
  for (const ModelCost* cost : {&a, &b}) {
    for (const LayerCost& layer : cost->layers) {
      for (const KeptSpan& span : layer.spans) bends.push_back((std::max)(span.tokens, 1.0));
      if (!layer.bounded()) continue;
      bends.push_back(std::floor(layer.most_seen));
      bends.push_back(std::ceil(layer.most_seen));
    }
  }
  sort_once(bends);
  const std::size_t straight = bends.size();
  for (std::size_t i = 0; kind == CostKind::kTraining && i + 1 < straight; ++i) {
    if (const auto least = least_between(a, b, bends[i], bends[i + 1])) {
      bends.push_back(std::floor(*least));
      bends.push_back(std::floor(*least) + 1);
    }
  }
  sort_once(bends);
  return bends;
}

}  // namespace detail

/// The smallest context, a whole number from 1 on, at which `a` costs no more than `b`; nothing where there is none
/// up to 2^53. O(layers) for each different shift.
inline std::optional<double> overtaking_context(CostKind kind, const ModelCost& a, const ModelCost& b) {
  constexpr double kMost = 9007199254740992.0;  // 2^53: whole numbers are exact up to here
  const auto more = [&](double T) { return a.at(kind, T) - b.at(kind, T); };
  const std::vector<double> bends = detail::cost_bends(kind, a, b, kMost);
  for (std::size_t i = 0; i + 1 < bends.size() && bends[i] < kMost; ++i) {
    double above = bends[i], below = (std::min)(bends[i + 1], kMost);
    if (more(above) <= 0) return above;
    if (more(below) > 0) continue;  // and so it is between the two
    while (below - above > 1) {
      const double middle = std::floor(above + (below - above) / 2);
      (more(middle) > 0 ? above : below) = middle;
    }
    return below;
  }
  return std::nullopt;
}

}  // namespace hsm::inline HSM_ABI
