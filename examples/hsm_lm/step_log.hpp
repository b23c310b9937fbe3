// SPDX-License-Identifier: MIT
//
// The table of all training steps, CSV, a line per step as it ends.
#pragma once

#include <cerrno>
#include <span>
#include <string>

#include <hsm/io/file_handle.hpp>
#include <hsm/io/system_file.hpp>
#include <hsm/training/training_config.hpp>

#include "examples/support/progress.hpp"
#include "examples/support/text.hpp"

namespace hsm::examples {

/// A table that grows by a line per step. What cannot be written, because a disk is full or who reads a pipe does
/// not keep up, is told once; training goes on. An empty path writes nothing.
class StepLog {
 public:
  /// Throws std::runtime_error if the file cannot be written, and at once for a pipe that nobody reads.
  explicit StepLog(const std::string& path) : path_(path) {
    if (path.empty()) return;
    file_ = hsm::detail::SystemFile::open_log(path);
    if (!file_ && errno == ENXIO)
      throw std::runtime_error(path + ": cannot write the log: nobody reads from this pipe");
    const bool begun = file_ && put("step,seconds,loss,smoothed_loss,learning_rate,gradient_norm,"
                                    "tokens_per_second,validation_loss\n");
    if (!begun) throw hsm::detail::file_error(path, "cannot write the log", errno);
  }

  void write(const TrainingProgress& p, ProgressLine& line) {
    if (path_.empty()) return;
    const std::string numbers =
        format("%td,%.3f,%.6f,%.6f,%.6g,%.6g,%.1f,", p.step, p.seconds, p.loss, p.smoothed_loss,
               p.learning_rate, p.gradient_norm, p.tokens_per_second);
    if (put(numbers + (p.validation_loss ? format("%.6f", *p.validation_loss) : std::string()) + '\n'))
      return;
    line.keep("hsm_lm: " +
              std::string(hsm::detail::file_error(
                              path_, "cannot write the log any more, training goes on without", errno)
                              .what()));
    path_.clear();
  }

 private:
  bool put(const std::string& text) { return file_.write(std::as_bytes(std::span(text))); }

  std::string path_;
  hsm::detail::SystemFile file_;
};

}  // namespace hsm::examples
