// SPDX-License-Identifier: MIT
//
// Causal linear attention (arXiv 2006.16236) of one document as the quadratic form that it is, in double and plain
// loops:
//
//   y_i = W_o concat_h sum_{j <= i} w_ij v_j / sum_{j <= i} w_ij + b_o,    [q; k; v] = W x + b
//   w_ij = g^(i-j) sum_c phi(q_ic) max(phi(k_jc), 2^-90),    phi(u) = elu(u) + 1
//
// with g = 1, or 1 - 2^(-5-h) of head h where the layer decays (arXiv 2307.08621). Parameters are read value by value,
// so it shares no arithmetic with the code under test.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "reference/plain_loops.hpp"

namespace hsm::test {

/// The parameters, copied into double. `W` [3C][C], `b` [3C], `Wo` [C][C], `bo` [C].
struct LinearAttentionReference {
  std::size_t C = 0, H = 1;
  bool decays = false;
  std::vector<double> W, b, Wo, bo;

  template <class Parameters>
  explicit LinearAttentionReference(const Parameters& p)
      : C(static_cast<std::size_t>(p.output.weight.rows())),
        H(static_cast<std::size_t>(p.heads)),
        decays(p.decay != 0),
        W(values_by_row(p.project.weight)),
        b(values_by_row(p.project.bias)),
        Wo(values_by_row(p.output.weight)),
        bo(values_by_row(p.output.bias)) {}

  static double phi(double u) { return u > 0 ? u + 1 : std::exp(u); }

  /// y [T][C] of one document x [T][C].
  std::vector<double> forward(const std::vector<double>& x) const {
    const std::size_t T = x.size() / C, D = C / H;
    const Values joint = map_tokens(W, b, x);
    Values mixed(T * C), weight(T);
    for (std::size_t t = 0; t < T; ++t) {
      for (std::size_t h = 0; h < H; ++h) {
        const double* q = &joint[t * 3 * C + h * D];
        const double g = decays ? 1 - std::pow(2.0, -5.0 - static_cast<double>(h)) : 1;
        double total = 0;
        for (std::size_t u = 0; u <= t; ++u) {
          const double* k = &joint[u * 3 * C + C + h * D];
          weight[u] = 0;
          for (std::size_t d = 0; d < D; ++d)
            weight[u] += phi(q[d]) * std::max(phi(k[d]), std::pow(2.0, -90));
          weight[u] *= std::pow(g, static_cast<double>(t - u));
          total += weight[u];
        }
        for (std::size_t d = 0; d < D; ++d) {
          double sum = 0;
          for (std::size_t u = 0; u <= t; ++u)
            sum += weight[u] / total * joint[u * 3 * C + 2 * C + h * D + d];
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
