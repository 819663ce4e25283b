// libengine: llama.cpp's server in this process, behind the C ABI of engine.h.
#include "engine.h"

#include "device.h"
#include "internal.h"

#include "common.h"
#include "ggml-backend.h"
#include "llama.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <clocale>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// upstream's tools/server/server.cpp and server-stream.h; without argv it installs no signal handlers
int  llama_server(common_params & params, int argc, char ** argv);
void llama_server_terminate();
void server_stream_session_manager_start();
void server_stream_session_manager_stop();
const char * llama_commit(void);

namespace {

// IDLE -> STARTING -> READY -> ENDING -> IDLE, STARTING -> IDLE when the start fails.
// llama_server_terminate may be called while READY only: before, it is lost; after, it refers to what is gone.
enum class state { IDLE, STARTING, READY, ENDING };

std::mutex              state_mutex;
std::condition_variable state_changed;
state                   current     = state::IDLE;
bool                    stop_wanted = false;
std::atomic<int>        port{0};

std::vector<std::string> allowed_hosts; // engine_configure
size_t                   max_body = 0;
std::string              page_name;

void enter(state next) {
    std::lock_guard<std::mutex> lock(state_mutex);
    current = next;
    state_changed.notify_all();
}

// Called on the server's thread while it logs, hence before its next step.
void follow(const char * text) {
    if (strstr(text, "llama_server: listening on ") != nullptr) {
        port = atoi(strrchr(text, ':') + 1); // "unix://..." is no number
        std::lock_guard<std::mutex> lock(state_mutex);
        if (current == state::STARTING) {
            current = state::READY;
            state_changed.notify_all();
        }
    } else if (strstr(text, "operator(): cleaning up before exit") != nullptr) {
        enter(state::ENDING);
    }
}

// Runs beside the server. A terminate between "listening" and the first turn of the server's loop is lost, so it is
// repeated until the loop has ended; holding the mutex keeps the server's objects alive meanwhile.
void stopper() {
    std::unique_lock<std::mutex> lock(state_mutex);
    while (true) {
        state_changed.wait(lock, [] {
            return current == state::IDLE || current == state::ENDING || (stop_wanted && current == state::READY);
        });
        if (current != state::READY) {
            return;
        }
        llama_server_terminate();
        state_changed.wait_for(lock, std::chrono::milliseconds(20), [] { return current != state::READY; });
    }
}

int serve(int argc, char ** argv) {
    common_params params;
    std::string   error;
    if (!engine_arguments_parse(argc, argv, params, error)) {
        engine_logs_error(error);
        return 2;
    }
    if (params.model.path.empty()) {
        engine_logs_error("no model was given (-m)");
        return 2;
    }
    engine_logs_threshold();
    std::vector<std::string> hosts = allowed_hosts;
    for (const std::string & host : params.hostnames) {
        if (host != "0.0.0.0" && host != "::") { // no address of anybody's
            hosts.push_back(host);
        }
    }
    engine_http_rules(hosts, params.cors_origins, max_body, page_name);
    llama_backend_init();
    llama_numa_init(params.numa);
    engine_placement_forget();
    server_stream_session_manager_start();
    const int result = llama_server(params, 0, nullptr);
    server_stream_session_manager_stop(); // a start that failed early leaves it running
    return result;
}

int copy_out(const std::string & text, char * to, size_t size) {
    if (size > 0) {
        const size_t length = std::min(text.size(), size - 1);
        memcpy(to, text.data(), length);
        to[length] = '\0';
    }
    return static_cast<int>(text.size());
}

} // namespace

extern "C" const char * engine_version(void) {
    static const std::string version = std::string(llama_version()) + " (" + llama_commit() + ")";
    return version.c_str();
}

extern "C" int engine_load_backends(const char * dir) {
    engine_logs_catch();
    engine_backends_load(dir);
    return static_cast<int>(ggml_backend_dev_count());
}

