// SPDX-License-Identifier: MIT
#include "fuzz/checkpoint_fuzz.hpp"

#include "fuzz/entry.hpp"
#include "fuzz/safetensors_mutator.hpp"

HSM_FUZZ_TARGET(fuzz_checkpoint)
HSM_FUZZ_SAFETENSORS(0)
