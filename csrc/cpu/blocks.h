// Channels in blocks, in which weights lie together.
#pragma once
#include <cstdint>

namespace rmpe {

constexpr int kBlock = 16;

constexpr int64_t blocks(int64_t channels) { return (channels + kBlock - 1) / kBlock; }

}  // namespace rmpe
