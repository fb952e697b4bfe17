// What is added to the scores of keys: nothing, or what hides them.

#pragma once

#include <vector>

#include "simd.h"

namespace {

// Padding lies far below masked keys, so that a query all of whose keys are masked attends to all of them
// alike, as it does in torch, and not to padding.
constexpr float MASKED = -1e30f, PADDING = -1e38f;

// [batch, padded] for a mask [batch, keys].
inline std::vector<float> mask_bias(const uint8_t *mask, int64_t batch, int64_t keys,
                                    int64_t padded) {
    std::vector<float> bias(batch * padded, PADDING);
    for (int64_t k = 0; k < batch * keys; k++)
        bias[k / keys * padded + k % keys] = mask[k] ? 0.0f : MASKED;
    return bias;
}

}  // namespace