extern "C" int engine_add_model(const char * name, const char * file, int64_t offset) {
    if (name == nullptr || *name == '\0' || file == nullptr || offset < 0) {
        return 1;
    }
    engine_models_add(name, file, offset);
    return 0;
}

extern "C" int engine_devices(char * json, size_t size) {
    auto list = nlohmann::ordered_json::array();
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        size_t             free = 0, total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        auto facts            = device_facts(device);
        facts["memory_total"] = total;
        facts["memory_free"]  = free;
        list.push_back(std::move(facts));
    }
    return copy_out(list.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace), json, size);
}

extern "C" int engine_load_backend(const char * name, char * reason, size_t size) {
    std::string text;
    const int   count = engine_backend_load(name, text);
    copy_out(text, reason, size);
    return count;
}

extern "C" int engine_survey(const char * backend, char * text, size_t size) {
    return copy_out(engine_backend_survey(backend), text, size);
}

extern "C" int engine_try(const char * device, char * reason, size_t size) {
    ggml_backend_dev_t found = ggml_backend_dev_by_name(device);
    const std::string  text  = found == nullptr ? "there is no such device" : engine_try_device(found);
    copy_out(text, reason, size);
    return text.empty() ? 0 : 1;
}

extern "C" int engine_layers(char * json, size_t size) {
    return copy_out(engine_placement(), json, size);
}

extern "C" int engine_flags(char * json, size_t size) {
    return copy_out(engine_arguments_table(), json, size);
}

extern "C" int engine_check_args(int argc, char ** argv, char * text, size_t size) {
    common_params params;
    std::string   error;
    const bool    ok = engine_arguments_parse(argc, argv, params, error);
    copy_out(error, text, size);
    return ok ? 0 : 1;
}

extern "C" int engine_configure(const char * json) {
    try {
        const auto settings = nlohmann::ordered_json::parse(json);
        const auto sampling = settings.value("sampling", nlohmann::ordered_json::object());
        const auto nothing  = nlohmann::ordered_json::object();
        allowed_hosts       = settings.value("allowed_hosts", std::vector<std::string>());
        max_body            = settings.value("max_body", static_cast<size_t>(0));
        page_name           = settings.value("model", std::string());
        engine_chat_presets(sampling.value("thinking", nothing).dump(), sampling.value("non_thinking", nothing).dump());
        return 0;
    } catch (const std::exception &) {
        return 1;
    }
}

extern "C" int engine_serve(int argc, char ** argv) {
    {
        std::lock_guard<std::mutex> lock(state_mutex);
        if (current != state::IDLE) {
            return 1;
        }
        current     = state::STARTING;
        stop_wanted = false;
        port        = 0;
        engine_models_cancel(false);
    }
    std::setlocale(LC_NUMERIC, "C"); // upstream's parsers and printers expect points
    engine_logs_catch();
    engine_logs_forget();
    engine_logs_observe(follow);
    std::thread beside(stopper);

    int result = 1;
    try {
        result = serve(argc, argv);
    } catch (const std::exception & failure) {
        engine_logs_error(failure.what());
    } catch (...) {
        engine_logs_error("the engine failed for a reason it did not name");
    }
    engine_logs_observe(nullptr);
    enter(state::IDLE);
    beside.join();
    std::lock_guard<std::mutex> lock(state_mutex);
    return stop_wanted ? 0 : result;
}

extern "C" int engine_port(void) {
    return port;
}

extern "C" void engine_stop(void) {
    std::lock_guard<std::mutex> lock(state_mutex);
    stop_wanted = true;
    if (current == state::STARTING) {
        engine_models_cancel(true); // loading may take long
    }
    state_changed.notify_all();
}

extern "C" int engine_last_error(char * text, size_t size) {
    return copy_out(engine_logs_errors(), text, size);
}

extern "C" void engine_verbose(int on) {
    engine_logs_verbose(on != 0);
}
