// One thread that runs a model for many, in batches where the model takes them.
#ifndef EDGEKIT_WORKER_HPP
#define EDGEKIT_WORKER_HPP

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "error.hpp"

namespace edgekit {

template <typename In, typename Out>
class Worker {
 public:
  struct Settings {
    std::size_t queue = 16;  // how many calls may wait; one more is an error, not a longer wait
    std::size_t batch = 1;   // how many calls one run takes
    std::chrono::microseconds linger{0};  // how long a run waits for more of them
  };

  using Run = std::function<std::vector<Out>(const std::vector<In>&)>;

  // `run` gives an output for each input; what it throws reaches every call of that run.
  Worker(Run run, Settings settings)
      : run_(std::move(run)), settings_(settings), thread_([this] { work(); }) {}

  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Ends after the run that is under way; calls that still wait get Error::Kind::stopped.
  ~Worker() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // Throws Error::Kind::full when as many calls wait as may.
  std::future<Out> submit(In input) {
    Call call{std::move(input), {}};
    std::future<Out> result = call.promise.get_future();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (waiting_.size() >= settings_.queue)
        throw Error(Error::Kind::full,
                    std::to_string(waiting_.size()) + " calls wait already, no more may");
      waiting_.push_back(std::move(call));
    }
    changed_.notify_all();
    return result;
  }

 private:
  struct Call {
    In input;
    std::promise<Out> promise;
  };

  void work() {
    for (std::vector<Call> calls = next(); !calls.empty(); calls = next()) {
      std::vector<In> inputs;
      for (Call& call : calls) inputs.push_back(std::move(call.input));
      try {
        std::vector<Out> outputs = run_(inputs);
        if (outputs.size() != calls.size())
          throw Error(Error::Kind::runtime, "a run gave another number of outputs than of inputs");
        for (std::size_t i = 0; i < calls.size(); ++i)
          calls[i].promise.set_value(std::move(outputs[i]));
      } catch (...) {
        for (Call& call : calls) call.promise.set_exception(std::current_exception());
      }
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Call& call : waiting_)
      call.promise.set_exception(
          std::make_exception_ptr(Error(Error::Kind::stopped, "the worker was stopped")));
  }

  // The calls of the next run; none: it is time to stop.
  std::vector<Call> next() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (settings_.batch > 1)
      changed_.wait_for(lock, settings_.linger,
                        [this] { return stopping_ || waiting_.size() >= settings_.batch; });
    std::vector<Call> calls;
    while (!stopping_ && !waiting_.empty() && calls.size() < settings_.batch) {
      calls.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    return calls;
  }

  const Run run_;
  const Settings settings_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> waiting_;
  bool stopping_ = false;
  std::thread thread_;  // the last: it uses all the others
};

}  // namespace edgekit

#endif
