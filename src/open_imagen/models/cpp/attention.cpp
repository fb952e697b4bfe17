// softmax(q k / sqrt(d)) v, on matrix units or on vectors.

#ifdef __AMX_BF16__
#include "attention_on_units.h"
#else
#include "attention_on_vectors.h"
#endif

extern "C" {

// Whether `attention` is there, of halves or of float32: 2 on matrix units, for which the system must
// give leave, 1 on vectors, 0 not at all.
int has_attention(int half) {
#if defined(__AMX_BF16__)
    return half ? 0 : 2;
#elif defined(__AVX512BF16__)
    return 1;
#else
    return half ? 0 : 1;
#endif
}

// softmax(q k / sqrt(width)) v of every head over the keys that are seen. query and out [batch,
// queries, heads * width]; key_value [batch, keys, 2 * heads * width], keys first; seen [batch, keys].
void attention(const void *query, const void *key_value, const uint8_t *seen, int half,
               int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t width,
               void *out, int threads) {
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
    if (half)
        attended(static_cast<const uint16_t *>(query), static_cast<const uint16_t *>(key_value),
                 seen, batch, queries, keys, heads, width, static_cast<uint16_t *>(out), threads);
#endif
    if (!half)
        attended(static_cast<const float *>(query), static_cast<const float *>(key_value), seen,
                 batch, queries, keys, heads, width, static_cast<float *>(out), threads);
}

}  // extern "C"
