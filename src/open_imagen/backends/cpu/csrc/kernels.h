// The C interface of the CPU kernels, as operators.py calls it.
//
// Feature maps are channels_last: [batch, height, width, channels] in memory. `bfloat16` says that maps
// hold bfloat16 instead of float32 numbers. Pointers that may be null say so. Every function that works
// returns 0, or OUT_OF_MEMORY, after which its outputs hold nothing of use.

#pragma once

#include <cstdint>

enum Status { DONE = 0, OUT_OF_MEMORY = 1 };
enum Activation { NO_ACTIVATION = 0, SILU = 1, GELU = 2 };
enum AttentionKind { NO_ATTENTION = 0, ATTENTION_SIMD = 1, ATTENTION_AMX = 2 };

extern "C" {

// act(norm(x) * (1 + scale) + shift) of [batch, pixels, channels]. The norm is over `groups` of channels,
// or over the channels of each pixel if `groups` is 0. scale and shift, [batch, channels] with
// `scale_stride` numbers from image to image, may be null. So may `stacked`: if it is given, x is float32,
// and the result is split into bfloat16 parts, `out` the high ones and `stacked` as in bfloat16_split.
int norm_act(const void *x, int bfloat16, int64_t batch, int64_t pixels, int64_t channels,
             int64_t groups, double eps, const float *weight, const float *bias,
             const float *scale, const float *shift, int64_t scale_stride, int activation,
             void *out, uint16_t *stacked, int threads);

// x [pixels, channels] in two bfloat16 parts: high [pixels, channels], and stacked [pixels, 3 * channels]:
// high, low, high.
int bfloat16_split(const float *x, int64_t pixels, int64_t channels, uint16_t *high,
                   uint16_t *stacked, int threads);

// (residual + first + rest + bias) * scale, float32; `residual` may be null.
int bfloat16_merge(const uint16_t *first, const uint16_t *rest, const float *bias,
                   const float *residual, float scale, int64_t pixels, int64_t channels,
                   float *out, int threads);

// Which attention was compiled, an AttentionKind: for AMX the system must give permission.
int attention_kind(int bfloat16);

// softmax(q k / sqrt(width)) v of every head over the keys whose mask is not 0. query and out [batch,
// queries, heads * width]; keys_values [batch, keys, 2 * heads * width], keys first; mask [batch, keys].
int attention_forward(const void *query, const void *keys_values, const uint8_t *mask,
                      int bfloat16, int64_t batch, int64_t queries, int64_t keys, int64_t heads,
                      int64_t width, void *out, int threads);

// The gradients of query and keys_values from that of attention_forward's output, float32.
int attention_backward(const float *query, const float *keys_values, const uint8_t *mask,
                       const float *grad, int64_t batch, int64_t queries, int64_t keys,
                       int64_t heads, int64_t width, float *grad_query, float *grad_keys_values,
                       int threads);

// Columns of a panel of transformed weights.
int64_t winograd_panel_width();

// G g G^T of weights g [outputs, inputs, 3, 3] with any strides: [36, panels, inputs, panel width].
int winograd_transform_weights(const float *weight, int64_t outputs, int64_t inputs,
                               int64_t output_stride, int64_t input_stride, int64_t row_stride,
                               int64_t column_stride, float *out, int threads);

// (residual + conv(x) + bias) * scale: a 3x3 convolution of x [batch, height, width, inputs] with zeros
// around it, by transformed weights; `residual` may be null.
int winograd_conv2d(const void *x, const float *weight, const float *bias, const void *residual,
                    int bfloat16, float scale, int64_t batch, int64_t height, int64_t width,
                    int64_t inputs, int64_t outputs, void *out, int threads);

// The gradient of that convolution's weights, [outputs, 3, 3, inputs], from that of its output.
int winograd_conv2d_weight_grad(const void *x, const void *grad, int bfloat16, int64_t batch,
                                int64_t height, int64_t width, int64_t inputs, int64_t outputs,
                                float *out, int threads);

}  // extern "C"
