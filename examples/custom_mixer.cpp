// SPDX-License-Identifier: MIT
//
// A mixing policy of one's own, from nothing to a language model:
//
//   y[t] = x[t] + sum over 0 < k < K of decay[h,k-1] x[t - k s]      for the channels of head h
//
// The policy states what happens to a token and its K - 1 partners, and the adjoint of that. Sequences, batches, streams,
// threads and the gradient's way through time are the engine's. The program lets the test kit try the policy, takes a
// step of gradient descent, and then names the policy in the recipe of a model.
#include <hsm/hsm.hpp>
#include <hsm/model/language_model.hpp>
#include <hsm/testing/check.hpp>

#include <array>
#include <cstdio>
#include <vector>

template <hsm::ComputeScalar ScalarType>
struct Decay {
  // ---- required members -------------------------------------------------------------------------------------

  // [shown]
  using Scalar = ScalarType;
  static constexpr std::string_view kName = "decay";           // its name in a recipe
  static constexpr hsm::Stages kStages{.shifts_input = true};  // reads x itself: no products

  hsm::Weights<Scalar> decay;  // [H, K-1]: the struct is its parameters

  hsm::Index channels() const { return channels_; }
  hsm::Index heads() const { return decay.rows(); }

  /// Names every tensor: for optimizers, files and gradient checks.
  template <class F, class Self, class... More>
  static void visit(F&& f, Self& self, More&... more) {
    f("decay", self.decay, more.decay...);
  }
  // [/shown]

  // [shown]
  /// z from the tokens, tap(0), and their partners, tap(k): blocks (rows, n), the rows of one head after those of
  /// another, from run.first_head on. Before the first token partners are zero.
  void combine(const hsm::Run<Scalar>& run, hsm::Columns<Scalar> z) const {
    z = run.tap(0);
    for (hsm::Index h = 0; h < run.heads; ++h) {
      for (hsm::Index k = 1; k < taps(); ++k)
        rows_of(h, run, z) += decay(run.first_head + h, k - 1) * rows_of(h, run, run.tap(k));
    }
  }

  /// What z gives to each tap that is there, added to it, the farthest first; and to the parameters, added to `sums`.
  /// A policy of two taps may state adjoint_now and adjoint_past instead, which run faster.
  void adjoint(const hsm::Run<Scalar>& run, hsm::ConstColumns<Scalar> dz, const hsm::RunGradient<Scalar>& d,
               std::span<double> sums) const {
    for (hsm::Index k = taps() - 1; k > 0; --k) {
      if (!run.present(k)) continue;
      auto d_past = d.tap(k);
      for (hsm::Index h = 0; h < run.heads; ++h) {
        const hsm::Index place = (run.first_head + h) * decay.cols() + k - 1;
        rows_of(h, run, d_past) += decay.data()[place] * rows_of(h, run, dz);
        sums[static_cast<std::size_t>(place)] +=
            static_cast<double>(rows_of(h, run, dz).cwiseProduct(rows_of(h, run, run.tap(k))).sum());
      }
    }
    d.tap(0) += dz;
  }
  // [/shown]

  // ---- members that may be left out -------------------------------------------------------------------------

  /// K; without it 2.
  hsm::Index taps() const { return decay.cols() + 1; }

  // [shown]
  /// How many sums the adjoint wants, and where they go. Only for policies with parameters such as these.
  hsm::Index sum_count() const { return decay.size(); }
  void add_sums(std::span<const double> sums, Decay& gradients) const {
    for (hsm::Index i = 0; i < decay.size(); ++i)
      gradients.decay.data()[i] += static_cast<Scalar>(sums[static_cast<std::size_t>(i)]);
  }

  /// What a recipe may say, and the policy that it means; see hsm/layer/layer_options.hpp. Without options a
  /// constructor (channels) or (channels, random) is enough.
  static constexpr std::array kOptions{
      hsm::heads_option(), hsm::PolicyOption{.name = "taps",
                                             .least = 2,
                                             .most = hsm::kMostTaps,
                                             .usual = [](hsm::Index) -> hsm::Index { return 2; }}};
  static Decay make(hsm::Index channels, const hsm::OptionValues& options, hsm::Random&) {
    return Decay(channels, options["heads"], options["taps"]);
  }

  /// Its tensors, before it is made: models count parameters and check files by that. It does not decay.
  static hsm::TensorSpecs describe(hsm::Index, const hsm::OptionValues& options) {
    return {hsm::matrix_spec("decay", options["heads"], options["taps"] - 1)};
  }
  // [/shown]

  Decay(hsm::Index channels, hsm::Index heads, hsm::Index taps) : channels_(channels) {
    decay.setConstant(heads, taps - 1, Scalar(0.5));
  }

 private:
  /// The rows of head h of a run in one of its blocks.
  template <class Block>
  static auto rows_of(hsm::Index h, const hsm::Run<Scalar>& run, Block&& block) {
    return block.middleRows(h * run.rows_per_head(), run.rows_per_head());
  }

  hsm::Index channels_;
};

namespace {

constexpr hsm::Index C = 6, T = 40, kShift = 3;

/// sum of r .* y.
double loss(const hsm::Mixer<Decay<double>>& mixer, const Eigen::MatrixXd& x, const Eigen::MatrixXd& r) {
  Eigen::MatrixXd y(C, T);
  mixer.forward(x, y);
  return r.cwiseProduct(y).sum();
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
  // [shown]
  Decay<double>::visit(
      [&](std::string_view, auto& weight, const auto& gradient) { weight -= rate * gradient; },
      mixer.parameters(), gradients);
  // [/shown]
  return loss(mixer, x, r) - before;
}

}  // namespace

int main() {
  // Gradients, every mode, states, causality: what is wrong is told in a sentence. Three heads, four taps.
  // [shown]
  const Decay<double> policy(C, 3, 4);
  const hsm::CheckResult result = hsm::check_policy(policy, {1, kShift});
  std::printf("the test kit: %s\n", result ? "nothing is wrong" : result.what().c_str());
  // [/shown]

  const Eigen::MatrixXd x = Eigen::MatrixXd::Random(C, T), r = Eigen::MatrixXd::Random(C, T);
  const double step = descent(hsm::Mixer(policy, kShift), x, r);
  std::printf("the loss after a step of descent: %+.1e\n", step);

  // A stack that knows the policies of the list, and attention.
  using Model = hsm::LanguageModel<float, hsm::PolicyList<hsm::ScalarPair, Decay>>;
  hsm::Random random(1);
  const Model model({.width = 32, .feed_forward = 64, .layers = "4*decay:heads=4:taps=3,attention,ab"},
                    random);
  hsm::Workspace workspace;
  auto state = model.make_state();
  const std::vector<std::int32_t> ids = {'h', 'e', 'l', 'l', 'o'};
  Eigen::MatrixXf logits(256, 1);
  model.extend(ids, state, {logits.data(), 256, 1, Eigen::OuterStride<>(256)}, workspace);
  std::printf("a model of %s: %td parameters, %zu bytes of state after %zu tokens\n",
              model.config().layers.c_str(), hsm::count_parameters(model), state.bytes(), ids.size());
  return result && step < 0 && logits.allFinite() ? 0 : 1;
}
