// Numbers of maps: float32, or bfloat16 as the upper halves of them; and what is done to one.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

inline float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

inline float wide(float x) { return x; }

inline float wide(uint16_t half) { return float_of(uint32_t(half) << 16); }

// To the nearest, ties to even.
inline uint16_t narrow(float x) {
    const uint32_t bits = bits_of(x);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline void put(float x, float *to) { *to = x; }

inline void put(float x, uint16_t *to) { *to = narrow(x); }

// The second part of x, whose first is given.
inline uint16_t rest_of(float x, uint16_t first) { return narrow(x - wide(first)); }

// Added to a small number, it rounds it to a whole one, which then stands in the lowest bits.
constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23

// 2^(n + r) of n + SHIFT and |r| <= 1/2; relative error below 2e-7. Least squares, reweighted towards the
// largest error.
inline float two_to(float shifted, float r) {
    float p = 1.534581243e-4f;
    p = p * r + 1.339993090e-3f;
    p = p * r + 9.618489072e-3f;
    p = p * r + 5.550328642e-2f;
    p = p * r + 2.402264625e-1f;
    p = p * r + 6.931471825e-1f;
    p = p * r + 1.0f;
    return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

// 2^x for -126 <= x <= 127.
inline float power_of_two(float x) {
    const float shifted = x + SHIFT;
    return two_to(shifted, x - (shifted - SHIFT));
}

// e^x; relative error below 4e-7.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    const float shifted = x * 1.44269502f + SHIFT;
    return two_to(shifted, (x * 1.44269502f - (shifted - SHIFT)) + x * 1.92596303e-8f);
}

inline int64_t ceil_div(int64_t number, int64_t of) { return (number + of - 1) / of; }

}  // namespace
