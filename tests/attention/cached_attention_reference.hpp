// SPDX-License-Identifier: MIT
//
// Attention of the next tokens of one document after cached keys and values, by its definition, in double and
// plain loops: the oracle of extend and of the gradient of a state.
//
//   y_i = W_o concat_h sum_{j <= P + i} softmax_j(q_i . k_j / sqrt(C/H))_j v_j + b_o,  P cached tokens
//
// where a window, or blocks, leave what attention_reference.hpp tells. With rotary positions q_i and k_i are turned for position S + P + i, S
// tokens before those that are cached, and cached keys are as they were turned.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "reference/attention_reference.hpp"

namespace hsm::test {

/// P cached tokens, head by head as a state shows them: keys [H][P][C/H], then values [H][P][C/H].
struct CachedAttentionReference {
  AttentionReference parameters;
  std::vector<double> cache;
  std::size_t before = 0;  // S

  struct Result {
    std::vector<double> y;      // [T][C]
    std::vector<double> cache;  // the keys and values of all P + T tokens, as above
  };

  /// The tokens x [T][C] after those of the cache.
  Result forward(const std::vector<double>& x) const {
    const std::size_t C = parameters.C, H = parameters.H, D = C / H;
    const std::size_t P = cache.size() / (2 * C), T = x.size() / C, all = P + T;
    Result result{std::vector<double>(T * C), std::vector<double>(2 * C * all)};
    const auto cached = [&](std::size_t part, std::size_t h, std::size_t token, std::size_t d) -> double& {
      return result.cache[((part * H + h) * all + token) * D + d];
    };
    const auto projected = [&](std::size_t part, std::size_t c, std::size_t t) {
      double sum = parameters.b[part * C + c];
      for (std::size_t j = 0; j < C; ++j) sum += parameters.W[(part * C + c) * C + j] * x[t * C + j];
      return sum;
    };
    for (std::size_t part = 0; part < 2; ++part) {
      for (std::size_t h = 0; h < H; ++h) {
        for (std::size_t d = 0; d < D; ++d) {
          for (std::size_t t = 0; t < P; ++t) cached(part, h, t, d) = cache[((part * H + h) * P + t) * D + d];
          for (std::size_t t = 0; t < T; ++t) cached(part, h, P + t, d) = projected(1 + part, h * D + d, t);
        }
        for (std::size_t t = 0; part == 0 && t < T; ++t)
          parameters.turn(&cached(0, h, P + t, 0), before + P + t);
      }
    }
    for (std::size_t t = 0; t < T; ++t) {
      std::vector<double> mixed(C, 0.0);
      for (std::size_t h = 0; h < H; ++h) {
        std::vector<double> query(D), weight(P + t + 1);
        for (std::size_t d = 0; d < D; ++d) query[d] = projected(0, h * D + d, t);
        parameters.turn(query.data(), before + P + t);
        const std::vector<bool> visible =
            parameters.seen(P + t, query.data(), [&](std::size_t u) { return &cached(0, h, u, 0); });
        double total = 0;
        for (std::size_t u = 0; u <= P + t; ++u) {
          if (!visible[u]) continue;
          double score = 0;
          for (std::size_t d = 0; d < D; ++d) score += query[d] * cached(0, h, u, d);
          weight[u] = std::exp(score / std::sqrt(static_cast<double>(D)));
          total += weight[u];
        }
        for (std::size_t u = 0; u <= P + t; ++u) {
          for (std::size_t d = 0; d < D; ++d) mixed[h * D + d] += weight[u] / total * cached(1, h, u, d);
        }
      }
      for (std::size_t i = 0; i < C; ++i) {
        double sum = parameters.bo[i];
        for (std::size_t j = 0; j < C; ++j) sum += parameters.Wo[i * C + j] * mixed[j];
        result.y[t * C + i] = sum;
      }
    }
    return result;
  }

  /// sum of y times dy, and of the cache that is left times its gradient d_cache (empty for none).
  double loss(const std::vector<double>& x, const std::vector<double>& dy,
              const std::vector<double>& d_cache) const {
    const Result result = forward(x);
    double sum = 0;
    for (std::size_t i = 0; i < dy.size(); ++i) sum += result.y[i] * dy[i];
    for (std::size_t i = 0; i < d_cache.size(); ++i) sum += result.cache[i] * d_cache[i];
    return sum;
  }
};

}  // namespace hsm::test
