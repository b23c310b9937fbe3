// SPDX-License-Identifier: MIT
//
// Every mixing policy at C = 512, s = 64: forward, forward + backward over T, step after few and after many tokens; (a,b) at the sizes of the caches
// and beyond. Checked on 64 sampled tokens, the first and the last included: token t depends on tokens t, t - s, ... alone, so the
// oracle is the naive mixer over just these, one place apart.
#include <hsm/mixing/mixer.hpp>
#include <hsm/mixing/policies/gated.hpp>
#include <hsm/mixing/policies/gated_pair.hpp>
#include <hsm/mixing/policies/scalar_pair.hpp>
#include <hsm/mixing/policies/softmax_local.hpp>

#include "bench/suites.hpp"
#include "bench/support/registry.hpp"
#include "bench/support/threads.hpp"
#include "tests/reference/mixer_reference.hpp"

namespace hsm::bench {
namespace {

constexpr Index kChannels = 512;
constexpr Index kShift = 64;

template <template <class> class Policy, class Scalar>
Policy<Scalar> make(Index C) {
  Random random(7);
  if constexpr (std::is_constructible_v<Policy<Scalar>, Index, Random&, Index, Index>) {
    return Policy<Scalar>(C, random, 8, 2);
  } else if constexpr (std::is_constructible_v<Policy<Scalar>, Index, Random&>) {
    return Policy<Scalar>(C, random);
  } else {
    Policy<Scalar> policy(C);
    policy.a.setConstant(Scalar(0.75));
    policy.b.setConstant(Scalar(0.5));
    return policy;
  }
}

/// Flop of all products of a forward pass, per token.
template <class Policy>
double product_flop(const Policy& policy) {
  const auto C = static_cast<double>(policy.channels());
  return 2 * C * C * (Policy::kStages.projected() + (Policy::kStages.output ? 1 : 0));
}

/// A mixer with its buffers.
template <template <class> class Policy>
struct Subject {
  Subject(Index channels, Index tokens, Index shift, int threads)
      : mixer(make<Policy, float>(channels), shift),
        oracle(make<Policy, double>(channels)),
        workspace(executor(threads)),
        x(Eigen::MatrixXf::Random(channels, tokens)),
        y(channels, tokens) {}

  /// Compares y with the oracle at 64 tokens.
  std::string check() const {
    const Index T = x.cols(), K = mixer.taps(), s = mixer.shift(), C = x.rows();
    const test::Shifts ones(static_cast<std::size_t>(mixer.heads()), 1);
    for (Index i = 0; i < 64; ++i) {
      const Index t = i * (T - 1) / 63;
      test::Values document;
      for (Index k = K - 1; k >= 0; --k) {
        if (t - k * s < 0) continue;
        for (Index c = 0; c < C; ++c) document.push_back(static_cast<double>(x(c, t - k * s)));
      }
      const test::Values expected = test::mix(oracle, ones, document);
      for (Index c = 0; c < C; ++c) {
        const double want = expected[expected.size() - static_cast<std::size_t>(C - c)];
        if (!(std::abs(static_cast<double>(y(c, t)) - want) <= 1e-4 * (1 + std::abs(want)))) {
          return "token " + std::to_string(t) + " channel " + std::to_string(c) + ": expected " +
                 std::to_string(want) + ", got " + std::to_string(y(c, t));
        }
      }
    }
    return "";
  }

