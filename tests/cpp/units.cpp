// The wrapper's headers, driven by tests/runtime_stubs/test_cpp.py: the first argument says what.
#include <edgekit/cache.hpp>
#include <edgekit/cascade.hpp>
#include <edgekit/model.hpp>
#include <edgekit/sha256.hpp>
#include <edgekit/tensor.hpp>
#include <edgekit/worker.hpp>
#include <edgekit/wrapper.hpp>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

#define CHECK(holds)                                                           \
  do {                                                                         \
    if (!(holds)) {                                                            \
      std::fprintf(stderr, "line %d: %s does not hold\n", __LINE__, #holds);   \
      std::exit(1);                                                            \
    }                                                                          \
  } while (false)

using edgekit::Error;
using Worker = edgekit::Worker<int, int>;

template <typename Call>
Error::Kind kind_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind();
  }
  CHECK(!"nothing was thrown");
  return {};
}

// A gate that holds a worker's run until it is opened.
class Gate {
 public:
  void open() { opened_.set_value(); }
  void wait() { shared_.wait(); }

 private:
  std::promise<void> opened_;
  std::shared_future<void> shared_ = opened_.get_future().share();
};

std::vector<int> doubled(const std::vector<int>& numbers) {
  std::vector<int> results;
  for (const int number : numbers) results.push_back(2 * number);
  return results;
}

void worker_answers_everyone() {
  Worker worker(doubled, {1000});
  std::vector<std::thread> callers;
  std::atomic<int> right{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 50; ++i) {
        const int number = 100 * caller + i;
        right += worker.submit(number).get() == 2 * number;
      }
    });
  for (auto& caller : callers) caller.join();
  CHECK(right == 200);
}

void worker_refuses_what_does_not_fit() {
  Gate gate, running;
  Worker worker(
      [&](const std::vector<int>& numbers) {
        if (numbers[0] == 1) running.open();
        gate.wait();
        return doubled(numbers);
      },
      {2});
  auto first = worker.submit(1);
  running.wait();  // it runs, and waits no longer
  auto second = worker.submit(2), third = worker.submit(3);
  CHECK(kind_of([&] { worker.submit(4); }) == Error::Kind::full);
  gate.open();
  CHECK(first.get() == 2 && second.get() == 4 && third.get() == 6);
  CHECK(worker.submit(5).get() == 10);
}

void worker_hands_errors_on() {
  Worker worker(
      [](const std::vector<int>& numbers) {
        if (numbers[0] < 0) throw Error(Error::Kind::runtime, "broken");
        return numbers[0] ? doubled(numbers) : std::vector<int>{};
      },
      {8});
  auto broken = worker.submit(-1), empty = worker.submit(0), right = worker.submit(3);
  CHECK(kind_of([&] { broken.get(); }) == Error::Kind::runtime);
  CHECK(kind_of([&] { empty.get(); }) == Error::Kind::runtime);
  CHECK(right.get() == 6);
}

void worker_stops() {
  std::future<int> first, second;
  Gate gate, running;
  std::thread opener;
  {
    Worker worker(
        [&](const std::vector<int>& numbers) {
          running.open();
          gate.wait();
          return doubled(numbers);
        },
        {8});
    first = worker.submit(1);
    running.wait();
    second = worker.submit(2);
    opener = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      gate.open();
    });
  }
  opener.join();
  CHECK(first.get() == 2);
  CHECK(kind_of([&] { second.get(); }) == Error::Kind::stopped);
}

void worker_runs_batches() {
  Gate gate, running;
  std::vector<std::size_t> sizes;
  {
    Worker worker(
        [&](const std::vector<int>& numbers) {
          if (sizes.empty()) {
            running.open();
            gate.wait();
          }
          sizes.push_back(numbers.size());
          return doubled(numbers);
        },
        {16, 4});
    auto first = worker.submit(0);
    running.wait();
    std::vector<std::future<int>> waiting;
    for (int i = 1; i <= 6; ++i) waiting.push_back(worker.submit(i));
    gate.open();
    for (int i = 1; i <= 6; ++i) CHECK(waiting[static_cast<std::size_t>(i - 1)].get() == 2 * i);
  }
  CHECK((sizes == std::vector<std::size_t>{1, 4, 2}));
}

void worker_lingers_for_a_full_batch() {
  std::vector<std::size_t> sizes;
  Worker worker(
      [&](const std::vector<int>& numbers) {
        sizes.push_back(numbers.size());
        return doubled(numbers);
      },
      {16, 3, std::chrono::minutes(5)});
  auto first = worker.submit(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // time enough to run it alone
  auto second = worker.submit(2), third = worker.submit(3);
  CHECK(first.get() + second.get() + third.get() == 12);
  CHECK((sizes == std::vector<std::size_t>{3}));
}

void cache_keeps_what_was_used_last() {
  edgekit::Cache<int> cache(2);
  std::map<std::string, int> made;
  const auto ask = [&](const std::string& key) {
    return cache.get(key, [&] { return ++made[key]; });
  };
  ask("a"), ask("b"), ask("a"), ask("c");  // b was used least, and goes
  CHECK(cache.size() == 2 && cache.hits() == 1);
  CHECK(ask("a") == 1 && ask("c") == 1 && ask("b") == 2);
  CHECK(cache.hits() == 3);
}

void cache_keeps_no_failure() {
  edgekit::Cache<int> cache(2);
  CHECK(kind_of([&] {
          cache.get("a", []() -> int { throw Error(Error::Kind::full, "later"); });
        }) == Error::Kind::full);
  CHECK(cache.get("a", [] { return 7; }) == 7);
  edgekit::Cache<int> none(0);
  CHECK(none.get("a", [] { return 1; }) == 1 && none.get("a", [] { return 2; }) == 2);
}

void cache_is_for_many_threads() {
  edgekit::Cache<int> cache(8);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i)
        wrong += cache.get(std::to_string(i % 20), [&] { return i % 20; }) != i % 20;
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0 && cache.size() == 8);
}

