// SPDX-License-Identifier: MIT
#include "fuzz/model_fuzz.hpp"

#include "fuzz/entry.hpp"
#include "fuzz/safetensors_mutator.hpp"

HSM_FUZZ_TARGET(fuzz_model_file)
HSM_FUZZ_SAFETENSORS(0)
