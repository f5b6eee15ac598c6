// What goes wrong, by kind, and the version of these headers.
#ifndef EDGEKIT_ERROR_HPP
#define EDGEKIT_ERROR_HPP

#include <stdexcept>
#include <string>

// Two models in one app share these headers: the wrapper of each checks that they are the ones
// that it was made with.
#define EDGEKIT_CPP_VERSION 1

namespace edgekit {

class Error : public std::runtime_error {
 public:
  enum class Kind {
    file,     // the model cannot be read
    digest,   // the model is not the one that this code was made for
    runtime,  // the runtime failed
    input,    // a tensor of the wrong size
    full,     // the worker has as many calls waiting as it may
    stopped,  // the worker was stopped before the call was run
  };

  Error(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  Kind kind() const noexcept { return kind_; }

 private:
  Kind kind_;
};

}  // namespace edgekit

#endif
