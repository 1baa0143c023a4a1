#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

namespace {

constexpr int32_t kSpins = 2000;        // about 20 microseconds before others are let in
constexpr int64_t kAwake = 2000 * 1000;  // nanoseconds that a thread without work looks for some: others' words come between steps

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Until `done()`: spins, then lets others run, since on a busy machine what is waited for needs the processor.
template <class Done>
void wait_for(Done done) {
    for (int32_t spin = 0; !done(); ++spin) {
        if (spin < kSpins) {
            pause();
        } else {
            sched_yield();
        }
    }
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
    Phases phases{};
    int32_t threads = 1;
    alignas(64) std::atomic<uint64_t> number{0};  // odd while a job may be joined
    alignas(64) std::atomic<int32_t> inside{0};   // threads that have joined, or are about to see that they may not
    alignas(64) std::atomic<int32_t> sleepers{0};
};

bool is_new(uint64_t number, uint64_t seen) { return number != seen && (number & 1) != 0; }

// Waits for a job that it has not seen.
uint64_t next_job(Team& t, uint64_t seen) {
    const int64_t begun = now();
    for (int32_t spin = 0; spin < kSpins || now() - begun < kAwake; ++spin) {
        const uint64_t number = t.number.load(std::memory_order_acquire);
        if (is_new(number, seen)) return number;
        if (spin < kSpins) {
            pause();
        } else {
            sched_yield();
        }
    }
    pthread_mutex_lock(&t.sleep_lock);
    t.sleepers.fetch_add(1);
    uint64_t number = t.number.load();
    while (!is_new(number, seen)) {
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
};

void* work(void* start) {
    const Start mine = *static_cast<Start*>(start);
    delete static_cast<Start*>(start);
    Team& t = *mine.team;
    for (uint64_t seen = 0;;) {
        seen = next_job(t, seen);
        t.inside.fetch_add(1);
        if (t.number.load() == seen && mine.thread < t.threads) {
            Crew crew(t.phases, mine.thread, t.threads);
            t.job(t.argument, crew);
        }
        t.inside.fetch_sub(1);
    }
    return nullptr;
}

// Starts what is missing; gives how many threads there are with the caller.
int32_t staffed(Team& t, int32_t threads) {
    while (t.workers + 1 < threads) {
        pthread_t thread;
        auto* start = new Start{&t, t.workers + 1};
        if (pthread_create(&thread, nullptr, work, start) != 0) {
            delete start;
            break;
        }
        pthread_detach(thread);
        ++t.workers;
    }
    return threads < t.workers + 1 ? threads : t.workers + 1;
}

Team* team = nullptr;  // never freed: threads may still look at it when the program ends
pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

void forget_team() { team = nullptr; }  // a forked child has none of its parent's threads

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

void Crew::wait_until(const std::atomic<int64_t>& done, int64_t count) {
    wait_for([&] { return done.load(std::memory_order_acquire) == count; });
}

void run_together(Job job, void* argument, Phases phases, int32_t threads) {
    Team& t = the_team();
    pthread_mutex_lock(&t.one_job);
    t.threads = staffed(t, threads < 1 ? 1 : threads);
    t.job = job;
    t.argument = argument;
    t.phases = phases;
    t.number.fetch_add(1);
    if (t.threads > 1 && t.sleepers.load() > 0) {
        pthread_mutex_lock(&t.sleep_lock);
        pthread_cond_broadcast(&t.wake);
        pthread_mutex_unlock(&t.sleep_lock);
    }
    Crew crew(phases, 0, t.threads);
    job(argument, crew);
    t.number.fetch_add(1);  // from here on nobody joins
    wait_for([&] { return t.inside.load() == 0; });
    pthread_mutex_unlock(&t.one_job);
}
