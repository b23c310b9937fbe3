// SPDX-License-Identifier: MIT
//
// The picture of a training run is drawn from whatever its log holds.
#include <gtest/gtest.h>

#include <string>

#include "examples/hsm_lm/train_picture.hpp"
#include "examples/svg_form.hpp"

namespace hsm::test::train_picture_test {
namespace {

using examples::format;
using examples::training_picture;

const std::string kHeader =
    "step,seconds,loss,smoothed_loss,learning_rate,gradient_norm,tokens_per_second,validation_loss\n";

TEST(TrainingPicture, ShowsBothLosses) {
  std::string log = kHeader;
  for (int step = 1; step <= 40; ++step)
    log += format("%d,0.1,9,%.3f,0.001,1,100,%s\n", step, 2 + 4.0 / step, step % 20 == 0 ? "2.5" : "");
  const std::string svg = training_picture(log, "3*ab & <more>");
  expect_well_formed(svg);
  for (const char* text :
       {"training loss, smoothed", "validation loss", "3*ab &amp; &lt;more&gt;", "steps", "nats per token"})
    EXPECT_EQ(count(svg, text), 1u) << text;
  EXPECT_EQ(count(svg, ">6<"), 0u) << "the first steps leave room for the others";
  EXPECT_EQ(count(training_picture(log.substr(0, log.size() - 12), ""), "validation loss"), 1u)
      << "with a line that was cut";
}

TEST(TrainingPicture, OfALongRunIsSmall) {
  std::string log = kHeader;
  for (int step = 1; step <= 50'000; ++step) log += format("%d,0.1,3,2.5,0.001,1,100,\n", step);
  const std::string svg = training_picture(log, "ab");
  expect_well_formed(svg);
  EXPECT_LT(svg.size(), 40'000u);
  EXPECT_EQ(count(svg, "validation loss"), 0u);
  for (std::size_t end = log.find(",\n", kHeader.size()); end != std::string::npos;
       end = log.find(",\n", end))
    log.insert(end + 1, "2.75");
  const std::string validated = training_picture(log, "ab");
  expect_well_formed(validated);
  EXPECT_LT(validated.size(), 80'000u);
  EXPECT_EQ(count(validated, "validation loss"), 1u);
}

TEST(TrainingPicture, LeavesOutWhatIsNoNumber) {
  for (const std::string rows :
       {"", "1,0,nan,nan,0,0,0,\n", "1,0,1,inf,0,0,0,nan\n2,0,1,1.5,0,0,0,1.25\n", "a,b\n"}) {
    const std::string svg = training_picture(kHeader + rows, "ab");
    expect_well_formed(svg);
  }
}

}  // namespace
}  // namespace hsm::test::train_picture_test
