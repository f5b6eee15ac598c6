// A session of LiteRT (2.2 or newer), over the public C API of libLiteRt.
#ifndef EDGEKIT_LITERT_HPP
#define EDGEKIT_LITERT_HPP

#include <litert/c/litert_common.h>
#include <litert/c/litert_compiled_model.h>
#include <litert/c/litert_environment.h>
#include <litert/c/litert_environment_options.h>
#include <litert/c/litert_model.h>
#include <litert/c/litert_opaque_options.h>
#include <litert/c/litert_options.h>
#include <litert/c/litert_tensor_buffer.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"
#include "tensor.hpp"

namespace edgekit::litert {

namespace detail {

inline void check(LiteRtStatus status, const char* what) {
  if (status != kLiteRtStatusOk)
    throw Error(Error::Kind::runtime,
                std::string("LiteRT: ") + what + " failed with status " + std::to_string(status));
}

// What one of the API's functions makes, destroyed by another.
template <typename Handle, void (*Destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&&) = delete;
  ~Owned() {
    if (handle_) Destroy(handle_);
  }

  Handle get() const { return handle_; }
  Handle* to_fill() { return &handle_; }
  Handle release() { return std::exchange(handle_, nullptr); }

 private:
  Handle handle_ = nullptr;
};

}  // namespace detail

// Runs one model on the CPU, whose tensors stay where they are. For one thread at a time.
class Session {
 public:
  // The artifact's tensors, of `batch` samples each.
  Session(Bytes model, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
          std::size_t batch, const Options& options)
      : bytes_(std::move(model)) {
    using detail::check;
    create_environment();
    check(LiteRtCreateModelFromBuffer(environment_.get(), bytes_.data(), bytes_.size(),
                                      model_.to_fill()),
          "reading the model");
    detail::Owned<LiteRtOptions, LiteRtDestroyOptions> how;
    check(LiteRtCreateOptions(how.to_fill()), "the options");
    check(LiteRtSetOptionsHardwareAccelerators(how.get(), kLiteRtHwAcceleratorCpu), "the options");
    if (options.threads > 0) set_threads(how.get(), options.threads);
    check(LiteRtCreateCompiledModel(environment_.get(), model_.get(), how.get(),
                                    compiled_.to_fill()),
          "compiling the model");
    LiteRtSignature signature = nullptr;
    check(LiteRtGetModelSignature(model_.get(), 0, &signature), "the signature");
    add(signature, inputs, batch, inputs_, LiteRtGetNumSignatureInputs,
        LiteRtGetSignatureInputTensorByIndex);
    add(signature, outputs, batch, outputs_, LiteRtGetNumSignatureOutputs,
        LiteRtGetSignatureOutputTensorByIndex);
  }

  char* input(std::size_t index) { return inputs_.bytes[index].data(); }
  const char* output(std::size_t index) const { return outputs_.bytes[index].data(); }

  void run() {
    std::vector<LiteRtTensorBuffer> in = inputs_.handles(), out = outputs_.handles();
    detail::check(LiteRtRunCompiledModel(compiled_.get(), 0, in.size(), in.data(), out.size(),
                                         out.data()),
                  "running the model");
  }

 private:
  using Buffer = detail::Owned<LiteRtTensorBuffer, LiteRtDestroyTensorBuffer>;

  // The runtime's order of tensors may be another than the wrapper's.
  struct Side {
    std::vector<Bytes> bytes;             // by the wrapper's order
    std::vector<Buffer> buffers;          // by the wrapper's order
    std::vector<std::size_t> positions;   // in the wrapper's order, by the runtime's

    std::vector<LiteRtTensorBuffer> handles() const {
      std::vector<LiteRtTensorBuffer> all;
      for (const auto position : positions) all.push_back(buffers[position].get());
      return all;
    }
  };

  // Nothing but the CPU is looked for, and nothing but warnings is logged.
  void create_environment() {
    LiteRtEnvOption options[2] = {};
    options[0].tag = kLiteRtEnvOptionTagAutoRegisterAccelerators;
    options[0].value.type = kLiteRtAnyTypeInt;
    options[0].value.int_value = kLiteRtHwAcceleratorCpu;
    options[1].tag = kLiteRtEnvOptionTagMinLoggerSeverity;
    options[1].value.type = kLiteRtAnyTypeInt;
    options[1].value.int_value = 2;  // kLiteRtLogSeverityWarning, which no public header has
    detail::check(LiteRtCreateEnvironment(2, options, environment_.to_fill()), "the environment");
  }

  template <typename Count, typename Find>
  static void add(LiteRtSignature signature, const std::vector<Tensor>& tensors, std::size_t batch,
                  Side& side, Count count, Find find) {
    LiteRtParamIndex number = 0;
    detail::check(count(signature, &number), "counting the tensors");
    std::vector<LiteRtTensor> found(tensors.size(), nullptr);
    for (LiteRtParamIndex index = 0; index < number; ++index) {
      LiteRtTensor tensor = nullptr;
      const char* name = nullptr;
      detail::check(find(signature, index, &tensor), "finding a tensor");
      detail::check(LiteRtGetTensorName(tensor, &name), "a tensor's name");
      const std::size_t position = placed(tensors, name);
      found[position] = tensor;
      side.positions.push_back(position);
    }
    for (std::size_t position = 0; position < tensors.size(); ++position)
      allocate(tensors[position], found[position], batch, side);
  }

  static void allocate(const Tensor& tensor, LiteRtTensor found, std::size_t batch, Side& side) {
    if (!found)
      throw Error(Error::Kind::runtime, std::string("the model has no tensor ") + tensor.name);
    LiteRtRankedTensorType type;
    detail::check(LiteRtGetRankedTensorType(found, &type), "a tensor's type");
    side.bytes.emplace_back(batch * tensor.bytes());
    Bytes& bytes = side.bytes.back();
    Buffer buffer;
    detail::check(LiteRtCreateTensorBufferFromHostMemory(&type, bytes.data(), bytes.size(),
                                                         nullptr, buffer.to_fill()),
                  "a tensor's memory");
    side.buffers.push_back(std::move(buffer));
  }

  static std::size_t placed(const std::vector<Tensor>& tensors, const char* name) {
    for (std::size_t position = 0; position < tensors.size(); ++position)
      if (std::strcmp(tensors[position].name, name) == 0) return position;
    throw Error(Error::Kind::runtime, std::string("the model has an odd tensor ") + name);
  }

  // LiteRT takes the options of its CPU kernels as a line of TOML.
  static void set_threads(LiteRtOptions options, int threads) {
    const std::string line = "num_threads = " + std::to_string(threads) + "\n";
    auto text = std::make_unique<char[]>(line.size() + 1);
    std::memcpy(text.get(), line.c_str(), line.size() + 1);
    LiteRtOpaqueOptions opaque = nullptr;
    const auto destroy = [](void* it) { delete[] static_cast<char*>(it); };
    detail::check(LiteRtCreateOpaqueOptions("xnnpack", text.get(), destroy, &opaque), "threads");
    text.release();  // NOLINT: the options own it now
    detail::check(LiteRtAddOpaqueOptions(options, opaque), "threads");
  }

  Bytes bytes_;
  detail::Owned<LiteRtEnvironment, LiteRtDestroyEnvironment> environment_;
  detail::Owned<LiteRtModel, LiteRtDestroyModel> model_;
  detail::Owned<LiteRtCompiledModel, LiteRtDestroyCompiledModel> compiled_;
  Side inputs_, outputs_;
};

}  // namespace edgekit::litert

#endif
