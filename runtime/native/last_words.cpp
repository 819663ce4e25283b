// libengine: what is said when the engine gives up.
//
// ggml and the C++ runtime print their last words, and a debugger's view of the process, to standard error. Here they
// are kept instead, for whoever handles SIGABRT. Nothing is allocated: memory may be what has run out.
#include "engine.h"

#include "ggml.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

namespace {

char last_words[1024];

void keep(const char * text) {
    snprintf(last_words, sizeof(last_words), "%s", text);
}

[[noreturn]] void give_up() {
    try {
        if (const auto failure = std::current_exception()) {
            std::rethrow_exception(failure);
        }
    } catch (const std::bad_alloc &) {
        keep("memory ran out");
    } catch (const std::exception & failure) {
        keep(failure.what());
    } catch (...) {
        keep("an exception that nobody knows");
    }
    abort();
}

const bool installed = [] {
    ggml_set_abort_callback(keep);
    std::set_terminate(give_up);
    return true;
}();

} // namespace

extern "C" int engine_last_words(char * text, size_t size) {
    return snprintf(text, size, "%s", last_words);
}
