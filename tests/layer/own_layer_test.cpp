// SPDX-License-Identifier: MIT
//
// A layer of one's own that is no shift mixer: a sum of all tokens that fades, one decay for each channel. It states one
// call and its adjoint, and is run in every mode, in a model beside others, and from files.
#include <gtest/gtest.h>

#include <hsm/io/state_file.hpp>
#include <hsm/layer/ring_state.hpp>
#include <hsm/model/session.hpp>

#include "io/io_test_support.hpp"
#include "support/tolerance.hpp"

namespace hsm::test {

/// h[t] = q .* h[t-1] + x[t], y = h.
template <class S>
struct FadingSum {
  using Scalar = S;
  struct Parameters {
    Vector<S> q;
    template <class F, class Self, class... More>
    static void visit(F&& f, Self& self, More&... more) {
      f("q", self.q, more.q...);
    }
  };
  using State = RingState<S>;
  struct Saved {
    Shape<3> sizes{-1, -1, -1};
    std::vector<Segment> segments;
    std::vector<S> before;  // h[t-1] of each token
    Shape<3> shape() const { return sizes; }
  };
  static constexpr std::string_view kType = "FadingSum", kName = "fading-sum";

  static TensorSpecs describe(Index C, const OptionValues&) { return {vector_spec("q", C)}; }
  explicit FadingSum(Index C) { own.q.setConstant(C, S(0.5)); }

  Index channels() const { return own.q.size(); }
  const Parameters& parameters() const { return own; }
  Parameters& parameters() { return own; }
  LayerFootprint footprint() const { return {.kept = 1, .reads = 1}; }
  std::string description() const { return "fading sum"; }
  void check(const char*) const {}
  State make_state(StateOptions options) const {
    const RingShape ring{channels(), 1, 1};
    return State("FadingSum::make_state", options, std::span(&ring, 1));
  }
  bool fits(const State& state) const {
    return state.ring_count() == 1 && state.ring_shape(0) == RingShape{channels(), 1, 1};
  }
  bool fits(const Saved& saved, const Tokens<const S>& x) const {
    return static_cast<Index>(saved.before.size()) == x.count() * channels();
  }
  void check_state_gradient(const char*, const Saved&, const State&) const {}

