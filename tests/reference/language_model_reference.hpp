// SPDX-License-Identifier: MIT
//
// A language model by its definition, in double and plain loops, one sequence at a time:
//
//   x = E[token] (+ P[position]);   x += mix(norm(x));   x += W_2 gelu(W_1 norm(x) + b_1) + b_2;   h = norm(x)
//
// The tensors are copied out by name, so it shares no arithmetic with the code under test; the mixers are the
// oracles beside this file. Value (t, c) of an array of tokens is at [t * C + c].
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include <hsm/model/language_model.hpp>

#include "reference/attention_reference.hpp"
#include "reference/ema_reference.hpp"
#include "reference/hierarchical_attention_reference.hpp"
#include "reference/linear_attention_reference.hpp"
#include "reference/mixer_reference.hpp"

namespace hsm::test {

/// The oracle of a LanguageModel<double>.
class LanguageModelReference {
 public:
  explicit LanguageModelReference(const LanguageModel<double>& model)
      : model_(&model),
        C_(static_cast<std::size_t>(model.config().width)),
        F_(static_cast<std::size_t>(model.config().feed_forward)) {
    LanguageModel<double>::visit(
        [&](std::string_view name, const auto& tensor) {
          tensors_[std::string(name)] = Values(tensor.data(), tensor.data() + tensor.size());
        },
        model);
  }

  /// h [T][C] of one sequence.
  Values hidden(std::span<const std::int32_t> ids) const {
    Values x;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      for (std::size_t c = 0; c < C_; ++c) {
        double sum = tensor("embedding.weight")[static_cast<std::size_t>(ids[t]) * C_ + c];
        if (tensors_.count("positions.weight") > 0) sum += tensor("positions.weight")[t * C_ + c];
        x.push_back(sum);
      }
    }
    for (Index l = 0; l < model_->layer_count(); ++l) {
      const std::string name = "layers." + std::to_string(l) + ".";
      add(x, mix_layer(l, norm(name + "mixer_norm", x)));
      add(x, feed_forward(name + "feed_forward", norm(name + "feed_forward_norm", x)));
    }
    return norm("norm", x);
  }

  /// Logits [T][V] of one sequence.
  Values logits(std::span<const std::int32_t> ids) const {
    const Values h = hidden(ids), &E = tensor("embedding.weight");
    Values z;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      for (std::size_t v = 0; v < E.size() / C_; ++v) {
        double sum = 0;
        for (std::size_t c = 0; c < C_; ++c) sum += E[v * C_ + c] * h[t * C_ + c];
        z.push_back(sum);
      }
    }
    return z;
  }

  /// -log softmax(logits of token t)[target] of one sequence, 0 where the target is -1.
  Values losses(std::span<const std::int32_t> ids, std::span<const std::int32_t> targets) const {
    const Values z = logits(ids);
    const std::size_t V = z.size() / ids.size();
    Values result;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      double most = -INFINITY, sum = 0;
      for (std::size_t v = 0; v < V; ++v) most = std::max(most, z[t * V + v]);
      for (std::size_t v = 0; v < V; ++v) sum += std::exp(z[t * V + v] - most);
      result.push_back(
          targets[t] == -1 ? 0.0 : std::log(sum) + most - z[t * V + static_cast<std::size_t>(targets[t])]);
    }
    return result;
  }

 private:
  const Values& tensor(const std::string& name) const { return tensors_.at(name); }

  static void add(Values& x, const Values& branch) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += branch[i];
  }

  Values norm(const std::string& name, const Values& x) const {
    const Values &gain = tensor(name + ".gain"), &bias = tensor(name + ".bias");
    Values y;
    for (std::size_t start = 0; start < x.size(); start += C_) {
      double mean = 0, variance = 0;
      for (std::size_t c = 0; c < C_; ++c) mean += x[start + c] / static_cast<double>(C_);
      for (std::size_t c = 0; c < C_; ++c) {
        variance += (x[start + c] - mean) * (x[start + c] - mean) / static_cast<double>(C_);
      }
      for (std::size_t c = 0; c < C_; ++c) {
        y.push_back(gain[c] * (x[start + c] - mean) / std::sqrt(variance + 1e-5) + bias[c]);
      }
    }
    return y;
  }

  Values feed_forward(const std::string& name, const Values& x) const {
    const Values &up = tensor(name + ".up.weight"), &up_bias = tensor(name + ".up.bias");
    const Values &down = tensor(name + ".down.weight"), &down_bias = tensor(name + ".down.bias");
    Values y, hidden(F_);
    for (std::size_t start = 0; start < x.size(); start += C_) {
      for (std::size_t f = 0; f < F_; ++f) {
        double v = up_bias[f];
        for (std::size_t c = 0; c < C_; ++c) v += up[f * C_ + c] * x[start + c];
        hidden[f] = 0.5 * v * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v)));
      }
      for (std::size_t c = 0; c < C_; ++c) {
        double sum = down_bias[c];
        for (std::size_t f = 0; f < F_; ++f) sum += down[c * F_ + f] * hidden[f];
        y.push_back(sum);
      }
    }
    return y;
  }

  Values mix_layer(Index l, const Values& x) const {
    const auto by_kind = [&]<class M>(const M& mixer) {
      if constexpr (std::is_same_v<M, CausalAttention<double>>) {
        return AttentionReference(mixer.parameters()).forward(x);
      } else if constexpr (std::is_same_v<M, MovingAverage<double>>) {
        return EmaReference(mixer.parameters()).forward(x);
      } else if constexpr (std::is_same_v<M, CausalLinearAttention<double>>) {
        return LinearAttentionReference(mixer.parameters()).forward(x);
      } else if constexpr (std::is_same_v<M, HierarchicalKernelAttention<double>>) {
        return HierarchicalAttentionReference(mixer.parameters()).forward(x);
      } else {
        Shifts shifts;
        for (Index h = 0; h < mixer.heads(); ++h) shifts.push_back(model_->schedule().shift(l, h));
        return mix(mixer.parameters(), shifts, x);
      }
    };
    return std::visit(by_kind, model_->block(l).mixer);
  }

  const LanguageModel<double>* model_;
  std::size_t C_, F_;
  std::map<std::string, Values> tensors_;
};

}  // namespace hsm::test
