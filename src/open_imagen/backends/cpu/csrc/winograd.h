// Winograd's F(4x4, 3x3) (Lavin and Gray 2016): tiles, their blocks, and the input transform.
//
// A tile of 4x4 outputs takes 36 products of each pair of channels instead of 144: of its 6x6 inputs d,
// transformed to B^T d B, and of weights g, transformed to G g G^T; the outputs are A^T m A of the products
// m. Tiles are processed in cache-sized blocks: input transform, 36 GEMMs, output transform. Transforms go
// by columns and then by rows. Maps are channels_last, in float32 or bfloat16; products are float32.

#pragma once

#include <algorithm>

#include "simd.h"

namespace {

constexpr int64_t TILE = 4, INPUT_TILE = 6, POINTS = INPUT_TILE * INPUT_TILE;
constexpr int64_t BLOCK_NUMBERS = 3 << 17;  // of a block of tiles for each core: what its caches hold
constexpr int64_t MIN_BLOCK = 32;           // tiles

struct MapShape {
    int64_t height, width, channels;
};

// The pixel that a tile begins at: its image, row and column.
struct TileOrigin {
    int64_t image, y, x;
    TileOrigin(int64_t number, const MapShape &map) {
        const int64_t across = ceil_div(map.width, TILE), down = ceil_div(map.height, TILE);
        image = number / (down * across);
        y = number / across % down * TILE;
        x = number % across * TILE;
    }
};

inline int64_t number_of_tiles(int64_t batch, const MapShape &map) {
    return batch * ceil_div(map.height, TILE) * ceil_div(map.width, TILE);
}

// Tiles of a block, with `channels` numbers kept for each of a tile's points: all blocks are about equal.
inline int64_t block_size(int64_t total, int64_t channels, int threads) {
    const int64_t most = std::max(MIN_BLOCK, threads * BLOCK_NUMBERS / (POINTS * channels));
    return ceil_div(total, ceil_div(total, most));
}

// B^T times six rows of channels.
template <typename Number>
inline void input_transform(const Number *const *d, float *const *out, int64_t channels) {
    const Number *r0 = d[0], *r1 = d[1], *r2 = d[2], *r3 = d[3], *r4 = d[4], *r5 = d[5];
    float *y0 = out[0], *y1 = out[1], *y2 = out[2], *y3 = out[3], *y4 = out[4], *y5 = out[5];
    for_channels(channels, [=](int64_t c, auto number) {
        const Vector d0 = load(r0 + c, number), d1 = load(r1 + c, number);
        const Vector d2 = load(r2 + c, number), d3 = load(r3 + c, number);
        const Vector d4 = load(r4 + c, number), d5 = load(r5 + c, number);
        const Vector even = d4 - 4 * d2, odd = d3 - 4 * d1, near = d4 - d2, far = 2 * (d3 - d1);
        store(4 * d0 - 5 * d2 + d4, y0 + c, number);
        store(even + odd, y1 + c, number);
        store(even - odd, y2 + c, number);
        store(near + far, y3 + c, number);
        store(near - far, y4 + c, number);
        store(4 * d1 - 5 * d3 + d5, y5 + c, number);
    });
}

// The channels of the pixel some rows and columns from a tile's first, or `zeros` outside the map.
template <typename Number>
const Number *pixel_or_zeros(const Number *x, const MapShape &map, const TileOrigin &tile,
                             int64_t rows, int64_t columns, const Number *zeros) {
    const int64_t y = tile.y + rows, column = tile.x + columns;
    const bool inside = y >= 0 && y < map.height && column >= 0 && column < map.width;
    return inside ? x + ((tile.image * map.height + y) * map.width + column) * map.channels : zeros;
}

// B^T d B of a tile of x, with zeros around the map: [36, channels], `point_stride` numbers from point to
// point. `columns` has room for as many numbers.
template <typename Number>
void transform_input_tile(const Number *x, const MapShape &map, const TileOrigin &tile, float *out,
                          int64_t point_stride, float *columns, const Number *zeros) {
    const Number *pixels[INPUT_TILE];
    const float *from[INPUT_TILE];
    float *to[INPUT_TILE];
    for (int64_t j = 0; j < INPUT_TILE; j++) {
        for (int64_t i = 0; i < INPUT_TILE; i++) {
            pixels[i] = pixel_or_zeros(x, map, tile, i - 1, j - 1, zeros);
            to[i] = columns + (i * INPUT_TILE + j) * map.channels;
        }
        input_transform(pixels, to, map.channels);
    }
    for (int64_t i = 0; i < INPUT_TILE; i++) {
        for (int64_t j = 0; j < INPUT_TILE; j++) {
            from[j] = columns + (i * INPUT_TILE + j) * map.channels;
            to[j] = out + (i * INPUT_TILE + j) * point_stride;
        }
        input_transform(from, to, map.channels);
    }
}

}  // namespace
