#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

namespace {

constexpr int32_t kMostThreads = 256;
constexpr int32_t kSpins = 2000;            // about 20 microseconds before others are let in
constexpr int64_t kAwake = 300 * 1000;      // nanoseconds that a thread without work looks for some before it sleeps

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

int64_t now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

struct Team {
    pthread_mutex_t one_job = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
    int32_t workers = 0;
    Job job = nullptr;
    void* argument = nullptr;
    int32_t threads = 1;
    Barrier barrier;
    alignas(64) std::atomic<uint64_t> number{0};  // of the latest job; the low bits say how many threads it has
    alignas(64) std::atomic<int32_t> pending{0};
    alignas(64) std::atomic<int32_t> sleepers{0};
};

Team* team = nullptr;  // never freed: threads may still look at it when the program ends

void forget_team() { team = nullptr; }  // a forked child has none of its parent's threads

uint64_t next_job(Team& t, uint64_t seen) {
    const int64_t begun = now();
    for (int32_t spin = 0;; ++spin) {
        uint64_t number = t.number.load(std::memory_order_acquire);
        if (number != seen) return number;
        if (spin < kSpins) {
            pause();
        } else if (now() - begun < kAwake) {
            sched_yield();
        } else {
            break;
        }
    }
    pthread_mutex_lock(&t.sleep_lock);
    t.sleepers.fetch_add(1);
    uint64_t number = t.number.load();
    while (number == seen) {
        pthread_cond_wait(&t.wake, &t.sleep_lock);
        number = t.number.load();
    }
    t.sleepers.fetch_sub(1);
    pthread_mutex_unlock(&t.sleep_lock);
    return number;
}

struct Start {
    Team* team;
    int32_t thread;
    uint64_t seen;
};

void* work(void* start) {
    const Start mine = *static_cast<Start*>(start);
    delete static_cast<Start*>(start);
    Team& t = *mine.team;
    for (uint64_t seen = mine.seen;;) {
        seen = next_job(t, seen);
        if (mine.thread < int32_t(seen % kMostThreads)) {
            t.job(t.argument, mine.thread, t.threads, t.barrier);
            t.pending.fetch_sub(1, std::memory_order_release);
        }
    }
    return nullptr;
}

// Starts what is missing; gives how many threads there are with the caller.
int32_t staffed(Team& t, int32_t threads) {
    while (t.workers + 1 < threads) {
        pthread_t thread;
        auto* start = new Start{&t, t.workers + 1, t.number.load()};
        if (pthread_create(&thread, nullptr, work, start) != 0) {
            delete start;
            break;
        }
        pthread_detach(thread);
        ++t.workers;
    }
    return threads < t.workers + 1 ? threads : t.workers + 1;
}

pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

Team& the_team() {
    pthread_mutex_lock(&making);
    static bool watched = false;
    if (!watched) {
        pthread_atfork(nullptr, nullptr, forget_team);
        watched = true;
    }
    if (team == nullptr) team = new Team;
    pthread_mutex_unlock(&making);
    return *team;
}

}  // namespace

void Barrier::wait() {
    if (threads_ == 1) return;
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    for (int32_t spin = 0; round_.load(std::memory_order_acquire) == round; ++spin) {
        if (spin < kSpins) {
            pause();
        } else {
            sched_yield();
        }
    }
}

void run_together(Job job, void* argument, int32_t threads) {
    Team& t = the_team();
    threads = threads < 1 ? 1 : (threads < kMostThreads ? threads : kMostThreads - 1);
    pthread_mutex_lock(&t.one_job);
    threads = staffed(t, threads);
    t.job = job;
    t.argument = argument;
    t.threads = threads;
    t.barrier.reset(threads);
    t.pending.store(threads - 1, std::memory_order_relaxed);
    const uint64_t count = t.number.load(std::memory_order_relaxed) / kMostThreads + 1;
    t.number.store(count * kMostThreads + uint64_t(threads));
    if (threads > 1 && t.sleepers.load() > 0) {
        pthread_mutex_lock(&t.sleep_lock);
        pthread_cond_broadcast(&t.wake);
        pthread_mutex_unlock(&t.sleep_lock);
    }
    job(argument, 0, threads, t.barrier);
    for (int32_t spin = 0; t.pending.load(std::memory_order_acquire) > 0; ++spin) {
        if (spin < kSpins) {
            pause();
        } else {
            sched_yield();
        }
    }
    pthread_mutex_unlock(&t.one_job);
}
