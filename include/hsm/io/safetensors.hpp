// SPDX-License-Identifier: MIT
//
// The safetensors format, read and written: named tensors and string metadata in one file, as other
// frameworks exchange them.
//
//   u64 N (little-endian) | JSON header, N bytes | the bytes of the tensors, one after the other
//
// `SafetensorsFile` reads and trusts nothing, `SafetensorsWriter` writes whole files or none. Errors: see
// there.
#pragma once

#include <hsm/io/safetensors_file.hpp>
#include <hsm/io/safetensors_writer.hpp>
