// Names and texts of results.
#include <algorithm>

#include "api/entry.h"
#include "exports/entry_points.h"

namespace softgpu {
namespace {

CUresult find_text(CUresult error, const char** answer, const char* ErrorText::* member) {
    if (!answer) return CUDA_ERROR_INVALID_VALUE;
    for (const auto& row : error_texts()) {
        if (row.result != static_cast<int>(error)) continue;
        *answer = row.*member;
        return CUDA_SUCCESS;
    }
    *answer = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace
}  // namespace softgpu

extern "C" CUresult CUDAAPI cuGetErrorName(CUresult error, const char** pStr) {
    return softgpu::find_text(error, pStr, &softgpu::ErrorText::name);
}

extern "C" CUresult CUDAAPI cuGetErrorString(CUresult error, const char** pStr) {
    return softgpu::find_text(error, pStr, &softgpu::ErrorText::text);
}
