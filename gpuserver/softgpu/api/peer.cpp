// Peer access between the devices: all share this process's memory, so every pair can.
#include "api/entry.h"
#include "device/context.h"

using namespace softgpu;

extern "C" CUresult CUDAAPI cuDeviceCanAccessPeer(int* canAccessPeer, CUdevice dev, CUdevice peerDev) {
    return entry(__func__, [&] {
        require_device(dev);
        require_device(peerDev);
        check_value(canAccessPeer, "canAccessPeer is NULL");
        *canAccessPeer = dev != peerDev;
    });
}

extern "C" CUresult CUDAAPI cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attrib, CUdevice srcDevice,
                                                    CUdevice dstDevice) {
    return entry(__func__, [&] {
        require_device(srcDevice);
        require_device(dstDevice);
        check_value(value, "value is NULL");
        if (srcDevice == dstDevice) return CUDA_ERROR_INVALID_DEVICE;
        switch (attrib) {
            case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK:
                *value = 0;
                return CUDA_SUCCESS;
            case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
            case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
            case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED:
                *value = 1;
                return CUDA_SUCCESS;
            default:
                return CUDA_ERROR_INVALID_VALUE;
        }
    });
}

extern "C" CUresult CUDAAPI cuCtxEnablePeerAccess(CUcontext peerContext, unsigned Flags) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        const auto peer = require<Context>(peerContext);
        check_value(Flags == 0, "flags are not 0");
        if (!peer->alive() || peer.get() == &context) return CUDA_ERROR_INVALID_CONTEXT;
        if (&peer->device() == &context.device()) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
        if (context.peers() >> peer->device().ordinal() & 1) return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
        context.set_peer(peer->device(), true);
        return CUDA_SUCCESS;
    });
}

extern "C" CUresult CUDAAPI cuCtxDisablePeerAccess(CUcontext peerContext) {
    return entry(__func__, [&] {
        Context& context = Context::require_current();
        const auto peer = require<Context>(peerContext);
        if (!peer->alive() || peer.get() == &context) return CUDA_ERROR_INVALID_CONTEXT;
        if (!(context.peers() >> peer->device().ordinal() & 1)) return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
        context.set_peer(peer->device(), false);
        return CUDA_SUCCESS;
    });
}
