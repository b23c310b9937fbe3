// SPDX-License-Identifier: MIT
//
// A mixing policy of one's own, from nothing to a language model:
//
//   y[t] = x[t] + decay .* x[t-s]       decay [C], one number per channel
//
// The policy states what happens to a pair of tokens and the adjoint of that. Sequences, batches, streams,
// threads and the gradient's way through time are the engine's. The program checks a forward, the gradients
// (against finite differences) and streaming, and then names the policy in the recipe of a model.
#include <hsm/hsm.hpp>
#include <hsm/model/language_model.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

template <hsm::ComputeScalar ScalarType>
struct Decay {
  // ---- required members -------------------------------------------------------------------------------------

  using Scalar = ScalarType;
  static constexpr std::string_view kName = "decay";          // its name in a recipe
  static constexpr hsm::Stages kStages{.keeps_input = true};  // reads x itself: no products

  hsm::Vector<Scalar> decay;  // [C]: the struct is its parameters

  hsm::Index channels() const { return decay.size(); }
  hsm::Index heads() const { return 1; }

  /// Names every tensor: for optimizers, files and gradient checks.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("decay", self.decay, more.decay...);
  }

  /// z from the tokens, kept(0), and their partners, kept(1): blocks (C, n). Before the first token the partner
  /// is zero.
  void combine(const hsm::Run<Scalar>& run, hsm::Columns<Scalar> z) const {
    z = run.kept(0) + decay.asDiagonal() * run.kept(1);
  }

  /// What z = now + decay past gives to now: writes it. Adds what belongs to the parameters to `sums`.
  void adjoint_now(const hsm::Run<Scalar>& run, hsm::ConstColumns<Scalar> dz,
                   const hsm::RunGradient<Scalar>& d, std::span<double> sums) const {
    d.kept(0) = dz;
    const auto past = run.kept(1);
    for (hsm::Index c = 0; c < channels(); ++c) {
      sums[static_cast<std::size_t>(c)] += static_cast<double>(dz.row(c).dot(past.row(c)));
    }
  }

  /// What z = now + decay past gives to past: adds it.
  void adjoint_past(const hsm::Run<Scalar>&, hsm::ConstColumns<Scalar> dz,
                    const hsm::RunGradient<Scalar>& d) const {
    d.kept(1) += decay.asDiagonal() * dz;
  }

  // ---- helpers ----------------------------------------------------------------------------------------------

  /// A constructor (channels) or (channels, random) lets recipes make the policy. What a recipe may say beyond
  /// that is stated, not guessed: see hsm/layer/layer_options.hpp.
  explicit Decay(hsm::Index channels) { decay.setConstant(channels, Scalar(0.5)); }

  /// How many sums adjoint_now wants, and where they go. Without such parameters both are left out.
  hsm::Index sum_count() const { return channels(); }
  void add_sums(std::span<const double> sums, Decay& gradients) const {
    for (hsm::Index c = 0; c < channels(); ++c)
      gradients.decay[c] += static_cast<Scalar>(sums[static_cast<std::size_t>(c)]);
  }
};

namespace {

constexpr hsm::Index C = 5, T = 40, kShift = 3;

/// sum of r .* y, the scalar whose gradients are checked.
double loss(const hsm::Mixer<Decay<double>>& mixer, const Eigen::MatrixXd& x, const Eigen::MatrixXd& r) {
  Eigen::MatrixXd y(C, T);
  mixer.forward(x, y);
  return r.cwiseProduct(y).sum();
}

/// The largest difference between backward and central differences.
double gradient_error(hsm::Mixer<Decay<double>> mixer, Eigen::MatrixXd x, const Eigen::MatrixXd& r) {
  hsm::Workspace workspace;
  Eigen::MatrixXd y(C, T), dx(C, T);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.forward(x, y, saved, workspace);
  mixer.backward(x, saved, r, dx, gradients, workspace);

  double worst = 0;
  const auto compare = [&](double& value, double gradient) {
    const double before = value, step = 1e-5;
    value = before + step;
    const double above = loss(mixer, x, r);
    value = before - step;
    const double difference = (above - loss(mixer, x, r)) / (2 * step);
    value = before;
    worst = std::max(worst, std::abs(gradient - difference));
  };
  for (hsm::Index i = 0; i < x.size(); ++i) compare(x.data()[i], dx.data()[i]);
  for (hsm::Index c = 0; c < C; ++c) compare(mixer.parameters().decay[c], gradients.decay[c]);
  return worst;
}

/// What a step of gradient descent adds to the loss.
double descent(hsm::Mixer<Decay<double>> mixer, const Eigen::MatrixXd& x, const Eigen::MatrixXd& r) {
  constexpr double rate = 1e-3;
  hsm::Workspace workspace;
  Eigen::MatrixXd y(C, T), dx(C, T);
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  const double before = loss(mixer, x, r);
  mixer.forward(x, y, saved, workspace);
  mixer.backward(x, saved, r, dx, gradients, workspace);
  // [readme]
  Decay<double>::visit(
      [&](std::string_view, auto& weight, const auto& gradient) { weight -= rate * gradient; },
      mixer.parameters(), gradients);
  // [/readme]
  return loss(mixer, x, r) - before;
}

/// The largest difference between a forward and as many steps.
double streaming_error(const hsm::Mixer<Decay<double>>& mixer, const Eigen::MatrixXd& x) {
  hsm::Workspace workspace;
  Eigen::MatrixXd y(C, T), streamed(C, T);
  mixer.forward(x, y);
  auto state = mixer.make_state();
  for (hsm::Index t = 0; t < T; ++t) mixer.step(x.col(t), state, streamed.col(t), workspace);
  return (streamed - y).cwiseAbs().maxCoeff();
}

}  // namespace

int main() {
  const Eigen::MatrixXd x = Eigen::MatrixXd::Random(C, T), r = Eigen::MatrixXd::Random(C, T);
  const hsm::Mixer mixer(Decay<double>(C), kShift);
  const double gradients = gradient_error(mixer, x, r), streaming = streaming_error(mixer, x);
  std::printf("gradients against finite differences: %.1e\n", gradients);
  std::printf("streaming against forward:            %.1e\n", streaming);
  const double step = descent(mixer, x, r);
  std::printf("the loss after a step of descent:     %+.1e\n", step);

  // A stack that knows the policies of the list, and attention.
  using Model = hsm::LanguageModel<float, hsm::PolicyList<hsm::ScalarPair, Decay>>;
  hsm::Random random(1);
  const Model model({.width = 32, .feed_forward = 64, .layers = "4*decay,attention,ab"}, random);
  hsm::Workspace workspace;
  auto state = model.make_state();
  const std::vector<std::int32_t> ids = {'h', 'e', 'l', 'l', 'o'};
  Eigen::MatrixXf logits(256, 1);
  model.extend(ids, state, {logits.data(), 256, 1, Eigen::OuterStride<>(256)}, workspace);
  std::printf("a model of %s: %td parameters, %zu bytes of state after %zu tokens\n",
              model.config().layers.c_str(), hsm::count_parameters(model), state.bytes(), ids.size());
  return gradients < 1e-7 && streaming < 1e-12 && step < 0 && logits.allFinite() ? 0 : 1;
}
