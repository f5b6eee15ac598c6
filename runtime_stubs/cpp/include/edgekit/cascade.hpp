// A small model first, the large one where the small one is not sure.
#ifndef EDGEKIT_CASCADE_HPP
#define EDGEKIT_CASCADE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

namespace edgekit {

// How sure a classifier is: the largest probability.
template <typename T>
double confidence(const std::vector<T>& probabilities) {
  return probabilities.empty()
             ? 0.0
             : static_cast<double>(*std::max_element(probabilities.begin(), probabilities.end()));
}

// The same of scores before the softmax.
template <typename T>
double confidence_of_logits(const std::vector<T>& logits) {
  if (logits.empty()) return 0.0;
  const double top = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const T logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  return 1.0 / sum;
}

template <typename In, typename Out>
class Cascade {
 public:
  using Model = std::function<Out(const In&)>;

  // `sure` says how sure the small model is of an output; below `least` the large one is asked.
  Cascade(Model small, Model large, std::function<double(const Out&)> sure, double least)
      : small_(std::move(small)), large_(std::move(large)), sure_(std::move(sure)), least_(least) {}

  struct Answer {
    Out output;
    bool from_large;
  };

  Answer run(const In& input) const {
    Out output = small_(input);
    // A confidence that is no number is none.
    if (sure_(output) >= least_) return {std::move(output), false};
    return {large_(input), true};
  }

 private:
  Model small_, large_;
  std::function<double(const Out&)> sure_;
  double least_;
};

}  // namespace edgekit

#endif
