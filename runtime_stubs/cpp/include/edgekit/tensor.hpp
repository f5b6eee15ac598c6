// Tensors between the app, which has the source model's shapes and real values, and the artifact,
// which may have other axes and integers.
#ifndef EDGEKIT_TENSOR_HPP
#define EDGEKIT_TENSOR_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace edgekit {

enum class Type { f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64, boolean };

// Of one sample, where the model takes several at once.
struct Tensor {
  const char* name;                      // the artifact's
  Type type;                             // of the artifact's elements
  std::vector<std::int64_t> shape;       // the artifact's
  std::vector<std::size_t> permutation;  // artifact axis i is the source's axis permutation[i]
  bool quantized = false;                // real value = scale * (stored value - zero_point)
  float scale = 1;
  std::int32_t zero_point = 0;

  std::size_t elements() const {
    std::size_t count = 1;
    for (const auto size : shape) count *= static_cast<std::size_t>(size);
    return count;
  }

  inline std::size_t bytes() const;
};

// IEEE 754 binary16, which C++17 has no type for.
struct Half {
  std::uint16_t bits;

  static Half from(float value) {
    std::uint32_t x;
    std::memcpy(&x, &value, 4);
    const auto sign = static_cast<std::uint16_t>(x >> 16 & 0x8000);
    const std::uint32_t magnitude = x & 0x7fffffff;
    if (magnitude > 0x7f800000) return {static_cast<std::uint16_t>(sign | 0x7e00)};
    if (magnitude >= 0x477ff000) return {static_cast<std::uint16_t>(sign | 0x7c00)};
    if (magnitude < 0x38800000) {  // subnormal: in steps of 2^-24
      const float steps = std::nearbyint(std::fabs(value) * 16777216.0f);
      return {static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(steps))};
    }
    const std::uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return {static_cast<std::uint16_t>(sign | (rounded - 0x38000000) >> 13)};
  }

  float value() const {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float magnitude;
    if (exponent == 31)
      magnitude = mantissa ? std::numeric_limits<float>::quiet_NaN()
                           : std::numeric_limits<float>::infinity();
    else
      magnitude = exponent ? std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25)
                           : std::ldexp(static_cast<float>(mantissa), -24);
    return bits & 0x8000 ? -magnitude : magnitude;
  }
};

namespace detail {

// Call `visit` with a null pointer to the C++ type that a Type stands for.
template <typename Visit>
decltype(auto) as_type(Type type, Visit visit) {
  switch (type) {
    case Type::f16: return visit(static_cast<Half*>(nullptr));
    case Type::f32: return visit(static_cast<float*>(nullptr));
    case Type::f64: return visit(static_cast<double*>(nullptr));
    case Type::i8: return visit(static_cast<std::int8_t*>(nullptr));
    case Type::i16: return visit(static_cast<std::int16_t*>(nullptr));
    case Type::i32: return visit(static_cast<std::int32_t*>(nullptr));
    case Type::i64: return visit(static_cast<std::int64_t*>(nullptr));
    case Type::u16: return visit(static_cast<std::uint16_t*>(nullptr));
    case Type::u32: return visit(static_cast<std::uint32_t*>(nullptr));
    case Type::u64: return visit(static_cast<std::uint64_t*>(nullptr));
    case Type::u8:
    case Type::boolean: break;
  }
  return visit(static_cast<std::uint8_t*>(nullptr));
}

// For each of the artifact's elements in order, the place of the source's element.
template <typename Visit>
void walk(const Tensor& tensor, Visit visit) {
  const std::size_t rank = tensor.shape.size(), count = tensor.elements();
  std::vector<std::size_t> strides(rank), index(rank);
  for (std::size_t axis = 0; axis < rank; ++axis) {
    // The stride of the source's axis: the product of the sizes of those after it.
    std::size_t stride = 1;
    for (std::size_t other = 0; other < rank; ++other)
      if (tensor.permutation[other] > tensor.permutation[axis])
        stride *= static_cast<std::size_t>(tensor.shape[other]);
    strides[axis] = stride;
  }
  std::size_t place = 0;
  for (std::size_t at = 0; at < count; ++at) {
    visit(at, place);
    for (std::size_t axis = rank; axis-- > 0;) {
      place += strides[axis];
      if (++index[axis] < static_cast<std::size_t>(tensor.shape[axis])) break;
      place -= strides[axis] * index[axis];
      index[axis] = 0;
    }
  }
}

template <typename Stored, typename Real>
Stored quantized(Real real, const Tensor& tensor) {
  if constexpr (std::is_same_v<Stored, Half>) {
    return Half::from(static_cast<float>(real));
  } else if (!tensor.quantized) {
    return static_cast<Stored>(real);
  } else {
    using Limits = std::numeric_limits<Stored>;
    // To the nearest step, halves to the even one: as the artifact was validated.
    const double step = std::nearbyint(static_cast<float>(real) / tensor.scale);
    const double stored = step + tensor.zero_point;
    if (std::isnan(stored)) return static_cast<Stored>(tensor.zero_point);
    if (stored <= static_cast<double>(Limits::lowest())) return Limits::lowest();
    if (stored >= static_cast<double>(Limits::max())) return Limits::max();
    return static_cast<Stored>(stored);
  }
}

template <typename Real, typename Stored>
Real dequantized(Stored stored, const Tensor& tensor) {
  if constexpr (std::is_same_v<Stored, Half>) {
    return static_cast<Real>(stored.value());
  } else if (!tensor.quantized) {
    return static_cast<Real>(stored);
  } else {
    return static_cast<Real>((static_cast<float>(stored) - static_cast<float>(tensor.zero_point)) *
                             tensor.scale);
  }
}

}  // namespace detail

inline std::size_t size_of(Type type) {
  return detail::as_type(type, [](auto* element) { return sizeof *element; });
}

inline std::size_t Tensor::bytes() const { return elements() * size_of(type); }

// A sample of the source's, in row-major order, as the artifact stores it.
template <typename Real>
void to_artifact(const Real* source, const Tensor& tensor, void* artifact) {
  detail::as_type(tensor.type, [&](auto* element) {
    using Stored = std::remove_pointer_t<decltype(element)>;
    auto* stored = static_cast<Stored*>(artifact);
    detail::walk(tensor, [&](std::size_t at, std::size_t place) {
      stored[at] = detail::quantized<Stored>(source[place], tensor);
    });
  });
}

// A sample of the artifact's as the source has it: real values, in row-major order.
template <typename Real>
void to_source(const void* artifact, const Tensor& tensor, Real* source) {
  detail::as_type(tensor.type, [&](auto* element) {
    using Stored = std::remove_pointer_t<decltype(element)>;
    const auto* stored = static_cast<const Stored*>(artifact);
    detail::walk(tensor, [&](std::size_t at, std::size_t place) {
      source[place] = detail::dequantized<Real>(stored[at], tensor);
    });
  });
}

}  // namespace edgekit

#endif
