// SPDX-License-Identifier: MIT
//
// Causal attention over a hierarchy of pooled tokens, of one document by its definition, in double and plain loops:
//
//   x^0 = x,   x^e_j = a^e x^{e-1}_{2j} + b^e x^{e-1}_{2j+1}  (value by value),   q^e, k^e = W^e x^e + b^e
//   score(t, i) = sum_e w_e q^e_n . k^e_m / sqrt(C/H),   n = (t+1) / 2^e - 1,  m = i / 2^e  (rounded down),  m <= n
//   y_t = W_o concat_h sum_{i <= t} softmax_i(score(t, i)) v_i + b_o,   w = softmax(lambda)
//
// Parameters are read value by value, so it shares no arithmetic with the code under test.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "reference/plain_loops.hpp"

namespace hsm::test {

/// The parameters, copied into double: of level e >= 1 `a`, `b` [C], `W` [2C][C] and `bias` [2C], of level 0 W [3C][C].
struct HierarchicalAttentionReference {
  struct Level {
    Values a, b, W, bias;
  };

  std::size_t C = 0, H = 1;
  Values W, bias, Wo, bo, lambda;
  std::vector<Level> levels;  // from level 1 on

  template <class Parameters>
  explicit HierarchicalAttentionReference(const Parameters& p)
      : C(static_cast<std::size_t>(p.output.weight.rows())),
        H(static_cast<std::size_t>(p.heads)),
        W(values_by_row(p.project.weight)),
        bias(values_by_row(p.project.bias)),
        Wo(values_by_row(p.output.weight)),
        bo(values_by_row(p.output.bias)),
        lambda(values_by_row(p.lambda)) {
    for (const auto& level : p.levels)
      levels.push_back({values_by_row(level.a), values_by_row(level.b), values_by_row(level.project.weight),
                        values_by_row(level.project.bias)});
  }

  /// y [T][C] of one document x [T][C].
  Values forward(const Values& x) const {
    const std::size_t T = x.size() / C, D = C / H, count = levels.size() + 1;
    const Values joint = map_tokens(W, bias, x);
    Values pooled = x, mixed(T * C), score(T), weight(count);
    std::vector<Values> queries(count), keys(count);  // [block][C]
    part(joint, 3, 0, queries[0]), part(joint, 3, 1, keys[0]);
    for (std::size_t e = 1; e < count; ++e) {
      const Level& level = levels[e - 1];
      Values next;
      for (std::size_t j = 0; j < (T >> e); ++j) {
        for (std::size_t c = 0; c < C; ++c)
          next.push_back(level.a[c] * pooled[2 * j * C + c] + level.b[c] * pooled[(2 * j + 1) * C + c]);
      }
      pooled = next;
      const Values own = map_tokens(level.W, level.bias, pooled);
      part(own, 2, 0, queries[e]), part(own, 2, 1, keys[e]);
    }
    double all = 0;
    for (const double value : lambda) all += std::exp(value);
    for (std::size_t e = 0; e < count; ++e) weight[e] = std::exp(lambda[e]) / all;

    for (std::size_t t = 0; t < T; ++t) {
      for (std::size_t h = 0; h < H; ++h) {
        double largest = -INFINITY, total = 0;
        for (std::size_t i = 0; i <= t; ++i) {
          score[i] = 0;
          for (std::size_t e = 0; e < count; ++e) {
            const std::size_t complete = (t + 1) >> e, m = i >> e;
            if (m >= complete) continue;
            double product = 0;
            for (std::size_t d = h * D; d < (h + 1) * D; ++d)
              product += queries[e][(complete - 1) * C + d] * keys[e][m * C + d];
            score[i] += weight[e] * product / std::sqrt(static_cast<double>(D));
          }
          largest = std::max(largest, score[i]);
        }
        for (std::size_t i = 0; i <= t; ++i) total += std::exp(score[i] - largest);
        for (std::size_t d = h * D; d < (h + 1) * D; ++d) {
          double& sum = mixed[t * C + d];
          for (std::size_t i = 0; i <= t; ++i)
            sum += std::exp(score[i] - largest) / total * joint[i * 3 * C + 2 * C + d];
        }
      }
    }
    return map_tokens(Wo, bo, mixed);
  }

  /// sum of y times dy: the scalar whose gradients backward computes.
  double loss(const Values& x, const Values& dy) const { return weighted_sum(forward(x), dy); }

 private:
  static std::ptrdiff_t at(std::size_t i) { return static_cast<std::ptrdiff_t>(i); }
  /// Part p of `parts` parts of C values of each token.
  void part(const Values& joint, std::size_t parts, std::size_t p, Values& out) const {
    for (std::size_t t = 0; t < joint.size() / (parts * C); ++t)
      out.insert(out.end(), joint.begin() + at((t * parts + p) * C),
                 joint.begin() + at((t * parts + p + 1) * C));
  }
};

}  // namespace hsm::test
