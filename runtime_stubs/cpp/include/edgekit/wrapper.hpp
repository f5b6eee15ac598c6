// What the generated wrapper of a model is made of.
#ifndef EDGEKIT_WRAPPER_HPP
#define EDGEKIT_WRAPPER_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "error.hpp"
#include "tensor.hpp"

namespace edgekit {

// A picture as an input of the source: value = scale * pixel + bias, by channel.
struct Picture {
  std::size_t height, width, channels;
  bool planar;   // the source has its channels before rows and columns
  bool swapped;  // the source has blue first
  std::vector<float> scale, bias;  // for each channel of the source, or one for all
};

// Pixels in the order row, column, channel; red, green, blue.
inline std::vector<float> from_pixels(const std::uint8_t* pixels, const Picture& picture) {
  const std::size_t area = picture.height * picture.width, channels = picture.channels;
  std::vector<float> values(area * channels);
  for (std::size_t at = 0; at < area; ++at)
    for (std::size_t channel = 0; channel < channels; ++channel) {
      const std::size_t seen = picture.swapped ? channels - 1 - channel : channel;
      const float scale = picture.scale[picture.scale.size() > 1 ? channel : 0];
      const float bias = picture.bias[picture.bias.size() > 1 ? channel : 0];
      values[picture.planar ? channel * area + at : at * channels + channel] =
          scale * static_cast<float>(pixels[at * channels + seen]) + bias;
    }
  return values;
}

// So many samples into a session's input, from the first on. `tensor` is of one sample.
template <typename Session, typename T>
void put(Session& session, const Tensor& tensor, std::size_t index, std::size_t first,
         std::size_t count, const std::vector<T>& values) {
  const std::size_t elements = tensor.elements();
  if (values.size() != count * elements)
    throw Error(Error::Kind::input, std::string(tensor.name) + " takes " +
                                        std::to_string(count * elements) + " values, got " +
                                        std::to_string(values.size()));
  for (std::size_t i = 0; i < count; ++i)
    to_artifact(values.data() + i * elements, tensor,
                session.input(index) + (first + i) * tensor.bytes());
}

// So many samples out of a session's output, from the first on.
template <typename Session, typename T>
void get(const Session& session, const Tensor& tensor, std::size_t index, std::size_t first,
         std::size_t count, std::vector<T>& values) {
  const std::size_t elements = tensor.elements();
  values.resize(count * elements);
  for (std::size_t i = 0; i < count; ++i)
    to_source(session.output(index) + (first + i) * tensor.bytes(), tensor,
              values.data() + i * elements);
}

inline void check_batch(std::size_t samples, std::size_t batch) {
  if (samples == 0 || samples > batch)
    throw Error(Error::Kind::input, "a run takes 1 to " + std::to_string(batch) +
                                        " samples, got " + std::to_string(samples));
}

// The bytes of values, for a cache's key.
template <typename T>
void append(std::string& key, const std::vector<T>& values) {
  key.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// The class with the best score.
template <typename T>
std::size_t best(const std::vector<T>& scores) {
  return static_cast<std::size_t>(std::max_element(scores.begin(), scores.end()) -
                                  scores.begin());
}

}  // namespace edgekit

#endif
