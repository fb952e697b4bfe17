// What hides the keys that are not seen.

#pragma once

#include <vector>

#include "numbers.h"

namespace {

// For each image and key 0, or what hides a key that is not seen; [batch, most], padded with the latter.
inline std::vector<float> hiding(const uint8_t *seen, int64_t batch, int64_t keys, int64_t most) {
    std::vector<float> hidden(batch * most, -1e30f);
    for (int64_t k = 0; k < batch * keys; k++)
        if (seen[k]) hidden[k / keys * most + k % keys] = 0.0f;
    return hidden;
}

}  // namespace
