// In libllama-common: how many layers fit into the memory of the GPUs, and where the weights lie once they are loaded.
//
// common.cpp is compiled with common_fit_params renamed to engine_fit_params (CMakeLists.txt).
#include "device.h"
#include "internal.h"

#include "fit.h"
#include "ggml-backend.h"
#include "llama.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <map>
#include <mutex>
#include <set>

// upstream's src/llama-model.h
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace {

using json = nlohmann::ordered_json;

std::mutex  placement_mutex;
std::string placement;

// Who computes with what lies in this buffer: its device; the processor if it is the computer's own memory.
ggml_backend_dev_t device_of(const ggml_tensor * tensor) {
    ggml_backend_buffer_type_t type   = ggml_backend_buffer_get_type(tensor->buffer);
    ggml_backend_dev_t         device = ggml_backend_buft_is_host(type) ? nullptr : ggml_backend_buft_get_device(type);
    const bool accelerates = device != nullptr && ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_ACCEL;
    return accelerates ? device : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

// The layer of a tensor: N of "blk.N.", `count` for the output, -1 for the embedding, which is looked up only.
int layer_of(const std::string & name, int count) {
    int layer = -1;
    if (sscanf(name.c_str(), "blk.%d.", &layer) == 1) {
        return layer;
    }
    return name.compare(0, 6, "output") == 0 ? count : -1;
}

struct share {
    int    layers = 0;
    size_t bytes  = 0;
};

json describe(ggml_backend_dev_t device, const share & its) {
    json facts      = device_facts(device);
    facts["layers"] = its.layers;
    facts["bytes"]  = its.bytes;
    return facts;
}

} // namespace

// Upstream leaves a number of layers alone that the user has set, and the load then fails. As many as fit are better.
common_params_fit_status engine_fit_params(const char * path, llama_model_params * mparams,
                                           llama_context_params * cparams, float * tensor_split,
                                           llama_model_tensor_buft_override * overrides, size_t * margins,
                                           uint32_t n_ctx_min, const common_fit_extra_model * extra,
                                           ggml_log_level log_level) {
    const auto fit = [&] {
        return common_fit_params(path, mparams, cparams, tensor_split, overrides, margins, n_ctx_min, extra, log_level);
    };
    const int32_t any    = llama_model_default_params().n_gpu_layers;
    auto          status = fit();
    if (status == COMMON_PARAMS_FIT_STATUS_FAILURE && mparams->n_gpu_layers != any) {
        mparams->n_gpu_layers = any;
        status                = fit();
    }
    return status;
}

void engine_placement_forget() {
    std::lock_guard<std::mutex> lock(placement_mutex);
    placement.clear();
}

void engine_placement_note(const llama_model * model) {
    std::lock_guard<std::mutex> lock(placement_mutex);
    if (!placement.empty()) {
        return; // a draft model comes second
    }
    const int                                    count = llama_model_n_layer(model);
    std::map<int, std::set<ggml_backend_dev_t>>  homes; // of each layer's tensors
    std::map<ggml_backend_dev_t, share>          shares;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        if (tensor->buffer == nullptr) {
            continue;
        }
        ggml_backend_dev_t device = device_of(tensor);
        int                layer  = layer_of(name, count);
        if (layer < 0 && ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU) {
            layer = count; // an embedding there is the output, too
        }
        if (layer >= 0) {
            homes[layer].insert(device);
        }
        shares[device].bytes += ggml_nbytes(tensor);
    }
    int split = 0;
    for (const auto & [layer, devices] : homes) {
        split += devices.size() > 1;
        if (devices.size() == 1) {
            ++shares[*devices.begin()].layers;
        }
    }
    json devices = json::array();
    for (const auto & [device, its] : shares) {
        devices.push_back(describe(device, its));
    }
    placement = json({{"layers", homes.size()}, {"split", split}, {"devices", devices}})
                    .dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string engine_placement() {
    std::lock_guard<std::mutex> lock(placement_mutex);
    return placement.empty() ? "{}" : placement;
}
