/* A spin lock on a std::atomic that looks and takes in two steps: atomic each, not together.
 *
 * fails: assert
 * threads: 2
 * preemptions: 2
 */
#include <atomic>
#include <cassert>
#include <cstdio>
#include <thread>

class SpinLock {
public:
    void lock() {
#ifdef FIXED
        while (taken.exchange(true, std::memory_order_acquire))
            ;
#else
        while (taken.load(std::memory_order_relaxed))
            ;
        taken.store(true, std::memory_order_relaxed);
#endif
    }
    void unlock() {
        taken.store(false, std::memory_order_release);
    }

private:
    std::atomic<bool> taken{false};
};

static SpinLock spin_lock;
static long total;

static void count() {
    spin_lock.lock();
    total += 1;
    spin_lock.unlock();
}

int main() {
    std::thread first(count), second(count);
    first.join();
    second.join();
    assert(total == 2);
    std::printf("total %ld\n", total);
    return 0;
}
