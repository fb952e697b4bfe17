// Numbers of maps, one by one or as vectors: float32, or bfloat16 as the upper halves of them.

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
typedef uint16_t Halves __attribute__((vector_size(LANES * sizeof(uint16_t))));

inline int64_t ceil_div(int64_t number, int64_t of) { return (number + of - 1) / of; }

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

inline float wide(float x) { return x; }

inline float wide(uint16_t half) { return float_of(uint32_t(half) << 16); }

// The upper half of x, to the nearest, ties to even.
template <typename Some> inline Some upper(Some bits) {
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

inline uint16_t narrow(float x) { return uint16_t(upper(bits_of(x))); }

// The second part of x, whose first is given.
inline uint16_t rest_of(float x, uint16_t first) { return narrow(x - wide(first)); }

inline void put(float x, float *to) { *to = x; }

inline void put(float x, uint16_t *to) { *to = narrow(x); }

// `number` numbers as a vector, the rest of it 0; and back.
template <typename Number> inline Vector load(const float *x, Number number) {
    Vector found = {};
    std::memcpy(&found, x, number * sizeof(float));
    return found;
}

template <typename Number> inline Vector load(const uint16_t *x, Number number) {
    Halves found = {};
    std::memcpy(&found, x, number * sizeof(uint16_t));
    return float_of(__builtin_convertvector(found, Bits) << 16);
}

template <typename Number> inline void store(Vector x, float *to, Number number) {
    std::memcpy(to, &x, number * sizeof(float));
}

template <typename Number> inline void store(Vector x, uint16_t *to, Number number) {
    const Halves narrowed = __builtin_convertvector(upper(bits_of(x)), Halves);
    std::memcpy(to, &narrowed, number * sizeof(uint16_t));
}

// what(first, number) for all channels, each alone, by whole vectors if there is one: the last may do
// some of them again.
template <typename Do> inline void to_channels(int64_t channels, const Do &what) {
    if (channels < LANES) {
        what(int64_t(0), channels);
        return;
    }
    for (int64_t c = 0; c < channels; c += LANES)
        what(c + LANES <= channels ? c : channels - LANES, std::integral_constant<int64_t, LANES>());
}

// Added to a small number, it rounds it to a whole one, which then stands in the lowest bits.
constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23

// 2^(n + r) of n + SHIFT and |r| <= 1/2; relative error below 2e-7. Least squares, reweighted towards the
// largest error.
template <typename Real> inline Real two_to(Real shifted, Real r) {
    Real p = 1.534581243e-4f * r + 1.339993090e-3f;
    p = p * r + 9.618489072e-3f;
    p = p * r + 5.550328642e-2f;
    p = p * r + 2.402264625e-1f;
    p = p * r + 6.931471825e-1f;
    p = p * r + 1.0f;
    return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

// 2^x for -126 <= x <= 127.
template <typename Real> inline Real power_of_two(Real x) {
    const Real shifted = x + SHIFT;
    return two_to(shifted, x - (shifted - SHIFT));
}

template <typename Real> inline Real within(Real least, Real x, Real most) {
    x = x < least ? least : x;
    return x > most ? most : x;
}

// e^x; relative error below 4e-7.
template <typename Real> inline Real exponential(Real x) {
    x = within(Real{} - 87.0f, x, Real{} + 88.0f);
    const Real shifted = x * 1.44269502f + SHIFT;
    return two_to(shifted, (x * 1.44269502f - (shifted - SHIFT)) + x * 1.92596303e-8f);
}

}  // namespace
