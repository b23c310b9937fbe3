// SPDX-License-Identifier: MIT
#include "fuzz/schedule_fuzz.hpp"

#include "fuzz/entry.hpp"

HSM_FUZZ_TARGET(fuzz_schedule)
