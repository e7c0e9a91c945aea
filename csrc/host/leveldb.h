// The most expensive parts of reading a LevelDB: snappy decompression and checksums.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace rmpe {

// CRC-32C (Castagnoli) of a buffer, before LevelDB's masking.
uint32_t crc32c(const pybind11::buffer& data);

// Decompresses a buffer in snappy's raw format. Throws ValueError if it is damaged, or claims more bytes than a buffer
// of its size can contain.
pybind11::bytes snappy_decompress(const pybind11::buffer& data);

}  // namespace rmpe
