// SPDX-License-Identifier: MIT
//
// What the heads of a layer take from which token, recomputed from the layer's parameters by its formula (the file of each
// layer states it), in plain loops:
//
//   ab, channel         a and b; of channel the means over the head's channels
//   gated, gated-pair   the gate and 1 minus it, as means over the head's channels
//   softmax-local       the softmax over its taps
//   attention           the softmax over all tokens, or those of the window
//   matrix, fusion      shares of norms: how long what comes from each token is, both together 1
//
// A tap before the first token has weight 0. The layer's result is computed from the same gates and weights, and
// `error` tells how far it is from what the library computes; layers that are not named here have no weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <variant>
#include <vector>

#include <hsm/core/elementwise.hpp>
#include <hsm/core/workspace.hpp>
#include <hsm/model/any_mixer.hpp>

namespace hsm::examples {

/// The weights of one head.
struct HeadWeights {
  std::vector<Index> distances{};  ///< of its taps, 0 first; empty where it sees all tokens
  std::vector<std::vector<float>>
      rows{};  ///< by token: a weight for each tap, or for each token up to itself
};

/// The weights of one layer.
struct LayerWeights {
  std::string meaning{};             ///< what a weight is; empty for a layer that has none
  std::vector<HeadWeights> heads{};  ///< none for such a layer
  double error = 0;  ///< largest difference to the library's result, over the largest value of that
};

namespace detail {

using Activations = OwnedColumns<float>;  // (rows, T)

inline Activations apply(const Linear<float>& map, const Activations& x, Executor& executor) {
  Activations y(map.out(), x.cols());
  map.forward({x.data(), x.rows(), x.cols(), Eigen::OuterStride<>(x.rows())},
              {y.data(), y.rows(), y.cols(), Eigen::OuterStride<>(y.rows())}, executor);
  return y;
}

inline float sigmoid_of(float z) { return 1 / (1 + std::exp(-z)); }

/// Replaces scores by their softmax.
inline void softmax(std::vector<float>& scores) {
  float most = scores[0], sum = 0;
  for (const float z : scores) most = z > most ? z : most;
  for (float& z : scores) sum += z = std::exp(z - most);
  for (float& z : scores) z /= sum;
}

/// One run of a layer over x [C, T]: what its formula needs at hand.
class Weigher {
 public:
  Weigher(const Activations& x, Executor& executor)
      : x_(x), executor_(executor), y_(Activations::Zero(x.rows(), x.cols())) {}

