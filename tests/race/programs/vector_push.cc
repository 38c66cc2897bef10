/* Two threads push onto one std::vector without a lock.
 *
 * fails: assert signal
 * threads: 2
 * preemptions: 1
 * notes: an element is lost, or both free the old storage (SIGABRT by glibc)
 */
#include <cassert>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

static std::vector<int> numbers;

#ifdef FIXED
static std::mutex mutex;
#endif

static void push(int number) {
#ifdef FIXED
    std::lock_guard<std::mutex> held(mutex);
#endif
    numbers.push_back(number);
}

static void push_two(int number) {
    push(number);
    push(number + 1);
}

int main() {
    std::thread first(push_two, 1), second(push_two, 3);
    first.join();
    second.join();
    assert(numbers.size() == 4);
    std::printf("%zu numbers\n", numbers.size());
    return 0;
}
