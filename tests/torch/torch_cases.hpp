// SPDX-License-Identifier: MIT
//
// Layers as Torch modules, for tests: every layer, and central differences.
#pragma once

#include "layer/fading_sum.hpp"
#include "shift/mixer_engines.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <hsm/model/any_mixer.hpp>
#include <hsm/torch/torch_mixer.hpp>

#include <torch/torch.h>

namespace hsm::test {

/// Every layer that a recipe names, with what tells its states and gradients apart, and one that none names.
inline const std::vector<std::string> kTorchLayers{"ab:heads=2",
                                                   "channel",
                                                   "matrix",
                                                   "gated:heads=2",
                                                   "gated-pair",
                                                   "fusion",
                                                   "softmax-local:heads=2:taps=3",
                                                   "ema:ndim=2",
                                                   "linear-attention:heads=2",
                                                   "linear-attention:heads=2:decay=1",
                                                   "attention:heads=2",
                                                   "attention:heads=2:rotary=100",
                                                   "attention:heads=2:window=4",
                                                   "attention:heads=2:block=2:top=1",
                                                   "hkt:heads=2:levels=3",
                                                   "fading-sum"};

/// A layer of 4 channels with weights that are not those that it starts with.
inline std::shared_ptr<TorchModule> torch_layer(const std::string& name, Index shift = 3) {
  Random random(7);
  const auto layer =
      name == "fading-sum"
          ? std::shared_ptr<TorchModule>(torch_mixer(TokenMixer<FadingSum<double>>(FadingSum<double>(4))))
          : torch_mixer(
                make_mixer<double>(StandardLayers{}, Recipe::parse(name).layers[0], Index{4}, shift, random));
  torch::manual_seed(1);
  const torch::NoGradGuard without;
  for (torch::Tensor& parameter : layer->parameters()) parameter.add_(0.3 * torch::randn_like(parameter));
  return layer;
}

/// Normal numbers, which may get gradients.
inline torch::Tensor draw(std::vector<std::int64_t> sizes) {
  return torch::randn(sizes, torch::kDouble).requires_grad_();
}

/// Fails the test unless the gradients of f() with respect to `inputs` are those of central differences, within 1e-7 of the
/// largest of a tensor. f reads the inputs, which are changed in place, and gives tensors that count each value by a weight
/// of its own.
inline void expect_gradients(const std::function<std::vector<torch::Tensor>()>& f,
                             const std::vector<torch::Tensor>& inputs, const std::string& label) {
  std::vector<torch::Tensor> weights;
  torch::manual_seed(2);
  for (const torch::Tensor& result : f()) weights.push_back(torch::randn_like(result));
  const auto loss = [&] {
    torch::Tensor sum = torch::zeros({}, torch::kDouble);
    const std::vector<torch::Tensor> results = f();
    for (std::size_t i = 0; i < results.size(); ++i) sum = sum + (results[i] * weights[i]).sum();
    return sum;
  };
  const auto gradients = torch::autograd::grad({loss()}, inputs);
  const torch::NoGradGuard without;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    torch::Tensor expected = torch::empty_like(inputs[i]);
    double* const values = inputs[i].data_ptr<double>();
    for (std::int64_t k = 0; k < inputs[i].numel(); ++k) {
      constexpr double kStep = 1e-5;
      const double value = values[k];
      values[k] = value + kStep;
      const double above = loss().item<double>();
      values[k] = value - kStep;
      const double below = loss().item<double>();
      values[k] = value;
      expected.data_ptr<double>()[k] = (above - below) / (2 * kStep);
    }
    const double scale = expected.numel() > 0 ? expected.abs().max().item<double>() : 1;
    EXPECT_GT(scale, 1e-4) << label << ": input " << i << " changes nothing";
    const double off = expected.numel() > 0 ? (gradients[i] - expected).abs().max().item<double>() : 0;
    EXPECT_LE(off, 1e-7 * scale) << label << ": input " << i << ", gradient\n"
                                 << gradients[i] << "\nexpected\n"
                                 << expected;
  }
}

}  // namespace hsm::test
