// A few threads that stay, and the barrier at which they meet within one job.
#pragma once
#include <atomic>
#include <cstdint>

// All threads of a job call `wait` equally often. Spins, then lets others run: on a busy machine the thread that is
// waited for needs the processor.
class Barrier {
public:
    void reset(int32_t threads) {
        threads_ = threads;
        arrived_.store(0, std::memory_order_relaxed);
    }
    void wait();

private:
    int32_t threads_ = 1;
    alignas(64) std::atomic<int32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> round_{0};
};

using Job = void (*)(void* argument, int32_t thread, int32_t threads, Barrier& barrier);

// Runs `job` as threads 0 .. threads - 1, the caller being thread 0; returns when all are done. One job at a time.
void run_together(Job job, void* argument, int32_t threads);