  /// The weights of a layer, and its result in y().
  LayerWeights operator()(const Mixer<ScalarPair<float>>& mixer) {
    const auto& policy = mixer.parameters();
    return pairs(mixer, "a and b", [&](Index h, Index, Index, bool past) {
      return Pair{policy.a[h], past ? policy.b[h] : 0};
    });
  }
  LayerWeights operator()(const Mixer<ChannelPair<float>>& mixer) {
    const auto& policy = mixer.parameters();
    return pairs(mixer, "a and b, means over channels", [&](Index, Index c, Index, bool past) {
      return Pair{policy.a[c], past ? policy.b[c] : 0};
    });
  }
  LayerWeights operator()(const Mixer<Gated<float>>& mixer) {
    const Activations local = apply(mixer.parameters().project, x_, executor_);
    return pairs(mixer, "gates, means over channels", [&](Index, Index c, Index t, bool past) {
      const float g = sigmoid_of(local(c, t));
      return Pair{g, past ? 1 - g : 0};
    });
  }
  LayerWeights operator()(const Mixer<GatedPair<float>>& mixer) {
    const Activations both = apply(mixer.parameters().project, x_, executor_);  // W x + c, then U x
    const Index C = x_.rows();
    return pairs(mixer, "gates, means over channels", [&](Index h, Index c, Index t, bool past) {
      const float g = sigmoid_of(both(c, t) + (past ? both(C + c, t - mixer.shift(h)) : 0));
      return Pair{g, past ? 1 - g : 0};
    });
  }
  LayerWeights operator()(const Mixer<MatrixPair<float>>& mixer) {
    return shares(mixer, apply(mixer.parameters().project, x_, executor_));
  }
  LayerWeights operator()(const Mixer<Fusion<float>>& mixer) {
    LayerWeights weights = shares(mixer, apply(mixer.parameters().project, x_, executor_));
    for (Index i = 0; i < y_.size(); ++i) {
      float& z = y_.data()[i];
      gelu(1, &z, &z);
    }
    y_ = apply(mixer.parameters().output, y_, executor_);
    return weights;
  }
  LayerWeights operator()(const Mixer<SoftmaxLocal<float>>& mixer) {
    LayerWeights weights{.meaning = "softmax over the taps"};
    const Activations qkv = apply(mixer.parameters().project, x_, executor_);
    for (Index h = 0; h < mixer.heads(); ++h) {
      const Index s = mixer.shift(h), K = mixer.taps();
      HeadWeights head;
      for (Index k = 0; k < K; ++k) head.distances.push_back(k * s);
      for (Index t = 0; t < x_.cols(); ++t) {
        std::vector<Index> seen;
        for (Index k = 0; k < K && k * s <= t; ++k) seen.push_back(t - k * s);
        std::vector<float> row = attend(qkv, h, mixer.heads(), t, seen);
        row.resize(static_cast<std::size_t>(K), 0);
        head.rows.push_back(std::move(row));
      }
      weights.heads.push_back(std::move(head));
    }
    y_ = apply(mixer.parameters().output, y_, executor_);
    return weights;
  }
  LayerWeights operator()(const CausalAttention<float>& mixer) {
    const auto& attention = mixer.parameters();
    if (attention.block > 0) return {};  // the choice of blocks is not drawn
    LayerWeights weights{.meaning = "softmax over the tokens"};
    Activations qkv = apply(attention.project, x_, executor_);
    if (attention.rotary > 0) turn(qkv, attention.heads, static_cast<double>(attention.rotary));
    for (Index h = 0; h < attention.heads; ++h) {
      HeadWeights head;
      for (Index t = 0; t < x_.cols(); ++t) {
        const Index first = attention.window > 0 ? std::max<Index>(0, t - attention.window + 1) : 0;
        std::vector<Index> seen;
        for (Index j = first; j <= t; ++j) seen.push_back(j);
        std::vector<float> row = attend(qkv, h, attention.heads, t, seen);
        row.insert(row.begin(), static_cast<std::size_t>(first), 0);
        head.rows.push_back(std::move(row));
      }
      weights.heads.push_back(std::move(head));
    }
    y_ = apply(attention.output, y_, executor_);
    return weights;
  }
  /// Every other layer.
  template <class Other>
  LayerWeights operator()(const Other&) {
    return {};
  }

  const Activations& y() const { return y_; }

 private:
  struct Pair {
    float now, past;
  };

  // Policies that are y = now .* x[t] + past .* x[t-s]; f(h, c, t, whether t-s is there) gives both of a channel.
  template <class Policy, class F>
  LayerWeights pairs(const Mixer<Policy>& mixer, const char* meaning, const F& f) {
    LayerWeights weights{.meaning = meaning};
    const Index H = mixer.heads(), rows = x_.rows() / H;
    for (Index h = 0; h < H; ++h) {
      const Index s = mixer.shift(h);
      HeadWeights head{.distances = {0, s}};
      for (Index t = 0; t < x_.cols(); ++t) {
        Pair sum{0, 0};
        for (Index c = h * rows; c < (h + 1) * rows; ++c) {
          const Pair pair = f(h, c, t, t >= s);
          y_(c, t) = pair.now * x_(c, t) + (t >= s ? pair.past * x_(c, t - s) : 0);
          sum.now += pair.now;
          sum.past += pair.past;
        }
        const auto n = static_cast<float>(rows);
        head.rows.push_back({sum.now / n, sum.past / n});
      }
      weights.heads.push_back(std::move(head));
    }
    return weights;
  }

