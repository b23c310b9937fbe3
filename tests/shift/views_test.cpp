// SPDX-License-Identifier: MIT
//
// Everything that can be viewed as tokens gives the results of a dense buffer, and nothing around a result is
// written.
#include <unsupported/Eigen/CXX11/Tensor>

#include <array>
#include <utility>

#include "shift/mixer_cases.hpp"

namespace hsm::test::views_test {
namespace {

using Data = Activations<float>;

template <class Policy>
class MixerViews : public ::testing::Test {};
using ViewedPolicies = ::testing::Types<ScalarPair<float>, GatedPair<float>, SoftmaxLocal<float>>;
TYPED_TEST_SUITE(MixerViews, ViewedPolicies);

constexpr float kCanary = -77.5f;

/// How B x T x C values lie in a larger buffer.
struct Layout {
  const char* name;
  Index token_stride, batch_stride, offset;
};

/// A buffer in some layout, canaries in all other places.
struct Scattered {
  Index B, T, C;
  Layout layout;
  std::vector<float> values;

  Scattered(const Data& data, Layout how) : Scattered(data.batch, data.time, data.channels, how) {
    const auto to = view();
    for (Index b = 0; b < B; ++b) {
      for (Index t = 0; t < T; ++t) std::copy(data.view().at(b, t), data.view().at(b, t) + C, to.at(b, t));
    }
  }
  Scattered(Index batch, Index time, Index channels, Layout how)
      : B(batch),
        T(time),
        C(channels),
        layout(how),
        values(static_cast<std::size_t>(how.offset + B * how.batch_stride + T * how.token_stride + 64),
               kCanary) {}

  Tokens<float> view() {
    return {values.data() + layout.offset, B, T, C, layout.token_stride, layout.batch_stride};
  }
  /// The values, taken out; each is replaced by a canary.
  Data take() {
    Data data(B, T, C);
    for (Index b = 0; b < B; ++b) {
      for (Index t = 0; t < T; ++t) {
        float* from = view().at(b, t);
        std::copy(from, from + C, data.view().at(b, t));
        std::fill(from, from + C, kCanary);
      }
    }
    return data;
  }
  bool has_only_canaries() const {
    return std::all_of(values.begin(), values.end(), [](float value) { return value == kCanary; });
  }
};

TYPED_TEST(MixerViews, OfStridedBuffersGiveTheSameAndLeaveWhatLiesAround) {
  constexpr Index B = 3, T = 37, C = 12;
  const std::array<Layout, 5> layouts{{{"dense", C, T * C, 5},
                                       {"slice in time", C, (T + 20) * C, 9 * C},
                                       {"slice of channels", C + 7, T * (C + 7), 3},
                                       {"both", C + 1, (T + 5) * (C + 1), 11},
                                       {"time first", B * C, C, 0}}};
  Random random(1);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 3, random), Shifts{2, 30, 2});
  const Data x(B, T, C, random), dy(B, T, C, random);
  Data y(B, T, C), dx(B, T, C);
  Workspace workspace;
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  mixer.forward(x.view(), y.view(), saved, workspace);
  mixer.backward(x.view(), saved, dy.view(), dx.view(), gradients, workspace);

  for (const Stores stores : {Stores::kCached, Stores::kNontemporal}) {
    workspace.stores = stores;
    for (std::size_t i = 0; i < layouts.size(); ++i) {
      for (std::size_t j = 0; j < layouts.size(); ++j) {
        SCOPED_TRACE(::testing::Message() << layouts[i].name << " to " << layouts[j].name);
        Scattered from(x, layouts[i]), from_dy(dy, layouts[(i + 1) % layouts.size()]);
        Scattered to(B, T, C, layouts[j]), to_dx(B, T, C, layouts[(j + 2) % layouts.size()]);
        auto again = mixer.make_gradients();
        mixer.forward(from.view(), to.view(), saved, workspace);
        mixer.backward(from.view(), saved, from_dy.view(), to_dx.view(), again, workspace);
        expect_close_to_scale(to.take().values, y.values, Tolerance<float>::mode, "y");
        expect_close_to_scale(to_dx.take().values, dx.values, Tolerance<float>::gradient, "dx");
        expect_close_parameters(again, gradients, Tolerance<float>::gradient);
        EXPECT_TRUE(to.has_only_canaries());
        EXPECT_TRUE(to_dx.has_only_canaries());

        auto state = mixer.make_state({.streams = B});
        mixer.extend(from.view().slice(0, 20), state, to.view().slice(0, 20), workspace);
        for (Index t = 20; t < T; ++t) {
          mixer.step(from.view().slice(t, 1), state, to.view().slice(t, 1), workspace);
        }
        expect_close_to_scale(to.take().values, y.values, Tolerance<float>::mode, "y of extend and step");
        EXPECT_TRUE(to.has_only_canaries());
      }
    }
  }
}

