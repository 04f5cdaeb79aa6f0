"""How a device is now: of the whole GPU, which other leases may use as well."""

from gpuserver.protocol.declare import both, out
from gpuserver.protocol.nvml_specification import NvmlFamily

FAMILY = NvmlFamily("condition")
FAMILY.ask("nvmlDeviceGetUtilizationRates nvmlDeviceGetEncoderUtilization nvmlDeviceGetDecoderUtilization")
FAMILY.ask("nvmlDeviceGetJpgUtilization nvmlDeviceGetOfaUtilization")
FAMILY.ask("nvmlDeviceGetTemperature nvmlDeviceGetTemperatureV nvmlDeviceGetMarginTemperature")
FAMILY.ask("nvmlDeviceGetThermalSettings nvmlDeviceGetFanSpeed nvmlDeviceGetFanSpeed_v2 nvmlDeviceGetTargetFanSpeed")
FAMILY.ask("nvmlDeviceGetFanSpeedRPM nvmlDeviceGetCoolerInfo")
FAMILY.ask("nvmlDeviceGetPowerUsage nvmlDeviceGetTotalEnergyConsumption nvmlDeviceGetEnforcedPowerLimit")
FAMILY.ask("nvmlDeviceGetPowerManagementLimit nvmlDeviceGetPowerManagementMode nvmlDeviceGetPowerState")
FAMILY.ask("nvmlDeviceGetPowerSource nvmlDeviceGetViolationStatus")
FAMILY.ask(
    "nvmlDeviceGetClockInfo nvmlDeviceGetClock nvmlDeviceGetApplicationsClock nvmlDeviceGetDefaultApplicationsClock"
)
FAMILY.ask("nvmlDeviceGetMinMaxClockOfPState nvmlDeviceGetPerformanceState nvmlDeviceGetDynamicPstatesInfo")
FAMILY.ask("nvmlDeviceGetAutoBoostedClocksEnabled nvmlDeviceGetAdaptiveClockInfoStatus nvmlDeviceGetClkMonStatus")
FAMILY.ask("nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetCurrentClocksThrottleReasons")
FAMILY.ask("nvmlDeviceGetSupportedMemoryClocks", clocksMHz=out("given(count)"), count=both())
FAMILY.ask("nvmlDeviceGetSupportedGraphicsClocks", clocksMHz=out("given(count)"), count=both())
FAMILY.ask("nvmlDeviceGetSupportedPerformanceStates", pstates=out("size / sizeof(nvmlPstates_t)"))
FAMILY.ask("nvmlDeviceGetCurrPcieLinkGeneration nvmlDeviceGetCurrPcieLinkWidth nvmlDeviceGetPcieSpeed")
FAMILY.ask("nvmlDeviceGetPcieThroughput nvmlDeviceGetPcieReplayCounter")
FAMILY.ask("nvmlDeviceGetComputeMode nvmlDeviceGetPersistenceMode nvmlDeviceGetDisplayMode nvmlDeviceGetDisplayActive")
FAMILY.ask("nvmlDeviceGetMigMode nvmlDeviceGetGpuOperationMode nvmlDeviceGetVirtualizationMode")
FAMILY.ask("nvmlDeviceGetGspFirmwareMode nvmlDeviceGetDriverModel nvmlDeviceGetDriverModel_v2")
FAMILY.ask(
    "nvmlDeviceGetEccMode nvmlDeviceGetDefaultEccMode nvmlDeviceGetTotalEccErrors nvmlDeviceGetDetailedEccErrors"
)
FAMILY.ask("nvmlDeviceGetMemoryErrorCounter nvmlDeviceGetRemappedRows nvmlDeviceGetRowRemapperHistogram")
FAMILY.ask("nvmlDeviceGetRetiredPagesPendingStatus nvmlDeviceGetSramEccErrorStatus nvmlDeviceGetRepairStatus")
FAMILY.ask("nvmlDeviceGetFieldValues", values=both("valuesCount"))
