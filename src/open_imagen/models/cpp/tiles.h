// Tiles of maps, for 3x3 convolutions by a quarter of the products, and their gradients.
//
// Winograd's F(4x4, 3x3) (Lavin and Gray 2016): a tile of 4x4 results wants 36 products of each pair of
// channels in place of 144, of its 6x6 inputs d, which become B^T d B, and weights g, G g G^T; the results
// are A^T m A of the products m. All go by columns and then by rows. Maps are channels_last, in float32
// or bfloat16; products are float32.

#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "numbers.h"

namespace {

constexpr int64_t SIDE = 4, REACH = 6, PLACES = REACH * REACH;
constexpr int64_t ROOM = 3 << 17;  // numbers of tiles at a time for each core: what its caches hold
constexpr int64_t FEWEST = 32;     // tiles at a time

// Room for numbers that a thread keeps from call to call: new memory costs more than filling it.
class Room {
  public:
    float *of(int64_t number) {
        if (number > size) {
            const int64_t line = 64, bytes = ceil_div(number * sizeof(float), line) * line;
            at.reset(static_cast<float *>(std::aligned_alloc(line, bytes)));
            size = number;
        }
        return at.get();
    }

  private:
    struct Free {
        void operator()(float *room) const { std::free(room); }
    };
    std::unique_ptr<float, Free> at;
    int64_t size = 0;
};

struct Map {
    int64_t height, width, channels;
};

// Which pixels a tile begins at: their image, row and column.
struct Tile {
    int64_t image, y, x;
    Tile(int64_t number, const Map &map) {
        const int64_t across = ceil_div(map.width, SIDE), down = ceil_div(map.height, SIDE);
        image = number / (down * across);
        y = number / across % down * SIDE;
        x = number % across * SIDE;
    }
};

inline int64_t tiles_of(int64_t batch, const Map &map) {
    return batch * ceil_div(map.height, SIDE) * ceil_div(map.width, SIDE);
}

// How many of all tiles are worked on at a time, in parts of one size; so many channels are kept of each.
inline int64_t part_of(int64_t total, int64_t channels, int threads) {
    const int64_t most = std::max(FEWEST, threads * ROOM / (PLACES * channels));
    return ceil_div(total, ceil_div(total, most));
}

// B^T times six rows of channels.
template <typename In>
inline void into(const In *const *d, float *const *out, int64_t channels) {
    const In *r0 = d[0], *r1 = d[1], *r2 = d[2], *r3 = d[3], *r4 = d[4], *r5 = d[5];
    float *y0 = out[0], *y1 = out[1], *y2 = out[2], *y3 = out[3], *y4 = out[4], *y5 = out[5];
    to_channels(channels, [=](int64_t c, auto number) {
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

// Where the channels of a pixel of x are, some lines and columns from a tile's first; or `nothing`.
template <typename In>
const In *pixel(const In *x, const Map &map, const Tile &tile, int64_t down, int64_t right,
                const In *nothing) {
    const int64_t y = tile.y + down, column = tile.x + right;
    const bool inside = y >= 0 && y < map.height && column >= 0 && column < map.width;
    return inside ? x + ((tile.image * map.height + y) * map.width + column) * map.channels : nothing;
}

// B^T d B of a tile of x, with zeros around the map: [36, channels], `apart` numbers from one to the
// next. `halfway` has room for as many, `nothing` are zeros.
template <typename In>
void to_tile(const In *x, const Map &map, const Tile &tile, float *out, int64_t apart,
             float *halfway, const In *nothing) {
    const In *pixels[REACH];
    const float *from[REACH];
    float *to[REACH];
    for (int64_t j = 0; j < REACH; j++) {
        for (int64_t i = 0; i < REACH; i++) {
            pixels[i] = pixel(x, map, tile, i - 1, j - 1, nothing);
            to[i] = halfway + (i * REACH + j) * map.channels;
        }
        into(pixels, to, map.channels);
    }
    for (int64_t i = 0; i < REACH; i++) {
        for (int64_t j = 0; j < REACH; j++) {
            from[j] = halfway + (i * REACH + j) * map.channels;
            to[j] = out + (i * REACH + j) * apart;
        }
        into(from, to, map.channels);
    }
}

}  // namespace
