// SPDX-License-Identifier: MIT
#include "fuzz/session_fuzz.hpp"

#include "fuzz/entry.hpp"
#include "fuzz/safetensors_mutator.hpp"

HSM_FUZZ_TARGET(fuzz_session)
HSM_FUZZ_SAFETENSORS(1)
