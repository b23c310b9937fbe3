// SPDX-License-Identifier: MIT
//
// Causal attention over a hierarchy of pooled tokens, of one document by its definition, in double and plain loops:
//
//   x^0 = x,   x^l_j = a^l x^{l-1}_{2j} + b^l x^{l-1}_{2j+1}  (value by value),   q^l, k^l = W^l x^l + b^l
//   score(t, i) = sum_l w_l q^l_Q . k^l_K / sqrt(C/H),   Q = (t+1) / 2^l - 1,  K = i / 2^l  (rounded down),  K <= Q
//   y_t = W_o concat_h sum_{i <= t} softmax_i(score(t, i)) v_i + b_o,   w = softmax(lambda)
//
// Parameters are read value by value, so it shares no arithmetic with the code under test.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace hsm::test {

/// The parameters, copied into double: of level l >= 1 `a`, `b` [C], `W` [2C][C] and `bias` [2C], of level 0 W [3C][C].
struct HierarchicalAttentionReference {
  using Values = std::vector<double>;
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
        W(read(p.project.weight)),
        bias(read(p.project.bias)),
        Wo(read(p.output.weight)),
        bo(read(p.output.bias)),
        lambda(read(p.lambda)) {
    for (const auto& level : p.levels)
      levels.push_back({read(level.a), read(level.b), read(level.project.weight), read(level.project.bias)});
  }

  /// y [T][C] of one document x [T][C].
  Values forward(const Values& x) const {
    const std::size_t T = x.size() / C, D = C / H, L = levels.size() + 1;
    const Values joint = map(W, bias, x);
    Values pooled = x, y(T * C), mixed(C), score(T), weight(L);
    std::vector<Values> queries(L), keys(L);  // [block][C]
    part(joint, 3, 0, queries[0]), part(joint, 3, 1, keys[0]);
    for (std::size_t l = 1; l < L; ++l) {
      const Level& level = levels[l - 1];
      Values next;
      for (std::size_t j = 0; j < (T >> l); ++j) {
        for (std::size_t c = 0; c < C; ++c)
          next.push_back(level.a[c] * pooled[2 * j * C + c] + level.b[c] * pooled[(2 * j + 1) * C + c]);
      }
      pooled = next;
      const Values own = map(level.W, level.bias, pooled);
      part(own, 2, 0, queries[l]), part(own, 2, 1, keys[l]);
    }
    double all = 0;
    for (const double value : lambda) all += std::exp(value);
    for (std::size_t l = 0; l < L; ++l) weight[l] = std::exp(lambda[l]) / all;

    for (std::size_t t = 0; t < T; ++t) {
      for (std::size_t h = 0; h < H; ++h) {
        double largest = -INFINITY, total = 0;
        for (std::size_t i = 0; i <= t; ++i) {
          score[i] = 0;
          for (std::size_t l = 0; l < L; ++l) {
            const std::size_t complete = (t + 1) >> l, K = i >> l;
            if (K >= complete) continue;
            double product = 0;
            for (std::size_t d = h * D; d < (h + 1) * D; ++d)
              product += queries[l][(complete - 1) * C + d] * keys[l][K * C + d];
            score[i] += weight[l] * product / std::sqrt(static_cast<double>(D));
          }
          largest = std::max(largest, score[i]);
        }
        for (std::size_t i = 0; i <= t; ++i) total += std::exp(score[i] - largest);
        for (std::size_t d = h * D; d < (h + 1) * D; ++d) {
          mixed[d] = 0;
          for (std::size_t i = 0; i <= t; ++i)
            mixed[d] += std::exp(score[i] - largest) / total * joint[i * 3 * C + 2 * C + d];
        }
      }
      const Values out = map(Wo, bo, mixed);
      std::copy(out.begin(), out.end(), y.begin() + at(t * C));
    }
    return y;
  }

  /// sum of y times dy: the scalar whose gradients backward computes.
  double loss(const Values& x, const Values& dy) const {
    const Values y = forward(x);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
    return sum;
  }

 private:
  static std::ptrdiff_t at(std::size_t i) { return static_cast<std::ptrdiff_t>(i); }
  template <class Tensor>
  static Values read(const Tensor& tensor) {
    Values values;
    for (std::ptrdiff_t i = 0; i < tensor.rows(); ++i) {
      for (std::ptrdiff_t j = 0; j < tensor.cols(); ++j) values.push_back(static_cast<double>(tensor(i, j)));
    }
    return values;
  }
  /// M u + c of tokens u [n][C].
  Values map(const Values& M, const Values& c, const Values& u) const {
    Values out;
    for (std::size_t t = 0; t < u.size() / C; ++t) {
      for (std::size_t i = 0; i < c.size(); ++i) {
        double sum = c[i];
        for (std::size_t j = 0; j < C; ++j) sum += M[i * C + j] * u[t * C + j];
        out.push_back(sum);
      }
    }
    return out;
  }
  /// Part p of `parts` parts of C values of each token.
  void part(const Values& joint, std::size_t parts, std::size_t p, Values& out) const {
    for (std::size_t t = 0; t < joint.size() / (parts * C); ++t)
      out.insert(out.end(), joint.begin() + at((t * parts + p) * C),
                 joint.begin() + at((t * parts + p + 1) * C));
  }
};

}  // namespace hsm::test
