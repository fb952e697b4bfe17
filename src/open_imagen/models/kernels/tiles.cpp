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

thread_local Room before, after, halfway_there, all_there;

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

// A^T times six rows of channels, `from` numbers apart, into four rows `to` apart.
inline void out_of(const float *m, int64_t from, float *y, int64_t to, int64_t channels) {
    to_channels(channels, [=](int64_t c, auto number) {
        const auto row = [=](int64_t k) { return load(m + k * from + c, number); };
        const Vector m1 = row(1), m2 = row(2), m3 = row(3), m4 = row(4);
        const Vector sum = m1 + m2, gap = m1 - m2, sum2 = m3 + m4, gap2 = m3 - m4;
        store(row(0) + sum + sum2, y + c, number);
        store(gap + 2 * gap2, y + to + c, number);
        store(sum + 4 * sum2, y + 2 * to + c, number);
        store(gap + 8 * gap2 + row(5), y + 3 * to + c, number);
    });
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

// (onto + A^T m A + bias) * factor of a tile, into the map. m [36, channels], `apart` numbers from one
// to the next; `halfway` has room for 24 rows of channels, `found` for four; `onto` may be null.
template <typename Out>
void from_tile(const float *m, int64_t apart, const float *bias, const Out *onto, float factor,
               const Map &map, const Tile &tile, float *halfway, float *found, Out *out) {
    const int64_t row = map.channels;
    for (int64_t j = 0; j < REACH; j++)
        out_of(m + j * apart, REACH * apart, halfway + j * row, REACH * row, row);
    for (int64_t i = 0; i < SIDE && tile.y + i < map.height; i++) {
        out_of(halfway + i * REACH * row, row, found, row, row);
        const int64_t pixel = (tile.image * map.height + tile.y + i) * map.width + tile.x;
        for (int64_t j = 0; j < SIDE && tile.x + j < map.width; j++) {
            const float *made = found + j * row;
            const Out *o = onto + (pixel + j) * row;
            Out *y = out + (pixel + j) * row;
            to_channels(row, [=](int64_t c, auto number) {
                Vector sum = load(made + c, number) + load(bias + c, number);
                if (onto) sum = load(o + c, number) + sum;
                store(sum * factor, y + c, number);
            });
        }
    }
}

// Some tiles at a time: their inputs, the products of one place after another, their results.
template <typename Number>
void convolved(const Number *x, const float *weight, const float *bias, const Number *onto,
               float factor, int64_t batch, const Map &in, const Map &map, Number *out,
               int threads) {
    const int64_t total = batch * ceil_div(in.height, SIDE) * ceil_div(in.width, SIDE);
    const int64_t panels = ceil_div(map.channels, WIDE), across = panels * WIDE;
    const int64_t most = std::max(FEWEST, threads * ROOM / (PLACES * (in.channels + across)));
    const int64_t part = ceil_div(total, ceil_div(total, most));  // parts of one size
    const int64_t apart = ceil_div(part, STEP) * STEP * across;
    float *const ready = before.of((PLACES * part + STEP) * in.channels);
    float *const made = after.of(PLACES * apart);
#pragma omp parallel num_threads(threads)
    {
        float *const halfway = halfway_there.of(PLACES * std::max(in.channels, map.channels));
        float *const found = all_there.of(SIDE * map.channels);
        const std::vector<Number> nothing(in.channels);
        for (int64_t first = 0; first < total; first += part) {
            const int64_t number = std::min(part, total - first);
#pragma omp for
            for (int64_t k = 0; k < number; k++)
                to_tile(x, in, Tile(first + k, in), ready + k * in.channels, number * in.channels,
                        halfway, nothing.data());
#pragma omp for
            for (int64_t k = 0; k < PLACES * panels; k++)
                products(ready + k / panels * number * in.channels, in.channels,
                         weight + k * in.channels * WIDE, in.channels,
                         made + k / panels * apart + k % panels * WIDE, across, number);
#pragma omp for
            for (int64_t k = 0; k < number; k++)
                from_tile(made + k * across, apart, bias, onto, factor, map, Tile(first + k, map),
                          halfway, found, out);
        }
    }
}

}  // namespace

extern "C" {

// How many columns a panel of `convolve`'s weights has.
int64_t panel_width() { return WIDE; }

// (onto + conv(x) + bias) * factor of maps x [batch, height, width, inside], with zeros around them, by
// weights [36, panels, inside, panel_width()], into `out` [batch, height, width, outside]; `onto` may be
// null. Maps are halves if `half`.
void convolve(const void *x, const float *weight, const float *bias, const void *onto, int half,
              float factor, int64_t batch, int64_t height, int64_t width, int64_t inside,
              int64_t outside, void *out, int threads) {
    const Map in = {height, width, inside}, map = {height, width, outside};
    if (half)
        convolved(static_cast<const uint16_t *>(x), weight, bias,
                  static_cast<const uint16_t *>(onto), factor, batch, in, map,
                  static_cast<uint16_t *>(out), threads);
    else
        convolved(static_cast<const float *>(x), weight, bias, static_cast<const float *>(onto),
                  factor, batch, in, map, static_cast<float *>(out), threads);
}

}  // extern "C"
