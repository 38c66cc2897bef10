/* A std::shared_ptr is copied while another thread assigns to it: its count is not its lock.
 *
 * fails: assert signal
 * threads: 2
 * preemptions: 1
 * notes: the copy is of an object that is gone already
 */
#include <atomic>
#include <cassert>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

struct Config {
    std::atomic<bool> alive{true};
    ~Config() {
        alive = false;
    }
};

static std::shared_ptr<Config> current = std::make_shared<Config>();

#ifdef FIXED
static std::mutex mutex;
#endif

static void use() {
#ifdef FIXED
    std::unique_lock<std::mutex> held(mutex);
    std::shared_ptr<Config> mine = current;
    held.unlock();
#else
    std::shared_ptr<Config> mine = current;
#endif
    assert(mine->alive);
}

static void replace() {
    auto fresh = std::make_shared<Config>();
#ifdef FIXED
    std::lock_guard<std::mutex> held(mutex);
#endif
    current = fresh;
}

int main() {
    std::thread user(use), replacer(replace);
    user.join();
    replacer.join();
    std::printf("used %ld\n", current.use_count());
    return 0;
}
