// A few threads that stay, and how they share the work of one job.
#pragma once
#include <atomic>
#include <cstdint>

// How far the phases of a job are: of each phase how much is done, and of each thread's share of it how much is taken.
// Numbers of one thread lie together, so that threads seldom write to lines that others use.
struct Phases {
    std::atomic<int64_t>* numbers;  // (1 + threads, room), zeros at first; room: a multiple of 8
    int64_t room;

    std::atomic<int64_t>& done(int64_t phase) const { return numbers[phase]; }
    std::atomic<int64_t>& taken(int64_t phase, int32_t thread) const { return numbers[(1 + thread) * room + phase]; }
};

// What a thread sees of a job. Each phase has a share for each thread, in a few pieces; who is done with his own helps
// others. Nobody waits for a thread that holds no piece: one that comes late, or that another program keeps from running,
// costs the others no more than the piece that it holds.
class Crew {
public:
    Crew(Phases phases, int32_t thread, int32_t threads) : thread(thread), threads(threads), phases_(phases) {}

    // Do `count` things, some of them here: work(begin, end). Returns when all are done. Every thread calls it for the same
    // phases in the same order. pieces: of each share. ready(), before the first piece that is done here: what it reads stays
    // as it is while the phase lasts.
    template <class Ready, class Work>
    void share(int64_t count, int64_t pieces, Ready ready, Work work) {
        const int64_t phase = next_++;
        std::atomic<int64_t>& done = phases_.done(phase);
        int64_t here = 0;
        for (int32_t i = 0; i < threads; ++i) {
            if (i > 0 && done.load(std::memory_order_relaxed) == count) break;
            const int32_t owner = thread + i < threads ? thread + i : thread + i - threads;
            const int64_t first = count * owner / threads, last = count * (owner + 1) / threads;
            const int64_t piece = last - first < pieces ? 1 : (last - first) / pieces;
            std::atomic<int64_t>& taken = phases_.taken(phase, owner);
            while (first + taken.load(std::memory_order_relaxed) < last) {
                if (here == 0) ready();
                const int64_t begin = first + taken.fetch_add(piece, std::memory_order_relaxed);
                if (begin >= last) break;
                const int64_t end = begin + piece < last ? begin + piece : last;
                work(begin, end);
                here += end - begin;
            }
        }
        if (here > 0) done.fetch_add(here, std::memory_order_acq_rel);
        wait_until(done, count);
    }

    const int32_t thread, threads;

private:
    static void wait_until(const std::atomic<int64_t>& done, int64_t count);
    Phases phases_;
    int64_t next_ = 0;
};

using Job = void (*)(void* argument, Crew& crew);

// Runs `job` as the caller, thread 0, and as up to threads - 1 others, which join in when they can; returns when all are out
// of it. phases: room for those of the job. One job at a time.
void run_together(Job job, void* argument, Phases phases, int32_t threads);