TYPED_TEST(MixerViews, OfTensors) {
  constexpr Index B = 2, T = 11, C = 6;
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  Random random(2);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 2, random), 3);
  const Data x(B, T, C, random);
  const auto reference = forward(mixer, x).values;
  const auto values = [](const Tensor& t) { return std::vector<float>(t.data(), t.data() + t.size()); };

  Tensor tensor(B, T, C), y(B, T, C);
  std::copy(x.values.begin(), x.values.end(), tensor.data());
  const Tensor& constant = tensor;
  y.setConstant(kCanary);
  mixer.forward(constant, y);
  expect_same_bits(values(y), reference, "Tensor");
  y.setConstant(kCanary);
  mixer.forward(Eigen::TensorMap<const Tensor>(x.values.data(), B, T, C),
                Eigen::TensorMap<Tensor>(y.data(), B, T, C));
  expect_same_bits(values(y), reference, "TensorMap");

  Workspace workspace;
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  Tensor dx(B, T, C);
  mixer.forward(tensor, y, saved, workspace);
  mixer.backward(tensor, saved, y, dx, gradients, workspace);
  auto state = mixer.make_state({.streams = B});
  y.setConstant(kCanary);
  mixer.extend(tensor, state, y, workspace);
  expect_close_to_scale(values(y), reference, Tolerance<float>::mode, "extend of tensors");
}

TYPED_TEST(MixerViews, OfMatrices) {
  constexpr Index T = 11, C = 6;
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Random random(3);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 2, random), 3);
  const Data data(1, T, C, random);
  Data result = forward(mixer, data);
  const Eigen::MatrixXf x = Eigen::Map<const Eigen::MatrixXf>(data.values.data(), C, T);
  const Eigen::MatrixXf reference = Eigen::Map<Eigen::MatrixXf>(result.values.data(), C, T);

  Eigen::MatrixXf y = Eigen::MatrixXf::Constant(C, T, kCanary);
  mixer.forward(x, y);
  expect_same_bits(y, reference, "column-major (C,T)");

  const RowMajor x_rows = x.transpose();
  RowMajor y_rows = RowMajor::Constant(T, C, kCanary);
  mixer.forward(x_rows, y_rows);
  expect_same_bits(y_rows, reference.transpose().eval(), "row-major (T,C)");

  Eigen::MatrixXf big = Eigen::MatrixXf::Constant(C + 5, T + 4, kCanary);
  mixer.forward(x, big.block(2, 3, C, T));
  expect_same_bits(big.block(2, 3, C, T).eval(), reference, "block");
  big.block(2, 3, C, T).setConstant(kCanary);
  EXPECT_TRUE((big.array() == kCanary).all());

  Eigen::Ref<Eigen::MatrixXf> ref = big.block(1, 1, C, T);
  mixer.forward(Eigen::Ref<const Eigen::MatrixXf>(x), ref);
  expect_same_bits(ref.eval(), reference, "Ref");

  std::vector<float> memory(static_cast<std::size_t>((C + 2) * T), kCanary);
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> map(memory.data(), C, T, Eigen::OuterStride<>(C + 2));
  mixer.forward(x, map);
  expect_same_bits(map.eval(), reference, "Map");
  EXPECT_EQ(memory[static_cast<std::size_t>(C)], kCanary);

  Eigen::Matrix<float, C, T> fixed;
  mixer.forward(x, fixed);
  expect_same_bits(fixed, reference, "fixed sizes");

  using Spread = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;  // channels are not contiguous
  Eigen::Map<Eigen::MatrixXf, 0, Spread> spread(memory.data(), C, T, Spread(1, T));
  EXPECT_THROW(mixer.forward(x, spread), std::invalid_argument);
}

TYPED_TEST(MixerViews, OfOneToken) {
  constexpr Index C = 6;
  Random random(4);
  Workspace workspace;
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 2, random), 1);
  const Data data(1, 4, C, random);
  const Data reference = forward(mixer, data);
  auto state = mixer.make_state();
  for (Index t = 0; t < 4; ++t) {
    const Eigen::VectorXf x = Eigen::Map<const Eigen::VectorXf>(data.view().at(0, t), C);
    Eigen::VectorXf y = Eigen::VectorXf::Constant(C, kCanary);
    Eigen::RowVectorXf y_row = y.transpose();
    auto copy = state;
    mixer.step(x.transpose().eval(), copy, y_row, workspace);
    mixer.step(x, state, y, workspace);
    expect_close_to_scale(y, Eigen::Map<const Eigen::VectorXf>(reference.view().at(0, t), C).eval(),
                          Tolerance<float>::mode, "vector");
    expect_same_bits(y_row.transpose().eval(), y, "row vector");
  }
}

