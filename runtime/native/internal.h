// What our sources inside upstream's libraries offer to engine.cpp. Each is compiled into the library named beside it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ggml-backend.h"

struct common_params;
struct llama_model;

#if defined(_WIN32)
#    define ENGINE_INTERNAL __declspec(dllexport)
#else
#    define ENGINE_INTERNAL __attribute__((visibility("default")))
#endif

// backends.cpp in ggml: the processor's backends, from `dir` alone, once per process; then a GPU's by its name
// ("vulkan"): the number of its devices, or -1 and the reason ("missing", "unsupported", or what the linker says); and
// what its driver knows about all devices, as lines (vulkan.cpp).
extern "C" ENGINE_INTERNAL void engine_backends_load(const char * dir);
ENGINE_INTERNAL int             engine_backend_load(const std::string & name, std::string & reason);
ENGINE_INTERNAL std::string     engine_backend_survey(const std::string & name);

// trial.cpp in engine: compute a little on a device; why it is of no use, "" if it is
std::string engine_try_device(ggml_backend_dev_t device);

// models.cpp in llama-common
ENGINE_INTERNAL void engine_models_add(const std::string & name, const std::string & file, int64_t offset);
ENGINE_INTERNAL void engine_models_cancel(bool on); // while on, loading a registered model ends with an error

// placement.cpp in llama-common: where the weights of the model lie that was loaded first since the last forget; JSON
ENGINE_INTERNAL void        engine_placement_forget();
ENGINE_INTERNAL void        engine_placement_note(const llama_model * model);
ENGINE_INTERNAL std::string engine_placement();

// grammar.cpp in llama: -1 if the grammar is fine, else the byte where it isn't (-2: no place) and the reason
ENGINE_INTERNAL int64_t engine_grammar_check(const char * gbnf, std::string & reason);

// logs.cpp in llama-common
ENGINE_INTERNAL void        engine_logs_catch();                                 // llama's and ggml's own log, too
ENGINE_INTERNAL void        engine_logs_forget();                                // errors of an earlier run
ENGINE_INTERNAL void        engine_logs_threshold();                             // call after arguments were parsed
ENGINE_INTERNAL void        engine_logs_verbose(bool on);
ENGINE_INTERNAL void        engine_logs_observe(void (*line)(const char * text)); // called with every line
ENGINE_INTERNAL void        engine_logs_error(const std::string & text);
ENGINE_INTERNAL std::string engine_logs_errors();

// arguments.cpp in llama-common
ENGINE_INTERNAL bool        engine_arguments_parse(int argc, char ** argv, common_params & params, std::string & error);
ENGINE_INTERNAL std::string engine_arguments_table();

// http.cpp in llama-server-impl: whom the next server answers. `origins` as in --cors-origins; hosts are names or
// addresses, "*" for all; `max_body` in bytes, 0 for upstream's own limit; `model` is the page's title.
ENGINE_INTERNAL void engine_http_rules(const std::vector<std::string> & hosts, const std::string & origins,
                                       size_t max_body, const std::string & model);

// chat.cpp in server-context: JSON objects of sampling fields for requests that think, and that do not.
ENGINE_INTERNAL void engine_chat_presets(const std::string & thinking, const std::string & direct);
