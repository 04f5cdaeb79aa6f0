// First versions of functions whose arguments never changed: the same under their old names.
//
// The others of that age took 32-bit sizes and addresses; no 64-bit program can use them, and they stay unsupported.
#include "device/cuda_types.h"

extern "C" CUresult CUDAAPI cuCtxCreate(CUcontext* pctx, unsigned flags, CUdevice dev) {
    return cuCtxCreate_v2(pctx, flags, dev);
}

extern "C" CUresult CUDAAPI cuCtxDestroy(CUcontext ctx) {
    return cuCtxDestroy_v2(ctx);
}

extern "C" CUresult CUDAAPI cuCtxPushCurrent(CUcontext ctx) {
    return cuCtxPushCurrent_v2(ctx);
}

extern "C" CUresult CUDAAPI cuCtxPopCurrent(CUcontext* pctx) {
    return cuCtxPopCurrent_v2(pctx);
}

extern "C" CUresult CUDAAPI cuStreamDestroy(CUstream hStream) {
    return cuStreamDestroy_v2(hStream);
}

extern "C" CUresult CUDAAPI cuEventDestroy(CUevent hEvent) {
    return cuEventDestroy_v2(hEvent);
}

extern "C" CUresult CUDAAPI cuMemHostRegister(void* p, size_t bytesize, unsigned Flags) {
    return cuMemHostRegister_v2(p, bytesize, Flags);
}

extern "C" CUresult CUDAAPI cuIpcOpenMemHandle(CUdeviceptr* pdptr, CUipcMemHandle handle, unsigned Flags) {
    return cuIpcOpenMemHandle_v2(pdptr, handle, Flags);
}
