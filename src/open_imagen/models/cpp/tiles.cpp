// Convolutions of 3x3 in tiles.

#include "products.h"
#include "tiles.h"

namespace {

thread_local Room before, after, halfway_there, all_there;

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

// G times three rows of WIDE weights, `from` numbers apart, into six rows `to` apart.
inline void weights_into(const float *g, int64_t from, float *u, int64_t to) {
    to_channels(WIDE, [=](int64_t c, auto number) {
        const Vector g0 = load(g + c, number), g1 = load(g + from + c, number);
        const Vector g2 = load(g + 2 * from + c, number);
        const Vector even = (g0 + g2) / -6, odd = g1 / -6, even2 = (g0 + 4 * g2) / 24, odd2 = g1 / 12;
        store(g0 / 4, u + c, number);
        store(even + odd, u + to + c, number);
        store(even - odd, u + 2 * to + c, number);
        store(even2 + odd2, u + 3 * to + c, number);
        store(even2 - odd2, u + 4 * to + c, number);
        store(g2, u + 5 * to + c, number);
    });
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
    const int64_t panels = ceil_div(map.channels, WIDE), across = panels * WIDE;
    const int64_t total = tiles_of(batch, in);
    const int64_t part = part_of(total, in.channels + across, threads);
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

// G g G^T of weights g [outside, inside, 3, 3], any number apart, as `convolve` wants them.
void prepare(const float *weight, int64_t outside, int64_t inside, int64_t out_apart,
             int64_t in_apart, int64_t down_apart, int64_t right_apart, float *out, int threads) {
    const int64_t panels = ceil_div(outside, WIDE);
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < panels * inside; k++) {
        const int64_t panel = k / inside, c = k % inside, first = panel * WIDE;
        const float *from = weight + first * out_apart + c * in_apart;
        float g[3 * 3 * WIDE] = {}, halfway[REACH * 3 * WIDE], all[PLACES * WIDE];
        for (int64_t o = 0; o < std::min(WIDE, outside - first); o++)
            for (int64_t p = 0; p < 9; p++)
                g[p * WIDE + o] = from[o * out_apart + p / 3 * down_apart + p % 3 * right_apart];
        for (int64_t j = 0; j < 3; j++)
            weights_into(g + j * WIDE, 3 * WIDE, halfway + j * WIDE, 3 * WIDE);
        for (int64_t i = 0; i < REACH; i++)
            weights_into(halfway + 3 * i * WIDE, WIDE, all + REACH * i * WIDE, WIDE);
        for (int64_t p = 0; p < PLACES; p++)
            std::memcpy(out + ((p * panels + panel) * inside + c) * WIDE, all + p * WIDE,
                        WIDE * sizeof(float));
    }
}

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
