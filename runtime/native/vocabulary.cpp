// libengine: a model's vocabulary without its weights, and mistakes in grammars; part of the C ABI of engine.h.
#include "engine.h"

#include "internal.h"

#include "llama.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

// models.cpp in llama-common: registered names, too
extern "C" llama_model * engine_model_load_from_file(const char * path, llama_model_params params);

static llama_model * vocabulary = nullptr; // kept for as long as the process lives

extern "C" int engine_load_vocabulary(const char * name) {
    engine_logs_catch();
    engine_logs_forget();
    try {
        llama_model_params params = llama_model_default_params();
        params.vocab_only         = true;
        llama_model * model       = engine_model_load_from_file(name, params);
        if (model != nullptr) {
            llama_model_free(vocabulary);
            vocabulary = model;
            return 0;
        }
    } catch (const std::exception & failure) {
        engine_logs_error(failure.what());
    }
    return 1;
}

extern "C" int engine_tokenize(const char * text, size_t length, int32_t * tokens, size_t size) {
    if (vocabulary == nullptr || length > INT32_MAX - 8) {
        return -1;
    }
    std::vector<llama_token> found(length + 8); // a token has at least one byte; special ones may be added
    const int count = llama_tokenize(llama_model_get_vocab(vocabulary), text, static_cast<int32_t>(length),
                                     found.data(), static_cast<int32_t>(found.size()), true, true);
    if (count > 0) {
        std::copy_n(found.begin(), std::min(size, static_cast<size_t>(count)), tokens);
    }
    return count;
}

extern "C" int engine_piece(int32_t token, char * text, size_t size) {
    if (vocabulary == nullptr) {
        return 0;
    }
    return std::abs(llama_token_to_piece(llama_model_get_vocab(vocabulary), token, text, static_cast<int32_t>(size), 0,
                                         true));
}

extern "C" int64_t engine_check_grammar(const char * gbnf, char * reason, size_t size) {
    engine_logs_catch();
    std::string   text;
    const int64_t place = engine_grammar_check(gbnf, text);
    snprintf(reason, size, "%s", text.c_str());
    return place;
}
