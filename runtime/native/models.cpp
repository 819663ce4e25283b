// In libllama-common: a registered name is a GGUF somewhere inside a larger file, mapped in place.
//
// llama-common is compiled with llama_model_load_from_file renamed to engine_model_load_from_file (CMakeLists.txt).
#include "internal.h"

#include "llama.h"
#include "log.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#if defined(_WIN32)
#    include <windows.h>
#endif

#undef llama_model_load_from_file // here both names are needed
extern "C" llama_model * llama_model_load_from_file(const char * path, llama_model_params params);
extern "C" ENGINE_INTERNAL llama_model * engine_model_load_from_file(const char * path, llama_model_params params);

namespace {

struct place {
    std::string file;
    int64_t     offset;
};

struct progress {
    llama_progress_callback next;
    void *                  next_data;
};

std::mutex                   models_mutex;
std::map<std::string, place> models;
std::atomic<bool>            cancelled{false};

bool find(const char * name, place & found) {
    std::lock_guard<std::mutex> lock(models_mutex);
    const auto                  at = models.find(name);
    if (at == models.end()) {
        return false;
    }
    found = at->second;
    return true;
}

FILE * open_at(const place & where) {
#if defined(_WIN32)
    // FILE* must come from the C runtime that llama.dll uses; fseek there is 32-bit
    std::wstring wide(where.file.size() + 1, L'\0');
    wide.resize(MultiByteToWideChar(CP_UTF8, 0, where.file.data(), static_cast<int>(where.file.size()), wide.data(),
                                    static_cast<int>(wide.size())));
    FILE *     file = _wfopen(wide.c_str(), L"rb");
    const bool ok   = file != nullptr && _fseeki64(file, where.offset, SEEK_SET) == 0;
#else
    FILE *     file = fopen(where.file.c_str(), "rbe"); // e: children do not inherit a handle on the weights
    const bool ok   = file != nullptr && fseeko(file, where.offset, SEEK_SET) == 0;
#endif
    if (!ok) {
        LOG_ERR("engine: cannot open %s: %s\n", where.file.c_str(), strerror(errno));
        if (file != nullptr) {
            fclose(file);
        }
        return nullptr;
    }
    return file;
}

bool report(float part, void * data) {
    const auto * callbacks = static_cast<const progress *>(data);
    return !cancelled && (callbacks->next == nullptr || callbacks->next(part, callbacks->next_data));
}

} // namespace

void engine_models_add(const std::string & name, const std::string & file, int64_t offset) {
    std::lock_guard<std::mutex> lock(models_mutex);
    models[name] = place{file, offset};
}

void engine_models_cancel(bool on) {
    cancelled = on;
}

extern "C" llama_model * engine_model_load_from_file(const char * path, llama_model_params params) {
    progress callbacks = {params.progress_callback, params.progress_callback_user_data};
    params.progress_callback           = report;
    params.progress_callback_user_data = &callbacks;

    llama_model * model = nullptr;
    place         where;
    if (!find(path, where)) {
        model = llama_model_load_from_file(path, params);
    } else if (FILE * file = open_at(where)) {
        model = llama_model_load_from_file_ptr(file, params);
        fclose(file); // the mapping stays
    }
    if (model != nullptr && !params.no_alloc && !params.vocab_only) {
        engine_placement_note(model);
    }
    return model;
}
