// Structs that carry handles get the real ones.
#include "session.h"

namespace gpuferry::worker {

bool localise(Request& in, CUlaunchAttribute& attribute) {
    switch (attribute.id) {
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT: {
            CUevent& event = attribute.value.programmaticEvent.event;
            event = in.inner(Kind::event, event);
            return in.good();
        }
        case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT: {
            CUevent& event = attribute.value.launchCompletionEvent.event;
            event = in.inner(Kind::event, event);
            return in.good();
        }
        case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
        case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
        case CU_LAUNCH_ATTRIBUTE_PRIORITY:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
        case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
        case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        case CU_LAUNCH_ATTRIBUTE_IGNORE:
            return true;
        default:
            in.fail(CUDA_ERROR_NOT_SUPPORTED);
            return false;
    }
}

bool localise(Request& in, CUDA_RESOURCE_DESC& description) {
    if (description.resType == CU_RESOURCE_TYPE_ARRAY) {
        description.res.array.hArray = in.inner(Kind::array, description.res.array.hArray);
    } else if (description.resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
        CUmipmappedArray& array = description.res.mipmap.hMipmappedArray;
        array = in.inner(Kind::mipmapped_array, array);
    }
    return in.good();
}

bool localise(Request& in, CUarrayMapInfo& mapping) {
    if (mapping.resourceType == CU_RESOURCE_TYPE_ARRAY) {
        mapping.resource.array = in.inner(Kind::array, mapping.resource.array);
    } else if (mapping.resourceType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
        mapping.resource.mipmap = in.inner(Kind::mipmapped_array, mapping.resource.mipmap);
    }
    if (mapping.memHandleType == CU_MEM_HANDLE_TYPE_GENERIC) {
        mapping.memHandle.memHandle = in.inner(Kind::allocation, mapping.memHandle.memHandle);
    }
    return in.good();
}

void globalise(Request& in, CUDA_RESOURCE_DESC& description) {
    if (description.resType == CU_RESOURCE_TYPE_ARRAY) {
        CUarray& array = description.res.array.hArray;
        array = (CUarray)in.session.objects.name_of(Kind::array, array, in.context());
    } else if (description.resType == CU_RESOURCE_TYPE_MIPMAPPED_ARRAY) {
        CUmipmappedArray& array = description.res.mipmap.hMipmappedArray;
        array = (CUmipmappedArray)in.session.objects.name_of(Kind::mipmapped_array, array, in.context());
    }
}

// Pointers of the client's mean nothing here.
bool localise(Request&, CUDA_MEM_ALLOC_NODE_PARAMS_v1& allocation) {
    allocation.accessDescs = nullptr;
    allocation.accessDescCount = 0;
    allocation.poolProps.win32SecurityAttributes = nullptr;
    return true;
}

namespace {

// Host memory may be named only where it is the client's own: in a twin.
bool is_twin(Request& in, const void* host, size_t x, size_t y, size_t z, size_t pitch, size_t height,
             const CUDA_MEMCPY3D& copy) {
    const uint64_t rows_before = z * height + y, rows = (copy.Depth - 1) * height + copy.Height;
    uint64_t start = 0, bytes = 0;
    if (__builtin_mul_overflow(rows_before, pitch, &start) || __builtin_mul_overflow(rows, pitch, &bytes)) return false;
    if (bytes < pitch || bytes - pitch > ~uint64_t{0} - copy.WidthInBytes - x) return false;
    return in.session.twins.holds(reinterpret_cast<uint64_t>(host) + start, bytes - pitch + x + copy.WidthInBytes);
}

}  // namespace

bool localise(Request& in, CUDA_MEMCPY3D& copy) {
    if (copy.srcMemoryType == CU_MEMORYTYPE_ARRAY) copy.srcArray = in.inner(Kind::array, copy.srcArray);
    if (copy.dstMemoryType == CU_MEMORYTYPE_ARRAY) copy.dstArray = in.inner(Kind::array, copy.dstArray);
    const bool source_good =
        copy.srcMemoryType != CU_MEMORYTYPE_HOST ||
        is_twin(in, copy.srcHost, copy.srcXInBytes, copy.srcY, copy.srcZ, copy.srcPitch, copy.srcHeight, copy);
    const bool destination_good =
        copy.dstMemoryType != CU_MEMORYTYPE_HOST ||
        is_twin(in, copy.dstHost, copy.dstXInBytes, copy.dstY, copy.dstZ, copy.dstPitch, copy.dstHeight, copy);
    // Whether an address is one of the device's is for the client to say.
    const bool told = copy.srcMemoryType != CU_MEMORYTYPE_UNIFIED && copy.dstMemoryType != CU_MEMORYTYPE_UNIFIED;
    if (!source_good || !destination_good || !told) in.fail(CUDA_ERROR_INVALID_VALUE);
    return in.good();
}

}  // namespace gpuferry::worker
