"""Launches."""

from gpuserver.protocol.declare import Family

FAMILY = Family("launch")
FAMILY.by_hand("cuLaunchHostFunc cuLaunchHostFunc_v2 cuStreamAddCallback")
FAMILY.by_hand("cuLaunchKernel cuLaunchKernelEx cuLaunchCooperativeKernel")

# The first way of launching: the client collects, cuLaunchKernel does the work.
FAMILY.by_hand("cuLaunch cuLaunchGrid cuLaunchGridAsync")
FAMILY.local("cuFuncSetBlockShape cuFuncSetSharedSize cuParamSetSize cuParamSeti cuParamSetf cuParamSetv")
