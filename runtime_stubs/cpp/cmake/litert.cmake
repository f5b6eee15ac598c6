# The app's own LiteRT: headers and library, from -DLITERT_ROOT=FOLDER or the system's folders.
if(NOT TARGET litert::litert)
  find_path(LITERT_INCLUDE_DIR litert/c/litert_compiled_model.h
    HINTS ${LITERT_ROOT} ENV LITERT_ROOT PATH_SUFFIXES include)
  find_library(LITERT_LIBRARY NAMES LiteRt litert
    HINTS ${LITERT_ROOT} ENV LITERT_ROOT PATH_SUFFIXES lib)
  if(LITERT_INCLUDE_DIR AND LITERT_LIBRARY)
    add_library(litert::litert UNKNOWN IMPORTED)
    set_target_properties(litert::litert PROPERTIES
      IMPORTED_LOCATION "${LITERT_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${LITERT_INCLUDE_DIR}")
  endif()
endif()
set(EDGEKIT_RUNTIME litert::litert)
set(EDGEKIT_RUNTIME_HINT "LiteRT is not found: give -DLITERT_ROOT=FOLDER with its include and lib")
