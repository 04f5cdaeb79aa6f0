"""The declarations of the driver API, one file per family; each file binds `FAMILY`."""
