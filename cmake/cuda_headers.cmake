# The CUDA headers come from PyPI wheels (nvidia-cuda-runtime, nvidia-nvml-dev) of the Python that builds.
execute_process(
  COMMAND ${Python3_EXECUTABLE} -c "from gpuserver.protocol.header import find_cuda_include; print(find_cuda_include())"
  WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
  OUTPUT_VARIABLE GPUFERRY_CUDA_INCLUDE OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "cuda.h not found: run `make venv` first, or install the wheel nvidia-cuda-runtime")
endif()
add_library(cuda_headers INTERFACE)
target_include_directories(cuda_headers SYSTEM INTERFACE ${GPUFERRY_CUDA_INCLUDE})
