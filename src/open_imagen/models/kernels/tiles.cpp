// Convolutions of 3x3 in tiles of 4x4 results, by a quarter of the products.
//
// Winograd's F(4x4, 3x3) (Lavin and Gray 2016): a tile wants 36 products of each pair of channels in
// place of 144, after its 6x6 inputs d have become B^T d B and before its results become A^T m A. Both
// go by columns and then by rows. Maps are channels_last, in float32 or bfloat16; products are float32.

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "products.h"

namespace {

constexpr int64_t SIDE = 4, REACH = 6, PLACES = REACH * REACH;
constexpr int64_t BLOCK = 32;      // tiles whose results are made at a time
constexpr int64_t ROOM = 1 << 18;  // numbers of tiles to each core: what its caches hold

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

thread_local Room tiles_ready, tiles_made, tile_halfway;

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

// B^T times six rows of channels.
template <typename In>
inline void into(const In *const *d, float *const *out, int64_t channels) {
    const In *r0 = d[0], *r1 = d[1], *r2 = d[2], *r3 = d[3], *r4 = d[4], *r5 = d[5];
    float *y0 = out[0], *y1 = out[1], *y2 = out[2], *y3 = out[3], *y4 = out[4], *y5 = out[5];
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) {
        const float d0 = wide(r0[c]), d1 = wide(r1[c]), d2 = wide(r2[c]);
        const float d3 = wide(r3[c]), d4 = wide(r4[c]), d5 = wide(r5[c]);
        const float even = d4 - 4 * d2, odd = d3 - 4 * d1;
        const float near = d4 - d2, far = 2 * (d3 - d1);
        y0[c] = 4 * d0 - 5 * d2 + d4;
        y1[c] = even + odd;
        y2[c] = even - odd;
        y3[c] = near + far;
        y4[c] = near - far;
        y5[c] = 4 * d1 - 5 * d3 + d5;
    }
}

