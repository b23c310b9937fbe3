// SPDX-License-Identifier: MIT
//
// Mixers in a model and a training loop of one's own: a stack of three learns to say what it heard five tokens ago. The
// buffers, the loss and the optimizer (descent with momentum) are the program's; hsm gives the layers and their gradients.
#include <hsm/hsm.hpp>

#include <cstdint>
#include <cstdio>
#include <span>
#include <string_view>
#include <vector>

namespace {

using Mixer = hsm::Mixer<hsm::ChannelPair<float>>;
constexpr hsm::Index B = 8, T = 64, C = 4, kLayers = 3, kBehind = 5;  // 5 = 1 + 4: the shifts are 1, 2 and 4
constexpr int kSteps = 400;
constexpr float kRate = 0.2F, kMomentum = 0.9F;

/// Tokens of one's own: [B,T,C], row-major.
using Buffer = std::vector<float>;
hsm::Tokens<const float> read(const Buffer& tokens) { return {tokens.data(), B, T, C}; }
hsm::Tokens<float> write(Buffer& tokens) { return {tokens.data(), B, T, C}; }
std::size_t place(hsm::Index b, hsm::Index t, hsm::Index c) {
  return static_cast<std::size_t>((b * T + t) * C + c);
}

// [shown]
/// A layer, and what training keeps for it.
struct Layer {
  explicit Layer(hsm::Index s)
      : mixer(hsm::ChannelPair<float>(C), s),
        velocity(mixer.make_gradients()),
        gradients(mixer.make_gradients()),
        y(B * T * C) {}

  Mixer mixer;
  Mixer::Parameters velocity, gradients;
  Mixer::Saved saved;
  Buffer y;
};
// [/shown]

/// The mean square of y[t] - x[t - kBehind], and its gradient.
double loss(const Buffer& x, const Buffer& y, Buffer& dy) {
  constexpr auto kCount = static_cast<float>(B * (T - kBehind) * C);
  double sum = 0;
  for (hsm::Index b = 0; b < B; ++b) {
    for (hsm::Index t = 0; t < T; ++t) {
      for (hsm::Index c = 0; c < C; ++c) {
        const float off = t < kBehind ? 0 : y[place(b, t, c)] - x[place(b, t - kBehind, c)];
        dy[place(b, t, c)] = 2 * off / kCount;
        sum += static_cast<double>(off) * static_cast<double>(off);
      }
    }
  }
  return sum / static_cast<double>(kCount);
}

// [shown]
/// One step of descent with momentum; the gradients are 0 afterwards.
void update(Layer& layer) {
  Mixer::Parameters::visit(
      [](std::string_view, auto& weight, auto& velocity, auto& gradient) {
        velocity = kMomentum * velocity - kRate * gradient;
        weight += velocity;
        gradient.setZero();
      },
      layer.mixer.parameters(), layer.velocity, layer.gradients);
}
// [/shown]

}  // namespace

int main() {
  std::vector<Layer> layers;
  for (hsm::Index l = 0; l < kLayers; ++l)
    layers.emplace_back(hsm::DyadicSchedule{.layers = kLayers}.shift(l));
  hsm::Random random(1);
  hsm::Workspace workspace;
  Buffer x(B * T * C), dy(x.size()), dx(x.size());
  double first = 0, last = 0;
  for (int step = 0; step < kSteps; ++step) {
    for (float& value : x) value = static_cast<float>(random.normal());
    // [shown]
    const Buffer* input = &x;
    for (Layer& layer : layers) {
      layer.mixer.forward(read(*input), write(layer.y), layer.saved, workspace);
      input = &layer.y;
    }
    last = loss(x, layers.back().y, dy);
    for (std::size_t l = layers.size(); l-- > 0;) {
      const Buffer& own = l > 0 ? layers[l - 1].y : x;
      layers[l].mixer.backward(read(own), layers[l].saved, read(dy), write(dx), layers[l].gradients,
                               workspace);
      dy.swap(dx);
    }
    for (Layer& layer : layers) update(layer);
    // [/shown]
    if (step == 0) first = last;
  }
  std::printf("mean square error %.3f, after %d steps %.1e\n", first, kSteps, last);
  for (const Layer& layer : layers) {
    std::printf("shift %td: a = %.3f, b = %.3f\n", layer.mixer.shift(),
                static_cast<double>(layer.mixer.parameters().a(0)),
                static_cast<double>(layer.mixer.parameters().b(0)));
  }
  return last < 1e-3 ? 0 : 1;
}
