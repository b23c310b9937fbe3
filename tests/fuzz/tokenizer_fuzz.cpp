// SPDX-License-Identifier: MIT
#include "fuzz/tokenizer_fuzz.hpp"

#include "fuzz/entry.hpp"

HSM_FUZZ_TARGET(fuzz_tokenizer)