// A^T times six rows of WIDE channels, `from` numbers apart, into four rows `to` apart.
inline void out_of(const float *m, int64_t from, float *y, int64_t to) {
#pragma omp simd
    for (int64_t c = 0; c < WIDE; c++) {
        const float m1 = m[from + c], m2 = m[2 * from + c];
        const float m3 = m[3 * from + c], m4 = m[4 * from + c];
        const float sum = m1 + m2, gap = m1 - m2, sum2 = m3 + m4, gap2 = m3 - m4;
        y[c] = m[c] + sum + sum2;
        y[to + c] = gap + 2 * gap2;
        y[2 * to + c] = sum + 4 * sum2;
        y[3 * to + c] = gap + 8 * gap2 + m[5 * from + c];
    }
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
        const int64_t column = tile.x + j - 1;
        for (int64_t i = 0; i < REACH; i++) {
            const int64_t line = tile.y + i - 1;
            const bool inside =
                line >= 0 && line < map.height && column >= 0 && column < map.width;
            const int64_t pixel = (tile.image * map.height + line) * map.width + column;
            pixels[i] = inside ? x + pixel * map.channels : nothing;
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

// (onto + A^T m A + bias) * factor of a tile, into the map; `channels` of them, WIDE at most, whose
// first is `channel`. m [36, WIDE], `apart` numbers from one to the next. `onto` may be null.
template <typename Out>
void from_tile(const float *m, int64_t apart, const float *bias, const Out *onto, float factor,
               const Map &map, const Tile &tile, int64_t channel, int64_t channels, Out *out) {
    float halfway[SIDE * REACH * WIDE], found[SIDE * WIDE];
    for (int64_t j = 0; j < REACH; j++)
        out_of(m + j * apart, REACH * apart, halfway + j * WIDE, REACH * WIDE);
    for (int64_t i = 0; i < SIDE && tile.y + i < map.height; i++) {
        out_of(halfway + i * REACH * WIDE, WIDE, found, WIDE);
        const int64_t pixel = (tile.image * map.height + tile.y + i) * map.width + tile.x;
        for (int64_t j = 0; j < SIDE && tile.x + j < map.width; j++) {
            const int64_t at = (pixel + j) * map.channels + channel;
            const float *made = found + j * WIDE;
            if (onto) {
                for (int64_t c = 0; c < channels; c++)
                    put((wide(onto[at + c]) + (made[c] + bias[c])) * factor, out + at + c);
            } else {
                for (int64_t c = 0; c < channels; c++)
                    put((made[c] + bias[c]) * factor, out + at + c);
            }
        }
    }
}

template <typename Number>
void convolved(const Number *x, const float *weight, const float *bias, const Number *onto,
               float factor, int64_t batch, const Map &in, int64_t outside, Number *out,
               int threads) {
    const Map map = {in.height, in.width, outside};
    const int64_t total = batch * ceil_div(in.height, SIDE) * ceil_div(in.width, SIDE);
    const int64_t most = std::max(BLOCK, threads * ROOM / (PLACES * in.channels));
    const int64_t part = ceil_div(total, ceil_div(total, most));  // parts of one size
    const int64_t panels = ceil_div(outside, WIDE), depth = in.channels * WIDE;
    float *const ready = tiles_ready.of((PLACES * part + TALL) * in.channels);
#pragma omp parallel num_threads(threads)
    {
        float *const made = tiles_made.of(PLACES * BLOCK * WIDE);
        float *const halfway = tile_halfway.of(PLACES * in.channels);
        const std::vector<Number> nothing(in.channels);
        for (int64_t first = 0; first < total; first += part) {
            const int64_t number = std::min(part, total - first), blocks = ceil_div(number, BLOCK);
            const int64_t block = ceil_div(ceil_div(number, blocks), STEP) * STEP;
            const bool down = blocks >= panels;  // what there is less of is read again and again
#pragma omp for
            for (int64_t k = 0; k < number; k++)
                to_tile(x, in, Tile(first + k, in), &ready[k * in.channels], number * in.channels,
                        halfway, nothing.data());
#pragma omp for
            for (int64_t k = 0; k < panels * blocks; k++) {
                const int64_t panel = down ? k % panels : k / blocks;
                const int64_t begin = (down ? k / panels : k % blocks) * block;
                const int64_t rows = std::min(block, number - begin);
                const float *w = weight + panel * PLACES * depth;
                for (int64_t p = 0; p < PLACES; p++)
                    products(&ready[(p * number + begin) * in.channels], in.channels,
                             w + p * depth, in.channels, &made[p * BLOCK * WIDE], WIDE, rows);
                const int64_t channel = panel * WIDE, channels = std::min(WIDE, outside - channel);
                for (int64_t r = 0; r < rows; r++)
                    from_tile(&made[r * WIDE], BLOCK * WIDE, bias + channel, onto, factor, map,
                              Tile(first + begin + r, in), channel, channels, out);
            }
        }
    }
}

}  // namespace

extern "C" {

// How many columns a panel of `convolve`'s weights has.
int64_t panel_width() { return WIDE; }

// (onto + conv(x) + bias) * factor of maps x [batch, height, width, inside], with zeros around them, by
// weights in panels, [outside / WIDE, 36, inside, WIDE], into `out` [batch, height, width, outside];
// `onto` may be null. Maps are halves if `half`.
void convolve(const void *x, const float *weight, const float *bias, const void *onto, int half,
              float factor, int64_t batch, int64_t height, int64_t width, int64_t inside,
              int64_t outside, void *out, int threads) {
    const Map in = {height, width, inside};
    if (half)
        convolved(static_cast<const uint16_t *>(x), weight, bias,
                  static_cast<const uint16_t *>(onto), factor, batch, in, outside,
                  static_cast<uint16_t *>(out), threads);
    else
        convolved(static_cast<const float *>(x), weight, bias, static_cast<const float *>(onto),
                  factor, batch, in, outside, static_cast<float *>(out), threads);
}

}  // extern "C"
