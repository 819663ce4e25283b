// In libllama: clearing the KV cache gives its pages back instead of writing zeros to them.
//
// llama-kv-cache.cpp is compiled with ggml_backend_buffer_clear and ggml_backend_buffer_is_host renamed to functions
// of this file (CMakeLists.txt). Upstream's clear touches every page of the cache at start, so that memory and time
// are spent as -c was chosen instead of as the conversation grows.
#include "ggml-backend.h"

#include <cstdint>
#include <cstring>

extern "C" void engine_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value);
extern "C" bool engine_buffer_is_host(ggml_backend_buffer_t buffer);

#if defined(__linux__)
#    include <sys/mman.h>
#    include <unistd.h>

#    include <atomic>
#    include <condition_variable>
#    include <mutex>
#    include <system_error>
#    include <thread>
#    include <vector>

#    ifndef MADV_COLLAPSE
#        define MADV_COLLAPSE 25 // Linux 6.1; older kernels refuse it
#    endif

namespace {

// Pages that come one by one lie scattered in memory, and attention over a long conversation then spends several
// percent of its time on address translation. So a block that is half in use becomes one huge page, on a thread of
// its own: asked for when the cache is made, huge pages would be searched for before the first token.
class huge_pages {
public:
    void watch(uintptr_t first, uintptr_t last) {
        const std::lock_guard<std::mutex> lock(mutex);
        for (uintptr_t block = (first + BLOCK - 1) & ~(BLOCK - 1); block + BLOCK <= last; block += BLOCK) {
            blocks.push_back(block);
        }
        if (!blocks.empty() && !running) {
            try {
                std::thread(&huge_pages::run, this).detach();
                running = true;
            } catch (const std::system_error &) {
                blocks.clear(); // the cache works without
            }
        }
    }

    // Called several times a batch. The first batch, often all that there is, is left alone.
    void grown() {
        if (calls.fetch_add(1, std::memory_order_relaxed) % EVERY == FIRST) {
            wake.notify_one();
        }
    }

private:
    static constexpr uintptr_t BLOCK = 2u << 20; // what x86-64 and arm64 translate in one entry, with pages of 4 KiB
    static constexpr uintptr_t PAGE  = 4096;
    static constexpr unsigned  FIRST = 8; // calls: the second or third batch
    static constexpr unsigned  EVERY = 256;

    std::mutex              mutex;
    std::condition_variable wake;
    std::vector<uintptr_t>  blocks; // not huge yet
    std::atomic<unsigned>   calls{0};
    bool                    running = false;

    void run() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            wake.wait(lock);
            std::vector<uintptr_t> waiting;
            waiting.swap(blocks);
            lock.unlock();
            std::vector<uintptr_t> rest;
            for (const uintptr_t block : waiting) {
                if (!collapse(block)) {
                    rest.push_back(block);
                }
            }
            lock.lock();
            blocks.insert(blocks.end(), rest.begin(), rest.end());
        }
    }

    // Whether there is nothing more to do. A buffer may have been freed meanwhile: no contents depend on any of this.
    static bool collapse(uintptr_t block) {
        unsigned char present[BLOCK / PAGE];
        auto *        address = reinterpret_cast<void *>(block);
        if (mincore(address, BLOCK, present) != 0) {
            return true;
        }
        size_t count = 0;
        for (const unsigned char page : present) {
            count += page & 1;
        }
        if (count < BLOCK / PAGE / 2) {
            return false;
        }
        madvise(address, BLOCK, MADV_COLLAPSE); // refused: by an older kernel, or without memory; not asked again
        return true;
    }
};

// Never destroyed: its thread lives as long as the process.
huge_pages & cache_pages() {
    static auto * pages = new huge_pages;
    return *pages;
}

} // namespace

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
    if (page == 4096) {
        cache_pages().watch(first, last);
    }
    return true;
}

static void grown() { cache_pages().grown(); }
#else
static bool give_back(ggml_backend_buffer_t) {
    return false;
}

static void grown() {}
#endif

extern "C" void engine_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    if (value != 0 || !give_back(buffer)) {
        ggml_backend_buffer_clear(buffer, value);
    }
}

// Upstream asks this for the inputs of every batch: the moment at which the cache grows.
extern "C" bool engine_buffer_is_host(ggml_backend_buffer_t buffer) {
    grown();
    return ggml_backend_buffer_is_host(buffer);
}