  Mixer<Policy<float>> mixer;
  Policy<double> oracle;
  Workspace workspace;
  Eigen::MatrixXf x, y;
  Eigen::MatrixXf dy, dx;
  MixerSaved<float> saved;
  Policy<float> gradients = mixer.make_gradients();
};

/// Sets the yardstick: copy for a mixer without products (`moved` times x's bytes per run), sgemm for one with.
template <class Policy>
void set_yardstick(Case& c, const Policy& policy, Index tokens, double moved, double passes, int threads) {
  const double bytes = static_cast<double>(policy.channels() * tokens) * sizeof(float);
  c.tokens = static_cast<double>(tokens);
  if (product_flop(policy) == 0) {
    const auto copy = copy_of(static_cast<std::size_t>(bytes), threads);
    c.bytes = moved * bytes;
    c.scale = moved / 2;
    c.yardstick = [copy] { (*copy)(); };
    c.yardstick_name = "copy";
  } else {
    c.flop = passes * product_flop(policy) * c.tokens;
    c.scale = c.flop / Sgemm::kFlop;
    c.yardstick = [threads] { sgemm(threads)(); };
    c.yardstick_name = "sgemm";
  }
}

template <template <class> class Policy>
void add_forward(Index C, Index T, Index s, int threads, Target target, const std::string& name) {
  add_case(name, target, [=] {
    auto subject = std::make_shared<Subject<Policy>>(C, T, s, threads);
    auto c = std::make_unique<Case>();
    c->work = [subject] { subject->mixer.forward(subject->x, subject->y, subject->workspace); };
    c->verify = [subject, work = c->work] {
      work();
      return subject->check();
    };
    set_yardstick(*c, subject->oracle, T, 2, 1, threads);
    return c;
  });
}

template <template <class> class Policy>
void add_backward(Index C, Index T, Index s, int threads, Target target, const std::string& name) {
  add_case(name, target, [=] {
    auto subject = std::make_shared<Subject<Policy>>(C, T, s, threads);
    subject->dy = Eigen::MatrixXf::Random(C, T);
    subject->dx.resize(C, T);
    auto c = std::make_unique<Case>();
    c->work = [subject] {
      subject->mixer.forward(subject->x, subject->y, subject->saved, subject->workspace);
      subject->mixer.backward(subject->x, subject->saved, subject->dy, subject->dx, subject->gradients,
                              subject->workspace);
    };
    c->verify = [subject, work = c->work] {
      work();
      return subject->dx.allFinite() ? subject->check() : std::string("dx is not finite");
    };
    set_yardstick(*c, subject->oracle, T, 5, 3, threads);
    return c;
  });
}

template <template <class> class Policy>
void add_step(Index before, const std::string& name) {
  add_case(name, {}, [=] {
    auto subject = std::make_shared<Subject<Policy>>(kChannels, before + kShift + 1, kShift, 1);
    auto state = std::make_shared<MixerState<float>>(subject->mixer.make_state());
    auto at = std::make_shared<Index>(0);
    auto c = std::make_unique<Case>();
    c->work = [=] {
      const Index t = (*at)++ % subject->x.cols();
      subject->mixer.step(subject->x.col(t), *state, subject->y.col(t), subject->workspace);
    };
    c->verify = [=, work = c->work] {
      subject->mixer.extend(subject->x.leftCols(before), *state, subject->y.leftCols(before),
                            subject->workspace);
      *at = before;
      while (*at < subject->x.cols()) work();
      return subject->check();
    };
    c->tokens = 1;
    return c;
  });
}

template <template <class> class Policy>
void add_policy(const Selection& selection) {
  const std::string base = "mixer/" + std::string(Policy<float>::kName) + "/";
  const std::string end = "/threads=" + std::to_string(selection.threads);
  for (Index T = 128; T <= (selection.quick ? 512 : 65536); T *= 2) {
    const std::string size = "/T=" + std::to_string(T);
    add_forward<Policy>(kChannels, T, kShift, selection.threads, {}, base + "forward" + size + end);
    if (T <= 16384) {
      add_backward<Policy>(kChannels, T, kShift, selection.threads, {},
                           base + "forward+backward" + size + end);
    }
  }
  add_step<Policy>(100, base + "step/at=100");
  add_step<Policy>(selection.quick ? 1000 : 100000,
                   base + "step/at=" + std::string(selection.quick ? "1000" : "100000"));
}

}  // namespace

void add_mixing(const Selection& selection) {
  std::vector<int> counts{1};
  if (selection.threads > 1) counts.push_back(selection.threads);
  for (const int threads : counts) {
    const std::string end = "/threads=" + std::to_string(threads);
    for (const Index megabytes : {2, 4, 8, 128}) {
      if (selection.quick && megabytes > 4) continue;
      const Index T = megabytes * (1 << 20) / (kChannels * static_cast<Index>(sizeof(float)));
      const std::string size = "/MB=" + std::to_string(megabytes) + end;
      add_forward<ScalarPair>(kChannels, T, kShift, threads, {0.85}, "mixer/ab/forward" + size);
      add_backward<ScalarPair>(kChannels, T, kShift, threads, {}, "mixer/ab/forward+backward" + size);
    }
  }
  add_policy<ScalarPair>(selection);
  add_policy<Gated>(selection);
  add_policy<GatedPair>(selection);
  add_policy<SoftmaxLocal>(selection);
}

}  // namespace hsm::bench
