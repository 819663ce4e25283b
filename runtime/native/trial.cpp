// In libengine: does a device compute, and correctly? For the short-lived process that tries a GPU's driver.
#include "internal.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <vector>

namespace {

// One column, as when a token is generated: for more a driver has larger programs to compile.
constexpr int INNER = 64, ROWS = 32, COLUMNS = 1;

// Small whole numbers, so that every order of adding and every precision gives the same.
float left(int row, int i) {
    return static_cast<float>((row * 3 + i) % 5 - 2);
}

float right(int column, int i) {
    return static_cast<float>((column + i * 7) % 3 - 1);
}

} // namespace

std::string engine_try_device(ggml_backend_dev_t device) {
    ggml_backend_ptr backend{ggml_backend_dev_init(device, nullptr)};
    if (!backend) {
        return "it cannot be initialised";
    }
    ggml_context_ptr context{ggml_init({ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true})};
    ggml_tensor *    a     = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, INNER, ROWS);
    ggml_tensor *    b     = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, INNER, COLUMNS);
    ggml_tensor *    c     = ggml_mul_mat(context.get(), a, b);
    ggml_cgraph *    graph = ggml_new_graph(context.get());
    ggml_build_forward_expand(graph, c);
    ggml_backend_buffer_ptr buffer{ggml_backend_alloc_ctx_tensors(context.get(), backend.get())};
    if (!buffer) {
        return "it has no memory";
    }
    std::vector<float> rows, columns, product(ROWS * COLUMNS);
    for (int i = 0; i < ROWS * INNER; ++i) {
        rows.push_back(left(i / INNER, i % INNER));
    }
    for (int i = 0; i < COLUMNS * INNER; ++i) {
        columns.push_back(right(i / INNER, i % INNER));
    }
    ggml_backend_tensor_set(a, rows.data(), 0, ggml_nbytes(a));
    ggml_backend_tensor_set(b, columns.data(), 0, ggml_nbytes(b));
    if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) {
        return "it fails to compute";
    }
    ggml_backend_tensor_get(c, product.data(), 0, ggml_nbytes(c));
    for (int column = 0; column < COLUMNS; ++column) {
        for (int row = 0; row < ROWS; ++row) {
            float sum = 0;
            for (int i = 0; i < INNER; ++i) {
                sum += left(row, i) * right(column, i);
            }
            if (product[column * ROWS + row] != sum) {
                return "it computes wrongly";
            }
        }
    }
    return "";
}
