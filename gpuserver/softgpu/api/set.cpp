// Sets of one and two dimensions.
#include "api/entry.h"
#include "device/copy.h"

using namespace softgpu;

namespace {

void set_row(CUdeviceptr base, uint32_t value, unsigned element, size_t count, CUstream handle, bool wait) {
    const auto stream = require_stream(handle);
    submit_set(stream, plan_set(base, 0, value, element, count, 1), wait);
}

void set_rows(CUdeviceptr base, size_t pitch, uint32_t value, unsigned element, size_t width, size_t height,
              CUstream handle, bool wait) {
    const auto stream = require_stream(handle);
    submit_set(stream, plan_set(base, pitch, value, element, width, height), wait);
}

constexpr auto waits = EntryNeeds::outside_callback;

}  // namespace

extern "C" CUresult CUDAAPI cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N) {
    return entry(__func__, waits, [&] { set_row(dstDevice, uc, 1, N, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream) {
    return entry(__func__, waits, [&] { set_row(dstDevice, uc, 1, N, hStream, false); });
}

extern "C" CUresult CUDAAPI cuMemsetD2D8_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width,
                                            size_t Height) {
    return entry(__func__, waits, [&] { set_rows(dstDevice, dstPitch, uc, 1, Width, Height, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemsetD2D8Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width,
                                              size_t Height, CUstream hStream) {
    return entry(__func__, waits, [&] { set_rows(dstDevice, dstPitch, uc, 1, Width, Height, hStream, false); });
}

extern "C" CUresult CUDAAPI cuMemsetD16_v2(CUdeviceptr dstDevice, unsigned short us, size_t N) {
    return entry(__func__, waits, [&] { set_row(dstDevice, us, 2, N, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemsetD16Async(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream) {
    return entry(__func__, waits, [&] { set_row(dstDevice, us, 2, N, hStream, false); });
}

extern "C" CUresult CUDAAPI cuMemsetD2D16_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width,
                                             size_t Height) {
    return entry(__func__, waits, [&] { set_rows(dstDevice, dstPitch, us, 2, Width, Height, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemsetD2D16Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width,
                                               size_t Height, CUstream hStream) {
    return entry(__func__, waits, [&] { set_rows(dstDevice, dstPitch, us, 2, Width, Height, hStream, false); });
}

extern "C" CUresult CUDAAPI cuMemsetD32_v2(CUdeviceptr dstDevice, unsigned ui, size_t N) {
    return entry(__func__, waits, [&] { set_row(dstDevice, ui, 4, N, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemsetD32Async(CUdeviceptr dstDevice, unsigned ui, size_t N, CUstream hStream) {
    return entry(__func__, waits, [&] { set_row(dstDevice, ui, 4, N, hStream, false); });
}

extern "C" CUresult CUDAAPI cuMemsetD2D32_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned ui, size_t Width,
                                             size_t Height) {
    return entry(__func__, waits, [&] { set_rows(dstDevice, dstPitch, ui, 4, Width, Height, nullptr, true); });
}

extern "C" CUresult CUDAAPI cuMemsetD2D32Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned ui, size_t Width,
                                               size_t Height, CUstream hStream) {
    return entry(__func__, waits, [&] { set_rows(dstDevice, dstPitch, ui, 4, Width, Height, hStream, false); });
}
