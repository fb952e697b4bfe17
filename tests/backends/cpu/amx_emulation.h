// AMX tiles in plain C++, so that attention_amx.cpp runs on any x86 CPU. Included before it.

#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define __AMX_BF16__ 1

namespace amx {

struct Tile {
    unsigned char bytes[16][64];
};

inline Tile *tiles() {
    static thread_local Tile all[8];
    return all;
}

inline void load(int tile, const void *from, int64_t stride) {
    for (int r = 0; r < 16; r++)
        std::memcpy(tiles()[tile].bytes[r], static_cast<const char *>(from) + r * stride, 64);
}

inline void store(int tile, void *to, int64_t stride) {
    for (int r = 0; r < 16; r++)
        std::memcpy(static_cast<char *>(to) + r * stride, tiles()[tile].bytes[r], 64);
}

inline void zero(int tile) { std::memset(tiles()[tile].bytes, 0, sizeof(Tile)); }

inline float number(const unsigned char *row, int at) {
    uint16_t half;
    std::memcpy(&half, row + 2 * at, 2);
    const uint32_t bits = uint32_t(half) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

// sum[r][c] += the products of row r's pairs on the left with column c's pairs on the right.
inline void multiply(int sum, int left, int right) {
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 16; c++) {
            float total;
            std::memcpy(&total, tiles()[sum].bytes[r] + 4 * c, 4);
            for (int k = 0; k < 16; k++)
                for (int pair = 0; pair < 2; pair++)
                    total += number(tiles()[left].bytes[r], 2 * k + pair) *
                             number(tiles()[right].bytes[k], 2 * c + pair);
            std::memcpy(tiles()[sum].bytes[r] + 4 * c, &total, 4);
        }
}

}  // namespace amx

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) (void)(config)
#define _tile_release() (void)0
#define _tile_loadd amx::load
#define _tile_stored amx::store
#define _tile_zero amx::zero
#define _tile_dpbf16ps amx::multiply
