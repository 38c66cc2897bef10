/* Producers and consumers wait on one std::condition_variable, and notify_one wakes the wrong one.
 *
 * fails: deadlock
 * threads: 4
 * preemptions: 0
 */
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

static std::mutex mutex;
static std::condition_variable changed;
static bool full;

static void wake() {
#ifdef FIXED
    changed.notify_all();
#else
    changed.notify_one();
#endif
}

static void put() {
    std::unique_lock<std::mutex> held(mutex);
    changed.wait(held, [] { return !full; });
    full = true;
    wake();
}

static void take() {
    std::unique_lock<std::mutex> held(mutex);
    changed.wait(held, [] { return full; });
    full = false;
    wake();
}

int main() {
    std::thread threads[] = {
        std::thread(take),
        std::thread(take),
        std::thread(put),
        std::thread(put),
    };
    for (auto &thread : threads)
        thread.join();
    std::printf("two items\n");
    return 0;
}
