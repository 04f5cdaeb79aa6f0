"""Modules, libraries, functions and kernels: the reply to a load carries all that later calls ask about."""

from gpuserver.protocol.declare import Family

FAMILY = Family("modules")
FAMILY.by_hand("cuModuleLoadData cuModuleLoadDataEx cuModuleLoadFatBinary cuModuleLoad cuModuleUnload")
FAMILY.by_hand("cuLibraryLoadData cuLibraryLoadFromFile cuLibraryUnload")
FAMILY.cached("cuModuleGetFunction cuModuleGetGlobal_v2 cuModuleGetFunctionCount cuModuleEnumerateFunctions")
FAMILY.cached("cuLibraryGetKernel cuLibraryGetModule cuLibraryGetGlobal cuLibraryGetManaged")
FAMILY.cached("cuLibraryGetKernelCount cuLibraryEnumerateKernels cuKernelGetFunction cuKernelGetLibrary")
FAMILY.cached("cuFuncGetAttribute cuKernelGetAttribute cuFuncGetName cuKernelGetName cuFuncGetModule")
FAMILY.cached("cuFuncGetParamInfo cuKernelGetParamInfo cuFuncGetParamCount cuKernelGetParamCount")
FAMILY.cached("cuFuncIsLoaded cuFuncLoad")
FAMILY.by_hand("cuFuncSetAttribute cuKernelSetAttribute")
FAMILY.post("cuFuncSetCacheConfig cuFuncSetSharedMemConfig")
FAMILY.post("cuKernelSetCacheConfig")
FAMILY.by_hand("cuLinkCreate_v2 cuLinkAddData_v2 cuLinkAddFile_v2 cuLinkComplete cuLinkDestroy")
FAMILY.same(
    cuLinkCreate="cuLinkCreate_v2",
    cuLinkAddData="cuLinkAddData_v2",
    cuLinkAddFile="cuLinkAddFile_v2",
)
