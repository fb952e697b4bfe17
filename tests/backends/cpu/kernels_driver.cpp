// Calls the CPU kernels on edge shapes, in buffers of their exact sizes, for the sanitizers to watch; and
// compares results with the same written out.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "gemm.h"
#include "kernels.h"
#include "workspace.h"

namespace {

int failures = 0;

void check(bool good, const char *what, int64_t a, int64_t b, int64_t c) {
    if (good) return;
    std::printf("%s is wrong: %ld %ld %ld\n", what, long(a), long(b), long(c));
    failures++;
}

std::vector<float> numbers(int64_t size, uint32_t seed) {
    std::vector<float> found(size);
    for (auto &x : found) {
        seed = seed * 1664525u + 1013904223u;
        x = float(seed >> 8) / (1 << 23) - 1.0f;
    }
    return found;
}

std::vector<uint16_t> halves(const std::vector<float> &x) {
    std::vector<uint16_t> found(x.size());
    for (size_t k = 0; k < x.size(); k++) found[k] = to_bfloat16(x[k]);
    return found;
}

bool near(float one, double other, double tolerance) { return std::abs(one - other) < tolerance; }

void norms(int64_t batch, int64_t pixels, int64_t channels, int64_t groups, int threads) {
    const auto x = numbers(batch * pixels * channels, 1), weight = numbers(channels, 2);
    const auto bias = numbers(channels, 3), scale = numbers(batch * 2 * channels, 4);
    const auto x16 = halves(x);
    for (int activation : {NO_ACTIVATION, SILU, GELU})
        for (bool scaled : {false, true}) {
            const float *s = scaled ? scale.data() : nullptr;
            const float *shift = scaled ? s + channels : nullptr;
            const auto run = [&](const void *in, int bfloat16, void *out, uint16_t *stacked) {
                check(!norm_act(in, bfloat16, batch, pixels, channels, groups, 1e-5, weight.data(),
                                bias.data(), s, shift, 2 * channels, activation, out, stacked,
                                threads),
                      "norm_act", batch, pixels, channels);
            };
            std::vector<float> out(x.size());
            std::vector<uint16_t> out16(x.size()), high(x.size()), stacked(3 * x.size());
            run(x.data(), 0, out.data(), nullptr);
            run(x16.data(), 1, out16.data(), nullptr);
            run(x.data(), 0, high.data(), stacked.data());
            for (size_t k = 0; k < x.size(); k++) {
                check(high[k] == to_bfloat16(out[k]), "norm_act_split", k, channels, groups);
                check(near(to_float(out16[k]), out[k], 0.1 + 0.05 * std::abs(out[k])) || groups == 0,
                      "norm_act bfloat16", k, channels, groups);
            }
        }
    std::vector<uint16_t> high(x.size()), stacked(3 * x.size());
    std::vector<float> merged(x.size());
    bfloat16_split(x.data(), batch * pixels, channels, high.data(), stacked.data(), threads);
    bfloat16_merge(high.data(), high.data(), bias.data(), x.data(), 0.5f, batch * pixels, channels,
                   merged.data(), threads);
    bfloat16_merge(high.data(), high.data(), bias.data(), nullptr, 1.0f, batch * pixels, channels,
                   merged.data(), threads);
}

double convolved(const std::vector<float> &x, const std::vector<float> &weight, int64_t image,
                 int64_t height, int64_t width, int64_t inputs, int64_t y, int64_t column,
                 int64_t o) {
    double sum = 0;
    for (int64_t i = -1; i <= 1; i++)
        for (int64_t j = -1; j <= 1; j++) {
            if (y + i < 0 || y + i >= height || column + j < 0 || column + j >= width) continue;
            const int64_t pixel = (image * height + y + i) * width + column + j;
            for (int64_t c = 0; c < inputs; c++)
                sum += double(x[pixel * inputs + c]) *
                       weight[((o * inputs + c) * 3 + i + 1) * 3 + j + 1];
        }
    return sum;
}

void winograd(int64_t batch, int64_t height, int64_t width, int64_t inputs, int64_t outputs,
              int threads) {
    const int64_t panels = ceil_div(outputs, winograd_panel_width());
    const int64_t pixels = batch * height * width;
    const auto x = numbers(pixels * inputs, 1), weight = numbers(outputs * inputs * 9, 2);
    const auto bias = numbers(outputs, 3), residual = numbers(pixels * outputs, 4);
    const auto x16 = halves(x), residual16 = halves(residual);
    std::vector<float> transformed(36 * panels * inputs * winograd_panel_width());
    std::vector<float> out(pixels * outputs), grad(outputs * 9 * inputs);
    std::vector<uint16_t> out16(out.size());
    winograd_transform_weights(weight.data(), outputs, inputs, inputs * 9, 9, 3, 1,
                               transformed.data(), threads);
    const auto run = [&](const void *in, const void *added, int bfloat16, void *to) {
        check(!winograd_conv2d(in, transformed.data(), bias.data(), added, bfloat16, 0.5f, batch,
                               height, width, inputs, outputs, to, threads),
              "winograd_conv2d", height, width, outputs);
    };
    run(x.data(), nullptr, 0, out.data());
    run(x16.data(), nullptr, 1, out16.data());
    run(x16.data(), residual16.data(), 1, out16.data());
    run(x.data(), residual.data(), 0, out.data());
    for (int64_t k = 0; k < pixels * outputs; k++) {
        const int64_t o = k % outputs, pixel = k / outputs, y = pixel / width % height;
        const double exact = convolved(x, weight, pixel / (height * width), height, width, inputs, y,
                                       pixel % width, o);
        check(near(out[k], (exact + bias[o] + residual[k]) / 2, 1e-3), "winograd_conv2d", y,
              pixel % width, o);
    }
    check(!winograd_conv2d_weight_grad(x.data(), residual.data(), 0, batch, height, width, inputs,
                                       outputs, grad.data(), threads),
          "winograd_conv2d_weight_grad", height, width, outputs);
    check(!winograd_conv2d_weight_grad(x16.data(), residual16.data(), 1, batch, height, width,
                                       inputs, outputs, grad.data(), threads),
          "winograd_conv2d_weight_grad", height, width, outputs);
}

void attention(int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t width,
               int threads) {
    const int64_t channels = heads * width;
    const auto query = numbers(batch * queries * channels, 1);
    const auto keys_values = numbers(batch * keys * 2 * channels, 2);
    const auto grad = numbers(query.size(), 3);
    std::vector<uint8_t> mask(batch * keys);
    for (int64_t k = 0; k < batch * keys; k++) mask[k] = k % 3 != 1 && k >= keys;  // first: all masked
    std::vector<float> out(query.size()), grad_query(query.size()), grad_kv(keys_values.size());
    check(!attention_forward(query.data(), keys_values.data(), mask.data(), 0, batch, queries, keys,
                             heads, width, out.data(), threads),
          "attention_forward", queries, keys, width);
    for (int64_t k = 0; k < batch * queries * heads; k++) {
        const int64_t image = k / (queries * heads), row = k / heads, head = k % heads;
        bool any = false;
        for (int64_t m = 0; m < keys; m++) any = any || mask[image * keys + m];
        std::vector<double> exact(width);
        double total = 0;
        for (int64_t m = 0; m < keys; m++) {
            if (any && !mask[image * keys + m]) continue;
            const float *key = &keys_values[(image * keys + m) * 2 * channels + head * width];
            double score = 0;
            for (int64_t c = 0; c < width; c++)
                score += double(query[row * channels + head * width + c]) * key[c];
            const double weight = any ? std::exp(score / std::sqrt(double(width))) : 1.0;
            total += weight;
            for (int64_t c = 0; c < width; c++) exact[c] += weight * key[channels + c];
        }
        for (int64_t c = 0; c < width; c++)
            check(near(out[row * channels + head * width + c], exact[c] / total, 2e-4), "attention",
                  queries, keys, width);
    }
    check(!attention_backward(query.data(), keys_values.data(), mask.data(), grad.data(), batch,
                              queries, keys, heads, width, grad_query.data(), grad_kv.data(),
                              threads),
          "attention_backward", queries, keys, width);
    if (attention_kind(1)) {
        const auto query16 = halves(query), kv16 = halves(keys_values);
        std::vector<uint16_t> out16(query.size());
        check(!attention_forward(query16.data(), kv16.data(), mask.data(), 1, batch, queries, keys,
                                 heads, width, out16.data(), threads),
              "attention_forward", queries, keys, width);
        for (size_t k = 0; k < out.size(); k++)
            check(near(to_float(out16[k]), out[k], 0.05), "attention bfloat16", queries, keys, width);
    }
    auto broken = query;
    broken[0] = NAN;
    for (int64_t k = 0; k < keys; k++) mask[k] = 1;
    attention_forward(broken.data(), keys_values.data(), mask.data(), 0, batch, queries, keys,
                      heads, width, out.data(), threads);
    check(std::isnan(out[0]) && std::isnan(out[width - 1]), "attention of NaN", queries, keys, width);
    check(queries == 1 || !std::isnan(out[channels]), "attention beside NaN", queries, keys, width);
}

}  // namespace

int main() {
    for (int64_t channels : {1, 3, 4, 15, 16, 17, 33})
        for (int64_t pixels : {1, 5, 70})
            for (int64_t groups : {int64_t(0), int64_t(1), channels})
                norms(2, pixels, channels, groups, 1);
    for (int64_t side : {1, 3, 4, 5, 9})
        for (int64_t channels : {1, 5, 16, 33}) {
            winograd(1, side, side, channels, 7, 1);
            winograd(2, side, side + 2, 6, channels, 1);
        }
    for (int64_t width : {1, 7, 16, 33})
        for (int64_t keys : {1, 2, 31, 32, 70})
            for (int64_t queries : {1, 5, 33}) attention(2, queries, keys, 2, width, 1);
    norms(2, 70, 33, 0, 3);
    winograd(1, 40, 36, 3, 2, 3);
    attention(2, 120, 40, 1, 64, 3);
    const int status = guarded([] { Workspace().reserve(int64_t(1) << 58); });
    check(status == OUT_OF_MEMORY, "a reservation of too much memory", 0, 0, 0);
    std::printf("%d failures\n", failures);
    return failures ? 1 : 0;
}
