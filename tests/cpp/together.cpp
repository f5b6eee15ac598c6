// Three models of two runtimes in one app: a cascade of two, and batches of a third's samples.
#include <digits.hpp>
#include <edgekit/cascade.hpp>
#include <edgekit/worker.hpp>
#include <four.hpp>
#include <large.hpp>

#include <cstdio>
#include <fstream>
#include <future>
#include <vector>

namespace {

void cascade(const char* small_file, const char* large_file) {
  digits::Model small(small_file);
  large::Model large(large_file);
  for (const double least : {0.0, 2.0}) {
    const edgekit::Cascade<digits::Inputs, std::vector<float>> both(
        [&](const digits::Inputs& digit) { return small.run(digit).logits; },
        [&](const digits::Inputs& digit) { return large.run(large::Inputs{digit.image}).logits; },
        [](const std::vector<float>& logits) { return edgekit::confidence_of_logits(logits); },
        least);
    const auto answer = both.run(digits::Inputs());
    std::printf("%d", answer.from_large);
    for (const float logit : answer.output) std::printf(" %.9g", static_cast<double>(logit));
    std::printf("\n");
  }
}

void batches(const char* model_file, const char* samples_file) {
  four::Model model(model_file);
  for (const float score : model.run(four::Inputs()).y) std::printf("%.9g ", static_cast<double>(score));
  std::printf("\n");
  std::size_t runs = 0;
  std::vector<std::future<four::Outputs>> waiting;
  {
    // Long enough for all of a batch to come: six samples are two runs.
    edgekit::Worker<four::Inputs, four::Outputs> worker(
        [&](const std::vector<four::Inputs>& samples) { return ++runs, model.run_batch(samples); },
        {8, four::kBatch, std::chrono::seconds(2)});
    std::ifstream numbers(samples_file);
    four::Inputs sample{std::vector<float>(192)};
    while (true) {
      for (float& value : sample.x) numbers >> value;
      if (!numbers) break;
      waiting.push_back(worker.submit(sample));
    }
    for (auto& each : waiting) each.wait();
  }
  std::printf("%zu\n", runs);
  for (auto& each : waiting) {
    for (const float score : each.get().y) std::printf("%.9g ", static_cast<double>(score));
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  cascade(argv[1], argv[2]);
  batches(argv[3], argv[4]);
  return 0;
}
