// SPDX-License-Identifier: MIT
//
// Causal attention of one document by its definition, in double and plain loops:
//
//   y_i = W_o concat_h sum_{j <= i} softmax_j(q_i . k_j / sqrt(C/H)) v_j + b_o,    [q; k; v] = W x + b
//
// where a window W leaves j > i - W alone, and with rotary positions (arXiv 2104.09864) of base `rotary`, D = C/H, each q
// and k of position p turned first:
//
//   u_c + j u_{c + D/2}  <-  (u_c + j u_{c + D/2}) exp(j p rotary^(-2 c / D)),    c < D/2
//
// With blocks of `block` tokens (arXiv 2502.13189), token j in block j / block rounded down, j is left where its block is that of i,
// or one of the `top` earlier ones whose mean key has the largest dot products with q_i, the earlier of equal ones.
//
// Parameters are read value by value, so it shares no arithmetic with the code under test.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <utility>
#include <vector>

#include "reference/plain_loops.hpp"

namespace hsm::test {

/// The parameters, copied into double. `W` [3C][C], `b` [3C], `Wo` [C][C], `bo` [C].
struct AttentionReference {
  std::size_t C = 0, H = 1;
  double rotary = 0;               // 0 for none
  std::size_t window = 0;          // 0 for all
  std::size_t block = 0, top = 0;  // 0 for none
  /// The least difference, in all of forward(), between a product that was chosen and one that was not.
  mutable double margin = INFINITY;
  std::vector<double> W, b, Wo, bo;

  AttentionReference() = default;

  template <class Attention>
  explicit AttentionReference(const Attention& a)
      : C(static_cast<std::size_t>(a.output.weight.rows())),
        H(static_cast<std::size_t>(a.heads)),
        rotary(static_cast<double>(a.rotary)),
        window(static_cast<std::size_t>(a.window)),
        block(static_cast<std::size_t>(a.block)),
        top(static_cast<std::size_t>(a.top)),
        W(values_by_row(a.project.weight)),
        b(values_by_row(a.project.bias)),
        Wo(values_by_row(a.output.weight)),
        bo(values_by_row(a.output.bias)) {}

  /// The query or key `u` [C/H] of one head at position p.
  void turn(double* u, std::size_t p) const {
    const std::size_t D = C / H;
    for (std::size_t c = 0; rotary > 0 && c < D / 2; ++c) {
      const double exponent = -2 * static_cast<double>(c) / static_cast<double>(D);
      const std::complex<double> turned =
          std::complex<double>(u[c], u[c + D / 2]) *
          std::polar(1.0, static_cast<double>(p) * std::pow(rotary, exponent));
      u[c] = turned.real();
      u[c + D / 2] = turned.imag();
    }
  }

  /// Which of the keys 0 ... t the query `q` [C/H] of token t sees; key(u) points to key u of its head.
  template <class Key>
  std::vector<bool> seen(std::size_t t, const double* q, const Key& key) const {
    std::vector<bool> all(t + 1, true);
    for (std::size_t u = 0; u <= t; ++u) all[u] = window == 0 || u + window > t;
    if (block == 0) return all;
    std::vector<std::pair<double, std::size_t>>
        products;  // with the opposite sign, so that they sort as they are chosen
    for (std::size_t n = 0; n < t / block; ++n) {
      double product = 0;
      for (std::size_t u = n * block; u < (n + 1) * block; ++u) {
        for (std::size_t d = 0; d < C / H; ++d) product += q[d] * key(u)[d];
      }
      product /= static_cast<double>(block);
      products.emplace_back(std::isnan(product) ? INFINITY : -product, n);
    }
    std::sort(products.begin(), products.end());
    if (top < products.size()) margin = std::min(margin, products[top].first - products[top - 1].first);
    products.resize(std::min(top, products.size()));
    for (std::size_t u = 0; u <= t; ++u) {
      all[u] = u / block == t / block;
      for (const auto& [product, n] : products) all[u] = all[u] || u / block == n;
    }
    return all;
  }

  /// y [T][C] of one document x [T][C].
  std::vector<double> forward(const std::vector<double>& x) const {
    const std::size_t T = x.size() / C, D = C / H;
    Values joint = map_tokens(W, b, x);
    for (std::size_t t = 0; t < T; ++t) {
      for (std::size_t h = 0; h < 2 * H; ++h) turn(&joint[t * 3 * C + h * D], t);  // queries, then keys
    }
    Values score(T), mixed(T * C);
    for (std::size_t t = 0; t < T; ++t) {
      for (std::size_t h = 0; h < H; ++h) {
        const double* q = &joint[t * 3 * C + h * D];
        const auto key = [&](std::size_t u) { return &joint[u * 3 * C + C + h * D]; };
        const std::vector<bool> visible = seen(t, q, key);
        double largest = -INFINITY, total = 0;
        for (std::size_t u = 0; u <= t; ++u) {
          if (!visible[u]) continue;
          const double* k = key(u);
          score[u] = 0;
          for (std::size_t d = 0; d < D; ++d) score[u] += q[d] * k[d];
          score[u] /= std::sqrt(static_cast<double>(D));
          largest = std::max(largest, score[u]);
        }
        for (std::size_t u = 0; u <= t; ++u) total += visible[u] ? std::exp(score[u] - largest) : 0;
        for (std::size_t d = 0; d < D; ++d) {
          double sum = 0;
          for (std::size_t u = 0; u <= t; ++u) {
            if (visible[u])
              sum += std::exp(score[u] - largest) / total * joint[u * 3 * C + 2 * C + h * D + d];
          }
          mixed[t * C + h * D + d] = sum;
        }
      }
    }
    return map_tokens(Wo, bo, mixed);
  }

  /// sum of y times dy: the scalar whose gradients backward computes.
  double loss(const Values& x, const Values& dy) const { return weighted_sum(forward(x), dy); }
};

}  // namespace hsm::test
