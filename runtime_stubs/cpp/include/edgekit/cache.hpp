// Results kept for inputs that come again, byte for byte the same.
#ifndef EDGEKIT_CACHE_HPP
#define EDGEKIT_CACHE_HPP

#include <cstddef>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace edgekit {

// Holds the `limit` results that were used last. For any number of threads.
template <typename Out>
class Cache {
 public:
  explicit Cache(std::size_t limit) : limit_(limit) {}

  // The result for a key, or what `make` gives, which is then kept; what it throws is not.
  // Two threads that miss at the same time both make it.
  template <typename Make>
  Out get(const std::string& key, Make make) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = places_.find(key);
      if (found != places_.end()) {
        ++hits_;
        used_.splice(used_.begin(), used_, found->second);
        return found->second->second;
      }
    }
    Out made = make();
    keep(key, made);
    return made;
  }

  std::size_t size() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return used_.size();
  }

  std::size_t hits() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return hits_;
  }

 private:
  using Entries = std::list<std::pair<std::string, Out>>;

  void keep(const std::string& key, const Out& made) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (limit_ == 0 || places_.count(key)) return;
    if (used_.size() == limit_) {
      places_.erase(used_.back().first);
      used_.pop_back();
    }
    used_.emplace_front(key, made);
    places_.emplace(used_.front().first, used_.begin());
  }

  const std::size_t limit_;
  mutable std::mutex mutex_;
  std::size_t hits_ = 0;
  Entries used_;  // the last used first
  std::unordered_map<std::string_view, typename Entries::iterator> places_;  // keys lie in used_
};

}  // namespace edgekit

#endif
