// In libggml, in place of upstream's ggml-backend-reg.cpp, which it includes unchanged: backends are loaded from the
// engine's folder and from no other place, and those of GPUs only when they are asked for.
//
// Upstream's ggml_backend_load_all looks for libggml-*.so beside the executable and in the current directory, so a
// bundle started in a folder of downloads would run a planted library; and it loads every backend there is, which on
// a machine without a GPU costs the start of a Vulkan driver for nothing.
#define ggml_backend_load_all upstream_ggml_backend_load_all
#include "ggml-backend-reg.cpp"
#undef ggml_backend_load_all

#include "internal.h"

#include <cstdlib>
#include <mutex>

namespace {

std::once_flag loaded;
fs::path       engine_folder; // empty before the first engine_backends_load

// The folder that holds this library.
fs::path own_folder() {
#if defined(_WIN32)
    HMODULE module = nullptr;
    wchar_t path[32768];
    GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                       reinterpret_cast<LPCWSTR>(&own_folder), &module);
    return fs::path(std::wstring(path, GetModuleFileNameW(module, path, 32768))).parent_path();
#else
    Dl_info info;
    if (dladdr(reinterpret_cast<const void *>(&own_folder), &info) == 0 || info.dli_fname == nullptr) {
        return {};
    }
    return fs::path(info.dli_fname).parent_path();
#endif
}

fs::path library_of(const std::string & name) {
    return engine_folder / (backend_filename_prefix().string() + name + backend_filename_extension().string());
}

std::string load_error() {
#if defined(_WIN32)
    return "error " + std::to_string(GetLastError());
#else
    return dl_error();
#endif
}

} // namespace

extern "C" void engine_backends_load(const char * dir) {
    std::call_once(loaded, [dir]() {
        engine_folder = dir != nullptr ? fs::u8path(dir) : own_folder();
        if (engine_folder.empty()) {
            return; // an unknown folder must not become "search everywhere"
        }
        for (const char * name : {"blas", "cpu"}) {
            ggml_backend_load_best(name, true, path_str(engine_folder).c_str());
        }
    });
}

extern "C" void ggml_backend_load_all(void) {
    engine_backends_load(nullptr);
}

int engine_backend_load(const std::string & name, std::string & reason) {
    const fs::path  path = library_of(name);
    std::error_code ignored;
    if (engine_folder.empty() || !fs::exists(path, ignored)) {
        reason = "missing";
        return -1;
    }
    dl_handle_ptr handle{dl_load_library(path)}; // its registration below tells no reason
    if (!handle) {
        reason = load_error();
        return -1;
    }
    ggml_backend_reg_t reg = get_reg().load_backend(path, true);
    if (reg == nullptr) {
        reason = "unsupported";
        return -1;
    }
    return static_cast<int>(ggml_backend_reg_dev_count(reg));
}

std::string engine_backend_survey(const std::string & name) {
    dl_handle_ptr handle{dl_load_library(library_of(name))};
    auto *        symbol = handle ? dl_get_sym(handle.get(), "engine_gpu_survey") : nullptr;
    if (symbol == nullptr) {
        return "";
    }
    auto *      survey = reinterpret_cast<int (*)(char *, size_t)>(symbol);
    std::string text(16384, '\0');
    text.resize(std::min<size_t>(survey(text.data(), text.size()), text.size() - 1));
    return text;
}
