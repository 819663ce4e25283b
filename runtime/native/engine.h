// The engine's C ABI: everything runtime/engine.py calls. One engine per process.
//
// Texts are UTF-8. A function that fills a buffer returns the length of the whole text without its end mark, cuts the
// copy to the buffer and always ends it with 0; call it with size 0 to learn the length.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#    define ENGINE_API __declspec(dllexport)
#else
#    define ENGINE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

// llama.cpp's version and commit, "0.5.0 (0c1e570)".
ENGINE_API const char * engine_version(void);

// Load the processor's backend of folder `dir` that fits this machine best, and from no other place. Once per process;
// later calls change nothing. Returns the number of devices.
ENGINE_API int engine_load_backends(const char * dir);

// After that, load the backend of a kind of GPU ("vulkan", "cuda", "metal") from the same folder. Returns the number of
// its devices, or -1 and why: "missing", "unsupported" (by this machine), or what the system says about its library.
ENGINE_API int engine_load_backend(const char * name, char * reason, size_t size);

// What the driver itself says about a loaded backend's devices, used or not: lines of type, name, driver and version
// with tabs between; a first line "VkResult", number if it refuses. Empty where nothing is known.
ENGINE_API int engine_survey(const char * backend, char * text, size_t size);

// Compute a little on a device. 0, or 1 and what is wrong with it. A bad driver may end the process.
ENGINE_API int engine_try(const char * device, char * reason, size_t size);

// JSON: where the weights of the served model lie, by their buffers: {layers, split, devices: [{name, description, type,
// backend, layers, bytes}]}. `layers` counts the output as one, as -ngl does; `split` are those in several memories,
// which belong to no device's `layers`. {} before a model is loaded.
ENGINE_API int engine_layers(char * json, size_t size);

// After this, `-m name` (or a draft model `name`) is the GGUF at byte `offset` of `file`, mapped in place.
// 0, or 1 when the name is empty or the offset negative.
ENGINE_API int engine_add_model(const char * name, const char * file, int64_t offset);

// JSON array of {name, description, type: cpu|gpu|igpu|accel, backend, memory_total, memory_free}, bytes.
ENGINE_API int engine_devices(char * json, size_t size);

// JSON array of {names, values, value_hint, env, help}: the server's options, from upstream's own table.
ENGINE_API int engine_flags(char * json, size_t size);

// 0 when the server would accept these arguments (argv[0] is skipped), else 1 and the reason in `text`.
ENGINE_API int engine_check_args(int argc, char ** argv, char * text, size_t size);

// What the server's arguments cannot say, as a JSON object; for the next engine_serve and those after it. 0, or 1 when
// it is none. Keys: "allowed_hosts" (array: names that requests may use for this server beside its addresses), "model"
// (title of the page), "max_body" (bytes; larger requests get 413), "sampling" ({"thinking": {...}, "non_thinking":
// {...}}: fields for chat requests that do not name them).
ENGINE_API int engine_configure(const char * json);

// Read the vocabulary of model `name` (a registered name or a file) and nothing else of it, for the two functions below.
// 0, or 1 and the reason in engine_last_error.
ENGINE_API int engine_load_vocabulary(const char * name);

// The number of tokens of `text` as the server would read a prompt, -1 without a vocabulary; copies the first `size`.
ENGINE_API int engine_tokenize(const char * text, size_t length, int32_t * tokens, size_t size);

// The bytes of a token, which need not be whole characters, without an end mark; returns their number, and copies them
// only if there is room.
ENGINE_API int engine_piece(int32_t token, char * text, size_t size);

// -1 when grammar `gbnf` is fine; else the byte where it isn't, or -2 where no place is to blame, and the reason.
ENGINE_API int64_t engine_check_grammar(const char * gbnf, char * reason, size_t size);

// Serve until engine_stop. Returns 0 after engine_stop, 2 for arguments that are wrong, 1 for any other failure;
// engine_last_error has the reason. Installs no signal handlers and never ends the process.
ENGINE_API int engine_serve(int argc, char ** argv);

// The port that the server listens on, for `--port 0`; 0 before it is ready.
ENGINE_API int engine_port(void);

// Ask engine_serve to return. Does not wait; may be called at any time, from any thread, any number of times.
// A request in flight is waited for: close its connection first.
ENGINE_API void engine_stop(void);

// The error lines logged since engine_serve was called, oldest first, at most 32.
ENGINE_API int engine_last_error(char * text, size_t size);

// Why the engine is about to end the process by abort(), for a handler of SIGABRT; "" when it isn't. Allocates nothing.
ENGINE_API int engine_last_words(char * text, size_t size);

// The engine's log goes to standard error (on != 0) or nowhere (the default).
ENGINE_API void engine_verbose(int on);

#ifdef __cplusplus
}
#endif
