// SPDX-License-Identifier: MIT
//
// Naive oracles of the mixers: one document at a time, one output value at a time, plain loops in double.
// They read the tensors of a policy and share no function with the library.
//
//   mix(policy, heads' shifts, x)     x, y: one document, value (t, c) at [t * C + c]
//
// A policy in float is first copied into one in double by `widened`.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include <hsm/shift/policies.hpp>

namespace hsm::test {

/// The values of one document, and of any other list.
using Values = std::vector<double>;
/// One shift per head.
using Shifts = std::vector<Index>;

/// Value (t, c), zero before the document.
inline double value(const Values& x, Index t, Index c, Index C) {
  return t < 0 ? 0.0 : x[static_cast<std::size_t>(t * C + c)];
}

/// Row `row` of weight times token t of x, plus its bias; zero before the document.
inline double linear_row(const Linear<double>& linear, Index row, const Values& x, Index t) {
  if (t < 0) return 0.0;
  const Index C = linear.weight.cols();
  double sum = row < linear.bias.size() ? linear.bias[row] : 0.0;
  const double* weight = &linear.weight(row, 0);  // by pointers: the tests are compiled without optimisation
  const double* token = &x[static_cast<std::size_t>(t * C)];
  for (Index c = 0; c < C; ++c) sum += weight[c] * token[c];
  return sum;
}

inline Index token_count(const Values& x, Index C) { return static_cast<Index>(x.size()) / C; }

inline Index shift_of(const Shifts& shifts, Index c, Index C) {
  const Index rows = C / static_cast<Index>(shifts.size());
  return shifts[static_cast<std::size_t>(c / rows)];
}

/// y[t] = a_h x[t] + b_h x[t-s].
inline Values mix(const ScalarPair<double>& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C), rows = C / policy.a.size();
  Values y;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) {
      const Index s = shift_of(shifts, c, C);
      y.push_back(policy.a[c / rows] * value(x, t, c, C) + policy.b[c / rows] * value(x, t - s, c, C));
    }
  }
  return y;
}

/// y[t] = a .* x[t] + b .* x[t-s].
inline Values mix(const ChannelPair<double>& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C);
  Values y;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) {
      const Index s = shift_of(shifts, c, C);
      y.push_back(policy.a[c] * value(x, t, c, C) + policy.b[c] * value(x, t - s, c, C));
    }
  }
  return y;
}

/// Rows c and C + c of the weights: W x[t] + bias + U x[t-s], for every t and c.
inline Values pair_sums(const Linear<double>& project, const Shifts& shifts, const Values& x) {
  const Index C = project.weight.cols(), T = token_count(x, C);
  Values sums;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) {
      sums.push_back(linear_row(project, c, x, t) +
                     linear_row(project, C + c, x, t - shift_of(shifts, c, C)));
    }
  }
  return sums;
}

/// y[t] = A x[t] + B x[t-s].
inline Values mix(const MatrixPair<double>& policy, const Shifts& shifts, const Values& x) {
  return pair_sums(policy.project, shifts, x);
}

/// y[t] = W gelu(U x[t] + c + V x[t-s]) + d, gelu in the tanh form.
inline Values mix(const Fusion<double>& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C);
  Values z = pair_sums(policy.project, shifts, x), y;
  for (double& u : z) u *= 0.5 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (u + 0.044715 * u * u * u)));
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) y.push_back(linear_row(policy.output, c, z, t));
  }
  return y;
}

/// y[t] = g x[t] + (1 - g) x[t-s], g = 1 / (1 + exp(-own)).
inline double gated_value(double own, double now, double past) {
  const double gate = 1 / (1 + std::exp(-own));
  return gate * now + (1 - gate) * past;
}

inline Values mix(const Gated<double>& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C);
  Values y;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) {
      const Index s = shift_of(shifts, c, C);
      y.push_back(gated_value(linear_row(policy.project, c, x, t), value(x, t, c, C), value(x, t - s, c, C)));
    }
  }
  return y;
}

