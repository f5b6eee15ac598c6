// A session of ONNX Runtime, over its public C API.
#ifndef EDGEKIT_ONNXRUNTIME_HPP
#define EDGEKIT_ONNXRUNTIME_HPP

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"
#include "tensor.hpp"

namespace edgekit::ort {

namespace detail {

inline const OrtApi& ort() {
  static const OrtApi* const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (!api)
    throw Error(Error::Kind::runtime, std::string("ONNX Runtime ") +
                                          OrtGetApiBase()->GetVersionString() +
                                          " is older than the headers that this was built with");
  return *api;
}

inline void check(OrtStatus* status) {
  if (!status) return;
  const std::string message = ort().GetErrorMessage(status);
  ort().ReleaseStatus(status);
  throw Error(Error::Kind::runtime, "ONNX Runtime: " + message);
}

struct Release {
  void operator()(OrtEnv* it) const { ort().ReleaseEnv(it); }
  void operator()(OrtSessionOptions* it) const { ort().ReleaseSessionOptions(it); }
  void operator()(OrtSession* it) const { ort().ReleaseSession(it); }
  void operator()(OrtMemoryInfo* it) const { ort().ReleaseMemoryInfo(it); }
  void operator()(OrtValue* it) const { ort().ReleaseValue(it); }
};

template <typename T>
using Owned = std::unique_ptr<T, Release>;

// What one of the API's functions makes, owned.
template <typename T, typename Make>
Owned<T> made(Make make) {
  T* it = nullptr;
  check(make(&it));
  return Owned<T>(it);
}

inline ONNXTensorElementDataType onnx_type(Type type) {
  switch (type) {
    case Type::f16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case Type::f32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case Type::f64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    case Type::i8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case Type::i16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16;
    case Type::i32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case Type::i64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case Type::u8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case Type::u16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16;
    case Type::u32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32;
    case Type::u64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64;
    case Type::boolean: break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
}

}  // namespace detail

// Runs one model, whose tensors stay where they are. For one thread at a time.
class Session {
 public:
  // The artifact's tensors, of `batch` samples each.
  Session(Bytes model, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
          std::size_t batch, const Options& options)
      : model_(std::move(model)) {
    const OrtApi& api = detail::ort();
    env_ = detail::made<OrtEnv>(
        [&](OrtEnv** it) { return api.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "edgekit", it); });
    const auto how = detail::made<OrtSessionOptions>(
        [&](OrtSessionOptions** it) { return api.CreateSessionOptions(it); });
    if (options.threads > 0) detail::check(api.SetIntraOpNumThreads(how.get(), options.threads));
    session_ = detail::made<OrtSession>([&](OrtSession** it) {
      return api.CreateSessionFromArray(env_.get(), model_.data(), model_.size(), how.get(), it);
    });
    memory_ = detail::made<OrtMemoryInfo>([&](OrtMemoryInfo** it) {
      return api.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, it);
    });
    for (const Tensor& tensor : inputs) add(tensor, batch, inputs_);
    for (const Tensor& tensor : outputs) add(tensor, batch, outputs_);
  }

  char* input(std::size_t index) { return inputs_.bytes[index].data(); }
  const char* output(std::size_t index) const { return outputs_.bytes[index].data(); }

  void run() {
    std::vector<OrtValue*> out = outputs_.values();
    const std::vector<OrtValue*> in = inputs_.values();
    detail::check(detail::ort().Run(session_.get(), nullptr, inputs_.names.data(), in.data(),
                                    in.size(), outputs_.names.data(), out.size(), out.data()));
  }

 private:
  struct Side {
    std::vector<const char*> names;
    std::vector<Bytes> bytes;
    std::vector<detail::Owned<OrtValue>> owned;

    std::vector<OrtValue*> values() const {
      std::vector<OrtValue*> all;
      for (const auto& each : owned) all.push_back(each.get());
      return all;
    }
  };

  void add(const Tensor& tensor, std::size_t batch, Side& side) {
    std::vector<std::int64_t> shape = tensor.shape;
    if (batch > 1) shape[0] = static_cast<std::int64_t>(batch);
    Bytes bytes(batch * tensor.bytes());
    side.owned.push_back(detail::made<OrtValue>([&](OrtValue** it) {
      return detail::ort().CreateTensorWithDataAsOrtValue(
          memory_.get(), bytes.data(), bytes.size(), shape.data(), shape.size(),
          detail::onnx_type(tensor.type), it);
    }));
    side.bytes.push_back(std::move(bytes));
    side.names.push_back(tensor.name);
  }

  Bytes model_;
  detail::Owned<OrtEnv> env_;
  detail::Owned<OrtMemoryInfo> memory_;
  detail::Owned<OrtSession> session_;
  Side inputs_, outputs_;
};

}  // namespace edgekit::ort

#endif
