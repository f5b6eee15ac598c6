// Reads handwritten digits, 64 numbers from 0 to 1 each, and says which they are and how sure it is.
// Several are under way at once, and those that come again are not run again.
#include <digits.hpp>
#include <edgekit/cache.hpp>
#include <edgekit/cascade.hpp>
#include <edgekit/worker.hpp>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <vector>

namespace {

bool read(std::istream& numbers, digits::Inputs& digit) {
  for (float& pixel : digit.image)
    if (!(numbers >> pixel)) return false;
  return true;
}

void say(const digits::Outputs& scores) {
  std::printf("%zu %.3f", edgekit::best(scores.logits),
              edgekit::confidence_of_logits(scores.logits));
  for (const float logit : scores.logits) std::printf(" %.9g", static_cast<double>(logit));
  std::printf("\n");
}

void recognize(const std::string& model_file, std::istream& numbers) {
  digits::Model model(model_file);
  edgekit::Worker<digits::Inputs, digits::Outputs> worker(
      [&model](const std::vector<digits::Inputs>& samples) { return model.run_batch(samples); },
      {/*queue=*/64, digits::kBatch});
  edgekit::Cache<digits::Outputs> cache(128);
  for (digits::Inputs digit; read(numbers, digit);)
    say(cache.get(digits::key(digit), [&] { return worker.submit(digit).get(); }));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: cpp_app MODEL DIGITS.txt\n";
    return 2;
  }
  std::ifstream numbers(argv[2]);
  if (!numbers) {
    std::cerr << "cannot open " << argv[2] << "\n";
    return 2;
  }
  try {
    recognize(argv[1], numbers);
  } catch (const edgekit::Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