void cascade_asks_the_large_one_when_in_doubt() {
  int asked = 0;
  const edgekit::Cascade<double, std::vector<double>> cascade(
      [](double sure) { return std::vector<double>{sure, 1 - sure}; },
      [&](double) { return ++asked, std::vector<double>{0, 1}; },
      [](const std::vector<double>& scores) { return edgekit::confidence(scores); }, 0.8);
  CHECK(!cascade.run(0.9).from_large && asked == 0);
  CHECK(!cascade.run(0.8).from_large);
  CHECK(cascade.run(0.7).from_large && asked == 1);
  CHECK((cascade.run(0.5).output == std::vector<double>{0, 1}));
  CHECK(cascade.run(std::numeric_limits<double>::quiet_NaN()).from_large);
  CHECK(std::abs(edgekit::confidence_of_logits(std::vector<float>{1000, 1000}) - 0.5) < 1e-9);
}

void pictures_become_the_source_s_values() {
  const std::uint8_t pixels[] = {10, 20, 30, 40, 50, 60};  // one row of two pixels
  const auto same = edgekit::from_pixels(pixels, {1, 2, 3, false, false, {1}, {0}});
  CHECK((same == std::vector<float>{10, 20, 30, 40, 50, 60}));
  const auto planar = edgekit::from_pixels(pixels, {1, 2, 3, true, false, {1}, {0}});
  CHECK((planar == std::vector<float>{10, 40, 20, 50, 30, 60}));
  // Scale and bias are of the source's channels: blue first here.
  const auto blue = edgekit::from_pixels(pixels, {1, 2, 3, true, true, {1, 2, 3}, {0, 0, 100}});
  CHECK((blue == std::vector<float>{30, 60, 40, 100, 130, 220}));
}

const std::map<std::string, void (*)()> kTests = {
    {"worker_answers_everyone", worker_answers_everyone},
    {"worker_refuses_what_does_not_fit", worker_refuses_what_does_not_fit},
    {"worker_hands_errors_on", worker_hands_errors_on},
    {"worker_stops", worker_stops},
    {"worker_runs_batches", worker_runs_batches},
    {"worker_lingers_for_a_full_batch", worker_lingers_for_a_full_batch},
    {"cache_keeps_what_was_used_last", cache_keeps_what_was_used_last},
    {"cache_keeps_no_failure", cache_keeps_no_failure},
    {"cache_is_for_many_threads", cache_is_for_many_threads},
    {"cascade_asks_the_large_one_when_in_doubt", cascade_asks_the_large_one_when_in_doubt},
    {"pictures_become_the_source_s_values", pictures_become_the_source_s_values},
};

// The digests of the first 0, 1, 2, ... bytes of standard input.
void digests() {
  const std::string all{std::istreambuf_iterator<char>(std::cin), {}};
  for (std::size_t size = 0; size <= all.size(); ++size)
    std::cout << edgekit::sha256(all.data(), size) << "\n";
}

std::vector<std::int64_t> numbers(const std::string& text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::int64_t>(words), {}};
}

// float32 on standard input, as TYPE SHAPE PERMUTATION [SCALE ZERO_POINT] stores them, then as
// the source has them again, both on standard output.
void convert(int count, char** words) {
  edgekit::Tensor tensor{"x", static_cast<edgekit::Type>(std::atoi(words[0])), numbers(words[1]),
                         {}};
  for (const auto axis : numbers(words[2]))
    tensor.permutation.push_back(static_cast<std::size_t>(axis));
  if (count > 3) {
    tensor.quantized = true;
    tensor.scale = std::strtof(words[3], nullptr);
    tensor.zero_point = std::atoi(words[4]);
  }
  const std::string bytes{std::istreambuf_iterator<char>(std::cin), {}};
  std::vector<float> values(tensor.elements());
  CHECK(bytes.size() == values.size() * sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  std::string stored(tensor.bytes(), '\0');
  edgekit::to_artifact(values.data(), tensor, stored.data());
  edgekit::to_source(stored.data(), tensor, values.data());
  std::cout << stored;
  std::cout.write(reinterpret_cast<const char*>(values.data()),
                  static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "list")
    for (const auto& [name, test] : kTests) std::cout << name << "\n";
  else if (what == "sha256")
    digests();
  else if (what == "convert")
    convert(argc - 2, argv + 2);
  else
    kTests.at(what)();
  return 0;
}
