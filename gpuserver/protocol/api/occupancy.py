"""Occupancy: computed on the client from the device's and the function's attributes."""

from gpuserver.protocol.declare import Family

FAMILY = Family("occupancy")
FAMILY.local(
    "cuOccupancyMaxActiveBlocksPerMultiprocessor cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags "
    "cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags"
)
FAMILY.ask("cuOccupancyAvailableDynamicSMemPerBlock")
FAMILY.by_hand("cuOccupancyMaxActiveClusters cuOccupancyMaxPotentialClusterSize")
