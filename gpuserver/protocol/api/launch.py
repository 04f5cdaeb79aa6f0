"""Launches."""

from gpuserver.protocol.declare import Family

FAMILY = Family("launch")
FAMILY.by_hand("cuLaunchHostFunc cuStreamAddCallback")
FAMILY.by_hand("cuLaunchKernel cuLaunchKernelEx cuLaunchCooperativeKernel")
