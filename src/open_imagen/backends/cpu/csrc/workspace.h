// Scratch memory, kept from call to call, and allocation failures as a status.

#pragma once

#include <cstdlib>
#include <exception>
#include <memory>
#include <new>

#include "kernels.h"
#include "simd.h"

namespace {

constexpr int64_t CACHE_LINE = 64, LINE_FLOATS = CACHE_LINE / sizeof(float);

#ifdef __SANITIZE_ADDRESS__
constexpr bool KEEPS_MEMORY = false;  // a larger buffer of an earlier call would hide overflows
#else
constexpr bool KEEPS_MEMORY = true;
#endif

// float32 scratch memory of one thread: to allocate anew at every call costs more than to fill it.
class Workspace {
  public:
    float *reserve(int64_t number) {
        if (number > size || !KEEPS_MEMORY) {
            size = 0;
            void *address = nullptr;
            memory.reset();
            if (posix_memalign(&address, CACHE_LINE, number * sizeof(float))) throw std::bad_alloc();
            memory.reset(static_cast<float *>(address));
            size = number;
        }
        return memory.get();
    }

  private:
    struct Free {
        void operator()(float *address) const { std::free(address); }
    };
    std::unique_ptr<float, Free> memory;
    int64_t size = 0;
};

// Where arrays begin in one block of scratch memory, each on a cache line of its own.
struct Layout {
    int64_t size = 0;

    int64_t add(int64_t number) {
        const int64_t begin = size;
        size += ceil_div(number, LINE_FLOATS) * LINE_FLOATS;
        return begin;
    }
};

// Nothing may throw inside a parallel region, nor across the C interface: memory is reserved before the
// region, and a failure becomes a status here.
template <typename Work> inline int guarded(const Work &work) {
    try {
        work();
        return DONE;
    } catch (const std::exception &) {  // bad_alloc, or a length that no vector can have
        return OUT_OF_MEMORY;
    }
}

}  // namespace
