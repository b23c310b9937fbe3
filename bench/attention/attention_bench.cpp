// SPDX-License-Identifier: MIT
//
// Dense causal attention at C = 512, H = 8: the kernel's flop are 2 T T C forward (causal half of both products), the projections' 8 C C T.
// Checked on 64 sampled tokens against softmax(q K^T) V in double.
#include <hsm/attention/causal_attention.hpp>

#include "bench/suites.hpp"
#include "bench/support/registry.hpp"
#include "bench/support/threads.hpp"

namespace hsm::bench {
namespace {

constexpr Index kChannels = 512;
constexpr Index kHeads = 8;

Attention<float> make() {
  Random random(7);
  return Attention<float>(kChannels, kHeads, random);
}

struct Subject {
  Subject(Index tokens, int threads)
      : attention(make()),
        workspace(executor(threads)),
        x(Eigen::MatrixXf::Random(kChannels, tokens)),
        y(kChannels, tokens) {}

  std::string check() const {
    const Index T = x.cols(), D = kChannels / kHeads;
    const Attention<float>& p = attention.parameters();
    const Eigen::MatrixXd w = p.project.weight.cast<double>();
    const Eigen::MatrixXd qkv = (w * x.cast<double>()).colwise() + p.project.bias.cast<double>();
    for (Index i = 0; i < 64; ++i) {
      const Index t = i * (T - 1) / 63;
      Eigen::VectorXd mixed(kChannels);
      for (Index h = 0; h < kHeads; ++h) {
        const auto rows = [&](Index plane) { return qkv.block(plane * kChannels + h * D, 0, D, t + 1); };
        Eigen::VectorXd weight = rows(1).transpose() * rows(0).col(t) / std::sqrt(static_cast<double>(D));
        weight = (weight.array() - weight.maxCoeff()).exp();
        mixed.segment(h * D, D) = rows(2) * weight / weight.sum();
      }
      const Eigen::VectorXd expected = p.output.weight.cast<double>() * mixed + p.output.bias.cast<double>();
      const double error = (expected - y.col(t).cast<double>()).cwiseAbs().maxCoeff();
      if (!(error <= 1e-4)) return "token " + std::to_string(t) + ": off by " + std::to_string(error);
    }
    return "";
  }

  CausalAttention<float> attention;
  Workspace workspace;
  Eigen::MatrixXf x, y, dy, dx;
  AttentionSaved<float> saved;
  Attention<float> gradients = attention.make_gradients();
};

double flop(Index T, double passes_of_core, double passes_of_products) {
  const auto t = static_cast<double>(T), C = static_cast<double>(kChannels);
  return passes_of_core * 2 * t * t * C + passes_of_products * 8 * C * C * t;
}

void add(Index T, int threads, bool backward, Target target) {
  const std::string name = std::string("attention/") + (backward ? "forward+backward" : "forward") +
                           "/T=" + std::to_string(T) + "/threads=" + std::to_string(threads);
  add_case(name, target, [=] {
    auto subject = std::make_shared<Subject>(T, threads);
    auto c = std::make_unique<Case>();
    if (backward) {
      subject->dy = Eigen::MatrixXf::Random(kChannels, T);
      subject->dx.resize(kChannels, T);
      c->work = [subject] {
        subject->attention.forward(subject->x, subject->y, subject->saved, subject->workspace);
        subject->attention.backward(subject->x, subject->saved, subject->dy, subject->dx, subject->gradients,
                                    subject->workspace);
      };
    } else {
      c->work = [subject] { subject->attention.forward(subject->x, subject->y, subject->workspace); };
    }
    c->verify = [=, work = c->work] {
      work();
      if (backward && !subject->dx.allFinite()) return std::string("dx is not finite");
      return subject->check();
    };
    c->tokens = static_cast<double>(T);
    c->flop = backward ? flop(T, 3.5, 3) : flop(T, 1, 1);
    c->scale = c->flop / Sgemm::kFlop;
    c->yardstick = [threads] { sgemm(threads)(); };
    c->yardstick_name = "sgemm";
    return c;
  });
}

void add_step(Index before) {
  add_case("attention/step/at=" + std::to_string(before), {}, [=] {
    auto subject = std::make_shared<Subject>(before, 1);
    auto state = std::make_shared<AttentionState<float>>(subject->attention.make_state({}));
    auto c = std::make_unique<Case>();
    c->verify = [=] {
      subject->attention.extend(subject->x, *state, subject->y, subject->workspace);
      return subject->check();
    };
    c->work = [=] {
      subject->attention.step(subject->x.col(0), *state, subject->y.col(0), subject->workspace);
      state->rewind(0, 1);
    };
    c->tokens = 1;
    return c;
  });
}

}  // namespace

void add_attention(const Selection& selection) {
  for (Index T = 128; T <= (selection.quick ? 512 : 16384); T *= 2) {
    add(T, selection.threads, false, {T >= 1024 ? 0.45 : 0.0});
    if (T <= 8192) add(T, selection.threads, true, {});
  }
  add_step(100);
  if (!selection.quick) add_step(10000);
}

}  // namespace hsm::bench
