"""The declarations of NVML, one file per family; what is not named here answers NVML_ERROR_NOT_SUPPORTED."""
