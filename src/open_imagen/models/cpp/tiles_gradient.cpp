// The gradient of a 3x3 convolution's weights, in tiles.
//
// What 4x4 gradients of results make of 6x6 inputs, 3x3 weights', is a convolution, too: F(3x3, 4x4), with
// the same B^T d B of the inputs; of the others it takes G and A of other lengths for the same points.

#include "products.h"
#include "tiles.h"

namespace {

thread_local Room inputs, gradients, sums, halfway_there;

// G times four rows of channels, into six.
template <typename In>
inline void gradient_into(const In *const *d, float *const *out, int64_t channels) {
    const In *r0 = d[0], *r1 = d[1], *r2 = d[2], *r3 = d[3];
    float *y0 = out[0], *y1 = out[1], *y2 = out[2], *y3 = out[3], *y4 = out[4], *y5 = out[5];
    to_channels(channels, [=](int64_t c, auto number) {
        const Vector d0 = load(r0 + c, number), d1 = load(r1 + c, number);
        const Vector d2 = load(r2 + c, number), d3 = load(r3 + c, number);
        const Vector even = (d0 + d2) * (-1.0f / 6), odd = (d1 + d3) * (-1.0f / 6);
        const Vector even2 = (d0 + 4 * d2) * (1.0f / 24), odd2 = (d1 + 4 * d3) * (1.0f / 12);
        store(d0 * 0.25f, y0 + c, number);
        store(even + odd, y1 + c, number);
        store(even - odd, y2 + c, number);
        store(even2 + odd2, y3 + c, number);
        store(even2 - odd2, y4 + c, number);
        store(d3, y5 + c, number);
    });
}

// A^T times six rows of WIDE weights, `from` numbers apart, into three rows `to` apart.
inline void weights_out_of(const float *m, int64_t from, float *y, int64_t to) {
    to_channels(WIDE, [=](int64_t c, auto number) {
        const auto row = [=](int64_t k) { return load(m + k * from + c, number); };
        const Vector m1 = row(1), m2 = row(2), m3 = row(3), m4 = row(4);
        store(row(0) + m1 + m2 + m3 + m4, y + c, number);
        store(m1 - m2 + 2 * (m3 - m4), y + to + c, number);
        store(m1 + m2 + 4 * (m3 + m4) + row(5), y + 2 * to + c, number);
    });
}

// G d G^T of a tile of gradients, [36, channels], `apart` numbers from one to the next.
template <typename In>
void gradient_to_tile(const In *gradient, const Map &map, const Tile &tile, float *out,
                      int64_t apart, float *halfway, const In *nothing) {
    const In *pixels[SIDE];
    const float *from[SIDE];
    float *to[REACH];
    for (int64_t j = 0; j < SIDE; j++) {
        for (int64_t i = 0; i < SIDE; i++) pixels[i] = pixel(gradient, map, tile, i, j, nothing);
        for (int64_t i = 0; i < REACH; i++) to[i] = halfway + (i * SIDE + j) * map.channels;
        gradient_into(pixels, to, map.channels);
    }
    for (int64_t i = 0; i < REACH; i++) {
        for (int64_t j = 0; j < SIDE; j++) from[j] = halfway + (i * SIDE + j) * map.channels;
        for (int64_t j = 0; j < REACH; j++) to[j] = out + (i * REACH + j) * apart;
        gradient_into(from, to, map.channels);
    }
}

template <typename Number>
void learned(const Number *x, const Number *gradient, int64_t batch, const Map &in, const Map &map,
             float *out, int threads) {
    const int64_t panels = ceil_div(map.channels, WIDE), across = panels * WIDE;
    const int64_t total = tiles_of(batch, in);
    const int64_t part = part_of(total, in.channels + across, threads);
    const int64_t deep = ceil_div(in.channels, STEP) * STEP;
    float *const ready = inputs.of(PLACES * part * in.channels + STEP);
    float *const given = gradients.of(PLACES * part * across);
    float *const all = sums.of(PLACES * deep * across);
#pragma omp parallel num_threads(threads)
    {
        float *const halfway = halfway_there.of(PLACES * std::max(in.channels, map.channels));
        const std::vector<Number> nothing(std::max(in.channels, map.channels));
#pragma omp for
        for (int64_t k = 0; k < PLACES * deep; k++)
            std::memset(all + k * across, 0, across * sizeof(float));
        for (int64_t first = 0; first < total; first += part) {
            const int64_t number = std::min(part, total - first);
#pragma omp for
            for (int64_t k = 0; k < number; k++) {
                const Tile tile(first + k, in);
                to_tile(x, in, tile, ready + k * in.channels, number * in.channels, halfway,
                        nothing.data());
                gradient_to_tile(gradient, map, tile, given + k * across, number * across, halfway,
                                 nothing.data());
            }
#pragma omp for
            for (int64_t k = 0; k < PLACES * panels; k++) {
                const int64_t place = k / panels, column = k % panels * WIDE;
                sum_products(ready + place * number * in.channels, in.channels,
                             given + place * number * across + column, across, number,
                             all + place * deep * across + column, across, in.channels);
            }
        }
#pragma omp for
        for (int64_t k = 0; k < panels * in.channels; k++) {
            const int64_t column = k / in.channels * WIDE, c = k % in.channels;
            float rows[3 * REACH * WIDE], found[9 * WIDE];
            for (int64_t j = 0; j < REACH; j++)
                weights_out_of(all + (j * deep + c) * across + column, REACH * deep * across,
                               rows + j * WIDE, REACH * WIDE);
            for (int64_t i = 0; i < 3; i++)
                weights_out_of(rows + i * REACH * WIDE, WIDE, found + 3 * i * WIDE, WIDE);
            for (int64_t o = 0; o < std::min(WIDE, map.channels - column); o++)
                for (int64_t p = 0; p < 9; p++)
                    out[((column + o) * 9 + p) * in.channels + c] = found[p * WIDE + o];
        }
    }
}

}  // namespace

extern "C" {

// The gradient of the weights of a 3x3 convolution with zeros around its maps x [batch, height, width,
// inside], from that of its results [batch, height, width, outside]: out [outside, 3, 3, inside].
void convolve_weights(const void *x, const void *gradient, int half, int64_t batch, int64_t height,
                      int64_t width, int64_t inside, int64_t outside, float *out, int threads) {
    const Map in = {height, width, inside}, map = {height, width, outside};
    if (half)
        learned(static_cast<const uint16_t *>(x), static_cast<const uint16_t *>(gradient), batch,
                in, map, out, threads);
    else
        learned(static_cast<const float *>(x), static_cast<const float *>(gradient), batch, in,
                map, out, threads);
}

}  // extern "C"
