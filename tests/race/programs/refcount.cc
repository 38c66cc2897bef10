/* A reference count of std::atomic, decremented and then looked at: two may be the last.
 *
 * fails: assert
 * threads: 2
 * preemptions: 1
 * notes: the dead are counted instead of freed
 */
#include <atomic>
#include <cassert>
#include <cstdio>
#include <thread>

static std::atomic<int> references{2};
static std::atomic<int> burials{0};

static void put() {
#ifdef FIXED
    bool last = references.fetch_sub(1, std::memory_order_acq_rel) == 1;
#else
    references.fetch_sub(1, std::memory_order_relaxed);
    bool last = references.load(std::memory_order_relaxed) == 0;
#endif
    if (last)
        burials.fetch_add(1, std::memory_order_relaxed);
}

int main() {
    std::thread first(put), second(put);
    first.join();
    second.join();
    assert(burials == 1);
    std::printf("%d burial\n", burials.load());
    return 0;
}
