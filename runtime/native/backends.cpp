// In libggml: backends are loaded from the engine's folder and from no other place.
//
// Upstream's ggml_backend_load_all looks for libggml-*.so beside the executable and in the current directory, so a
// bundle started in a folder of downloads would run a planted library. Its definition is compiled under another name
// (CMakeLists.txt) and this one takes its place for every caller in the process, llama-cpp-python included.
#include "internal.h"

#include "ggml-backend.h"

#include <cstdlib>
#include <mutex>
#include <string>

#if defined(_WIN32)
#    include <windows.h>
#else
#    include <dlfcn.h>
#endif

// The folder that holds this library.
static std::string own_folder() {
#if defined(_WIN32)
    HMODULE module = nullptr;
    wchar_t path[32768];
    GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                       reinterpret_cast<LPCWSTR>(&own_folder), &module);
    const DWORD length = GetModuleFileNameW(module, path, 32768);
    std::string text(3 * static_cast<size_t>(length) + 1, '\0');
    text.resize(WideCharToMultiByte(CP_UTF8, 0, path, static_cast<int>(length), text.data(),
                                    static_cast<int>(text.size()), nullptr, nullptr));
    return text.substr(0, text.find_last_of('\\'));
#else
    Dl_info info;
    if (dladdr(reinterpret_cast<const void *>(&own_folder), &info) == 0 || info.dli_fname == nullptr) {
        return "";
    }
    const std::string path = info.dli_fname;
    const size_t      end  = path.find_last_of('/');
    return end == std::string::npos ? "" : path.substr(0, end);
#endif
}

extern "C" void engine_backends_load(const char * dir) {
    static std::once_flag once;
    std::call_once(once, [dir]() {
        const std::string folder = dir != nullptr ? dir : own_folder();
        if (folder.empty()) {
            return; // an unknown folder must not become "search everywhere"
        }
        // ggml_backend_load_all_from_path ends with the library this variable names
#if defined(_WIN32)
        _putenv_s("GGML_BACKEND_PATH", "");
#else
        unsetenv("GGML_BACKEND_PATH");
#endif
        ggml_backend_load_all_from_path(folder.c_str());
    });
}

extern "C" void ggml_backend_load_all(void) {
    engine_backends_load(nullptr);
}