// step reads one token per stream from [B,1,C], [1,B,C] and (C,B).
TYPED_TEST(MixerViews, OfATokenPerStream) {
  constexpr Index B = 3, C = 6;
  Random random(5);
  Workspace workspace;
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 2, random), 2);
  auto state = mixer.make_state({.streams = B});
  for (int t = 0; t < 5; ++t) {
    const Data x(B, 1, C, random);
    Data y(B, 1, C), flat(1, B, C);
    Eigen::MatrixXf matrix(C, B);
    auto one = state, two = state;
    mixer.step(x.view(), one, y.view(), workspace);
    mixer.step(Tokens<const float>(x.values.data(), 1, B, C), two, flat.view(), workspace);
    mixer.step(Eigen::Map<const Eigen::MatrixXf>(x.values.data(), C, B), state, matrix, workspace);
    expect_same_bits(flat.values, y.values, "[1,B,C]");
    expect_same_bits(std::vector<float>(matrix.data(), matrix.data() + matrix.size()), y.values, "(C,B)");
  }
}

// Windows one scalar apart, one token again and again, one sequence again and again: what can be read is right in
// every mode, whatever overlaps.
TYPED_TEST(MixerViews, ThatOverlapAreReadAsTheirCopies) {
  constexpr Index B = 3, T = 21, C = 6;
  struct Strides {
    Index token, batch;
  };
  Random random(6);
  Workspace workspace;
  workspace.poison = true;
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 3, random), Shifts{2, 5, 2});
  const Data samples(1, B * T + C, 1, random), slopes(1, B * T + C, 1, random);  // as many as windows need
  for (const Strides& strides :
       {Strides{1, 3}, Strides{1, T}, Strides{0, 7}, Strides{3, 0}, Strides{0, 0}, Strides{C - 1, 2}}) {
    SCOPED_TRACE(::testing::Message() << "strides " << strides.token << " " << strides.batch);
    ASSERT_LE((T - 1) * strides.token + (B - 1) * strides.batch + C,
              static_cast<Index>(samples.values.size()) + (strides.token == C - 1 ? B * T * C : 0));
    const auto wide = Data(1, B * T, C, random);
    const float* memory = strides.token == C - 1 ? wide.values.data() : samples.values.data();
    const float* dy_memory = strides.token == C - 1 ? wide.values.data() + 5 : slopes.values.data();
    const Tokens<const float> x(memory, B, T, C, strides.token, strides.batch);
    const Tokens<const float> dy(dy_memory, B, T, C, strides.token, strides.batch);
    Data x_copy(B, T, C), dy_copy(B, T, C);
    for (Index b = 0; b < B; ++b) {
      for (Index t = 0; t < T; ++t) {
        std::copy_n(x.at(b, t), C, x_copy.view().at(b, t));
        std::copy_n(dy.at(b, t), C, dy_copy.view().at(b, t));
      }
    }
    const auto run = [&](const Tokens<const float>& in, const Tokens<const float>& slope) {
      struct {
        Data y{B, T, C, kGarbage<float>}, packed{1, T, C, kGarbage<float>}, stream{B, T, C, kGarbage<float>},
            dx{B, T, C, kGarbage<float>};
        typename Mixer<TypeParam>::Parameters gradients;
      } r{.gradients = mixer.make_gradients()};
      auto saved = mixer.make_saved();
      mixer.forward(in, r.y.view(), saved, workspace);
      mixer.backward(in, saved, slope, r.dx.view(), r.gradients, workspace);
      mixer.packed(in.sequence(1), Shifts{0, 9, T}, r.packed.view(), workspace);
      auto state = mixer.make_state({.streams = B});
      mixer.extend(in.slice(0, 8), state, r.stream.part(0, 8), workspace);
      for (Index t = 8; t < T; ++t) mixer.step(in.slice(t, 1), state, r.stream.part(t, 1), workspace);
      return r;
    };
    const auto got = run(x, dy), expected = run(std::as_const(x_copy).view(), std::as_const(dy_copy).view());
    expect_close_to_scale(got.y.values, expected.y.values, Tolerance<float>::mode, "y");
    expect_close_to_scale(got.packed.values, expected.packed.values, Tolerance<float>::mode, "packed");
    expect_close_to_scale(got.stream.values, expected.stream.values, Tolerance<float>::mode, "stream");
    expect_close_to_scale(got.dx.values, expected.dx.values, Tolerance<float>::gradient, "dx");
    expect_close_parameters(got.gradients, expected.gradients, Tolerance<float>::gradient);
  }
}

}  // namespace
}  // namespace hsm::test::views_test
