// Numbers of feature maps, one by one or as SIMD vectors: float32, or bfloat16, the upper half of one.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace {

#if defined(__AVX512F__)
constexpr int64_t LANES = 16;
#elif defined(__AVX__)
constexpr int64_t LANES = 8;
#else
constexpr int64_t LANES = 4;
#endif

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
typedef uint32_t Bits __attribute__((vector_size(LANES * sizeof(float))));
typedef uint16_t Bfloat16s __attribute__((vector_size(LANES * sizeof(uint16_t))));

inline int64_t ceil_div(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

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

inline Bits bits_of(Vector x) { return (Bits)x; }

inline Vector float_of(Bits bits) { return (Vector)bits; }

inline float to_float(float x) { return x; }

inline float to_float(uint16_t bfloat16) { return float_of(uint32_t(bfloat16) << 16); }

// The upper half of a number, rounded to the nearest, ties to even. Not for NaN, which may overflow.
template <typename Some> inline Some round_to_upper_half(Some bits) {
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

constexpr uint16_t NAN_BFLOAT16 = 0x7fc0;

inline uint16_t to_bfloat16(float x) {
    return x == x ? uint16_t(round_to_upper_half(bits_of(x))) : NAN_BFLOAT16;
}

inline Bfloat16s to_bfloat16(Vector x) {
    const Bits rounded = x == x ? round_to_upper_half(bits_of(x)) : Bits{} + NAN_BFLOAT16;
    return __builtin_convertvector(rounded, Bfloat16s);
}

// The low bfloat16 part of x, whose high part is given.
inline uint16_t low_part(float x, uint16_t high) { return to_bfloat16(x - to_float(high)); }

inline void store_one(float x, float *to) { *to = x; }

inline void store_one(float x, uint16_t *to) { *to = to_bfloat16(x); }

// The first `number` lanes of a vector, the others 0; and back.
template <typename Number> inline Vector load(const float *x, Number number) {
    Vector loaded = {};
    std::memcpy(&loaded, x, number * sizeof(float));
    return loaded;
}

template <typename Number> inline Vector load(const uint16_t *x, Number number) {
    Bfloat16s loaded = {};
    std::memcpy(&loaded, x, number * sizeof(uint16_t));
    return float_of(__builtin_convertvector(loaded, Bits) << 16);
}

template <typename Number> inline void store(Vector x, float *to, Number number) {
    std::memcpy(to, &x, number * sizeof(float));
}

template <typename Number> inline void store(Vector x, uint16_t *to, Number number) {
    const Bfloat16s rounded = to_bfloat16(x);
    std::memcpy(to, &rounded, number * sizeof(uint16_t));
}

// body(first, number) for all channels, each alone, by whole vectors if there is one: the last may do
// some of them again.
template <typename Body> inline void for_channels(int64_t channels, const Body &body) {
    if (channels < LANES) {
        body(int64_t(0), channels);
        return;
    }
    for (int64_t c = 0; c < channels; c += LANES)
        body(c + LANES <= channels ? c : channels - LANES, std::integral_constant<int64_t, LANES>());
}

// Added to a small number, it rounds it to an integer, which then stands in the lowest bits.
constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23

// 2^(n + r) of n + SHIFT and |r| <= 1/2; relative error below 2e-7. Coefficients by least squares,
// reweighted towards the largest error.
template <typename Real> inline Real scaled_exp2(Real shifted, Real r) {
    Real p = 1.534581243e-4f * r + 1.339993090e-3f;
    p = p * r + 9.618489072e-3f;
    p = p * r + 5.550328642e-2f;
    p = p * r + 2.402264625e-1f;
    p = p * r + 6.931471825e-1f;
    p = p * r + 1.0f;
    return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

// 2^x for -126 <= x <= 127. Of NaN it may be a number: callers look for NaN themselves.
template <typename Real> inline Real exp2_of(Real x) {
    const Real shifted = x + SHIFT;
    return scaled_exp2(shifted, x - (shifted - SHIFT));
}

template <typename Real> inline Real clamp(Real least, Real x, Real most) {
    x = x < least ? least : x;
    return x > most ? most : x;
}

// e^x; relative error below 4e-7. Of NaN as exp2_of.
template <typename Real> inline Real exp_of(Real x) {
    x = clamp(Real{} - 87.0f, x, Real{} + 88.0f);
    const Real shifted = x * 1.44269502f + SHIFT;
    return scaled_exp2(shifted, (x * 1.44269502f - (shifted - SHIFT)) + x * 1.92596303e-8f);
}

}  // namespace
