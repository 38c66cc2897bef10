/* A thread pool that is told to stop without its mutex: a worker that was about to wait sleeps on.
 *
 * fails: deadlock
 * threads: 3
 * preemptions: 1
 */
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

class ThreadPool {
public:
    explicit ThreadPool(int size) {
        for (int i = 0; i < size; i++)
            workers.emplace_back([this] { work(); });
    }

    ~ThreadPool() {
#ifdef FIXED
        {
            std::lock_guard<std::mutex> held(mutex);
            stopping = true;
        }
#else
        stopping = true;
#endif
        changed.notify_all();
        for (auto &worker : workers)
            worker.join();
    }

    template <class Function> auto submit(Function function) {
        using Result = decltype(function());
        auto task = std::make_shared<std::packaged_task<Result()>>(std::move(function));
        auto result = task->get_future();
        {
            std::lock_guard<std::mutex> held(mutex);
            jobs.emplace_back([task] { (*task)(); });
        }
        changed.notify_one();
        return result;
    }

private:
    void work() {
        for (;;) {
            std::unique_lock<std::mutex> held(mutex);
            changed.wait(held, [this] { return stopping || !jobs.empty(); });
            if (jobs.empty())
                return;
            auto job = std::move(jobs.front());
            jobs.pop_front();
            held.unlock();
            job();
        }
    }

    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::function<void()>> jobs;
    std::atomic<bool> stopping{false};
    std::vector<std::thread> workers;
};

int main() {
    int sum = 0;
    {
        ThreadPool pool(3);
        std::vector<std::future<int>> squares;
        for (int i = 1; i <= 4; i++)
            squares.push_back(pool.submit([i] { return i * i; }));
        for (auto &square : squares)
            sum += square.get();
    }
    std::printf("sum %d\n", sum);
    return sum != 30;
}
