// In libllama-common, in place of upstream's arg.cpp, which it includes unchanged: the option table and its parser,
// without what only suits a program of its own.
//
// - A wrong argument becomes a text; upstream prints it, and for some ends the process.
// - Options that print something and end the process are not in the table.
// - Only arguments count. Upstream also reads LLAMA_ARG_* and llama.cpp's configuration files, which could move or
//   lock the private channel between launcher and engine; the launcher decides which variables it passes on.
#define load_from_ini engine_load_from_no_ini
#include "preset.h"

#include "arg.cpp"

#include "internal.h"

#include <nlohmann/json.hpp>

common_presets common_preset_context::engine_load_from_no_ini(const std::filesystem::path &, common_preset &) const {
    return {};
}

static const std::set<std::string> ENDING = {"--help",           "--version",         "--cache-list",
                                             "--completion-bash", "--list-devices"};

static std::vector<common_arg> usable_options(common_params & params) {
    std::vector<common_arg> usable;
    for (auto & option : common_params_parser_init(params, LLAMA_EXAMPLE_SERVER, nullptr).options) {
        const bool ends = std::any_of(option.args.begin(), option.args.end(),
                                      [](const char * name) { return ENDING.count(name) != 0; });
        if (!ends && !option.is_preset_only) {
            usable.push_back(option);
        }
    }
    return usable;
}

bool engine_arguments_parse(int argc, char ** argv, common_params & params, std::string & error) {
    auto context    = common_params_parser_init(params, LLAMA_EXAMPLE_SERVER, nullptr);
    context.options = usable_options(params);
    for (auto & option : context.options) {
        option.env = nullptr;
    }
    try {
        if (common_params_parse_ex(argc, argv, context)) {
            params.lr.init();
            return true;
        }
        error = "invalid arguments";
    } catch (const std::exception & failure) {
        error = failure.what();
        for (const char * name : {"stoi", "stol", "stoul", "stoll", "stoull", "stof", "stod"}) {
            // all that the standard library says about a bad number
            string_replace_all(error, std::string(": ") + name + "\n", ": expected a number in its range\n");
        }
    }
    return false;
}

std::string engine_arguments_table() {
    common_params params;
    auto          table = nlohmann::ordered_json::array();
    for (const auto & option : usable_options(params)) {
        nlohmann::ordered_json names = nlohmann::ordered_json::array();
        for (const auto & name : option.get_args()) {
            names.push_back(name);
        }
        table.push_back({{"names", names},
                         {"values", (option.value_hint != nullptr) + (option.value_hint_2 != nullptr)},
                         {"value_hint", option.value_hint != nullptr ? option.value_hint : ""},
                         {"env", option.env != nullptr ? option.env : ""},
                         {"help", option.help}});
    }
    return table.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}
