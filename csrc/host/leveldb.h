// What reading a LevelDB costs most: snappy's decompression and the checksums.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace rmpe {

// CRC-32C (Castagnoli) of a buffer, as LevelDB computes it before it masks it.
uint32_t crc32c(const pybind11::buffer& data);

// The bytes that a buffer in snappy's raw format stands for. ValueError where it is damaged, or where it claims more
// than its own size can yield.
pybind11::bytes snappy_decompress(const pybind11::buffer& data);

}  // namespace rmpe
