// SPDX-License-Identifier: MIT
//
// A step of one stream allocates nothing once it has run; nor does any other call that works in scratch of the
// same size, but for the packing space of Eigen's products. Counted are operator new and, with glibc and no
// sanitizer, malloc and its kin.
#include <atomic>
#include <cstdlib>
#include <new>

#include "mixing/mixer_cases.hpp"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HSM_TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HSM_TEST_SANITIZED
#endif

namespace {
std::atomic<bool> counting{false};
std::atomic<long> allocations{0};
void count() {
  if (counting) ++allocations;
}
}  // namespace

#if defined(__GLIBC__) && !defined(HSM_TEST_SANITIZED)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  count();
  return __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) {
  count();
  return __libc_calloc(n, size);
}
void* realloc(void* old, std::size_t size) {
  count();
  return __libc_realloc(old, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, std::size_t alignment, std::size_t size) {
  count();
  *result = __libc_memalign(alignment, size);
  return *result ? 0 : 12;
}
}
#else
void* operator new(std::size_t size) {
  count();
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace hsm::test {
namespace {

/// How often f allocates.
template <class F>
long allocations_of(F&& f) {
  allocations = 0;
  counting = true;
  f();
  counting = false;
  return allocations;
}

TEST(Allocations, AreCounted) {
  EXPECT_GE(allocations_of([] { delete new std::string(100, 'x'); }), 1);
  EXPECT_EQ(allocations_of([] {}), 0);
}

template <class Policy>
class MixerAllocations : public ::testing::Test {};
using FloatPolicies =
    ::testing::Types<ScalarPair<float>, Gated<float>, GatedPair<float>, SoftmaxLocal<float>>;
TYPED_TEST_SUITE(MixerAllocations, FloatPolicies);

TYPED_TEST(MixerAllocations, AStepOfOneStreamMakesNone) {
  Random random(1);
  for (const Index C : {8, 12, 512}) {  // 512: the weights are far beyond what Eigen copies to its stack
    const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 4, random), Shifts{1, 5, 5, 2});
    Workspace workspace;
    auto state = mixer.make_state();
    Eigen::VectorXf x = Eigen::VectorXf::Ones(C), y(C);
    mixer.step(x, state, y, workspace);
    EXPECT_EQ(allocations_of([&] {
                for (int t = 0; t < 30; ++t) mixer.step(x, state, y, workspace);
              }),
              0)
        << "C=" << C;
  }
}

TYPED_TEST(MixerAllocations, OtherCallsMakeNoneInSmallSizes) {
  constexpr Index C = 12;
  Random random(2);
  const Mixer<TypeParam> mixer(PolicyCase<TypeParam>::make(C, 4, random), Shifts{1, 5, 5, 2});
  const Activations<float> x(3, 40, C, random), dy(3, 40, C, random);
  Activations<float> y(3, 40, C), dx(3, 40, C);
  Workspace workspace;
  auto state = mixer.make_state({.streams = 3}), gradient = state;
  auto saved = mixer.make_saved();
  auto gradients = mixer.make_gradients();
  const std::vector<Index> offsets{0, 7, 7, 40};
  const auto calls = [&] {
    mixer.forward(x.view(), y.view(), workspace);
    mixer.packed(x.view().sequence(0), offsets, y.view().sequence(0), workspace);
    mixer.extend(x.view(), state, y.view(), workspace);
    mixer.forward(x.view(), y.view(), saved, workspace);
    mixer.backward(x.view(), saved, dy.view(), dx.view(), gradients, workspace);
  };
  calls();
  const auto bytes = workspace.bytes();
  EXPECT_EQ(allocations_of(calls), 0);
  EXPECT_EQ(workspace.bytes(), bytes);
}

}  // namespace
}  // namespace hsm::test
