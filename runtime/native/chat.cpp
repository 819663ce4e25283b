// In libserver-context: requests that name no sampling get the preset of their mode.
//
// Qwen3 wants other settings while it thinks than when it answers directly, and upstream knows one set of defaults.
// server-context.cpp is compiled with the functions that read a chat request renamed to the ones defined here
// (CMakeLists.txt); each calls upstream's first.
#include "internal.h"

#include "server-chat.h"
#include "server-common.h"

namespace {

json presets[2] = {json::object(), json::object()}; // [thinking]

// Text of a message: a string, or the text parts of a list.
std::string text_of(const json & message) {
    if (!message.is_object() || !message.contains("content")) {
        return "";
    }
    const json & content = message.at("content");
    if (content.is_string()) {
        return content.get<std::string>();
    }
    std::string text;
    if (content.is_array()) {
        for (const json & part : content) {
            text += part.is_object() ? json_value(part, "text", std::string()) : "";
        }
    }
    return text;
}

// Qwen3 model card: "/think and /no_think in user prompts or system messages"; the most recent one counts.
bool soft_switch(const json & messages, bool thinking) {
    for (const json & message : messages) {
        const std::string role = json_value(message, "role", std::string());
        if (role != "user" && role != "system") {
            continue;
        }
        const std::string text = text_of(message);
        const size_t      on = text.rfind("/think"), off = text.rfind("/no_think");
        if (on != std::string::npos || off != std::string::npos) {
            thinking = off == std::string::npos || (on != std::string::npos && on > off);
        }
    }
    return thinking;
}

bool is_thinking(const json & body, const server_chat_params & opt) {
    bool       enabled = opt.enable_thinking;
    const auto given   = opt.chat_template_kwargs.find("enable_thinking");
    if (given != opt.chat_template_kwargs.end()) {
        enabled = given->second != "false";
    }
    enabled = json_value(json_value(body, "chat_template_kwargs", json::object()), "enable_thinking", enabled);
    if (json_value(body, "reasoning_effort", std::string()) == "none") {
        enabled = false;
    }
    return enabled && soft_switch(json_value(body, "messages", json::array()), true);
}

} // namespace

void engine_chat_presets(const std::string & thinking, const std::string & direct) {
    presets[1] = json::parse(thinking);
    presets[0] = json::parse(direct);
}

json engine_chat_params_parse(json & body, const server_chat_params & opt, std::vector<raw_buffer> & out_files) {
    json         parsed = oaicompat_chat_params_parse(body, opt, out_files);
    const json & preset = presets[is_thinking(body, opt) ? 1 : 0];
    for (const auto & [name, value] : preset.items()) {
        if (!parsed.contains(name) || parsed.at(name).is_null()) {
            parsed[name] = value;
        }
    }
    return parsed;
}

// Upstream knows thinking of type "enabled" only.
json engine_chat_from_anthropic(const json & body) {
    json converted = server_chat_convert_anthropic_to_oai(body);
    if (json_value(json_value(body, "thinking", json::object()), "type", std::string()) == "disabled") {
        converted["chat_template_kwargs"]["enable_thinking"] = false;
    }
    return converted;
}
