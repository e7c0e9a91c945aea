#include "leveldb.h"

#include <array>
#include <cstring>
#include <stdexcept>
#include <string>

namespace rmpe {
namespace {

constexpr uint32_t kCastagnoli = 0x82f63b78;  // the polynomial, bits reversed

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// tables[k][b]: byte b followed by k zero bytes. Eight tables process eight bytes at a time.
constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kCastagnoli : 0);
    tables[0][b] = crc;
  }
  for (uint32_t b = 0; b < 256; ++b) {
    for (int k = 1; k < 8; ++k) tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 0xff];
  }
  return tables;
}

constexpr Tables kTables = make_tables();

struct View {
  const uint8_t* data;
  size_t size;
};

View view(const pybind11::buffer_info& info, const char* op) {
  if (info.ndim != 1 || info.itemsize != 1 || (info.size > 0 && info.strides[0] != 1)) {
    throw std::invalid_argument(std::string(op) + ": needs contiguous bytes");
  }
  return {static_cast<const uint8_t*>(info.ptr), static_cast<size_t>(info.size)};
}

uint32_t little_endian(const uint8_t* p, size_t bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint32_t>(p[i]) << (8 * i);
  return value;
}

[[noreturn]] void damaged(const char* why) { throw std::invalid_argument(std::string("snappy_decompress: ") + why); }

// Reads snappy's elements in order; every length is checked before it is used.
class Decoder {
 public:
  explicit Decoder(View in) : in_(in) {}

  size_t claimed() {
    uint64_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
      const uint8_t byte = take(1)[0];
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) {
        // The densest element is a copy: 3 bytes that give 64.
        if (value > 22 * static_cast<uint64_t>(in_.size)) damaged("claims more than its size can yield");
        return value;
      }
    }
    damaged("its size does not end");
  }

  void decode(uint8_t* out, size_t size) {
    size_t at = 0;
    while (pos_ < in_.size) {
      const uint8_t tag = take(1)[0];
      size_t length, offset;
      switch (tag & 3) {
        case 0: {
          length = (tag >> 2) + 1u;
          if (length > 60) {
            const size_t bytes = length - 60;
            length = static_cast<size_t>(little_endian(take(bytes), bytes)) + 1;
          }
          if (length > size - at) damaged("gives more than it claims");
          std::memcpy(out + at, take(length), length);
          at += length;
          continue;
        }
        case 1:
          length = ((tag >> 2) & 7) + 4u;
          offset = (static_cast<size_t>(tag >> 5) << 8) | take(1)[0];
          break;
        default:
          length = (tag >> 2) + 1u;
          offset = (tag & 3) == 2 ? little_endian(take(2), 2) : little_endian(take(4), 4);
      }
      if (offset == 0 || offset > at) damaged("copies from before its beginning");
      if (length > size - at) damaged("gives more than it claims");
      for (size_t i = 0; i < length; ++i) out[at + i] = out[at + i - offset];  // overlaps in a repeated run
      at += length;
    }
    if (at != size) damaged("gives less than it claims");
  }

 private:
  const uint8_t* take(size_t bytes) {
    if (bytes > in_.size - pos_) damaged("ends inside an element");
    const uint8_t* at = in_.data + pos_;
    pos_ += bytes;
    return at;
  }

  View in_;
  size_t pos_ = 0;
};

}  // namespace

uint32_t crc32c(const pybind11::buffer& data) {
  const pybind11::buffer_info info = data.request();
  const View in = view(info, "crc32c");
  uint32_t crc = 0xffffffff;
  size_t i = 0;
  for (; i + 8 <= in.size; i += 8) {
    const uint32_t low = crc ^ little_endian(in.data + i, 4), high = little_endian(in.data + i + 4, 4);
    crc = kTables[7][low & 0xff] ^ kTables[6][low >> 8 & 0xff] ^ kTables[5][low >> 16 & 0xff] ^ kTables[4][low >> 24] ^
          kTables[3][high & 0xff] ^ kTables[2][high >> 8 & 0xff] ^ kTables[1][high >> 16 & 0xff] ^ kTables[0][high >> 24];
  }
  for (; i < in.size; ++i) crc = (crc >> 8) ^ kTables[0][(crc ^ in.data[i]) & 0xff];
  return ~crc;
}

pybind11::bytes snappy_decompress(const pybind11::buffer& data) {
  const pybind11::buffer_info info = data.request();
  Decoder decoder(view(info, "snappy_decompress"));
  const size_t size = decoder.claimed();
  std::string out(size, '\0');
  decoder.decode(reinterpret_cast<uint8_t*>(out.data()), size);
  return pybind11::bytes(out);
}

}  // namespace rmpe
