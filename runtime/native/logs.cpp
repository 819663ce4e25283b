// In libllama-common: the engine's log goes nowhere unless asked for, and its error lines are kept.
//
// log.cpp is compiled with common_log_add renamed to upstream_common_log_add, and common_log_default_callback likewise
// (CMakeLists.txt); every other source of the engine logs through the functions defined here.
#include "internal.h"

#include "llama.h"
#include "log.h"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <mutex>
#include <vector>

void upstream_common_log_add(struct common_log * log, enum ggml_log_level level, const char * fmt, ...);

namespace {

constexpr size_t KEPT_LINES = 32;

std::atomic<bool>                  verbose{false};
std::atomic<int>                   threshold{LOG_LEVEL_INFO};
std::atomic<void (*)(const char *)> observer{nullptr};
std::mutex                         errors_mutex;
std::deque<std::string>            errors;
bool                               error_continues = false; // the last line was an error without its end

void keep(enum ggml_log_level level, const std::string & text) {
    std::lock_guard<std::mutex> lock(errors_mutex);
    if (level == GGML_LOG_LEVEL_CONT && error_continues && !errors.empty()) {
        errors.back() += text;
    } else if (level == GGML_LOG_LEVEL_ERROR) {
        errors.push_back(text);
        if (errors.size() > KEPT_LINES) {
            errors.erase(errors.begin() + 1); // the first one is the cause: it stays
        }
    } else {
        error_continues = false;
        return;
    }
    error_continues = text.empty() || text.back() != '\n';
}

int verbosity_of(enum ggml_log_level level) {
    switch (level) {
        case GGML_LOG_LEVEL_ERROR: return LOG_LEVEL_ERROR;
        case GGML_LOG_LEVEL_WARN:  return LOG_LEVEL_WARN;
        case GGML_LOG_LEVEL_DEBUG: return LOG_LEVEL_DEBUG;
        default:                   return LOG_LEVEL_INFO;
    }
}

} // namespace

// What upstream gives to ggml, llama and mtmd for their logs.
void common_log_default_callback(enum ggml_log_level level, const char * text, void * /*data*/) {
    if (common_log_get_verbosity(level) <= common_log_get_verbosity_thold()) {
        common_log_add(common_log_main(), level, "%s", text);
    }
}

void common_log_add(struct common_log * log, enum ggml_log_level level, const char * fmt, ...) {
    std::string text(512, '\0');
    for (int pass = 0; pass < 2; ++pass) {
        va_list args;
        va_start(args, fmt);
        const int length = vsnprintf(text.data(), text.size(), fmt, args);
        va_end(args);
        const bool fits = length >= 0 && static_cast<size_t>(length) < text.size();
        text.resize(length < 0 ? 0 : static_cast<size_t>(length) + (fits ? 0 : 1));
        if (fits) {
            break;
        }
    }
    if (!text.empty() && text.back() == '\0') {
        text.pop_back();
    }
    keep(level, text);
    if (auto * call = observer.load()) {
        call(text.c_str());
    }
    if (verbose && verbosity_of(level) <= threshold) {
        // upstream sends unlevelled lines to standard output, which belongs to the answer
        const auto as = level == GGML_LOG_LEVEL_NONE ? GGML_LOG_LEVEL_INFO : level;
        upstream_common_log_add(log, as, "%s", text.c_str());
    }
}

void engine_logs_catch() {
    common_log_set_prefix(common_log_main(), true);
    common_log_set_timestamps(common_log_main(), true);
    llama_log_set(common_log_default_callback, nullptr);
}

void engine_logs_forget() {
    std::lock_guard<std::mutex> lock(errors_mutex);
    errors.clear();
}

void engine_logs_threshold() {
    // engine.cpp follows the server's states by its information lines, so these are always made
    threshold = common_log_get_verbosity_thold();
    common_log_set_verbosity_thold(std::max<int>(threshold, LOG_LEVEL_INFO));
}

void engine_logs_verbose(bool on) {
    verbose = on;
}

void engine_logs_observe(void (*line)(const char * text)) {
    observer = line;
}

void engine_logs_error(const std::string & text) {
    LOG_ERR("%s\n", text.c_str());
}

std::string engine_logs_errors() {
    std::lock_guard<std::mutex> lock(errors_mutex);
    std::string                 all;
    for (std::string line : errors) {
        while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) {
            line.pop_back();
        }
        if (!line.empty()) {
            all += (all.empty() ? "" : "\n") + line;
        }
    }
    return all;
}
