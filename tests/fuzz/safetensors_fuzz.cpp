// SPDX-License-Identifier: MIT
#include "fuzz/safetensors_fuzz.hpp"

#include "fuzz/entry.hpp"
#include "fuzz/safetensors_mutator.hpp"

HSM_FUZZ_TARGET(fuzz_safetensors)
HSM_FUZZ_SAFETENSORS(0)
