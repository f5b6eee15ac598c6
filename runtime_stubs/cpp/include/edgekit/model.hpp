// A model file read and checked, how it is to be run, and memory that every runtime takes.
#ifndef EDGEKIT_MODEL_HPP
#define EDGEKIT_MODEL_HPP

#include <cstddef>
#include <cstring>
#include <fstream>
#include <new>
#include <string>
#include <utility>

#include "error.hpp"
#include "sha256.hpp"

namespace edgekit {

struct Options {
  int threads = 0;  // 0: as many as the runtime likes
};

// Zeros at first, at a multiple of 64, as LiteRT wants its tensors and no runtime minds.
class Bytes {
 public:
  explicit Bytes(std::size_t size)
      : data_(static_cast<char*>(::operator new(size ? size : 1, kAlignment))), size_(size) {
    std::memset(data_, 0, size);
  }
  Bytes(Bytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Bytes& operator=(Bytes&&) = delete;
  ~Bytes() { ::operator delete(data_, kAlignment); }

  char* data() { return data_; }
  const char* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  char* data_;
  std::size_t size_;
};

// The bytes that were checked are those that the runtime gets: the file is read once.
inline Bytes read_model(const std::string& path, const std::string& expected_sha256) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0) throw Error(Error::Kind::file, "cannot open the model " + path);
  Bytes bytes(static_cast<std::size_t>(size));
  file.seekg(0);
  if (!file.read(bytes.data(), size)) throw Error(Error::Kind::file, "cannot read " + path);
  const std::string got = sha256(bytes.data(), bytes.size());
  if (got != expected_sha256)
    throw Error(Error::Kind::digest, path + " is not the model that this code was made for: " +
                                         "expected sha256 " + expected_sha256 + ", got " + got);
  return bytes;
}

}  // namespace edgekit

#endif
