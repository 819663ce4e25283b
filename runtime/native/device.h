// A device in the C ABI's JSON; for engine.cpp and placement.cpp, which are in different libraries.
#pragma once

#include "ggml-backend.h"

#include <nlohmann/json.hpp>

inline const char * device_type(ggml_backend_dev_t device) {
    switch (ggml_backend_dev_type(device)) {
        case GGML_BACKEND_DEVICE_TYPE_CPU:  return "cpu";
        case GGML_BACKEND_DEVICE_TYPE_GPU:  return "gpu";
        case GGML_BACKEND_DEVICE_TYPE_IGPU: return "igpu";
        default:                            return "accel";
    }
}

// Name, description, type and backend; callers add what they know of it.
inline nlohmann::ordered_json device_facts(ggml_backend_dev_t device) {
    return {{"name", ggml_backend_dev_name(device)},
            {"description", ggml_backend_dev_description(device)},
            {"type", device_type(device)},
            {"backend", ggml_backend_reg_name(ggml_backend_dev_backend_reg(device))}};
}
