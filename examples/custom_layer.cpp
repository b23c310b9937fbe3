// SPDX-License-Identifier: MIT
//
// A layer of one's own that is no shift mixer, from nothing to a language model: a sum of all tokens that fades,
//
//   y[t] = q .* y[t-1] + x[t]       q [C], one decay per channel; y[-1] = 0
//
// The layer states one call and its adjoint, over segments of documents and streams (hsm/layer/mixing_layer.hpp). That it
// runs in every mode is TokenMixer's work. The program lets the test kit try it, and names it in the recipe of a model.
#include <hsm/layer/recorded_call.hpp>
#include <hsm/layer/ring_state.hpp>
#include <hsm/model/language_model.hpp>
#include <hsm/testing/check_layer.hpp>

#include <algorithm>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

template <hsm::ComputeScalar ScalarType>
class FadingSum {
 public:
  // ---- types and constants ----------------------------------------------------------------------------------

  using Scalar = ScalarType;
  struct Parameters {
    hsm::Vector<Scalar> q;  // [C]
    template <class F, class Self, class... More>
    static void visit(F&& f, Self& self, More&... more) {
      f("q", self.q, more.q...);
    }
  };
  using State =
      hsm::RingState<Scalar>;  // the last y of each stream; states of rings can be saved and taken back
  struct Saved : hsm::RecordedCall {  // the segments, and how many tokens their streams had seen
    std::vector<Scalar> before;       // y[t-1] of each token, [C, B T]
  };
  static constexpr std::string_view kType = "FadingSum", kName = "fading-sum";  // in messages; in recipes

  /// Its tensors, before it is made: models count parameters and check files by that. q does not decay.
  static hsm::TensorSpecs describe(hsm::Index channels, const hsm::OptionValues&) {
    return {hsm::vector_spec("q", channels)};
  }
  explicit FadingSum(hsm::Index channels) { parameters_.q.setConstant(channels, Scalar(0.5)); }

  // ---- what it is -------------------------------------------------------------------------------------------

  hsm::Index channels() const { return parameters_.q.size(); }
  const Parameters& parameters() const { return parameters_; }
  Parameters& parameters() { return parameters_; }
  hsm::LayerFootprint footprint() const { return {.kept = 1, .reads = 1}; }
  std::string description() const { return "fading sum"; }
  void check(const char* who) const { hsm::detail::check_at_least(who, "channels", channels(), 1); }

  // ---- states and records -----------------------------------------------------------------------------------

  // [shown]
  State make_state(hsm::StateOptions options) const {
    const hsm::RingShape one_column{.rows = channels(), .shift = 1, .reach = 1, .kind = kName};
    return State("FadingSum::make_state", options, std::span(&one_column, 1));
  }
  bool fits(const State& state) const {
    return state.ring_count() == 1 && state.ring_shape(0) == hsm::RingShape{channels(), 1, 1, kName};
  }
  bool fits(const Saved& saved, const hsm::Tokens<const Scalar>& x) const {
    return static_cast<hsm::Index>(saved.before.size()) == channels() * x.count();
  }
  void check_state_gradient(const char* who, const Saved& saved, const State& d) const {
    saved.check_rings(who, "none, since the call that was recorded had no state", d);
  }
  // [/shown]

  // ---- the call and its adjoint -----------------------------------------------------------------------------