inline Values mix(const GatedPair<double>& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C);
  const Values own = pair_sums(policy.project, shifts, x);
  Values y;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) {
      const Index s = shift_of(shifts, c, C);
      y.push_back(gated_value(value(own, t, c, C), value(x, t, c, C), value(x, t - s, c, C)));
    }
  }
  return y;
}

/// Softmax over the taps that the document has, per head; then W_o.
inline Values mix(const SoftmaxLocal<double>& policy, const Shifts& shifts, const Values& x) {
  const Index C = policy.channels(), T = token_count(x, C), H = policy.heads(), rows = C / H;
  Values projected;  // [q; k; v] of every token
  for (Index t = 0; t < T; ++t) {
    for (Index row = 0; row < 3 * C; ++row) projected.push_back(linear_row(policy.project, row, x, t));
  }
  Values mixed(x.size(), 0.0);
  for (Index t = 0; t < T; ++t) {
    for (Index h = 0; h < H; ++h) {
      const Index s = shifts[static_cast<std::size_t>(h)];
      Values scores;
      for (Index k = 0; k < policy.taps() && t - k * s >= 0; ++k) {
        double score = 0;
        for (Index c = h * rows; c < (h + 1) * rows; ++c) {
          score += value(projected, t, c, 3 * C) * value(projected, t - k * s, C + c, 3 * C);
        }
        scores.push_back(score / std::sqrt(static_cast<double>(rows)));
      }
      double most = scores[0], sum = 0;
      for (const double score : scores) most = score > most ? score : most;
      for (double& score : scores) sum += score = std::exp(score - most);
      for (Index c = h * rows; c < (h + 1) * rows; ++c) {
        double& z = mixed[static_cast<std::size_t>(t * C + c)];
        for (std::size_t k = 0; k < scores.size(); ++k) {
          z += scores[k] / sum * value(projected, t - static_cast<Index>(k) * s, 2 * C + c, 3 * C);
        }
      }
    }
  }
  Values y;
  for (Index t = 0; t < T; ++t) {
    for (Index c = 0; c < C; ++c) y.push_back(linear_row(policy.output, c, mixed, t));
  }
  return y;
}

/// Any number of documents of T tokens, one after another.
template <class Policy>
Values mix_documents(const Policy& policy, const Shifts& shifts, const Values& x, Index T) {
  const auto size = static_cast<std::ptrdiff_t>(T * policy.channels());
  Values y;
  for (auto start = x.begin(); size > 0 && start != x.end(); start += size) {
    const Values document = mix(policy, shifts, Values(start, start + size));
    y.insert(y.end(), document.begin(), document.end());
  }
  return y;
}

/// Central differences of sum_i r[i] y[i](x) in every x[i].
template <class Policy>
Values difference_input(const Policy& policy, const Shifts& shifts, const Values& x, const Values& r, Index T,
                        double step) {
  const auto loss = [&](const Values& at) {
    const Values y = mix_documents(policy, shifts, at, T);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += r[i] * y[i];
    return sum;
  };
  Values differences, moved = x;
  for (std::size_t i = 0; i < x.size(); ++i) {
    moved[i] = x[i] + step;
    const double above = loss(moved);
    moved[i] = x[i] - step;
    differences.push_back((above - loss(moved)) / (2 * step));
    moved[i] = x[i];
  }
  return differences;
}

/// The same in every parameter, as a struct of gradients.
template <class Policy>
Policy difference_parameters(Policy policy, const Shifts& shifts, const Values& x, const Values& r, Index T,
                             double step) {
  const auto loss = [&] {
    const Values y = mix_documents(policy, shifts, x, T);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += r[i] * y[i];
    return sum;
  };
  Policy differences = policy;
  Policy::visit(
      [&](std::string_view, auto& tensor, auto& difference) {
        for (Index i = 0; i < tensor.size(); ++i) {
          const double before = tensor.data()[i];
          tensor.data()[i] = before + step;
          const double above = loss();
          tensor.data()[i] = before - step;
          difference.data()[i] = (above - loss()) / (2 * step);
          tensor.data()[i] = before;
        }
      },
      policy, differences);
  return differences;
}

}  // namespace hsm::test
