// In libllama: where the parser of grammars stumbles. Upstream's own tells standard error, and nobody where.
#include "internal.h"

#include "llama-grammar.h"

#include <cctype>
#include <cstring>
#include <exception>

namespace {

constexpr int64_t FINE = -1, NOWHERE = -2;

const char * skip_space(const char * at) {
    while (*at != '\0' && (strchr(" \t\r\n", *at) != nullptr || *at == '#')) {
        at += *at == '#' ? strcspn(at, "\r\n") : 1;
    }
    return at;
}

bool is_word(char c) {
    return isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
}

// The first place where rule `name` is mentioned, outside of texts, sets and comments.
int64_t find_name(const char * gbnf, const std::string & name) {
    for (const char * at = gbnf; *at != '\0';) {
        if (*at == '#') {
            at += strcspn(at, "\r\n");
        } else if (*at == '"' || *at == '[') {
            const char end = *at == '"' ? '"' : ']';
            for (++at; *at != '\0' && *at != end; ++at) {
                at += *at == '\\' && at[1] != '\0';
            }
            at += *at != '\0';
        } else if (is_word(*at)) {
            const char * start = at;
            while (is_word(*at)) {
                ++at;
            }
            if (name.compare(0, std::string::npos, start, at - start) == 0) {
                return start - gbnf;
            }
        } else {
            ++at;
        }
    }
    return NOWHERE;
}

// Upstream's messages end in " at " and the rest of the grammar: take that off and turn it into a place.
int64_t split_place(const std::string & gbnf, std::string & reason, int64_t otherwise) {
    for (size_t at = reason.find(" at "); at != std::string::npos; at = reason.find(" at ", at + 1)) {
        const size_t rest = reason.size() - (at + 4);
        if (rest <= gbnf.size() && gbnf.compare(gbnf.size() - rest, rest, reason, at + 4, rest) == 0) {
            reason.resize(at);
            return static_cast<int64_t>(gbnf.size() - rest);
        }
    }
    return reason == "unexpected end of input" ? static_cast<int64_t>(gbnf.size()) : otherwise;
}

} // namespace

int64_t engine_grammar_check(const char * gbnf, std::string & reason) {
    llama_grammar_parser parser(nullptr);
    const char *         at = skip_space(gbnf);
    try {
        while (*at != '\0') {
            at = parser.parse_rule(at);
        }
    } catch (const std::exception & failure) {
        reason = failure.what();
        // tokens such as <|im_end|> need the model's vocabulary: left to the request
        return reason.rfind("no vocab", 0) == 0 ? FINE : split_place(gbnf, reason, at - gbnf);
    }
    for (const auto & symbol : parser.symbol_ids) {
        if (symbol.second >= parser.rules.size() || parser.rules[symbol.second].empty()) {
            reason = "there is no rule named " + symbol.first;
            return find_name(gbnf, symbol.first);
        }
    }
    if (parser.symbol_ids.count("root") == 0) {
        reason = parser.rules.empty() ? "it is empty" : "there is no rule named root";
        return NOWHERE;
    }
    llama_grammar * grammar = llama_grammar_init_impl(nullptr, gbnf, "root", false, nullptr, 0, nullptr, 0);
    if (grammar == nullptr) {
        reason = "a rule leads back to itself at its start (left recursion)";
        return NOWHERE;
    }
    llama_grammar_free_impl(grammar);
    return FINE;
}
