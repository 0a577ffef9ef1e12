// How C++ answers Rust: an exception becomes a message that the caller frees with free(), and null means success.

#pragma once

#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

namespace guard {

template <typename F> char *guarded(F &&body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error &error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("unknown C++ exception");
  }
}

} // namespace guard
