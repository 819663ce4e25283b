// In libllama: clearing the KV cache gives its pages back instead of writing zeros to them.
//
// llama-kv-cache.cpp is compiled with ggml_backend_buffer_clear renamed to engine_buffer_clear (CMakeLists.txt).
// Upstream's clear touches every page of the cache at start, so that memory and time are spent as -c was chosen
// instead of as the conversation grows.
#include "ggml-backend.h"

#include <cstdint>
#include <cstring>

extern "C" void engine_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value);

#if defined(__linux__)
#    include <sys/mman.h>
#    include <unistd.h>

// Pages of private anonymous memory read as zeros after MADV_DONTNEED. ggml's plain CPU buffers are made of nothing
// else; host buffers of a GPU are pinned, so they stay with upstream's clear.
static bool give_back(ggml_backend_buffer_t buffer) {
    if (ggml_backend_buffer_get_type(buffer) != ggml_backend_cpu_buffer_type()) {
        return false;
    }
    const auto page  = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto start = reinterpret_cast<uintptr_t>(ggml_backend_buffer_get_base(buffer));
    const auto end   = start + ggml_backend_buffer_get_size(buffer);
    const auto first = (start + page - 1) & ~(page - 1);
    const auto last  = end & ~(page - 1);
    if (first >= last || madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED) != 0) {
        return false;
    }
    memset(reinterpret_cast<void *>(start), 0, first - start);
    memset(reinterpret_cast<void *>(last), 0, end - last);
    return true;
}
#else
static bool give_back(ggml_backend_buffer_t) {
    return false;
}
#endif

extern "C" void engine_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    if (value != 0 || !give_back(buffer)) {
        ggml_backend_buffer_clear(buffer, value);
    }
}
