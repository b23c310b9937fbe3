// SPDX-License-Identifier: MIT
//
// One mixer in its three uses: whole sequences, training, streaming. The marked part stands in README.md, and a
// test compares the two.
// [shown]
#include <hsm/hsm.hpp>
#include <iostream>

int main() {
  constexpr hsm::DyadicSchedule schedule{.layers = 8};               // shifts 1, 2, 4, ... 128
  hsm::Mixer mixer(hsm::ScalarPair<float>(512), schedule.shift(3));  // y[t] = a x[t] + b x[t-8]

  Eigen::MatrixXf x = Eigen::MatrixXf::Random(512, 1000), y(512, 1000);  // 1000 tokens of 512 channels
  mixer.forward(x, y);                                                   // O(T C); [B,T,C] tensors too

  hsm::Workspace workspace;  // training: scratch memory, a record for backward, and gradients
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  Eigen::MatrixXf dy = y, dx(512, 1000);
  mixer.forward(x, y, saved, workspace);
  mixer.backward(x, saved, dy, dx, gradients, workspace);

  Eigen::MatrixXf streamed(512, 1000);  // streaming: token by token from a state, O(C), no allocation
  auto state = mixer.make_state();
  for (Eigen::Index t = 0; t < 1000; ++t) mixer.step(x.col(t), state, streamed.col(t), workspace);
  std::cout << "streamed == whole: " << (streamed == y ? "yes" : "no") << '\n';
}
// [/shown]
