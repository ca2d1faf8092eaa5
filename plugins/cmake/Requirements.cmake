# What building the native library takes, looked for without building anything and without the network.

# Sets <result> to a sentence that says what is missing, or to the empty string. Leaves KSNET_NVCC and, unless
# <kernels_only>, TENSORRT_INCLUDE_DIR in the cache.
function(ksnet_find_requirements result kernels_only)
  set(${result} "" PARENT_SCOPE)
  if(NOT kernels_only)
    ksnet_find_tensorrt(missing)
    if(missing)
      set(${result} "${missing}" PARENT_SCOPE)
      return()
    endif()
  endif()

  ksnet_find_nvcc(missing)
  if(missing)
    set(${result} "${missing}" PARENT_SCOPE)
    return()
  endif()

  # A compiler of the wrong version would stop the whole build; these two try it out in a project of their own.
  include(CheckLanguage)
  check_language(CXX)
  if(NOT CMAKE_CXX_COMPILER)
    set(${result} "no working C++ compiler was found; install g++ or set CXX to one." PARENT_SCOPE)
    return()
  endif()
  set(ENV{CUDACXX} "${KSNET_NVCC}")
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(${result} "${KSNET_NVCC} does not work with the C++ compiler ${CMAKE_CXX_COMPILER}; set CUDAHOSTCXX to a \
version that this CUDA toolkit supports." PARENT_SCOPE)
  endif()
endfunction()

# The nvcc that CMake's own variables name, else the one of CUDA_HOME or PATH, else of the usual folders.
function(ksnet_find_nvcc missing)
  set(${missing} "" PARENT_SCOPE)
  if(CMAKE_CUDA_COMPILER)
    set(KSNET_NVCC "${CMAKE_CUDA_COMPILER}" CACHE FILEPATH "CUDA compiler")
  elseif(NOT "$ENV{CUDACXX}" STREQUAL "")
    set(KSNET_NVCC "$ENV{CUDACXX}" CACHE FILEPATH "CUDA compiler")
  endif()
  find_program(KSNET_NVCC nvcc
    HINTS "$ENV{CUDA_HOME}/bin" "$ENV{CUDA_PATH}/bin"
    PATHS /usr/local/cuda/bin /opt/cuda/bin
    DOC "CUDA compiler")
  if(NOT KSNET_NVCC)
    set(${missing} "no CUDA compiler was found: looked for nvcc in CUDACXX, CUDA_HOME, PATH and /usr/local/cuda; \
install the CUDA toolkit or set CUDACXX to its nvcc." PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND "${KSNET_NVCC}" --version OUTPUT_VARIABLE output ERROR_QUIET RESULT_VARIABLE failure)
  if(failure OR NOT output MATCHES "release ([0-9]+)")
    set(${missing} "the CUDA compiler ${KSNET_NVCC} does not run; set CUDACXX to the nvcc of a CUDA toolkit."
      PARENT_SCOPE)
  elseif(CMAKE_MATCH_1 LESS 12)
    set(${missing} "${KSNET_NVCC} is of CUDA ${CMAKE_MATCH_1}; the kernels need version 12 or later." PARENT_SCOPE)
  endif()
endfunction()

# TensorRT's headers of version 10 or later, from TENSORRT_INCLUDE_DIR, TENSORRT_ROOT or the usual folders.
function(ksnet_find_tensorrt missing)
  set(${missing} "" PARENT_SCOPE)
  foreach(variable TENSORRT_INCLUDE_DIR TENSORRT_ROOT)
    if(NOT ${variable} AND NOT "$ENV{${variable}}" STREQUAL "")
      set(${variable} "$ENV{${variable}}")
    endif()
    if(${variable})
      set(asked ${variable})
      set(folder "${${variable}}")
      break()
    endif()
  endforeach()
  if(DEFINED asked)
    find_path(KSNET_TENSORRT_HEADERS NvInferRuntime.h
      PATHS "${folder}" "${folder}/include" NO_DEFAULT_PATH NO_CACHE)
    if(NOT KSNET_TENSORRT_HEADERS)
      set(${missing} "${asked} is ${folder}, which has no NvInferRuntime.h; set it to the folder of TensorRT's C++ \
headers." PARENT_SCOPE)
      return()
    endif()
  else()
    find_path(KSNET_TENSORRT_HEADERS NvInferRuntime.h
      PATHS /usr/include /usr/local/include /usr/include/x86_64-linux-gnu /usr/include/aarch64-linux-gnu
        /usr/local/tensorrt/include /usr/local/TensorRT/include /opt/tensorrt/include /usr/local/cuda/include
      NO_CACHE)
    if(NOT KSNET_TENSORRT_HEADERS)
      set(${missing} "TensorRT's C++ headers were not found: looked for NvInferRuntime.h in TENSORRT_INCLUDE_DIR, \
TENSORRT_ROOT and the system's folders; set TENSORRT_ROOT to a TensorRT of version 10 or later, or add \
-DKSNET_FETCH_TENSORRT_HEADERS=ON to download the headers." PARENT_SCOPE)
      return()
    endif()
  endif()
  get_filename_component(KSNET_TENSORRT_HEADERS "${KSNET_TENSORRT_HEADERS}" ABSOLUTE)
  ksnet_tensorrt_major("${KSNET_TENSORRT_HEADERS}" major)
  if(major LESS 10)
    set(${missing} "${KSNET_TENSORRT_HEADERS} is of TensorRT ${major}; the plugins need version 10 or later."
      PARENT_SCOPE)
    return()
  endif()
  set(TENSORRT_INCLUDE_DIR "${KSNET_TENSORRT_HEADERS}" CACHE PATH "Folder of NvInferRuntime.h" FORCE)
endfunction()

# TensorRT 10.16 and later name the number TRT_MAJOR_ENTERPRISE.
function(ksnet_tensorrt_major folder major)
  set(${major} 0 PARENT_SCOPE)
  if(EXISTS "${folder}/NvInferVersion.h")
    file(STRINGS "${folder}/NvInferVersion.h" lines REGEX "define (NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) +[0-9]")
    if(lines MATCHES "(NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) +([0-9]+)")
      set(${major} ${CMAKE_MATCH_2} PARENT_SCOPE)
    endif()
  endif()
endfunction()

# Machine code for the GPUs of SM 7.5 to 12.0 that this nvcc knows, and PTX of the newest for those to come.
function(ksnet_default_architectures result)
  execute_process(COMMAND "${KSNET_NVCC}" --list-gpu-code OUTPUT_VARIABLE known ERROR_QUIET)
  set(chosen "")
  foreach(architecture 75 80 86 89 90 100 120)
    if(known MATCHES "sm_${architecture}[^0-9]")
      list(APPEND chosen "${architecture}-real")
      set(newest ${architecture})
    endif()
  endforeach()
  list(APPEND chosen "${newest}-virtual")
  set(${result} "${chosen}" PARENT_SCOPE)
endfunction()