  void run(const Tokens<const S>& x, std::span<const Segment> segments, const Tokens<S>& y, State* state,
           Saved* saved, Workspace&) const {
    const Index C = channels();
    if (saved) {
      saved->sizes = x.shape();
      saved->segments.assign(segments.begin(), segments.end());
      saved->before.resize(static_cast<std::size_t>(C * x.count()));
    }
    for (const Segment& segment : segments) {
      std::vector<S> h(static_cast<std::size_t>(C));
      const Index past = segment.fresh() ? 0 : state->count(segment.stream);
      if (past > 0) std::copy_n(state->ring(0, segment.stream).slot(past - 1), C, h.data());
      for (Index t = 0; t < segment.count; ++t) {
        const Index token = segment.first + t;
        for (std::size_t c = 0; c < h.size(); ++c) {
          if (saved) saved->before[static_cast<std::size_t>(token * C) + c] = h[c];
          h[c] = multiply_add(own.q[static_cast<Index>(c)], h[c], x.at(token)[c]);
          if (y.data) y.at(token)[c] = h[c];
        }
        if (!segment.fresh()) std::copy(h.begin(), h.end(), state->ring(0, segment.stream).slot(past + t));
      }
      if (!segment.fresh()) state->advance(segment.stream, segment.count);
    }
  }
  void run_adjoint(const Tokens<const S>& x, const Saved& saved, const Tokens<const S>& dy,
                   const Tokens<S>& dx, Parameters& gradients, State*, Workspace&) const {
    const Index C = channels();
    for (const Segment& segment : saved.segments) {
      for (Index c = 0; c < C; ++c) {
        S d = 0;
        for (Index token = segment.first + segment.count; token-- > segment.first;) {
          d = multiply_add(own.q[c], d, dy.at(token)[c]);
          dx.at(token)[c] = d;
          gradients.q[c] += d * saved.before[static_cast<std::size_t>(token * C + c)];
        }
      }
    }
    static_cast<void>(x);
  }
  Parameters own;
};
static_assert(MixingLayer<FadingSum<float>>);

namespace {

using List = LayerList<ScalarPair, FadingSum, AttentionLayer>;

TEST(OwnLayer, IsRunInEveryModeByTheOneFront) {
  const TokenMixer<FadingSum<double>> mixer(FadingSum<double>(4));
  Workspace workspace;
  Random random(1);
  Eigen::MatrixXd x(4, 30), y(4, 30), z(4, 30), dx(4, 30);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = random.normal();
  mixer.forward(x, y, workspace);
  for (Index t = 0; t < 30; ++t) {
    for (Index c = 0; c < 4; ++c) {
      double sum = 0;
      for (Index j = 0; j <= t; ++j) sum += std::ldexp(x(c, j), static_cast<int>(j - t));
      EXPECT_NEAR(y(c, t), sum, 1e-12);
    }
  }
  auto state = mixer.make_state({.spare = 2});
  mixer.extend(x.leftCols(12), state, z.leftCols(12), workspace);
  for (Index t = 12; t < 20; ++t) mixer.step(x.col(t), state, z.col(t), workspace);
  state.rewind(0, 2);
  mixer.extend(x.middleCols(18, 12), state, z.middleCols(18, 12), workspace);
  EXPECT_EQ(y, z);
  const std::vector<Index> offsets{0, 30};
  decltype(mixer)::Saved saved;
  mixer.packed(x, offsets, z, saved, workspace);
  EXPECT_EQ(y, z);

  auto gradients = mixer.make_gradients();
  mixer.backward(x, saved, y, dx, gradients, workspace);  // of |y|^2 / 2
  const auto loss = [&](double q) {
    TokenMixer<FadingSum<double>> other = mixer;
    other.parameters().q[1] = q;
    other.forward(x, z, workspace);
    return z.squaredNorm() / 2;
  };
  const double slope = (loss(0.5 + 1e-6) - loss(0.5 - 1e-6)) / 2e-6;
  EXPECT_NEAR(gradients.q[1], slope, 1e-6 * std::abs(slope));
  EXPECT_THROW(mixer.backward(x, decltype(mixer)::Saved(), y, dx, gradients, workspace),
               std::invalid_argument);
}

TEST(OwnLayer, AStackHoldsItBesideOthersAndItsStateGoesToAFileAndBack) {
  Random random(1);
  Workspace workspace;
  const LanguageModel<float, List> model(
      {.vocabulary = 11, .width = 8, .feed_forward = 16, .layers = "ab,fading-sum,attention:heads=2"},
      random);
  EXPECT_EQ((std::variant_size_v<AnyState<float, List>>), 2u);  // rings serve two of the three
  const std::vector<std::int32_t> ids{1, 5, 3, 10, 0, 7, 7};
  LanguageModel<float, List>::Saved saved;
  model.hidden(ids, 1, 7, saved, workspace);
  Eigen::MatrixXf all(11, 7), last(11, 1);
  model.logits(saved, {all.data(), 11, 7, Eigen::OuterStride<>(11)}, workspace);
  auto state = model.make_state();
  for (std::size_t t = 0; t < ids.size(); ++t) {
    model.extend({&ids[t], 1}, state, {last.data(), 11, 1, Eigen::OuterStride<>(11)}, workspace);
    EXPECT_LE((last.col(0) - all.col(static_cast<Index>(t))).norm(),
              1e-5f * all.col(static_cast<Index>(t)).norm());
  }
  EXPECT_EQ(state.count(0), 7);

  const TokenMixer<FadingSum<float>> mixer(FadingSum<float>(4));
  auto kept = mixer.make_state({.streams = 2});
  const Eigen::MatrixXf x = Eigen::MatrixXf::Constant(4, 2, 0.25f);
  Eigen::MatrixXf y(4, 2);
  mixer.step(x, kept, y, workspace);
  const TemporaryDirectory directory;
  save_state(directory / "state.safetensors", mixer, kept);
  EXPECT_TRUE(load_state(directory / "state.safetensors", mixer) == kept);
}

}  // namespace
}  // namespace hsm::test