  void run(const hsm::Tokens<const Scalar>& x, std::span<const hsm::Segment> segments,
           const hsm::Tokens<Scalar>& y, State* state, Saved* saved, hsm::Workspace& workspace) const {
    const hsm::Index C = channels();
    hsm::Workspace::Frame frame(workspace);
    Scalar* const h = frame.template take<Scalar>(C);
    // [shown]
    // All memory first: what throws leaves each stream as it was, and a record of nothing.
    if (saved) {
      saved->start(segments, state);
      saved->before.clear();
      saved->before.reserve(static_cast<std::size_t>(C * x.count()));
    }
    for (const hsm::Segment& segment : segments) {
      if (!segment.fresh()) state->make_room(state->count(segment.stream) + segment.count);
    }
    for (const hsm::Segment& segment : segments) {
      const hsm::Index past = segment.fresh() ? 0 : state->count(segment.stream);
      if (past > 0) {
        std::copy_n(state->ring(0, segment.stream).slot(past - 1), C, h);
      } else {
        std::fill_n(h, C, Scalar(0));  // a document starts
      }
      for (hsm::Index t = 0; t < segment.count; ++t) {
        const Scalar* const token = x.at(segment.first + t);
        if (saved) saved->before.insert(saved->before.end(), h, h + C);
        for (hsm::Index c = 0; c < C; ++c) h[c] = parameters_.q[c] * h[c] + token[c];
        if (y.data) std::copy_n(h, C, y.at(segment.first + t));  // null: nobody wants results
        if (!segment.fresh()) std::copy_n(h, C, state->ring(0, segment.stream).slot(past + t));
      }
      if (!segment.fresh()) state->advance(segment.stream, segment.count);
    }
    if (saved) saved->sizes = x.shape();
    // [/shown]
  }

  void run_adjoint(const hsm::Tokens<const Scalar>&, const Saved& saved, const hsm::Tokens<const Scalar>& dy,
                   const hsm::Tokens<Scalar>& dx, Parameters& gradients, State* state_gradient,
                   hsm::Workspace& workspace) const {
    const hsm::Index C = channels();
    hsm::Workspace::Frame frame(workspace);
    Scalar* const later = frame.template take<Scalar>(C);  // what y[t] gets from what comes after it
    saved.make_room(state_gradient);
    for (std::size_t i = 0; i < saved.segments.size(); ++i) {
      const hsm::Segment& segment = saved.segments[i];
      const hsm::Index past = saved.past[i];
      hsm::detail::RingView<Scalar> ring;  // no slots: nobody has a gradient of what the call left
      if (state_gradient && !segment.fresh()) ring = state_gradient->ring(0, segment.stream);
      std::fill_n(later, C, Scalar(0));
      for (hsm::Index t = segment.count; t-- > 0;) {
        const hsm::Index token = segment.first + t;
        const Scalar* const before = saved.before.data() + token * C;
        Scalar* const left = segment.count - t <= ring.slot_count ? ring.slot(past + t) : nullptr;
        for (hsm::Index c = 0; c < C; ++c) {
          // y[t] = q .* y[t-1] + x[t], and a later call may have gone on from any y that was kept
          const Scalar d =
              dy.at(token)[c] + later[c] + (left ? std::exchange(left[c], Scalar(0)) : Scalar(0));
          dx.at(token)[c] = d;
          gradients.q[c] += d * before[c];
          later[c] = d * parameters_.q[c];
        }
      }
      if (ring.data && past > 0) {
        for (hsm::Index c = 0; c < C; ++c) ring.slot(past - 1)[c] += later[c];
      }
    }
  }

 private:
  Parameters parameters_;
};

int main() {
  // Gradients, every mode, states, causality: what is wrong is told in a sentence.
  const hsm::CheckResult result = hsm::check_layer(FadingSum<double>(5));
  std::printf("the test kit: %s\n", result ? "nothing is wrong" : result.what().c_str());

  // A stack of layers of the list.
  // [shown]
  using Layers = hsm::LayerList<hsm::ScalarPair, FadingSum, hsm::AttentionLayer>;
  hsm::Random random(1);
  const hsm::LanguageModel<float, Layers> model(
      {.width = 32, .feed_forward = 64, .layers = "3*ab,fading-sum,attention:heads=4"}, random);
  // [/shown]
  hsm::Workspace workspace;
  auto state = model.make_state();
  const std::vector<std::int32_t> ids = {'h', 'e', 'l', 'l', 'o'};
  Eigen::MatrixXf logits(256, 1);
  model.extend(ids, state, {logits.data(), 256, 1, Eigen::OuterStride<>(256)}, workspace);
  std::printf("a model of %s: %td parameters, %zu bytes of state after %zu tokens\n",
              model.config().layers.c_str(), hsm::count_parameters(model), state.bytes(), ids.size());
  return result && logits.allFinite() ? 0 : 1;
}
