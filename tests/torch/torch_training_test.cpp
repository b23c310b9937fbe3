// SPDX-License-Identifier: MIT
//
// A stack of linear maps and a layer, trained by Torch and by hsm's own AdamW: the same losses.
#include "torch/torch_cases.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include <hsm/core/linear.hpp>
#include <hsm/training/adamw.hpp>

namespace hsm::test::torch_training_test {
namespace {

constexpr Index B = 4, T = 24, kIn = 3, C = 8;
constexpr int kSteps = 60;
constexpr double kRate = 0.02;

/// in [C,kIn], a mixer of C channels, out [kIn,C]: its tensors.
template <class AMixer>
struct Stack {
  Linear<float> in, out;
  typename AMixer::Parameters mixer;

  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    Linear<float>::visit(named("in", f), self.in, more.in...);
    AMixer::visit(named("mixer", f), self.mixer, more.mixer...);
    Linear<float>::visit(named("out", f), self.out, more.out...);
  }
};

/// What is heard, and what was heard 3 tokens before, to be said.
std::pair<torch::Tensor, torch::Tensor> batch(int step) {
  torch::manual_seed(static_cast<std::uint64_t>(step));
  const torch::Tensor x = torch::randn({B, T, kIn});
  return {x, torch::constant_pad_nd(x, {0, 0, 3, 0}).slice(1, 0, T).contiguous()};
}

/// By hsm: forward, backward and AdamW.
template <class AMixer>
std::vector<double> own_losses(AMixer mixer, Stack<AMixer> stack) {
  AdamW<Stack<AMixer>> optimizer(stack);
  SerialExecutor serial;
  Workspace workspace;
  constexpr Index N = B * T;
  OwnedColumns<float> h(C, N), z(C, N), y(kIn, N), dy(kIn, N), dz(C, N), dh(C, N);
  const auto write = [](auto& m) {
    return Columns<float>(m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows()));
  };
  const auto read = [](const auto& m) {
    return ConstColumns<float>(m.data(), m.rows(), m.cols(), Eigen::OuterStride<>(m.rows()));
  };
  std::vector<double> losses;
  auto saved = mixer.make_saved();
  for (int step = 0; step < kSteps; ++step) {
    const auto [x, target] = batch(step);
    const ConstColumns<float> input(x.template data_ptr<float>(), kIn, N, Eigen::OuterStride<>(kIn)),
        wanted(target.template data_ptr<float>(), kIn, N, Eigen::OuterStride<>(kIn));
    mixer.parameters() = stack.mixer;
    stack.in.forward(input, write(h), serial);
    mixer.forward(Tokens<const float>(h.data(), B, T, C), Tokens<float>(z.data(), B, T, C), saved, workspace);
    stack.out.forward(read(z), write(y), serial);
    losses.push_back((y - wanted).template cast<double>().squaredNorm() / static_cast<double>(y.size()));
    dy = (y - wanted) * (2.0F / static_cast<float>(y.size()));
    Stack<AMixer> gradients = zeros_like(stack);
    Linear<float>::backward_parameters(read(z), read(dy), gradients.out, serial);
    stack.out.backward_input(read(dy), Write::kOverwrite, write(dz), serial);
    mixer.backward(Tokens<const float>(h.data(), B, T, C), saved, Tokens<const float>(dz.data(), B, T, C),
                   Tokens<float>(dh.data(), B, T, C), gradients.mixer, workspace);
    Linear<float>::backward_parameters(input, read(dh), gradients.in, serial);
    optimizer.step(stack, gradients, kRate);
  }
  return losses;
}

/// The weights of a linear map of hsm.
torch::nn::Linear linear_of(const Linear<float>& linear) {
  torch::nn::Linear made(linear.in(), linear.out());
  const torch::NoGradGuard without;
  std::copy_n(linear.weight.data(), linear.weight.size(), made->weight.data_ptr<float>());
  std::copy_n(linear.bias.data(), linear.bias.size(), made->bias.data_ptr<float>());
  return made;
}

/// By Torch.
template <class AMixer>
std::vector<double> torch_losses(const AMixer& mixer, const Stack<AMixer>& stack) {
  torch::nn::Sequential net(linear_of(stack.in), torch_mixer(mixer), linear_of(stack.out));
  std::vector<torch::Tensor> with_decay, without_decay;
  for (const auto& item : net->named_parameters())
    (decays(item.key()) ? with_decay : without_decay).push_back(item.value());
  const auto options = [](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(kRate).betas({0.9, 0.95}).weight_decay(decay));
  };
  torch::optim::AdamW optimizer({torch::optim::OptimizerParamGroup(with_decay, options(0.1)),
                                 torch::optim::OptimizerParamGroup(without_decay, options(0))});
  std::vector<double> losses;
  for (int step = 0; step < kSteps; ++step) {
    const auto [x, target] = batch(step);
    optimizer.zero_grad();
    const torch::Tensor loss = torch::mse_loss(net->forward(x), target);
    loss.backward();
    optimizer.step();
    losses.push_back(loss.template item<double>());
  }
  return losses;
}

template <class AMixer>
void expect_same_losses(const AMixer& mixer, double share_left) {
  Random random(9);
  Stack<AMixer> stack{Linear<float>(C, kIn, C, 0.5, random), Linear<float>(kIn, C, kIn, 0.5, random),
                      mixer.parameters()};
  const std::vector<double> expected = own_losses(mixer, stack), got = torch_losses(mixer, stack);
  EXPECT_LT(expected.back(), share_left * expected.front()) << "nothing was learned";
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], 1e-5 * expected[i]) << "at step " << i;
}

TEST(TorchTraining, HasTheLossesOfTheOwnOptimizer) {
  Random random(4);
  expect_same_losses(Mixer(ScalarPair<float>(C, 2), 3), 0.7);
  expect_same_losses(Mixer(GatedPair<float>(C, random), 3), 0.7);
  expect_same_losses(CausalAttention<float>(Attention<float>(C, 2, random, {.rotary = 100})), 0.95);
}

}  // namespace
}  // namespace hsm::test::torch_training_test
