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

bool localise(Request& in, CUDA_MEMCPY3D& copy) {
    if (copy.srcMemoryType == CU_MEMORYTYPE_ARRAY) copy.srcArray = in.inner(Kind::array, copy.srcArray);
    if (copy.dstMemoryType == CU_MEMORYTYPE_ARRAY) copy.dstArray = in.inner(Kind::array, copy.dstArray);
    return in.good();
}

}  // namespace gpuferry::worker