  // Policies that are z = own[t] + other[t-s], the two planes of `both`.
  template <class Policy>
  LayerWeights shares(const Mixer<Policy>& mixer, const Activations& both) {
    LayerWeights weights{.meaning = "shares of the norms"};
    const Index C = x_.rows(), H = mixer.heads(), rows = C / H;
    for (Index h = 0; h < H; ++h) {
      const Index s = mixer.shift(h), c = h * rows;
      HeadWeights head{.distances = {0, s}};
      for (Index t = 0; t < x_.cols(); ++t) {
        y_.block(c, t, rows, 1) = both.block(c, t, rows, 1);
        const float own = both.block(c, t, rows, 1).norm();
        const float other = t >= s ? both.block(C + c, t - s, rows, 1).norm() : 0;
        if (t >= s) y_.block(c, t, rows, 1) += both.block(C + c, t - s, rows, 1);
        const float sum = own + other > 0 ? own + other : 1;
        head.rows.push_back({own / sum, other / sum});
      }
      weights.heads.push_back(std::move(head));
    }
    return weights;
  }

  // The softmax of the query of token t over the tokens seen, whose values are added to y.
  std::vector<float> attend(const Activations& qkv, Index h, Index heads, Index t,
                            const std::vector<Index>& seen) {
    const Index C = x_.rows(), rows = C / heads, c = h * rows;
    std::vector<float> weights;
    for (const Index j : seen) {
      float score = 0;
      for (Index i = 0; i < rows; ++i) score += qkv(c + i, t) * qkv(C + c + i, j);
      weights.push_back(score / std::sqrt(static_cast<float>(rows)));
    }
    softmax(weights);
    for (std::size_t n = 0; n < seen.size(); ++n) {
      for (Index i = 0; i < rows; ++i) y_(c + i, t) += weights[n] * qkv(2 * C + c + i, seen[n]);
    }
    return weights;
  }

  // Rotary positions: values i and i + D/2 of each head's query and key turn by t base^(-2 i / D).
  static void turn(Activations& qkv, Index heads, double base) {
    const Index C = qkv.rows() / 3, D = C / heads;
    for (Index t = 0; t < qkv.cols(); ++t) {
      for (Index first = 0; first < 2 * C; first += D) {
        for (Index i = 0; i < D / 2; ++i) {
          const double angle =
              static_cast<double>(t) * std::pow(base, -2 * static_cast<double>(i) / static_cast<double>(D));
          const auto cosine = static_cast<float>(std::cos(angle)), sine = static_cast<float>(std::sin(angle));
          float &u = qkv(first + i, t), &v = qkv(first + i + D / 2, t);
          const float turned = cosine * u - sine * v;
          v = cosine * v + sine * u;
          u = turned;
        }
      }
    }
  }

  const Activations& x_;
  Executor& executor_;
  Activations y_;
};

}  // namespace detail

/// The weights of a layer for the tokens x [C, T], its input.
inline LayerWeights mixing_weights(const AnyMixer<float>& layer, const OwnedColumns<float>& x,
                                   Workspace& workspace) {
  return std::visit(
      [&](const auto& mixer) {
        detail::Weigher weigher(x, workspace.executor());
        LayerWeights weights = weigher(mixer);
        if (weights.heads.empty()) return weights;
        OwnedColumns<float> y(x.rows(), x.cols());
        mixer.forward(x, y, workspace);
        const float largest = y.cwiseAbs().maxCoeff();
        weights.error =
            static_cast<double>((weigher.y() - y).cwiseAbs().maxCoeff() / (largest > 0 ? largest : 1));
        return weights;
      },
      layer);
}

}  // namespace hsm::examples
